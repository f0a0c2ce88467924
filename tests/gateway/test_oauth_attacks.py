"""The attacks of RFC 9700, section by section: each gets its exact error, and nothing is issued for it.

Redirects (4.1, 4.11) are in `test_oauth_redirects.py`, forged and misplaced access tokens (4.3, 4.6, 4.9, 4.10) in
`test_oauth_forged_tokens.py`, assertions in `test_oauth_assertions.py`.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from tests.gateway.oauth_support import PERSON, REDIRECT, App, active, agree, nothing_issued, query, registered
from tests.gateway.world import PASSWORD, World
from tests.support.authorization import Flow, challenge, sign_in
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
async def app(world: World) -> App:
    return await registered(world)


@pytest.fixture(scope="module")
async def clerk(world: World) -> str:
    username: str = (await world.person("records_clerk"))["username"]
    return username


@pytest.fixture(scope="module")
async def browser(world: World, clerk: str) -> httpx.AsyncClient:
    """One that is signed in, so that a request that is let pass would be answered with a code."""
    found = await world.browser()
    await sign_in(found, clerk, PASSWORD, Flow())
    return found


# ---- authorization requests that go back to a good redirect as an error

REQUESTS: dict[str, tuple[dict[str, str | None], str]] = {
    "4.8 PKCE downgrade: no challenge": ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
    "4.8 PKCE downgrade: a method alone": ({"code_challenge": None}, "invalid_request"),
    "4.8 PKCE downgrade: plain": ({"code_challenge_method": "plain"}, "invalid_request"),
    "4.8 PKCE downgrade: plain by omission": ({"code_challenge_method": None}, "invalid_request"),
    "4.8 PKCE downgrade: another hash": ({"code_challenge_method": "S512"}, "invalid_request"),
    "4.8 PKCE downgrade: case of the method": ({"code_challenge_method": "s256"}, "invalid_request"),
    "4.8 PKCE: challenge too short": ({"code_challenge": "x" * 42}, "invalid_request"),
    "4.8 PKCE: challenge too long": ({"code_challenge": "x" * 44}, "invalid_request"),
    "4.8 PKCE: challenge of other characters": ({"code_challenge": "~" * 43}, "invalid_request"),
    "4.8 PKCE: challenge and a line feed": ({"code_challenge": "x" * 42 + "="}, "invalid_request"),
    "2.1.2 implicit grant": ({"response_type": "token"}, "unsupported_response_type"),
    "2.1.2 ID token in the front channel": ({"response_type": "id_token"}, "unsupported_response_type"),
    "2.1.2 hybrid": ({"response_type": "code token"}, "unsupported_response_type"),
    "2.1.2 fragment": ({"response_mode": "fragment"}, "invalid_request"),
    "2.3 scope that nobody has": ({"scope": "openid no:such"}, "invalid_scope"),
    "2.3 scope for services": ({"scope": "records:describe"}, "invalid_scope"),
    "2.3 scope for services of the feed": ({"scope": "events:pull"}, "invalid_scope"),
    "10.4 request object of somebody": ({"request": "eyJhbGciOiJub25lIn0.e30."}, "request_not_supported"),
    "10.4 request object elsewhere": ({"request_uri": "http://169.254.169.254/"}, "request_uri_not_supported"),
}


@pytest.mark.parametrize("row", REQUESTS)
async def test_an_authorization_request_is_refused(
    world: World, app: App, browser: httpx.AsyncClient, row: str
) -> None:
    change, error = REQUESTS[row]
    flow = app.fresh()
    asked = {name: value for name, value in (flow.request() | change).items() if value is not None}
    async with nothing_issued(world):
        answer = await browser.get("/oauth/authorize", params=asked)
    said = query(answer.headers["location"])
    assert answer.headers["location"].startswith(f"{REDIRECT}&")
    assert (said["error"], said["state"], "code" in said) == (error, flow.state, False)
    assert said["iss"] == world.settings.common.issuer  # 4.4: mix-up


POLLUTED = ["client_id", "redirect_uri", "response_type", "state", "scope", "code_challenge", "code_challenge_method"]


@pytest.mark.parametrize("name", POLLUTED)
async def test_a_parameter_that_comes_twice_is_refused_at_the_authorization_endpoint(
    world: World, app: App, browser: httpx.AsyncClient, name: str
) -> None:
    """HTTP parameter pollution (RFC 6749, 3.1): which of the two counts is nobody's guess."""
    asked = app.fresh().request()
    async with nothing_issued(world):
        for other in (asked[name], "https://evil.example/"):
            answer = await browser.get("/oauth/authorize", params=[*asked.items(), (name, other)])
            assert (answer.status_code, "location" in answer.headers) == (400, False)


