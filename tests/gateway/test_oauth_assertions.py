"""`private_key_jwt` of registered applications (RFC 7523): whose key, which algorithm, for whom, how long, once."""

import time
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey
from tests.gateway.oauth_support import ASSERTION, ITSELF, KINDS, PERSON, App, key, public, registered, signed
from tests.gateway.world import World

from dossier_common.ids import new_id


@pytest.fixture(scope="module")
async def app(world: World) -> App:
    return await registered(world, ITSELF, private=key("EdDSA"))


async def ask(app: App, assertion: str, **more: str) -> dict[str, Any]:
    form = {"grant_type": "client_credentials", "client_assertion_type": ASSERTION, "client_assertion": assertion}
    answer = await app.world.http.post("/oauth/token", data=form | more)
    assert answer.status_code in {200, 400, 401}, answer.text
    said: dict[str, Any] = answer.json()
    return said


@pytest.mark.parametrize("algorithm", KINDS)
async def test_an_application_authenticates_by_a_key_of_each_kind(world: World, algorithm: str) -> None:
    app = await registered(world, ITSELF, private=key(algorithm), algorithm=algorithm)
    assert app.secret is None
    assert (await app.own_token())["scope"] == "records:catalogue records:read"


async def test_it_does_so_at_every_endpoint_of_clients(world: World) -> None:
    app = await registered(world, PERSON, private=key("ES256"), algorithm="ES256")
    clerk = await world.person("records_clerk")
    issued = await app.tokens(clerk["username"])
    again = await app.post("/oauth/token", grant_type="refresh_token", refresh_token=issued["refresh_token"])
    assert again.status_code == 200
    assert (await app.post("/oauth/introspect", token=again.json()["access_token"])).json()["active"] is True
    assert (await app.post("/oauth/revoke", token=again.json()["refresh_token"])).status_code == 200
    assert (await app.post("/oauth/introspect", token=again.json()["access_token"])).json() == {"active": False}


async def test_the_token_endpoint_is_as_good_an_audience_as_the_issuer(app: App) -> None:
    issuer = app.world.settings.common.issuer
    for audience in (issuer, f"{issuer}/oauth/token", [issuer], [issuer, f"{issuer}/oauth/token"]):
        assert "access_token" in await ask(app, app.assertion(aud=audience))


async def test_an_assertion_may_be_meant_for_the_endpoint_that_it_comes_to_and_for_no_other(app: App) -> None:
    issuer, own = app.world.settings.common.issuer, await app.own_token()
    form = {"token": own["access_token"], "client_assertion_type": ASSERTION}
    for meant, status in (("introspect", 200), ("revoke", 401)):
        asked = form | {"client_assertion": app.assertion(aud=f"{issuer}/oauth/{meant}")}
        assert (await app.world.http.post("/oauth/introspect", data=asked)).status_code == status


async def test_with_one_key_an_assertion_needs_no_kid_and_with_two_it_does(world: World, app: App) -> None:
    assert "access_token" in await ask(app, app.assertion(header={"kid": None}))
    mine, other = key("EdDSA"), key("ES256")
    two = await registered(world, ITSELF, jwks={"keys": [public(mine), public(other)]})
    assert "access_token" in await ask(two, two.assertion(mine))
    two.algorithm = "ES256"
    assert "access_token" in await ask(two, two.assertion(other))
    refused = await ask(two, two.assertion(other, header={"kid": None}))
    assert refused["error"] == "invalid_client"


async def test_an_assertion_counts_once(app: App) -> None:
    assertion = app.assertion()
    assert "access_token" in await ask(app, assertion)
    assert (await ask(app, assertion))["error"] == "invalid_client"


class FromNow(int):
    """So many seconds after the moment at which the test runs, which may be long after it was collected."""


def at_once(claims: dict[str, Any]) -> dict[str, Any]:
    now = int(time.time())
    return {name: now + value if isinstance(value, FromNow) else value for name, value in claims.items()}


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "https://evil.example"},
        {"aud": []},
        {"aud": None},
        {"aud": ["https://evil.example", "http://127.0.0.1:1"]},
        {"aud": "http://127.0.0.1:1/oauth/revoke"},
        {"aud": {"x": 1}},
        {"iss": "another"},
        {"iss": None},
        {"sub": "dossier-cli"},
        {"sub": "records"},
        {"sub": 7},
        {"sub": None},
        {"exp": FromNow(-60)},
        {"exp": FromNow(3600)},
        {"exp": None},
        {"exp": "soon"},
        {"exp": True},
        {"iat": FromNow(600)},
        {"iat": "x"},
        {"nbf": FromNow(600)},
        {"jti": None},
        {"jti": ""},
        {"jti": 7},
        {"jti": "x" * 201},
    ],
)
async def test_an_assertion_that_says_something_else_is_refused(app: App, claims: dict[str, Any]) -> None:
    assert (await ask(app, app.assertion(**at_once(claims))))["error"] == "invalid_client"


