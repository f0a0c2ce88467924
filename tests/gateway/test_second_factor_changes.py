"""The second factor as it changes: reset by an officer, enrolled of one's own will in the console; and at rest."""

from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import text
from tests.gateway.test_authorisations import approved
from tests.gateway.test_second_factor import OFFICER, RECOVERY, after_password, at_code, enrolled, forwarded
from tests.gateway.test_sign_in import claims
from tests.gateway.world import PASSWORD, World
from tests.support.authorization import Flow, NotSignedIn, Page, first_page, sign_in, tokens
from tests.support.waiting import eventually

# ---- resetting


async def test_the_account_manager_resets_it_and_sessions_end(world: World, browser: httpx.AsyncClient) -> None:
    person, _ = await enrolled(world, OFFICER)
    issued = await tokens(browser, person["username"], PASSWORD)
    path = f"/v1/accounts/{person['id']}/second-factor"
    assert (await world.call("secadmin", "DELETE", path)).status_code == 403
    path += f"?authorisation={await approved(world, 'second_factor.reset', person['id'])}"
    assert (await world.call("sysadmin", "DELETE", path)).status_code == 204
    assert (await world.call("sysadmin", "DELETE", path)).status_code == 404
    told = (await world.events("gateway.v1.second-factor.reset"))[-1]
    assert told.data == {"account": person["id"], "person": person["person"]}
    header = {"Authorization": f"Bearer {issued['access_token']}"}

    async def refused() -> bool:
        return (await world.http.get("/v1/me", headers=header)).status_code == 401

    await eventually(refused, expected=True, seconds=2)
    assert (await after_password(await world.browser(), person["username"])).step == "enrol"


async def test_nobody_resets_his_own(world: World) -> None:
    own = next(each.account for each in world.made.officers if each.username == "sysadmin")
    answer = await world.call("sysadmin", "DELETE", f"/v1/accounts/{own}/second-factor")
    assert (answer.status_code, answer.json()["type"]) == (403, "urn:dossier:problem:same-person")


async def test_an_unknown_account_has_none(world: World) -> None:
    assert (await world.call("sysadmin", "DELETE", f"/v1/accounts/{uuid4()}/second-factor")).status_code == 404


# ---- of one's own will, in the console


async def test_anybody_may_enrol_one_and_is_asked_for_it_from_then_on(world: World, browser: httpx.AsyncClient) -> None:
    person = await world.person("collector")
    await sign_in(browser, person["username"], PASSWORD, Flow())
    page = Page(await browser.get("/console/second-factor"))
    assert (await page.submit(browser, password="wrong password 1")).answer.status_code == 401
    page = await page.submit(browser, password=PASSWORD)
    world.enrol_device(person["username"], page.key)
    shown = await page.submit(browser, code=world.next_code(person["username"]))
    assert len(RECOVERY.findall(shown.answer.text)) == 10
    issued = await tokens(browser, person["username"], PASSWORD)
    assert (await claims(world, issued["access_token"])).claims["amr"] == ["pwd", "otp"]
    forwarded(world, 2)
    assert (await after_password(await world.browser(), person["username"])).step == "code"


async def test_another_device_takes_a_code_of_the_present_one(world: World, browser: httpx.AsyncClient) -> None:
    person, codes = await enrolled(world, OFFICER)
    await sign_in(browser, person["username"], PASSWORD, Flow())
    page = Page(await browser.get("/console/second-factor"))
    assert (await page.submit(browser, password=PASSWORD)).answer.status_code == 401
    page = await page.submit(browser, password=PASSWORD, code=codes[0])
    world.enrol_device(person["username"], page.key)
    shown = await page.submit(browser, code=world.next_code(person["username"]))
    fresh = RECOVERY.findall(shown.answer.text)
    assert set(fresh).isdisjoint(codes)
    other = await world.browser()
    page = await at_code(world, other, person)
    assert (await page.submit(other, recovery=codes[1])).answer.status_code == 401
    assert (await page.submit(other, recovery=fresh[1])).answer.is_redirect


async def test_an_enrolment_of_the_console_opens_no_session(world: World, browser: httpx.AsyncClient) -> None:
    person = await world.person("collector")
    await sign_in(browser, person["username"], PASSWORD, Flow())
    await Page(await browser.get("/console/second-factor")).submit(browser, password=PASSWORD)
    step = {name: value for name, value in browser.cookies.items() if "step" in name}
    assert step
    other = await world.browser()
    page = await first_page(other, Flow())
    other.cookies.update(step)
    taken = await page.submit(other, step="enrol", code="000000")
    assert (taken.answer.status_code, taken.step) == (401, None)


# ---- secrecy


@pytest.mark.invariant(7)
async def test_neither_secret_nor_code_is_in_an_event_or_at_rest(world: World, browser: httpx.AsyncClient) -> None:
    person, codes = await enrolled(world, OFFICER)
    page = await after_password(browser, person["username"])
    await page.submit(browser, recovery=codes[0])
    secret = world.secret_of(person["username"])
    async with world.proxy.own.state.database.session() as session:
        bodies = [row.body for row in await session.execute(text("SELECT body FROM outbox"))]
        kept = [
            bytes(row[0])
            for table in ("second_factors", "sign_in_steps")
            for row in await session.execute(text(f"SELECT secret FROM {table} WHERE secret IS NOT NULL"))
        ]
        digests = [bytes(row[0]) for row in await session.execute(text("SELECT digest FROM recovery_codes"))]
    assert kept
    for told in (secret, codes[0], codes[0].replace("-", "")):
        assert not any(told.encode() in each for each in (*bodies, *kept, *digests))


async def test_who_cannot_open_the_secret_lets_nobody_in(world: World, browser: httpx.AsyncClient) -> None:
    """A row that was moved from another account: it is bound to the one that it was made for."""
    mine, _ = await enrolled(world, OFFICER)
    other, _ = await enrolled(world, OFFICER)
    async with world.proxy.own.state.database.transaction() as session:
        await session.execute(
            text(
                "UPDATE second_factors SET secret = (SELECT secret FROM second_factors WHERE account = :b), step = 0 "
                "WHERE account = :a"
            ),
            {"a": UUID(mine["id"]), "b": UUID(other["id"])},
        )
    page = await at_code(world, browser, mine)
    answer = await page.submit(browser, code=world.next_code(other["username"]))
    assert not answer.answer.is_redirect
    assert not [name for name in browser.cookies if "session" in name]


async def test_an_account_without_a_device_at_hand_does_not_sign_in(world: World) -> None:
    person, _ = await enrolled(world, OFFICER)
    bare = httpx.AsyncClient(transport=world.http._transport, base_url=world.settings.common.issuer, timeout=30)
    with pytest.raises(NotSignedIn):
        await sign_in(bare, person["username"], PASSWORD, Flow())