# ---- 4.4 mix-up, 4.2 leakage, 4.12 redirects with a body


async def test_4_4_each_answer_says_who_gave_it(world: World, clerk: str) -> None:
    flow = Flow()
    location = await sign_in(await world.browser(), clerk, PASSWORD, flow)
    assert query(location)["iss"] == world.settings.common.issuer
    refused = await world.http.get("/oauth/authorize", params=flow.request() | {"prompt": "none"})
    assert query(refused.headers["location"])["iss"] == world.settings.common.issuer
    metadata = (await world.http.get("/.well-known/oauth-authorization-server")).json()
    assert metadata["authorization_response_iss_parameter_supported"] is True


async def test_4_2_and_4_16_pages_leak_nothing_and_stand_in_no_frame(world: World, app: App) -> None:
    for path in ("/oauth/authorize", "/oauth/logout", "/oauth/sign-out"):
        page = await world.http.get(path, params=app.fresh().request())
        assert page.headers["referrer-policy"] == "no-referrer"
        assert page.headers["x-frame-options"] == "DENY"
        assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
        assert "script" not in page.headers["content-security-policy"].replace("default-src 'none'", "")
        assert page.headers["cache-control"] == "no-store"


async def test_4_12_a_redirect_after_a_form_takes_no_password_along(world: World, app: App, clerk: str) -> None:
    browser, flow = await world.browser(), app.fresh()
    page = await browser.get("/oauth/authorize", params=flow.request())
    form = page.text.split('name="form" value="')[1].split('"')[0]
    data = {"username": clerk, "password": PASSWORD, "form": form}
    answer = await browser.post("/oauth/authorize", params=flow.request(), data=data)
    assert answer.status_code == 303  # never 307 or 308
    assert PASSWORD not in answer.headers["location"]


# ---- 4.7 CSRF


async def test_4_7_nobody_is_signed_in_by_a_form_of_somebody_else(world: World, app: App, clerk: str) -> None:
    victim, attacker, flow = await world.browser(), await world.browser(), app.fresh()
    await victim.get("/oauth/authorize", params=flow.request())
    page = await attacker.get("/oauth/authorize", params=flow.request())
    forms = [page.text.split('name="form" value="')[1].split('"')[0], "", "x", "0" * 64]
    async with nothing_issued(world):
        for form in forms:
            data = {"username": clerk, "password": PASSWORD, "form": form}
            for more in ({}, {"agree": "yes"}):
                answer = await victim.post("/oauth/authorize", params=flow.request(), data=data | more)
                assert (answer.status_code, "location" in answer.headers) == (401, False)


async def test_4_7_nobody_agrees_by_a_form_of_somebody_else(world: World, app: App, browser: httpx.AsyncClient) -> None:
    flow = app.fresh()
    async with nothing_issued(world):
        for data in ({"agree": "yes"}, {"agree": "yes", "form": "0" * 64}):
            answer = await browser.post("/oauth/authorize", params=flow.request(), data=data)
            assert "location" not in answer.headers
        page = await browser.get("/oauth/authorize", params=flow.request())
        assert 'name="agree"' in page.text


# ---- 4.5 code injection, 4.8 PKCE, 4.14 refresh tokens, and the rest of the token endpoint

Attack = Callable[["Prey"], Awaitable[httpx.Response]]


