"""Sessions: seen and ended by their person and by who keeps accounts, left alone, and what a password ends."""

import re
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from tests.gateway import world as worlds
from tests.gateway.test_sign_in import claims
from tests.gateway.world import PASSWORD, World
from tests.support.authorization import Flow, NotSignedIn, Page, first_page, sign_in, tokens
from tests.support.waiting import eventually

OTHER = "another battery staple 7"


def header(issued: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {issued['access_token']}"}


async def signed_in(world: World, person: dict[str, Any], password: str = PASSWORD) -> dict[str, Any]:
    """Tokens of a session of its own."""
    return await tokens(await world.browser(), person["username"], password)


async def own_sessions(world: World, issued: dict[str, Any]) -> list[dict[str, Any]]:
    answer = await world.http.get("/v1/me/sessions", headers=header(issued))
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def status(http: httpx.AsyncClient, issued: dict[str, Any]) -> int:
    return (await http.get("/v1/me", headers=header(issued))).status_code


async def refresh(world: World, issued: dict[str, Any]) -> httpx.Response:
    form = {"grant_type": "refresh_token", "refresh_token": issued["refresh_token"], "client_id": "dossier-cli"}
    return await world.http.post("/oauth/token", data=form)


async def ended(world: World, person: dict[str, Any]) -> list[tuple[str, str | None]]:
    """Reason and actor of the sessions of this person that were ended."""
    events = await world.events("gateway.v1.session.ended")
    mine = [each for each in events if each.data["account"] == person["id"]]
    assert all(each.data["person"] == person["person"] for each in mine)
    return [(each.data["reason"], str(each.actor) if each.actor else None) for each in mine]


def account_of(world: World, username: str) -> str:
    return str(next(each.account for each in world.made.officers if each.username == username))


# ---- seen


async def test_a_session_says_since_when_from_where_how_and_for_what(world: World) -> None:
    person = await world.person("collector")
    first = await signed_in(world, person)
    world.clock.ahead += timedelta(minutes=5)
    second = await signed_in(world, person)
    seen = await own_sessions(world, second)
    assert [each["current"] for each in seen] == [False, True]
    assert [each["current"] for each in await own_sessions(world, first)] == [True, False]
    assert {(each["zone"], *each["amr"], *each["clients"]) for each in seen} == {("office", "pwd", "dossier-cli")}
    assert all(each["last_seen_at"].endswith(":00Z") for each in seen)
    assert all(each["signed_in_at"] < each["idle_ends_at"] < each["expires_at"] for each in seen)


async def test_a_session_is_seen_again_when_a_token_is_asked_for_and_not_by_calls(world: World) -> None:
    person = await world.person("collector")
    issued = await signed_in(world, person)
    before = (await own_sessions(world, issued))[0]["last_seen_at"]
    world.clock.ahead += timedelta(minutes=5)
    assert (await own_sessions(world, issued))[0]["last_seen_at"] == before
    issued = (await refresh(world, issued)).json()
    assert (await own_sessions(world, issued))[0]["last_seen_at"] > before


async def test_an_account_manager_sees_the_sessions_of_others_and_nobody_else_does(world: World) -> None:
    person = await world.person("collector")
    issued = await signed_in(world, person)
    path = f"/v1/accounts/{person['id']}/sessions"
    seen = (await world.call("sysadmin", "GET", path)).json()["items"]
    assert [each["id"] for each in seen] == [each["id"] for each in await own_sessions(world, issued)]
    assert not any(each["current"] for each in seen)
    assert (await world.call("secadmin", "GET", path)).status_code == 403
    assert (await world.call("sysadmin", "GET", f"/v1/accounts/{uuid4()}/sessions")).status_code == 404


# ---- ended


async def test_ending_ones_own_session_ends_its_tokens_and_no_others(world: World) -> None:
    person = await world.person("collector")
    browser = await world.browser()
    lost = await tokens(browser, person["username"], PASSWORD)
    kept = await signed_in(world, person)
    wanted = next(each["id"] for each in await own_sessions(world, lost) if each["current"])
    answer = await world.http.delete(f"/v1/me/sessions/{wanted}", headers=header(kept))
    assert answer.status_code == 204
    await eventually(lambda: status(world.http, lost), 401, seconds=2)
    assert (await refresh(world, lost)).json()["error"] == "invalid_grant"
    assert (await first_page(browser, Flow())).answer.status_code == 200  # asked to sign in
    assert await status(world.http, kept) == 200
    assert [each["current"] for each in await own_sessions(world, kept)] == [True]
    assert await ended(world, person) == [("ended-by-holder", person["id"])]
    assert (await world.http.delete(f"/v1/me/sessions/{wanted}", headers=header(kept))).status_code == 404


async def test_the_session_of_another_is_unknown_to_me(world: World) -> None:
    mine, other = await world.person("collector"), await world.person("collector")
    issued, others = await signed_in(world, mine), await signed_in(world, other)
    wanted = (await own_sessions(world, others))[0]["id"]
    assert (await world.http.delete(f"/v1/me/sessions/{wanted}", headers=header(issued))).status_code == 404
    assert await status(world.http, others) == 200


async def test_an_ended_session_is_felt_at_every_replica_within_two_seconds(world: World) -> None:
    person = await world.person("collector")
    first, second = await signed_in(world, person), await signed_in(world, person)
    async with worlds.gateway(world.settings, world.clock) as (_, replica, _port):
        assert [await status(replica, each) for each in (first, second)] == [200, 200]
        path = f"/v1/accounts/{person['id']}/sessions"
        assert (await world.call("sysadmin", "DELETE", path)).status_code == 204
        await eventually(lambda: status(replica, first), 401, seconds=2)
        await eventually(lambda: status(replica, second), 401, seconds=2)
    by = account_of(world, "sysadmin")
    assert await ended(world, person) == [("ended-by-officer", by), ("ended-by-officer", by)]


async def test_an_account_manager_ends_one_session_and_none_of_his_own(world: World) -> None:
    person = await world.person("collector")
    first, second = await signed_in(world, person), await signed_in(world, person)
    wanted = next(each["id"] for each in await own_sessions(world, first) if each["current"])
    path = f"/v1/accounts/{person['id']}/sessions/{wanted}"
    assert (await world.call("secadmin", "DELETE", path)).status_code == 403
    assert (await world.call("sysadmin", "DELETE", path)).status_code == 204
    assert (await world.call("sysadmin", "DELETE", path)).status_code == 404
    await eventually(lambda: status(world.http, first), 401, seconds=2)
    assert await status(world.http, second) == 200
    own = await world.call("sysadmin", "DELETE", f"/v1/accounts/{account_of(world, 'sysadmin')}/sessions")
    assert (own.status_code, own.json()["type"]) == (403, "urn:dossier:problem:same-person")


# ---- left alone


@pytest.mark.clause("D.4.6")
@pytest.mark.parametrize(("minutes", "lives"), [(55, True), (61, False)])
async def test_a_session_that_is_left_alone_ends(world: World, minutes: int, lives: bool) -> None:  # noqa: FBT001  # a column of the table
    person = await world.person("collector")
    browser = await world.browser()
    issued = await tokens(browser, person["username"], PASSWORD)
    world.clock.ahead += timedelta(minutes=minutes)
    assert ((await refresh(world, issued)).status_code == 200) is lives
    assert (await first_page(browser, Flow())).answer.is_redirect is lives


async def test_a_session_in_use_lasts_to_its_end_and_no_longer(world: World) -> None:
    person = await world.person("collector")
    browser = await world.browser()
    await sign_in(browser, person["username"], PASSWORD, Flow())
    for _ in range(10):
        world.clock.ahead += timedelta(minutes=50)
        assert (await first_page(browser, Flow())).answer.is_redirect
    world.clock.ahead += timedelta(minutes=45)
    assert (await first_page(browser, Flow())).answer.status_code == 200


# ---- passwords


async def change(world: World, issued: dict[str, Any], present: str, wanted: str) -> httpx.Response:
    body = {"password": present, "new_password": wanted}
    return await world.http.post("/v1/me/password", headers=header(issued), json=body)


@pytest.mark.clause("A6.3.2")
async def test_a_person_changes_his_password_and_all_other_sessions_end(world: World) -> None:
    person = await world.person("collector")
    here, elsewhere = await signed_in(world, person), await signed_in(world, person)
    answer = await change(world, here, PASSWORD, OTHER)
    assert answer.status_code == 204, answer.text
    await eventually(lambda: status(world.http, elsewhere), 401, seconds=2)
    assert await status(world.http, here) == 200
    changed = (await world.events("gateway.v1.password.changed"))[-1]
    assert (changed.data["account"], str(changed.actor)) == (person["id"], person["id"])
    assert await ended(world, person) == [("password-changed", person["id"])]
    with pytest.raises(NotSignedIn):
        await signed_in(world, person)
    assert await signed_in(world, person, OTHER)


@pytest.mark.parametrize(
    ("present", "wanted", "pointer", "code"),
    [
        ("wrong password 1", OTHER, "/body/password", "wrong"),
        (PASSWORD, "short1", "/body/new_password", "too_short"),
        (PASSWORD, PASSWORD, "/body/new_password", "used_before"),
        (PASSWORD, "Dragon-20261122", "/body/new_password", "common"),
    ],
)
async def test_a_change_that_is_refused_says_why_and_changes_nothing(
    world: World, present: str, wanted: str, pointer: str, code: str
) -> None:
    person = await world.person("collector")
    issued = await signed_in(world, person)
    answer = await change(world, issued, present, wanted)
    assert answer.status_code == 422
    assert [(each["pointer"], each["code"]) for each in answer.json()["errors"]] == [(pointer, code)]
    assert await signed_in(world, person)


async def test_guessing_the_present_password_locks_as_sign_ins_do(world: World) -> None:
    person = await world.person("collector")
    issued = await signed_in(world, person)
    for _ in range(5):
        assert (await change(world, issued, "wrong password 1", OTHER)).status_code == 422
    assert (await change(world, issued, PASSWORD, OTHER)).status_code == 422
    with pytest.raises(NotSignedIn):
        await signed_in(world, person)


async def test_an_application_has_no_password_and_no_sessions(world: World) -> None:
    body = {
        "id": f"app-{uuid4()}",
        "title": "CRM",
        "grant_types": ["client_credentials"],
        "scopes": ["records:catalogue"],
    }
    made = (await world.call("sysadmin", "POST", "/v1/clients", json=body)).json()
    answer = await world.http.post(
        "/oauth/token", data={"grant_type": "client_credentials"}, auth=(made["id"], made["secret"])
    )
    assert await own_sessions(world, answer.json()) == []
    assert (await change(world, answer.json(), PASSWORD, OTHER)).status_code == 403


@pytest.mark.clause("A6.3.2")
async def test_on_suspicion_the_next_sign_in_changes_the_password(world: World) -> None:
    person = await world.person("collector")
    issued = await signed_in(world, person)
    path = f"/v1/accounts/{person['id']}/password-expiry"
    assert (await world.call("secadmin", "POST", path)).status_code == 403
    assert (await world.call("sysadmin", "POST", path)).status_code == 204
    await eventually(lambda: status(world.http, issued), 401, seconds=2)
    told = (await world.events("gateway.v1.password.expired"))[-1]
    assert (told.data["account"], str(told.actor)) == (person["id"], account_of(world, "sysadmin"))
    browser = await world.browser()
    page = await (await first_page(browser, Flow())).submit(browser, username=person["username"], password=PASSWORD)
    assert (page.answer.status_code, page.step) == (200, "renew")
    assert not [name for name in browser.cookies if "session" in name]
    assert (await page.submit(browser, new_password=OTHER)).answer.is_redirect
    again = await world.browser()
    assert await sign_in(again, person["username"], OTHER, Flow())


async def test_nobody_expires_his_own_password_and_none_that_is_not_set(world: World) -> None:
    own = await world.call("sysadmin", "POST", f"/v1/accounts/{account_of(world, 'sysadmin')}/password-expiry")
    assert (own.status_code, own.json()["type"]) == (403, "urn:dossier:problem:same-person")
    body = {"username": f"new-{uuid4()}", "display_name": "某人", "unit": str(world.root)}
    invited = (await world.call("sysadmin", "POST", "/v1/accounts", json=body)).json()
    assert (await world.call("sysadmin", "POST", f"/v1/accounts/{invited['id']}/password-expiry")).status_code == 409


async def test_a_lost_password_that_is_set_anew_ends_what_was_open(world: World) -> None:
    person = await world.person("collector")
    issued = await signed_in(world, person)
    code = (await world.call("sysadmin", "POST", f"/v1/accounts/{person['id']}/enrolment-codes")).json()
    await world.enrol(code["enrolment_code"], OTHER)
    await eventually(lambda: status(world.http, issued), 401, seconds=2)


# ---- pages


async def test_the_page_shows_ones_sessions_and_ends_them(world: World) -> None:
    person = await world.person("collector")
    elsewhere = await signed_in(world, person)
    browser = await world.browser()
    page = Page(await browser.get("/console/sessions"))
    arrived = await page.submit(browser, username=person["username"], password=PASSWORD)
    assert arrived.answer.headers["location"] == "/console/sessions"
    page = Page(await browser.get("/console/sessions"))
    ids = re.findall(r'name="session" value="([^"]+)"', page.answer.text)
    current = next(each["id"] for each in await own_sessions(world, elsewhere) if each["current"])
    assert len(ids) == 2
    assert current in ids
    page = await page.submit(browser, session=current)
    assert len(re.findall(r'name="session"', page.answer.text)) == 1
    await eventually(lambda: status(world.http, elsewhere), 401, seconds=2)
    own = await page.submit(browser, session=next(each for each in ids if each != current))
    assert 'name="username"' in own.answer.text
    assert 'name="username"' in (await browser.get("/console/sessions")).text


async def test_a_form_of_another_browser_ends_no_session(world: World) -> None:
    person = await world.person("collector")
    browser, other = await world.browser(), await world.browser()
    await sign_in(browser, person["username"], PASSWORD, Flow())
    foreign = Page(await other.get("/console/sessions"))
    form = re.findall(r'name="form" value="([^"]+)"', foreign.answer.text)[0]
    page = await browser.get("/console/sessions")
    wanted = re.findall(r'name="session" value="([^"]+)"', page.text)[0]
    forged = await browser.post("/console/sessions", data={"form": form, "session": wanted})
    assert 'name="username"' in forged.text
    assert wanted in (await browser.get("/console/sessions")).text


async def test_the_page_changes_the_password(world: World) -> None:
    person = await world.person("collector")
    browser = await world.browser()
    await sign_in(browser, person["username"], PASSWORD, Flow())
    page = Page(await browser.get("/console/password"))
    for refused in (
        {"password": PASSWORD, "new_password": OTHER, "again": f"{OTHER} "},
        {"password": "wrong password 1", "new_password": OTHER, "again": OTHER},
        {"password": PASSWORD, "new_password": "short1", "again": "short1"},
    ):
        page = await page.submit(browser, **refused)
        assert page.answer.status_code == 401
        assert 'aria-invalid="true"' in page.answer.text
    page = await page.submit(browser, password=PASSWORD, new_password=OTHER, again=OTHER)
    assert page.answer.status_code == 200
    assert await signed_in(world, person, OTHER)


async def test_a_person_enrols_by_the_page(world: World) -> None:
    body = {"username": f"new-{uuid4()}", "display_name": "某人", "unit": str(world.root)}
    invited = (await world.call("sysadmin", "POST", "/v1/accounts", json=body)).json()
    browser = await world.browser()
    page = Page(await browser.get("/enrol"))
    code = invited["enrolment_code"]
    for refused in (
        {"code": "no such code", "new_password": OTHER, "again": OTHER},
        {"code": code, "new_password": "short1", "again": "short1"},
        {"code": code, "new_password": OTHER, "again": "other"},
    ):
        page = await page.submit(browser, **refused)
        assert page.answer.status_code == 401
    assert "/console/sign-in" in (await page.submit(browser, code=code, new_password=OTHER, again=OTHER)).answer.text
    assert await signed_in(world, invited, OTHER)


async def test_the_consoles_sign_in_goes_to_our_own_pages_only(world: World) -> None:
    person = await world.person("collector")
    browser = await world.browser()
    page = Page(await browser.get("/console/sign-in", params={"to": "//evil.example/"}))
    arrived = await page.submit(browser, username=person["username"], password=PASSWORD)
    assert arrived.answer.headers["location"] == "/console/sessions"
    assert (await browser.get("/console/sign-in", params={"to": "x" * 99})).status_code == 422


# ---- throttling


async def test_secrets_of_clients_are_tried_no_faster_than_passwords(world: World) -> None:
    slow = world.settings.model_copy(update={"sign_ins_per_second": 0.01, "sign_ins_at_once": 3})
    async with worlds.gateway(slow, world.clock) as (_, http, _port):

        async def attempt(path: str) -> int:
            form = {"grant_type": "client_credentials", "token": "x"}
            return (await http.post(path, data=form, auth=("dossier-nobody", "guess"))).status_code

        first = [await attempt("/oauth/token"), await attempt("/oauth/introspect"), await attempt("/oauth/revoke")]
        assert first == [401, 401, 401]
        assert {await attempt(path) for path in ("/oauth/token", "/oauth/introspect", "/oauth/revoke")} == {429}
        answer = await http.post("/oauth/token", data={"grant_type": "client_credentials"})
        assert answer.headers["retry-after"]


async def test_the_pages_are_throttled_as_the_sign_in_is(world: World) -> None:
    slow = world.settings.model_copy(update={"sign_ins_per_second": 0.01, "sign_ins_at_once": 1})
    async with worlds.gateway(slow, world.clock) as (_, http, _port):
        form = {"form": "x"}
        assert (await http.post("/enrol", data=form)).status_code == 401
        for path in ("/enrol", "/console/sign-in", "/console/password", "/console/second-factor", "/oauth/authorize"):
            assert (await http.post(path, data=form)).status_code == 429


async def test_tokens_say_how_their_person_signed_in(world: World) -> None:
    person = await world.person("collector")
    issued = await signed_in(world, person)
    assert (await claims(world, issued["access_token"])).claims["amr"] == ["pwd"]
