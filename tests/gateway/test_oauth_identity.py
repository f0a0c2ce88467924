"""What an application learns of a sign-in, what it may ask of it, and what the server says of itself."""

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import timedelta
from typing import Any

import httpx
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from tests.gateway.oauth_support import ASSERTION, ITSELF, KINDS, PERSON, App, key, query, registered
from tests.gateway.world import PASSWORD, World
from tests.support.authorization import Flow, sign_in


def decoded(part: str) -> bytes:
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))


async def read(world: World, token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of a token, whose signature holds by a published key: by hand, as any library would."""
    signed, _, signature = token.rpartition(".")
    header, claims = (orjson.loads(decoded(part)) for part in signed.split("."))
    answer = await world.http.get("/oauth/jwks.json")
    assert answer.headers["cache-control"] == "public, max-age=300"
    (jwk,) = (each for each in answer.json()["keys"] if each["kid"] == header["kid"])
    assert (jwk["kty"], jwk["crv"], jwk["use"]) == ("OKP", "Ed25519", "sig")
    assert "alg" not in jwk, "the key signs under two names, and libraries compare"
    Ed25519PublicKey.from_public_bytes(decoded(jwk["x"])).verify(decoded(signature), signed.encode())
    return header, claims


@pytest.fixture(scope="module")
async def app(world: World) -> App:
    return await registered(world)


@pytest.fixture(scope="module")
async def clerk(world: World) -> str:
    username: str = (await world.person("records_clerk"))["username"]
    return username


@pytest.fixture
async def browser(world: World, clerk: str) -> httpx.AsyncClient:
    """One that is signed in."""
    found = await world.browser()
    await sign_in(found, clerk, PASSWORD, Flow())
    return found


async def authorize(browser: httpx.AsyncClient, **more: str) -> httpx.Response:
    return await browser.get("/oauth/authorize", params=Flow().request() | more)


async def test_an_id_token_says_who_signed_in_when_and_how(world: World, app: App, clerk: str) -> None:
    issued = await app.tokens(clerk)
    header, claims = await read(world, issued["id_token"])
    assert (header["alg"], header["typ"]) == ("EdDSA", "JWT")
    assert (claims["iss"], claims["aud"]) == (world.settings.common.issuer, app.id)
    assert claims["preferred_username"] == clerk
    assert claims["amr"] == ["pwd"]
    assert claims["acr"] == "urn:dossier:acr:one-factor"
    assert abs(claims["auth_time"] - claims["iat"]) <= 5
    half = hashlib.sha512(issued["access_token"].encode()).digest()[:32]
    assert claims["at_hash"] == urlsafe_b64encode(half).rstrip(b"=").decode()
    access, _ = await read(world, issued["access_token"])
    assert (access["alg"], access["typ"]) == ("Ed25519", "at+jwt")


async def test_the_nonce_comes_back_once_and_the_sign_in_stays_the_same(world: World, app: App, clerk: str) -> None:
    browser, flow = await world.browser(), app.fresh()
    await sign_in(browser, clerk, PASSWORD, flow)
    asked = flow.request() | {"nonce": "n-0S6_WzA2Mj"}
    page = await browser.get("/oauth/authorize", params=asked)
    form = page.text.split('name="form" value="')[1].split('"')[0]
    agreed = await browser.post("/oauth/authorize", params=asked, data={"form": form, "agree": "yes"})
    first = (await app.exchange(flow.code(agreed.headers["location"], world.settings.common.issuer), flow)).json()
    _, said = await read(world, first["id_token"])
    assert said["nonce"] == "n-0S6_WzA2Mj"
    world.clock.ahead = timedelta(minutes=5)
    second = await app.post("/oauth/token", grant_type="refresh_token", refresh_token=first["refresh_token"])
    _, again = await read(world, second.json()["id_token"])
    assert "nonce" not in again  # OpenID Connect Core, 12.2
    assert {name: again[name] for name in ("sub", "auth_time", "sid")} == {
        name: said[name] for name in ("sub", "auth_time", "sid")
    }
    assert again["at_hash"] != said["at_hash"]


async def test_a_sign_in_that_is_older_than_asked_for_is_made_again(
    world: World, browser: httpx.AsyncClient, clerk: str
) -> None:
    world.clock.ahead = timedelta(minutes=5)
    assert "code" in query((await authorize(browser, max_age="600")).headers["location"])
    assert (await authorize(browser, max_age="100")).status_code == 200
    silent = await authorize(browser, max_age="100", prompt="none")
    assert query(silent.headers["location"])["error"] == "login_required"
    for age in ("100", "0"):
        page = await authorize(browser, max_age=age)
        form = page.text.split('name="form" value="')[1].split('"')[0]
        data = {"username": clerk, "password": PASSWORD, "form": form}
        asked = Flow().request() | {"max_age": age}
        assert "code" in query((await browser.post("/oauth/authorize", params=asked, data=data)).headers["location"])


@pytest.mark.parametrize("prompt", ["login", "select_account", "login consent"])
async def test_a_new_sign_in_that_is_asked_for_cannot_be_passed_over(browser: httpx.AsyncClient, prompt: str) -> None:
    page = await authorize(browser, prompt=prompt)
    assert page.status_code == 200
    assert 'name="password"' in page.text
    form = page.text.split('name="form" value="')[1].split('"')[0]
    asked = Flow().request() | {"prompt": prompt}
    agreed = await browser.post("/oauth/authorize", params=asked, data={"form": form, "agree": "yes"})
    assert agreed.status_code == 200
    assert 'name="password"' in agreed.text


async def test_consent_is_asked_for_even_by_an_application_of_the_house(browser: httpx.AsyncClient) -> None:
    page = await authorize(browser, prompt="consent")
    assert page.status_code == 200
    assert 'name="agree"' in page.text
    assert 'name="password"' not in page.text


async def test_silently_is_answered_with_a_code_or_with_an_error(world: World, browser: httpx.AsyncClient) -> None:
    assert "code" in query((await authorize(browser, prompt="none")).headers["location"])
    nobody = await authorize(await world.browser(), prompt="none")
    assert query(nobody.headers["location"])["error"] == "login_required"


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"prompt": "none login"}, "invalid_request"),
        ({"prompt": "create"}, "invalid_request"),
        ({"max_age": "-1"}, "invalid_request"),
        ({"max_age": "soon"}, "invalid_request"),
        ({"max_age": ""}, "invalid_request"),
        ({"max_age": "9" * 40}, "invalid_request"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"response_mode": "form_post"}, "invalid_request"),
        ({"request": "e30.e30."}, "request_not_supported"),
        ({"request_uri": "https://evil.example/request"}, "request_uri_not_supported"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "id_token"}, "unsupported_response_type"),
        ({"response_type": "code id_token"}, "unsupported_response_type"),
    ],
)
async def test_what_this_server_does_not_do_is_said_to_the_client(
    world: World, browser: httpx.AsyncClient, more: dict[str, str], error: str
) -> None:
    answer = await authorize(browser, **more)
    assert answer.status_code == 303, answer.text
    said = query(answer.headers["location"])
    assert (said["error"], said["iss"], "code" in said) == (error, world.settings.common.issuer, False)
    assert said["state"]


# ---- metadata (RFC 8414, OpenID Connect Discovery)


@pytest.fixture(scope="module")
async def openid(world: World) -> dict[str, Any]:
    said: dict[str, Any] = (await world.http.get("/.well-known/openid-configuration")).json()
    return said


async def test_both_documents_say_the_same(world: World, openid: dict[str, Any]) -> None:
    oauth = (await world.http.get("/.well-known/oauth-authorization-server")).json()
    assert oauth.items() <= openid.items()
    for name in ("issuer", "jwks_uri", "authorization_endpoint", "response_types_supported", "subject_types_supported"):
        assert openid[name]


async def test_every_address_that_is_named_is_there(world: World, openid: dict[str, Any]) -> None:
    named = [each for name, each in openid.items() if name.endswith(("_endpoint", "_uri", "_documentation"))]
    assert len(named) == 7
    for address in named:
        assert address.startswith(f"{openid['issuer']}/")
        answers = {(await world.http.request(method, address)).status_code for method in ("GET", "POST")}
        assert answers & {200, 400, 401, 415}, address


async def test_the_ways_to_authenticate_that_are_named_are_all_that_there_are(
    world: World, openid: dict[str, Any]
) -> None:
    secret, keyed = await registered(world, ITSELF), await registered(world, ITSELF, private=key("EdDSA"))
    own = {app.id: (await app.own_token())["access_token"] for app in (secret, keyed)}
    asked: dict[str, dict[str, Any]] = {
        "client_secret_basic": {"auth": (secret.id, secret.secret)},
        "client_secret_post": {"data": {"client_id": secret.id, "client_secret": secret.secret}},
        "none": {"data": {"client_id": "dossier-cli"}},
        "private_key_jwt": {"data": {"client_assertion_type": ASSERTION}},
        "client_secret_jwt": {"data": {"client_id": secret.id, "client_assertion_type": "x", "client_assertion": "x"}},
        "tls_client_auth": {"data": {"client_id": secret.id}},
    }
    for endpoint in ("token", "revocation", "introspection"):
        address, named = openid[f"{endpoint}_endpoint"], openid[f"{endpoint}_endpoint_auth_methods_supported"]
        for method, credentials in asked.items():
            form = {"grant_type": "client_credentials", "token": own[secret.id]} | credentials.get("data", {})
            if method == "private_key_jwt":
                form |= {"client_assertion": keyed.assertion(), "token": own[keyed.id]}
            if method == "none":
                form |= {"grant_type": "refresh_token", "refresh_token": "unknown", "token": "unknown"}
            basic = {name: value for name, value in credentials.items() if name == "auth"}
            answer = await world.http.post(address, data=form, **basic)
            known = answer.json().get("error") != "invalid_client"
            assert known == (method in named), (endpoint, method, answer.text)


async def test_the_algorithms_of_assertions_that_are_named_are_all_that_there_are(
    world: World, openid: dict[str, Any]
) -> None:
    for endpoint in ("token", "revocation", "introspection"):
        named = openid[f"{endpoint}_endpoint_auth_signing_alg_values_supported"]
        assert sorted(named) == sorted(KINDS)
        for algorithm in named:
            app = await registered(world, ITSELF, private=key(algorithm), algorithm=algorithm)
            answer = await app.post(openid[f"{endpoint}_endpoint"], grant_type="client_credentials", token="unknown")
            assert answer.status_code == 200, answer.text


async def test_the_rest_that_is_named_is_so(world: World, app: App, clerk: str, openid: dict[str, Any]) -> None:
    issued = await app.tokens(clerk)
    header, claims = await read(world, issued["id_token"])
    assert openid["id_token_signing_alg_values_supported"] == [header["alg"]]
    assert claims.keys() | {"nonce"} == set(openid["claims_supported"])
    assert claims["acr"] in openid["acr_values_supported"]
    assert set(openid["grant_types_supported"]) == {*PERSON["grant_types"], *ITSELF["grant_types"]}
    assert openid["response_types_supported"] == ["code"]
    assert openid["code_challenge_methods_supported"] == ["S256"]
    for name in ("claims_parameter", "request_parameter", "request_uri_parameter"):
        assert openid[f"{name}_supported"] is False
    for prompt in openid["prompt_values_supported"]:
        answer = await world.http.get("/oauth/authorize", params=Flow().request() | {"prompt": prompt})
        assert "invalid_request" not in answer.headers.get("location", "")