class Prey:
    """What an attacker may have: a code that is not used yet, tokens of another person, an application of his own."""

    def __init__(self, app: App, flow: Flow, code: str, other: App, issued: dict[str, Any]) -> None:
        self.app, self.flow, self.code, self.other, self.issued = app, flow, code, other, issued

    async def exchange(self, **changes: str | None) -> httpx.Response:
        """The right request, but for what is changed; what is None is left out."""
        form = self.flow.exchange(self.code) | {"client_secret": self.app.secret or ""} | changes
        return await self.app.world.http.post(
            "/oauth/token", data={name: value for name, value in form.items() if value is not None}
        )

    async def refresh(self, by: App, **changes: str | None) -> httpx.Response:
        form = {"grant_type": "refresh_token", "refresh_token": self.issued["refresh_token"]} | changes
        return await by.post("/oauth/token", **{name: value for name, value in form.items() if value is not None})

    async def by_address(self, **parameters: str) -> httpx.Response:
        """Secrets in the address, where logs keep them (RFC 6749, 2.3.1)."""
        form = self.flow.exchange(self.code)
        return await self.app.world.http.post("/oauth/token", params=parameters, data=form)

    async def twice(self, name: str) -> httpx.Response:
        form = [*(self.flow.exchange(self.code) | {"client_secret": self.app.secret or ""}).items()]
        body = httpx.QueryParams([*form, (name, dict(form)[name])])
        return await self.app.world.http.post(
            "/oauth/token", content=str(body), headers={"Content-Type": "application/x-www-form-urlencoded"}
        )

    async def two_headers(self) -> httpx.Response:
        basic = httpx.BasicAuth(self.app.id, self.app.secret or "")._auth_header
        form = {name: value for name, value in self.flow.exchange(self.code).items() if name != "client_id"}
        return await self.app.world.http.post(
            "/oauth/token", data=form, headers=[("Authorization", basic), ("Authorization", basic)]
        )


@pytest.fixture(scope="module")
async def other(world: World) -> App:
    return await registered(world)


@pytest.fixture
async def prey(world: World, app: App, other: App, browser: httpx.AsyncClient) -> Prey:
    issued = await app.redeem(await agree(browser, flow := app.fresh()), flow)
    flow = app.fresh()
    code = flow.code(await agree(browser, flow), world.settings.common.issuer)
    return Prey(app, flow, code, other, issued)


OTHER = challenge("x" * 43)
ATTACKS: dict[str, tuple[Attack, int, str]] = {
    "4.5 code of another client": (
        lambda p: p.exchange(client_id=p.other.id, client_secret=p.other.secret),
        400,
        "invalid_grant",
    ),
    "4.5 code at a public client": (
        lambda p: p.exchange(client_id="dossier-cli", client_secret=None),
        400,
        "invalid_grant",
    ),
    "4.5 another redirect": (lambda p: p.exchange(redirect_uri="https://app.example/cb"), 400, "invalid_grant"),
    "4.5 no redirect": (lambda p: p.exchange(redirect_uri=None), 400, "invalid_grant"),
    "4.5 a guessed code": (lambda p: p.exchange(code="x" * 48), 400, "invalid_grant"),
    "4.5 a code with more": (lambda p: p.exchange(code=f"{p.code}x"), 400, "invalid_grant"),
    "4.5 no code": (lambda p: p.exchange(code=None), 400, "invalid_request"),
    "4.5 a refresh token as code": (lambda p: p.exchange(code=p.issued["refresh_token"]), 400, "invalid_grant"),
    "4.8 verifier missing": (lambda p: p.exchange(code_verifier=None), 400, "invalid_request"),
    "4.8 verifier empty": (lambda p: p.exchange(code_verifier=""), 400, "invalid_request"),
    "4.8 verifier wrong": (lambda p: p.exchange(code_verifier="x" * 43), 400, "invalid_grant"),
    "4.8 verifier of another flow": (lambda p: p.exchange(code_verifier=Flow().verifier), 400, "invalid_grant"),
    "4.8 verifier too short": (lambda p: p.exchange(code_verifier="x" * 42), 400, "invalid_request"),
    "4.8 verifier too long": (lambda p: p.exchange(code_verifier="x" * 129), 400, "invalid_request"),
    "4.8 verifier of other characters": (lambda p: p.exchange(code_verifier="!" * 43), 400, "invalid_request"),
    "4.8 the challenge as verifier": (
        lambda p: p.exchange(code_verifier=challenge(p.flow.verifier)),
        400,
        "invalid_grant",
    ),
    "4.8 the challenge once more": (
        lambda p: p.exchange(code_challenge=OTHER, code_verifier="x" * 43),
        400,
        "invalid_grant",
    ),
    "2.5 no client authentication": (lambda p: p.exchange(client_secret=None), 401, "invalid_client"),
    "2.5 wrong secret": (lambda p: p.exchange(client_secret="wrong"), 401, "invalid_client"),
    "2.5 empty secret": (lambda p: p.exchange(client_secret=""), 401, "invalid_client"),
    "2.5 secret of another": (lambda p: p.exchange(client_secret=p.other.secret), 401, "invalid_client"),
    "2.5 a part's name without its key": (
        lambda p: p.exchange(client_id="records", client_secret=None),
        401,
        "invalid_client",
    ),
    "2.5 unknown client": (lambda p: p.exchange(client_id="nobody"), 401, "invalid_client"),
    "2.5 secret in the address": (lambda p: p.by_address(client_secret=p.app.secret or ""), 400, "invalid_request"),
    "2.5 two Authorization headers": (lambda p: p.two_headers(), 400, "invalid_request"),
    "4.3 code in the address": (lambda p: p.by_address(code=p.code), 400, "invalid_request"),
    "pollution: code twice": (lambda p: p.twice("code"), 400, "invalid_request"),
    "pollution: grant_type twice": (lambda p: p.twice("grant_type"), 400, "invalid_request"),
    "pollution: client_id twice": (lambda p: p.twice("client_id"), 400, "invalid_request"),
    "pollution: client_id in the address": (lambda p: p.by_address(client_id=p.app.id), 400, "invalid_request"),
    "2.4 password grant": (
        lambda p: p.exchange(grant_type="password", username="auditor", password=PASSWORD),
        400,
        "unsupported_grant_type",
    ),
    "4.15 the application as if it were a person": (
        lambda p: p.exchange(grant_type="client_credentials"),
        400,
        "unauthorized_client",
    ),
    "4.14 refresh token of another client": (lambda p: p.refresh(p.other), 400, "invalid_grant"),
    "4.14 refresh with a wider scope": (
        lambda p: p.refresh(p.app, scope="openid records:catalogue records:read records:register"),
        400,
        "invalid_scope",
    ),
    "4.14 a code as refresh token": (lambda p: p.refresh(p.app, refresh_token=p.code), 400, "invalid_grant"),
    "4.14 an access token as refresh token": (
        lambda p: p.refresh(p.app, refresh_token=p.issued["access_token"]),
        400,
        "invalid_grant",
    ),
    "4.14 no refresh token": (lambda p: p.refresh(p.app, refresh_token=None), 400, "invalid_request"),
    "4.14 an empty refresh token": (lambda p: p.refresh(p.app, refresh_token=""), 400, "invalid_grant"),
}