@pytest.mark.parametrize(
    "header",
    [
        {"kid": "unknown"},
        {"kid": "../../etc/passwd"},
        {"kid": "' OR 1=1 --"},
        {"kid": 7},
        {"typ": "at+jwt"},
        {"typ": "txntoken+jwt"},
        {"crit": ["exp"], "exp": 1},
        {"crit": ["b64"], "b64": False},
        {"alg": "EdDSA", "kid": None, "jku": "https://evil.example/jwks.json", "typ": "x"},
    ],
)
async def test_an_assertion_with_another_header_is_refused(app: App, header: dict[str, Any]) -> None:
    assert (await ask(app, app.assertion(header=header)))["error"] == "invalid_client"


async def test_a_key_that_is_not_registered_is_refused_however_it_is_brought(app: App) -> None:
    stranger = key("EdDSA", kid=app.private.kid if app.private else None)
    for header in (
        {},
        {"jwk": public(stranger)},
        {"jku": "https://evil.example/jwks"},
        {"x5u": "https://evil.example"},
    ):
        assert (await ask(app, app.assertion(stranger, header=header)))["error"] == "invalid_client"


async def test_the_algorithm_is_that_of_the_key(world: World, app: App) -> None:
    assert app.private is not None
    rsa = await registered(world, ITSELF, private=key("PS256"), algorithm="PS256")
    assert rsa.private is not None
    claims = {
        "iss": app.id,
        "sub": app.id,
        "aud": world.settings.common.issuer,
        "exp": int(time.time()) + 200,
        "jti": str(new_id()),
    }
    unsigned = app.assertion().rpartition(".")[0].split(".", 1)[1]
    none = f"eyJhbGciOiJub25lIn0.{unsigned}."
    known = OctKey.import_key(public(app.private)["x"])
    shared = _by_hand({"alg": "HS256", "kid": app.private.kid}, claims, known)
    other = signed(key("ES256", kid=app.private.kid), {"alg": "ES256", "kid": app.private.kid}, claims)
    for forged in (none, shared, other):
        assert (await ask(app, forged))["error"] == "invalid_client"
    for algorithm in ("RS256", "PS384"):
        said = claims | {"iss": rsa.id, "sub": rsa.id, "jti": str(new_id())}
        weak = _by_hand({"alg": algorithm, "kid": rsa.private.kid}, said, rsa.private)
        assert (await ask(rsa, weak))["error"] == "invalid_client"


def _by_hand(header: dict[str, Any], claims: dict[str, Any], by: Any) -> str:
    return jwt.encode(header, claims, by, algorithms=[header["alg"]])


async def test_who_has_keys_has_no_secret_and_who_has_a_secret_no_keys(world: World, app: App) -> None:
    form = {"grant_type": "client_credentials"}
    for auth in ((app.id, "x"), (app.id, "")):
        answer = await world.http.post("/oauth/token", data=form, auth=auth)
        assert answer.json()["error"] == "invalid_client"
    nothing = await world.http.post("/oauth/token", data=form | {"client_id": app.id})
    assert nothing.json()["error"] == "invalid_client"
    secret = await registered(world, ITSELF)
    assert (await ask(secret, secret.assertion(key("EdDSA"))))["error"] == "invalid_client"


async def test_the_client_named_beside_the_assertion_is_the_one_that_signed_it(app: App) -> None:
    assert "access_token" in await ask(app, app.assertion(), client_id=app.id)
    assert (await ask(app, app.assertion(), client_id="records"))["error"] == "invalid_client"
    assert (await ask(app, app.assertion(), client_id="dossier-cli"))["error"] == "invalid_client"


async def test_a_client_authenticates_in_one_way(world: World, app: App) -> None:
    both = await world.http.post(
        "/oauth/token",
        data={
            "grant_type": "client_credentials",
            "client_assertion_type": ASSERTION,
            "client_assertion": app.assertion(),
        },
        auth=(app.id, "x"),
    )
    assert (both.status_code, both.json()["error"]) == (400, "invalid_request")


async def test_an_assertion_of_another_kind_is_none(app: App) -> None:
    kind = "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"
    assert (await ask(app, app.assertion(), client_assertion_type=kind))["error"] == "invalid_client"
