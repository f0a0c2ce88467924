"""People: the sign-in page, codes, PKCE, redirects, tokens (RFC 9700, ASVS 10.4)."""

import asyncio
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet
from sqlalchemy import text
from tests.gateway.world import PASSWORD, World
from tests.support.authorization import Flow, NotSignedIn, challenge, sign_in, tokens

from dossier_gateway.oauth import repository
from dossier_gateway.tokens import Algorithms

CLI_REDIRECT = "http://127.0.0.1:4567/callback"


async def claims(world: World, token: str) -> jwt.Token:
    keys = KeySet.import_key_set((await world.http.get("/oauth/jwks.json")).json())
    return jwt.decode(token, keys, registry=Algorithms(algorithms=["Ed25519", "EdDSA"]))


async def code_for(world: World, flow: Flow, username: str) -> str:
    location = await sign_in(await world.browser(), username, PASSWORD, flow)
    return flow.code(location, world.settings.common.issuer)


async def exchange(world: World, flow: Flow, code: str, **other: str) -> httpx.Response:
    return await world.http.post("/oauth/token", data=flow.exchange(code) | other)


async def test_a_token_says_who_and_what_and_is_signed_as_rfc_9068_wants(world: World) -> None:
    clerk = await world.person("records_clerk")
    issued = await tokens(await world.browser(), clerk["username"], PASSWORD)
    token = await claims(world, issued["access_token"])
    assert token.header["typ"] == "at+jwt"
    assert token.header["alg"] == "Ed25519"
    said = token.claims
    assert said["iss"] == said["aud"] == world.settings.common.issuer
    assert said["sub"] == clerk["id"]
    assert said["person"] == clerk["person"]
    assert said["client_id"] == "dossier-cli"
    assert said["exp"] - said["iat"] == 600
    assert said["jti"]
    assert said["scope"].split() == sorted(said["scope"].split()) == issued["scope"].split()
    assert "records:register" in said["scope"].split()
    assert "accounts:manage" not in said["scope"].split()


async def test_a_token_holds_what_was_asked_for_and_the_roles_give_both(world: World) -> None:
    clerk = await world.person("records_clerk")
    issued = await tokens(
        await world.browser(), clerk["username"], PASSWORD, scope="records:read accounts:manage openid"
    )
    assert issued["scope"] == "records:read"
    identity = (await claims(world, issued["id_token"])).claims
    assert identity["aud"] == "dossier-cli"
    assert identity["sub"] == clerk["id"]
    assert identity["preferred_username"] == clerk["username"]


async def test_signing_in_is_an_event_and_so_is_the_token(world: World) -> None:
    clerk = await world.person("records_clerk")
    issued = await tokens(await world.browser(), clerk["username"], PASSWORD)
    token = (await claims(world, issued["access_token"])).claims
    signed_in = [e for e in await world.events("gateway.v1.session.signed-in") if e.data["account"] == clerk["id"]]
    assert len(signed_in) == 1
    events = [e for e in await world.events("gateway.v1.token.issued") if e.data["token"] == token["jti"]]
    assert [event.data["scopes"] for event in events] == [token["scope"].split()]


@pytest.mark.parametrize(
    "change",
    [
        {"code_challenge_method": "plain"},
        {"code_challenge_method": None},
        {"code_challenge": None},
        {"code_challenge": None, "code_challenge_method": None},
        {"code_challenge": "short"},
        {"response_type": "token"},
        {"scope": "records:describe"},
        {"scope": "no:such"},
        {"prompt": "none"},
    ],
)
async def test_a_bad_request_goes_back_to_its_client_as_an_error(world: World, change: dict[str, Any]) -> None:
    asked = {name: value for name, value in (Flow().request() | change).items() if value is not None}
    answer = await world.http.get("/oauth/authorize", params=asked)
    assert answer.status_code == 303, answer.text
    said = parse_qs(urlsplit(answer.headers["location"]).query)
    assert answer.headers["location"].startswith(asked["redirect_uri"])
    assert "code" not in said
    assert said["error"][0] in {"invalid_request", "invalid_scope", "unsupported_response_type", "login_required"}
    assert said["state"] == [asked["state"]]
    assert said["iss"] == [world.settings.common.issuer]