@pytest.mark.parametrize("row", ATTACKS)
async def test_a_token_request_is_refused(world: World, prey: Prey, row: str) -> None:
    attack, status, error = ATTACKS[row]
    async with nothing_issued(world):
        answer = await attack(prey)
    assert (answer.status_code, answer.json()["error"]) == (status, error), answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert not {"access_token", "refresh_token", "id_token"} & answer.json().keys()


async def test_what_the_attacks_are_made_of_is_good(prey: Prey) -> None:
    assert (await prey.exchange()).status_code == 200
    assert (await prey.refresh(prey.app)).status_code == 200


async def test_4_5_a_code_that_comes_twice_ends_what_it_gave(world: World, prey: Prey) -> None:
    issued = (await prey.exchange()).json()
    async with nothing_issued(world):
        again = await prey.exchange()
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    await dead(world, prey.app, issued)


async def test_4_14_a_refresh_token_that_comes_twice_ends_its_family(world: World, prey: Prey) -> None:
    second = (await prey.refresh(prey.app)).json()
    async with nothing_issued(world):
        again = await prey.refresh(prey.app)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    await dead(world, prey.app, prey.issued | {"refresh_token": second["refresh_token"]})
    await dead(world, prey.app, second)


async def dead(world: World, app: App, issued: dict[str, Any]) -> None:
    """Neither token is of use any more, within two seconds."""

    async def alive() -> bool:
        return await active(world, issued["access_token"])

    await eventually(alive, expected=False, seconds=2)
    form = {"grant_type": "refresh_token", "refresh_token": issued["refresh_token"]}
    refused = await app.post("/oauth/token", **form)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")


async def test_2_3_a_token_holds_no_more_than_registration_and_roles_give(world: World, clerk: str) -> None:
    narrow = await registered(world, PERSON, scopes=["records:catalogue"])
    flow = narrow.fresh(scope="openid records:catalogue records:read accounts:manage")
    issued = await narrow.tokens(clerk, flow=flow)
    assert issued["scope"] == "records:catalogue"
