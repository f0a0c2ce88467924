"""The second factor (RFC 6238): who needs one, enrolment, codes that are taken once, recovery, the way around none."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pyotp
import pytest
from tests.gateway.test_sign_in import claims
from tests.gateway.world import PASSWORD, World
from tests.support.authorization import Flow, Page, first_page, sign_in, tokens

from dossier_common.keys import SigningKey
from dossier_common.policy import load_policy
from dossier_common.texts import TextUnreadable
from dossier_gateway import second_factor
from dossier_gateway.second_factor import Seal

OFFICER = "security_auditor"
RECOVERY = re.compile(r"<li><code>([^<]+)</code>")
AT = datetime(2026, 11, 22, 8, 0, 15, tzinfo=UTC)
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"  # of these tests


async def after_password(browser: httpx.AsyncClient, username: str, password: str = PASSWORD) -> Page:
    return await (await first_page(browser, Flow())).submit(browser, username=username, password=password)


async def enrolled(world: World, *roles: str) -> tuple[dict[str, Any], list[str]]:
    """A person with a second factor, and his recovery codes."""
    person = await world.person(*roles)
    browser = await world.browser()
    page = await after_password(browser, person["username"])
    world.enrol_device(person["username"], page.key)
    page = await page.submit(browser, code=world.next_code(person["username"]))
    codes = RECOVERY.findall(page.answer.text)
    assert (await page.submit(browser)).answer.is_redirect
    return person, codes


async def at_code(world: World, browser: httpx.AsyncClient, person: dict[str, Any]) -> Page:
    page = await after_password(browser, person["username"])
    assert page.step == "code", page.answer.text
    return page


def forwarded(world: World, steps: int) -> None:
    """So many half minutes later."""
    world.clock.ahead += timedelta(seconds=30 * steps)


# ---- codes


def code_at(moment: datetime) -> str:
    return str(pyotp.TOTP(SECRET).at(moment))


@pytest.mark.parametrize(("seconds", "taken"), [(-60, False), (-30, True), (0, True), (30, True), (60, False)])
def test_a_code_holds_in_its_half_minute_and_the_ones_beside_it(seconds: int, taken: bool) -> None:  # noqa: FBT001  # a column of the table
    code = code_at(AT + timedelta(seconds=seconds))
    assert (second_factor.used_step(SECRET, code, AT, -1) is not None) is taken


def test_a_code_is_none_of_a_step_that_was_used() -> None:
    used = second_factor.used_step(SECRET, code_at(AT), AT, -1)
    assert used is not None
    assert second_factor.used_step(SECRET, code_at(AT), AT, used) is None
    assert second_factor.used_step(SECRET, code_at(AT - timedelta(seconds=30)), AT, used) is None
    assert second_factor.used_step(SECRET, code_at(AT + timedelta(seconds=30)), AT, used) == used + 1


def test_the_codes_are_those_of_rfc_6238() -> None:
    seed = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"  # the RFC's, in base32
    at = datetime.fromtimestamp(1111111109, UTC)
    assert second_factor.used_step(seed, "081804", at, -1) == 1111111109 // 30


@pytest.mark.parametrize("typed", ["", "12345", "1234567", "abcdef", "１２３４５６", "000000 000000"])
def test_what_is_no_code_is_refused(typed: str) -> None:
    assert second_factor.used_step(SECRET, typed, AT, -1) is None


def test_recovery_codes_have_128_bits_and_may_be_typed_anyhow() -> None:
    codes = second_factor.new_recovery_codes()
    assert len(set(codes)) == 10
    read = second_factor.read_recovery_code(codes[0])
    assert len(read) == 26
    assert second_factor.read_recovery_code(f"  {codes[0].upper().replace('-', ' ')} ") == read


def test_a_sealed_secret_opens_for_its_account_and_key_alone() -> None:
    key, account = SigningKey.generate(), uuid4()
    sealed = Seal(key).seal(SECRET, account)
    assert SECRET.encode() not in sealed
    assert Seal(key).open(sealed, account) == SECRET
    with pytest.raises(TextUnreadable):
        Seal(key).open(sealed, uuid4())
    with pytest.raises(TextUnreadable):
        Seal(SigningKey.generate()).open(sealed, account)


def test_the_officers_of_the_baseline_need_a_second_factor(world: World) -> None:
    policy = load_policy(world.settings.common.policy)
    assert {role.id for role in policy.roles if role.officer} <= {r.id for r in policy.roles if r.second_factor}


# ---- signing in


async def test_who_needs_one_enrols_before_there_is_a_session(world: World, browser: httpx.AsyncClient) -> None:
    person = await world.person(OFFICER)
    page = await after_password(browser, person["username"])
    assert (page.answer.status_code, page.step) == (200, "enrol")
    assert "<svg" in page.answer.text
    assert not [name for name in browser.cookies if "session" in name]
    assert (await first_page(browser, Flow())).step is None  # nobody is signed in yet
    world.enrol_device(person["username"], page.key)
    wrong = await page.submit(browser, code="000000")
    assert (wrong.answer.status_code, wrong.step, wrong.key) == (401, "enrol", page.key)
    shown = await wrong.submit(browser, code=world.next_code(person["username"]))
    assert len(set(RECOVERY.findall(shown.answer.text))) == 10
    done = await shown.submit(browser)
    assert "code=" in done.answer.headers["location"]
    mine = [each for each in await world.events("gateway.v1.session.signed-in") if each.data["account"] == person["id"]]
    assert [each.data["amr"] for each in mine] == [["pwd", "otp"]]
    told = await world.events("gateway.v1.second-factor.enrolled")
    assert told[-1].data == {"account": person["id"], "person": person["person"]}


async def test_any_account_of_the_person_needs_it_when_one_holds_the_role(
    world: World, browser: httpx.AsyncClient
) -> None:
    officer = await world.person(OFFICER)
    further = await world.person(person=officer["person"])
    assert (await after_password(browser, further["username"])).step == "enrol"


async def test_who_needs_none_is_asked_for_none(world: World, browser: httpx.AsyncClient) -> None:
    person = await world.person("collector")
    assert (await after_password(browser, person["username"])).answer.is_redirect


async def test_a_code_is_taken_once(world: World, browser: httpx.AsyncClient) -> None:
    person, _ = await enrolled(world, OFFICER)
    forwarded(world, 2)
    code = world.next_code(person["username"])
    assert (await (await at_code(world, browser, person)).submit(browser, code=code)).answer.is_redirect
    other = await world.browser()
    again = await (await at_code(world, other, person)).submit(other, code=code)
    assert (again.answer.status_code, again.step) == (401, "code")
    forwarded(world, 1)
    assert (await again.submit(other, code=world.next_code(person["username"]))).answer.is_redirect


async def test_wrong_codes_lock_the_account_as_wrong_passwords_do(world: World, browser: httpx.AsyncClient) -> None:
    person, _ = await enrolled(world, OFFICER)
    forwarded(world, 2)
    page = await at_code(world, browser, person)
    for _ in range(3):
        page = await page.submit(browser, code="000000")
        assert page.answer.status_code == 401
    for _ in range(2):  # a right password gives no fresh tries
        page = await (await at_code(world, browser, person)).submit(browser, code="111111")
    right = await page.submit(browser, code=world.next_code(person["username"]))
    assert (right.answer.status_code, right.step) == (401, "code")
    locked = await after_password(browser, person["username"])
    assert (locked.answer.status_code, locked.step) == (401, None)
    failed = await world.events("gateway.v1.session.sign-in-failed")
    mine = [each.data["locked"] for each in failed if each.data["account"] == person["id"]]
    assert mine == [False, False, False, False, True]
    world.clock.ahead += timedelta(minutes=16)
    page = await at_code(world, browser, person)
    assert (await page.submit(browser, code=world.next_code(person["username"]))).answer.is_redirect


async def test_the_step_is_of_one_browser_and_of_five_minutes(world: World, browser: httpx.AsyncClient) -> None:
    person, _ = await enrolled(world, OFFICER)
    forwarded(world, 2)
    page, thief = await at_code(world, browser, person), await world.browser()
    await first_page(thief, Flow())
    stolen = await (await first_page(thief, Flow())).submit(
        thief, step="code", code=world.next_code(person["username"])
    )
    assert (stolen.answer.status_code, stolen.step) == (401, None)
    world.clock.ahead += timedelta(minutes=5, seconds=1)
    late = await page.submit(browser, code=world.next_code(person["username"]))
    assert (late.answer.status_code, late.step) == (401, None)


async def test_a_step_opens_one_session(world: World, browser: httpx.AsyncClient) -> None:
    person, _ = await enrolled(world, OFFICER)
    forwarded(world, 2)
    page = await at_code(world, browser, person)
    step = {name: value for name, value in browser.cookies.items() if "step" in name}
    assert (await page.submit(browser, code=world.next_code(person["username"]))).answer.is_redirect
    browser.cookies.update(step)
    forwarded(world, 1)
    again = await page.submit(browser, code=world.next_code(person["username"]))
    assert (again.answer.status_code, again.step) == (401, None)


async def test_a_recovery_code_stands_in_once_and_is_told(world: World, browser: httpx.AsyncClient) -> None:
    person, codes = await enrolled(world, OFFICER)
    page = await at_code(world, browser, person)
    assert (await page.submit(browser, recovery=codes[3].upper())).answer.is_redirect
    used = (await world.events("gateway.v1.recovery-code.used"))[-1]
    assert used.data == {"account": person["id"], "person": person["person"], "left": 9}
    other = await world.browser()
    again = await (await at_code(world, other, person)).submit(other, recovery=codes[3])
    assert again.answer.status_code == 401


async def test_the_recovery_code_of_another_is_of_no_use(world: World, browser: httpx.AsyncClient) -> None:
    mine, _ = await enrolled(world, OFFICER)
    _, others = await enrolled(world, OFFICER)
    page = await (await at_code(world, browser, mine)).submit(browser, recovery=others[0])
    assert page.answer.status_code == 401


@pytest.mark.clause("A6.3.2")
async def test_a_password_that_is_due_is_changed_after_the_code_and_not_before(
    world: World, browser: httpx.AsyncClient
) -> None:
    person, _ = await enrolled(world, OFFICER)
    world.clock.ahead += timedelta(days=100)
    page = await at_code(world, browser, person)
    skipped = await page.submit(browser, new_password="another battery staple 7")
    assert skipped.step == "code"
    page = await page.submit(browser, code=world.next_code(person["username"]))
    assert page.step == "renew"
    assert (await page.submit(browser, new_password="another battery staple 7")).answer.is_redirect


# ---- what a session without one gives


async def test_a_role_that_comes_later_gives_nothing_until_there_is_a_second_factor(
    world: World, browser: httpx.AsyncClient
) -> None:
    person = await world.person("collector")
    await world.call("sysadmin", "GET", "/v1/me")  # so that the officers' tokens are there
    issued = await tokens(browser, person["username"], PASSWORD)
    held = (await world.call("secadmin", "GET", f"/v1/accounts/{person['id']}/roles")).json()["items"]
    for each in held:
        await world.call("secadmin", "DELETE", f"/v1/accounts/{person['id']}/roles/{each['id']}")
    assert (await world.assign(person["id"], OFFICER)).status_code == 201
    form = {"grant_type": "refresh_token", "refresh_token": issued["refresh_token"], "client_id": "dossier-cli"}
    refreshed = (await world.http.post("/oauth/token", data=form)).json()
    assert "audit:read" not in refreshed["scope"].split()
    assert (await claims(world, refreshed["access_token"])).claims["amr"] == ["pwd"]
    page = await first_page(browser, Flow())
    assert (page.answer.status_code, page.step) == (200, None)  # asked to sign in anew
    assert "code=" in await sign_in(browser, person["username"], PASSWORD, Flow())
    again = await tokens(browser, person["username"], PASSWORD)
    assert "audit:read" in again["scope"].split()
    assert (await claims(world, again["access_token"])).claims["amr"] == ["pwd", "otp"]


async def test_a_token_of_a_session_without_one_passes_for_no_scope_of_such_a_role(world: World) -> None:
    """However it came by the scope: here it is signed by the gateway's own key."""
    person, _ = await enrolled(world, OFFICER)
    issued = await tokens(await world.browser(), person["username"], PASSWORD)
    said: dict[str, Any] = dict((await claims(world, issued["access_token"])).claims)

    async def reads(**changes: Any) -> int:
        body = {**said, "jti": str(uuid4()), **changes}
        token = world.proxy.own.state.tokens.sign("at+jwt", body)
        answer = await world.http.get("/v1/me", headers={"Authorization": f"Bearer {token}"})
        return len([scope for scope in answer.json()["scopes"] if scope.startswith("audit:")])

    assert await reads() > 0
    assert await reads(amr=["pwd"]) == 0
    assert await reads(amr=[]) == 0
