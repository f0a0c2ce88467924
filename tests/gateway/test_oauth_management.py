"""Clients give back what they hold, ask what it is worth, and sign people out."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
from tests.gateway import world as worlds
from tests.gateway.oauth_support import ITSELF, LEFT, App, active, query, registered
from tests.gateway.world import PASSWORD, World
from tests.support.authorization import Flow, sign_in, tokens
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
async def app(world: World) -> App:
    return await registered(world)


@pytest.fixture(scope="module")
async def clerk(world: World) -> str:
    username: str = (await world.person("records_clerk"))["username"]
    return username


async def introspected(app: App, token: str) -> dict[str, Any]:
    answer = await app.post("/oauth/introspect", token=token)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    said: dict[str, Any] = answer.json()
    return said


async def ends(world: World, token: str) -> None:
    """The gateway refuses it within two seconds."""

    async def taken() -> bool:
        return await active(world, token)

    await eventually(taken, expected=False, seconds=2)


# ---- revocation (RFC 7009)


@pytest.mark.parametrize("given", ["refresh_token", "access_token"])
async def test_giving_back_one_token_of_a_person_ends_all_that_came_with_it(
    world: World, app: App, clerk: str, given: str
) -> None:
    issued = await app.tokens(clerk)
    assert await active(world, issued["access_token"])
    other = "access_token" if given == "refresh_token" else "refresh_token"
    for hint in (given, other, "nonsense"):  # a hint is only a hint, and what is revoked may be revoked again
        answer = await app.post("/oauth/revoke", token=issued[given], token_type_hint=hint)
        assert (answer.status_code, answer.json()) == (200, {})
    await ends(world, issued["access_token"])
    refreshed = await app.post("/oauth/token", grant_type="refresh_token", refresh_token=issued["refresh_token"])
    assert (refreshed.status_code, refreshed.json()["error"]) == (400, "invalid_grant")
    revoked = [each for each in await world.events("gateway.v1.tokens.revoked") if each.data["client_id"] == app.id]
    assert revoked[-1].data["reason"] == "asked-by-client"
    assert len({each.data["family"] for each in revoked}) == len(revoked), "one event for each family"


async def test_an_application_gives_back_one_token_of_its_own_and_keeps_the_others(world: World) -> None:
    app = await registered(world, ITSELF)
    first, second = await app.own_token(), await app.own_token()
    assert (await app.post("/oauth/revoke", token=first["access_token"])).status_code == 200
    await ends(world, first["access_token"])
    assert await active(world, second["access_token"])
    revoked = (await world.events("gateway.v1.tokens.revoked"))[-1].data
    assert revoked["client_id"] == app.id
    assert "family" not in revoked
    assert revoked["token"]


async def test_what_was_given_back_at_one_replica_ends_at_the_other(world: World, app: App, clerk: str) -> None:
    issued = await app.tokens(clerk)
    async with worlds.gateway(world.settings, world.clock) as (_, http, _):
        other = replace(world, http=http)
        assert await active(other, issued["access_token"])
        assert (await app.post("/oauth/revoke", token=issued["access_token"])).status_code == 200
        await asyncio.gather(ends(world, issued["access_token"]), ends(other, issued["access_token"]))


async def test_a_public_client_gives_back_by_its_name(world: World) -> None:
    issued = await tokens(await world.browser(), "auditor", PASSWORD)
    form = {"token": issued["refresh_token"], "client_id": "dossier-cli"}
    assert (await world.http.post("/oauth/revoke", data=form)).status_code == 200
    await ends(world, issued["access_token"])


async def test_nobody_gives_back_what_another_holds(world: World, app: App, clerk: str) -> None:
    issued = await app.tokens(clerk)
    other = await registered(world)
    for token in (issued["access_token"], issued["refresh_token"]):
        refused = await other.post("/oauth/revoke", token=token)
        assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
    assert (await introspected(app, issued["access_token"]))["active"]
    assert (await introspected(app, issued["refresh_token"]))["active"]


@pytest.mark.parametrize("token", ["unknown", "a.b.c", "x" * 5000])
async def test_an_unknown_token_is_answered_as_if_it_had_been_revoked(app: App, token: str) -> None:
    answer = await app.post("/oauth/revoke", token=token)
    assert (answer.status_code, answer.json()) == (200, {})


async def test_a_token_that_is_over_is_answered_as_if_it_had_been_revoked(world: World) -> None:
    app = await registered(world, ITSELF)
    issued = await app.own_token()
    before = len(await world.events("gateway.v1.tokens.revoked"))
    world.clock.ahead = timedelta(minutes=11)
    assert (await app.post("/oauth/revoke", token=issued["access_token"])).status_code == 200
    assert len(await world.events("gateway.v1.tokens.revoked")) == before


@pytest.mark.parametrize("path", ["/oauth/revoke", "/oauth/introspect"])
async def test_who_does_not_authenticate_neither_revokes_nor_asks(world: World, app: App, path: str) -> None:
    wrong = await world.http.post(path, data={"token": "x"}, auth=(app.id, "wrong"))
    nameless = await world.http.post(path, data={"token": "x"})
    without = await app.post(path)
    assert [(each.status_code, each.json()["error"]) for each in (wrong, nameless, without)] == [
        (401, "invalid_client"),
        (401, "invalid_client"),
        (400, "invalid_request"),
    ]


# ---- introspection (RFC 7662)


async def test_a_client_learns_what_its_tokens_are_good_for(world: World, app: App, clerk: str) -> None:
    issued = await app.tokens(clerk)
    access = await introspected(app, issued["access_token"])
    assert access["active"] is True
    assert access["scope"] == "records:catalogue records:read"
    assert (access["client_id"], access["token_type"]) == (app.id, "Bearer")
    assert access["iss"] == access["aud"] == world.settings.common.issuer
    assert access["exp"] - access["iat"] == 600
    refresh = await introspected(app, issued["refresh_token"])
    assert refresh["active"] is True
    assert (refresh["client_id"], refresh["sub"]) == (app.id, access["sub"])
    assert clerk not in str(access) + str(refresh), "a name is nobody's business here"


async def test_what_is_no_token_of_the_client_is_not_active_and_nothing_else_is_said(
    world: World, app: App, clerk: str
) -> None:
    other = await registered(world)
    issued = await app.tokens(clerk)
    used = issued["refresh_token"]
    assert (await app.post("/oauth/token", grant_type="refresh_token", refresh_token=used)).status_code == 200
    asked = [
        (other, issued["access_token"]),
        (other, issued["refresh_token"]),
        (app, used),
        (app, issued["id_token"]),
        (app, "unknown"),
        (app, await world.token("auditor")),
    ]
    assert [await introspected(each, token) for each, token in asked] == [{"active": False}] * len(asked)


async def test_a_public_client_learns_nothing(world: World) -> None:
    form = {"token": await world.token("auditor"), "client_id": "dossier-cli"}
    answer = await world.http.post("/oauth/introspect", data=form)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


async def test_a_role_that_was_taken_away_is_no_scope_of_its_tokens_any_more(world: World, app: App) -> None:
    person = await world.person("records_clerk")
    issued = await app.tokens(person["username"])
    assert "records:read" in (await introspected(app, issued["access_token"]))["scope"]
    held = (await world.call("secadmin", "GET", f"/v1/accounts/{person['id']}")).json()
    for role in held["roles"]:
        gone = await world.call("secadmin", "DELETE", f"/v1/accounts/{person['id']}/roles/{role['id']}")
        assert gone.status_code == 204, gone.text
    for token in (issued["access_token"], issued["refresh_token"]):
        assert (await introspected(app, token))["scope"] == ""


async def test_nothing_is_active_of_a_session_that_ended(world: World, app: App, clerk: str) -> None:
    browser = await world.browser()
    issued = await app.tokens(clerk, browser=browser)
    page = await browser.get("/oauth/sign-out")
    assert (await browser.post("/oauth/sign-out", data={"form": form_of(page)})).status_code == 200
    for token in (issued["access_token"], issued["refresh_token"]):
        assert await introspected(app, token) == {"active": False}


async def test_an_access_token_never_outlives_its_session(world: World, app: App, clerk: str) -> None:
    browser = await world.browser()
    issued = await app.tokens(clerk, browser=browser)
    for minutes in (*range(50, 9 * 60, 50), 9 * 60 - 3):  # a session that is used does not fall idle
        world.clock.ahead = timedelta(minutes=minutes)
        form = {"grant_type": "refresh_token", "refresh_token": issued["refresh_token"]}
        issued = (await app.post("/oauth/token", **form)).json()
    assert 0 < issued["expires_in"] <= 180


# ---- logout (OpenID Connect RP-Initiated Logout)


def form_of(page: httpx.Response) -> str:
    return page.text.split('name="form" value="')[1].split('"')[0]


async def signed_in(browser: httpx.AsyncClient) -> bool:
    return (await browser.get("/oauth/authorize", params=Flow().request())).is_redirect


async def test_with_its_id_token_an_application_ends_the_session_at_once(world: World, app: App, clerk: str) -> None:
    browser = await world.browser()
    issued = await app.tokens(clerk, browser=browser)
    asked = {"id_token_hint": issued["id_token"], "post_logout_redirect_uri": LEFT, "state": "s & t"}
    world.clock.ahead = timedelta(minutes=30)  # an ID token that is over is as good a hint
    left = await browser.get("/oauth/logout", params=asked)
    assert left.status_code == 303
    assert left.headers["location"].startswith(f"{LEFT}?")
    assert query(left.headers["location"]) == {"state": "s & t"}
    assert not await signed_in(browser)
    world.clock.ahead *= 0
    await ends(world, issued["access_token"])
    refreshed = await app.post("/oauth/token", grant_type="refresh_token", refresh_token=issued["refresh_token"])
    assert refreshed.json()["error"] == "invalid_grant"


async def test_a_form_of_the_application_ends_it_as_well(app: App, world: World, clerk: str) -> None:
    browser = await world.browser()
    issued = await app.tokens(clerk, browser=browser)
    asked = {"id_token_hint": issued["id_token"], "client_id": app.id, "post_logout_redirect_uri": LEFT}
    left = await browser.post("/oauth/logout", data=asked)
    assert (left.status_code, left.headers["location"]) == (303, LEFT)
    assert not await signed_in(browser)


@pytest.mark.parametrize("hint", ["none", "broken", "of another session", "an access token"])
async def test_without_proof_the_person_is_asked_first(world: World, app: App, clerk: str, hint: str) -> None:
    browser = await world.browser()
    issued = await app.tokens(clerk, browser=browser)
    hints = {
        "none": {},
        "broken": {"id_token_hint": issued["id_token"][:-6]},
        "of another session": {"id_token_hint": (await app.tokens(clerk))["id_token"]},
        "an access token": {"id_token_hint": issued["access_token"]},
    }
    asked = hints[hint] | {"client_id": app.id, "post_logout_redirect_uri": LEFT, "state": "s"}
    page = await browser.get("/oauth/logout", params=asked)
    assert page.status_code == 200
    assert "id_token_hint" not in page.text
    assert await signed_in(browser)
    assert "form-action 'self' https://app.example" in page.headers["content-security-policy"]
    action = page.text.split('action="')[1].split('"')[0].replace("&amp;", "&")
    assert (await browser.post(action, data={"form": "forged"})).status_code == 422
    assert await signed_in(browser)
    left = await browser.post(action, data={"form": form_of(page)})
    assert (left.status_code, left.headers["location"]) == (303, f"{LEFT}?state=s")
    assert not await signed_in(browser)


async def test_a_form_of_another_site_comes_without_the_cookie_and_is_asked(world: World, app: App, clerk: str) -> None:
    browser = await world.browser()
    issued = await app.tokens(clerk, browser=browser)
    asked = {"id_token_hint": issued["id_token"], "post_logout_redirect_uri": LEFT}
    page = await world.http.post("/oauth/logout", data=asked)
    assert page.status_code == 200
    assert 'name="form"' in page.text
    assert await signed_in(browser)


@pytest.mark.parametrize(
    "redirect",
    [
        "https://app.example/left/",
        "https://app.example/left?x=1",
        "https://app.example/LEFT",
        "https://app.example/left#x",
        "https://evil.example/left",
        "https://app.example.evil.example/left",
        "https://app.example@evil.example/left",
        "//evil.example",
        "javascript:alert(1)",
        "https://app.example/cb?tenant=1",
        "",
    ],
)
async def test_a_redirect_after_logout_that_is_not_registered_is_not_followed(
    world: World, app: App, clerk: str, redirect: str
) -> None:
    browser = await world.browser()
    issued = await app.tokens(clerk, browser=browser)
    asked = {"id_token_hint": issued["id_token"], "post_logout_redirect_uri": redirect, "state": "s"}
    left = await browser.get("/oauth/logout", params=asked)
    assert left.status_code == 200
    assert "location" not in left.headers
    assert "已退出登录" in left.text
    assert not await signed_in(browser)


async def test_a_redirect_without_a_client_is_not_followed(world: World) -> None:
    left = await world.http.get("/oauth/logout", params={"post_logout_redirect_uri": LEFT})
    assert (left.status_code, "location" in left.headers) == (200, False)


@pytest.mark.parametrize("more", [{"client_id": "dossier-cli"}, {"state": "bad\x07"}])
async def test_a_request_that_contradicts_itself_is_an_error_and_ends_nothing(
    world: World, app: App, clerk: str, more: dict[str, str]
) -> None:
    browser = await world.browser()
    issued = await app.tokens(clerk, browser=browser)
    asked = {"id_token_hint": issued["id_token"], "post_logout_redirect_uri": LEFT} | more
    answer = await browser.get("/oauth/logout", params=asked)
    assert (answer.status_code, "location" in answer.headers) == (400, False)
    assert await signed_in(browser)


async def test_the_page_speaks_the_language_that_the_application_asks_for(world: World) -> None:
    browser = await world.browser()
    await sign_in(browser, (await world.person())["username"], PASSWORD, Flow())
    for locales, word in (("en", "Sign out"), ("fr zh-CN en", "退出登录")):
        page = await browser.get("/oauth/logout", params={"ui_locales": locales}, headers={"Accept-Language": "en"})
        assert word in page.text
    asked = Flow().request() | {"ui_locales": "en"}
    assert "Sign in" in (await world.http.get("/oauth/authorize", params=asked)).text


async def test_many_revocations_at_once_are_one(world: World, app: App, clerk: str) -> None:
    issued = await app.tokens(clerk)
    before = len(await world.events("gateway.v1.tokens.revoked"))
    answers = await asyncio.gather(*(app.post("/oauth/revoke", token=issued["refresh_token"]) for _ in range(5)))
    assert {each.status_code for each in answers} == {200}
    assert len(await world.events("gateway.v1.tokens.revoked")) == before + 1