@pytest.mark.parametrize(
    "redirect",
    [
        "http://127.0.0.1:7/callback/",
        "http://127.0.0.1:7/callback?x=1",
        "http://127.0.0.1:7/other",
        "http://127.0.0.1:7/callback#x",
        "http://127.0.0.1:99999/callback",
        "http://localhost:7/callback",
        "http://127.0.0.1.evil.example:7/callback",
        "http://evil@127.0.0.1:7/callback",
        "http://127.0.0.1:7@evil.example/callback",
        "https://127.0.0.1:7/callback",
        "HTTP://127.0.0.1:7/callback",
        "http://[::1]:7/callback",
        "http://127.0.0.1:07/callback",
        "http://127.0.0.1:7/CALLBACK",
        "http://127.0.0.1:7/%63allback",
        "//127.0.0.1:7/callback",
        "javascript:alert(1)",
        "密码",
        'http://127.0.0.1:7/"',
        "",
    ],
)
async def test_a_redirect_that_is_not_registered_gets_nothing(world: World, redirect: str) -> None:
    answer = await world.http.get("/oauth/authorize", params=Flow(redirect=redirect).request())
    assert answer.status_code == 400
    assert "location" not in answer.headers
    assert "default-src 'none'" in answer.headers["content-security-policy"]


async def test_an_unknown_client_and_a_repeated_parameter_get_a_page_and_no_redirect(world: World) -> None:
    unknown = await world.http.get("/oauth/authorize", params=Flow(client="nobody").request())
    twice = await world.http.get(
        "/oauth/authorize", params=[*Flow().request().items(), ("redirect_uri", "https://evil.example/")]
    )
    assert [unknown.status_code, twice.status_code] == [400, 400]
    assert "location" not in {*unknown.headers, *twice.headers}


async def test_a_loopback_redirect_may_have_any_port(world: World) -> None:
    flow = Flow(redirect=CLI_REDIRECT)
    assert (await exchange(world, flow, await code_for(world, flow, "auditor"))).status_code == 200


async def test_a_wrong_verifier_burns_the_code(world: World) -> None:
    flow = Flow()
    code = await code_for(world, flow, "auditor")
    wrong = await exchange(world, flow, code, code_verifier="x" * 43)
    assert (wrong.status_code, wrong.json()["error"]) == (400, "invalid_grant")
    right = await exchange(world, flow, code)
    assert (right.status_code, right.json()["error"]) == (400, "invalid_grant")


@pytest.mark.parametrize(
    "other", [{"redirect_uri": CLI_REDIRECT}, {"client_id": "dossier-console"}, {"code_verifier": ""}]
)
async def test_a_code_is_bound_to_redirect_client_and_challenge(world: World, other: dict[str, str]) -> None:
    flow = Flow()
    answer = await exchange(world, flow, await code_for(world, flow, "auditor"), **other)
    assert answer.status_code == 400
    assert answer.json()["error"] in {"invalid_grant", "invalid_request"}


async def test_a_code_that_comes_twice_gives_nothing_and_revokes_what_it_gave(world: World) -> None:
    flow = Flow()
    code = await code_for(world, flow, "auditor")
    issued = (await exchange(world, flow, code)).json()
    header = {"Authorization": f"Bearer {issued['access_token']}"}
    assert (await world.http.get("/v1/me", headers=header)).status_code == 200
    again = await exchange(world, flow, code)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    await asyncio.sleep(1.1)
    assert (await world.http.get("/v1/me", headers=header)).status_code == 401
    refreshed = await world.http.post(
        "/oauth/token",
        data={"grant_type": "refresh_token", "refresh_token": issued["refresh_token"], "client_id": "dossier-cli"},
    )
    assert refreshed.json()["error"] == "invalid_grant"
    assert (await world.events("gateway.v1.tokens.revoked"))[-1].data["reason"] == "code-reuse"


async def test_of_two_who_present_a_code_at_once_one_gets_a_token(world: World) -> None:
    flow = Flow()
    code = await code_for(world, flow, "auditor")
    answers = await asyncio.gather(*(exchange(world, flow, code) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 400, 400, 400]


async def test_a_code_lasts_a_minute(world: World) -> None:
    flow = Flow()
    code = await code_for(world, flow, "auditor")
    world.clock.ahead = timedelta(seconds=61)
    assert (await exchange(world, flow, code)).json()["error"] == "invalid_grant"


async def test_a_refresh_token_is_used_once_and_its_reuse_revokes_the_family(world: World) -> None:
    issued = await tokens(await world.browser(), "auditor", PASSWORD, scope="audit:read audit:export")

    async def refresh(token: str, **more: str) -> httpx.Response:
        asked = {"grant_type": "refresh_token", "refresh_token": token, "client_id": "dossier-cli"}
        return await world.http.post("/oauth/token", data=asked | more)

    second = (await refresh(issued["refresh_token"], scope="audit:read")).json()
    assert second["scope"] == "audit:read"
    third = (await refresh(second["refresh_token"])).json()
    assert third["scope"] == issued["scope"]
    wider = await refresh(third["refresh_token"], scope="audit:read audit:verify")
    assert wider.json()["error"] == "invalid_scope"
    assert (await refresh(issued["refresh_token"])).json()["error"] == "invalid_grant"
    assert (await refresh(third["refresh_token"])).json()["error"] == "invalid_grant"


async def test_a_refresh_token_of_another_client_is_refused(world: World) -> None:
    issued = await tokens(await world.browser(), "auditor", PASSWORD)
    asked = {
        "grant_type": "refresh_token",
        "refresh_token": issued["refresh_token"],
        "client_id": "dossier-console",
    }
    assert (await world.http.post("/oauth/token", data=asked)).json()["error"] == "invalid_grant"


async def test_the_browser_stays_signed_in_until_it_signs_out(world: World) -> None:
    browser = await world.browser()
    issued = await tokens(browser, "auditor", PASSWORD)
    again = await browser.get("/oauth/authorize", params=Flow().request())
    assert "code=" in again.headers["location"]
    page = await browser.get("/oauth/sign-out")
    form = page.text.split('name="form" value="')[1].split('"')[0]
    assert (await browser.post("/oauth/sign-out", data={"form": "wrong"})).status_code == 422
    assert (await browser.post("/oauth/sign-out", data={"form": form})).status_code == 200
    assert (await browser.get("/oauth/authorize", params=Flow().request())).status_code == 200
    await asyncio.sleep(1.1)
    header = {"Authorization": f"Bearer {issued['access_token']}"}
    assert (await world.http.get("/v1/me", headers=header)).status_code == 401


async def test_a_form_of_another_browser_signs_nobody_in(world: World) -> None:
    page = await (await world.browser()).get("/oauth/authorize", params=Flow().request())
    form = page.text.split('name="form" value="')[1].split('"')[0]
    data = {"username": "auditor", "password": PASSWORD, "form": form}
    forged = await (await world.browser()).post("/oauth/authorize", params=Flow().request(), data=data)
    assert forged.status_code == 401
    assert "location" not in forged.headers


async def test_cookies_are_kept_from_scripts_and_other_sites(world: World) -> None:
    browser = await world.browser()
    await sign_in(browser, "auditor", PASSWORD, Flow())
    page = await (await world.browser()).get("/oauth/authorize", params=Flow().request())
    cookie = page.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "<script" not in page.text
    assert page.headers["cache-control"] == "no-store"
    assert f"form-action 'self' {Flow().redirect.removesuffix('/callback')}" in page.headers["content-security-policy"]


async def test_the_page_speaks_the_browsers_language_and_escapes_what_was_typed(world: World) -> None:
    english = await world.http.get(
        "/oauth/authorize", params=Flow().request(), headers={"Accept-Language": "en-GB,zh;q=0.5"}
    )
    assert "Sign in" in english.text
    chinese = await world.http.get("/oauth/authorize", params=Flow().request())
    assert "登录" in chinese.text
    with pytest.raises(NotSignedIn):
        await sign_in(await world.browser(), "<script>alert(1)</script>", "x", Flow())


async def test_a_downgrade_at_the_token_endpoint_is_refused(world: World) -> None:
    flow = Flow()
    code = await code_for(world, flow, "auditor")
    plain = await exchange(world, flow, code, code_verifier=challenge(flow.verifier))
    assert plain.json()["error"] == "invalid_grant"


@pytest.mark.parametrize("grant", ["password", "implicit", "", "urn:ietf:params:oauth:grant-type:jwt-bearer", "密"])
async def test_other_grants_do_not_exist(world: World, grant: str) -> None:
    answer = await world.http.post("/oauth/token", data={"grant_type": grant, "username": "auditor", "password": "x"})
    assert answer.status_code == 400
    assert answer.json()["error"] in {"unsupported_grant_type", "invalid_request"}


async def test_metadata_names_what_there_is(world: World) -> None:
    server = (await world.http.get("/.well-known/oauth-authorization-server")).json()
    assert server["issuer"] == world.settings.common.issuer
    assert server["code_challenge_methods_supported"] == ["S256"]
    assert server["authorization_response_iss_parameter_supported"] is True
    openid = (await world.http.get("/.well-known/openid-configuration")).json()
    assert openid["jwks_uri"] == f"{server['issuer']}/oauth/jwks.json"
    keys = (await world.http.get("/oauth/jwks.json")).json()["keys"]
    assert all("d" not in key and key["crv"] == "Ed25519" for key in keys)


@pytest.mark.invariant(4)
async def test_a_token_never_holds_conflicting_duties_even_if_the_directory_does(world: World) -> None:
    person = await world.person("security_auditor")
    async with world.proxy.own.state.database.transaction() as session:  # as if the policy had been changed later
        await session.execute(
            text(
                "INSERT INTO assignments (id, account, person, role, unit, assigned_at) "
                "VALUES (:id, :account, :person, 'records_clerk', :unit, now())"
            ),
            {"id": uuid4(), "account": person["id"], "person": person["person"], "unit": world.root},
        )
    flow = Flow()
    refused = await exchange(world, flow, await code_for(world, flow, person["username"]))
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_scope")
    assert "duty-conflict" in refused.json()["error_description"]
    narrow = Flow("audit:read")
    also = await exchange(world, narrow, await code_for(world, narrow, person["username"]))
    assert (also.status_code, also.json()["error"]) == (400, "invalid_scope")


async def test_an_application_of_others_asks_the_person_and_needs_pkce_and_its_secret(world: World) -> None:
    redirect = "https://app.example/cb?tenant=1"
    made = await world.call(
        "sysadmin",
        "POST",
        "/v1/clients",
        json={
            "id": "crm-portal",
            "title": "客户门户",
            "grant_types": ["authorization_code"],
            "scopes": ["records:read"],
            "redirect_uris": [redirect],
        },
    )
    clerk = await world.person("records_clerk")
    browser = await world.browser()
    await sign_in(browser, clerk["username"], PASSWORD, Flow())
    flow = Flow("records:read records:register", client="crm-portal", redirect=redirect)
    without = {name: value for name, value in flow.request().items() if not name.startswith("code_challenge")}
    refused = await browser.get("/oauth/authorize", params=without)
    assert "error=invalid_request" in refused.headers["location"]
    page = await browser.get("/oauth/authorize", params=flow.request())
    assert page.status_code == 200
    assert "客户门户" in page.text
    assert "form-action 'self' https://app.example;" in page.headers["content-security-policy"] + ";"
    form = page.text.split('name="form" value="')[1].split('"')[0]
    agreed = await browser.post("/oauth/authorize", params=flow.request(), data={"form": form, "agree": "yes"})
    assert agreed.headers["location"].startswith(f"{redirect}&code=")
    code = flow.code(agreed.headers["location"], world.settings.common.issuer)
    public = await exchange(world, flow, code)
    assert public.json()["error"] == "invalid_client"
    secret = made.json()["secret"]
    issued = await exchange(world, flow, code, client_secret=secret)
    assert issued.json()["scope"] == "records:read"
    assert "refresh_token" not in issued.json()


async def test_what_is_over_is_forgotten_and_what_lives_is_kept(world: World) -> None:
    issued = await tokens(await world.browser(), "auditor", PASSWORD)
    async with world.proxy.own.state.database.transaction() as session:
        await session.run_sync(repository.forget, world.clock.now())
        kept = (await session.execute(text("SELECT count(*) FROM refresh_tokens"))).scalar_one()
    assert kept > 0
    asked = {"grant_type": "refresh_token", "refresh_token": issued["refresh_token"], "client_id": "dossier-cli"}
    assert (await world.http.post("/oauth/token", data=asked)).status_code == 200
    async with world.proxy.own.state.database.transaction() as session:
        await session.run_sync(repository.forget, world.clock.now() + timedelta(days=300))
        for table in ("refresh_tokens", "authorization_codes", "browser_sessions", "client_assertions"):
            assert (await session.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one() == 0, table
