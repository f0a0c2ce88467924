"""Tokens that are none, at the proxy and at the gateway's own endpoints: nothing of them is believed or forwarded.

RFC 9700 (4.3, 4.6, 4.9, 4.10), RFC 8725 (the best practice for JWTs), RFC 6750.
"""

import hashlib
import hmac
from base64 import urlsafe_b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from tests.gateway.oauth_support import key, registered, signed
from tests.gateway.world import World

from dossier_common.ids import new_id
from dossier_common.keys import SigningKey
from dossier_gateway.tokens import Tokens

PATHS = ("/v1/records", "/v1/me")
"""Forwarded, and answered by the gateway itself."""
Claims = dict[str, Any]
Forge = Callable[[Tokens, Claims], str]


def encoded(value: object) -> str:
    data = value if isinstance(value, bytes) else orjson.dumps(value)
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def by_hand(header: Claims, claims: object, sign: Callable[[bytes], bytes]) -> str:
    signed = f"{encoded(header)}.{encoded(claims)}"
    return f"{signed}.{encoded(sign(signed.encode()))}"


def ours(tokens: Tokens, claims: Claims, **header: Any) -> str:
    """Signed by the gateway's own key: nothing but header and claims can be wrong."""
    first = {"alg": "Ed25519", "typ": "at+jwt", "kid": tokens._key.kid} | header
    first = {name: value for name, value in first.items() if value is not None}
    return by_hand(first, {name: value for name, value in claims.items() if value is not None}, tokens._key.sign)


def strangers(tokens: Tokens, claims: Claims, **header: Any) -> str:
    """Signed by a key of somebody else, under the name of ours."""
    stranger = SigningKey.generate()
    first = {"alg": "Ed25519", "typ": "at+jwt", "kid": tokens._key.kid} | header
    first |= {name: stranger.public_jwk() for name, value in header.items() if value is ...}
    return by_hand({name: each for name, each in first.items() if each is not None}, claims, stranger.sign)


def shared(tokens: Tokens, claims: Claims, form: str) -> str:
    """HS256 with our public key as the secret, as somebody who fetched it would have it."""
    private = load_pem_private_key(tokens._key.pem(), None)
    jwk = tokens.jwks()["keys"][0]
    secrets = {
        "raw": tokens._key.public_bytes(),
        "pem": private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "jwk": orjson.dumps(jwk),
        "x": jwk["x"].encode(),
    }
    header = {"alg": "HS256", "typ": "at+jwt", "kid": tokens._key.kid}
    return by_hand(header, claims, lambda signed: hmac.digest(secrets[form], signed, hashlib.sha256))


def other_kind(tokens: Tokens, claims: Claims, algorithm: str) -> str:
    """A key of another type, under the name of ours."""
    header = {"alg": algorithm, "typ": "at+jwt", "kid": tokens._key.kid}
    return signed(key(algorithm, kid=tokens._key.kid), header, claims)


def unsigned(tokens: Tokens, claims: Claims, algorithm: str) -> str:
    return by_hand({"alg": algorithm, "typ": "at+jwt", "kid": tokens._key.kid}, claims, lambda _: b"")


def cut(tokens: Tokens, claims: Claims) -> str:
    return ours(tokens, claims).rpartition(".")[0] + "."


def widened(tokens: Tokens, claims: Claims) -> str:
    header, _, signature = ours(tokens, claims).split(".")
    return f"{header}.{encoded(claims | {'scope': 'accounts:manage records:read'})}.{signature}"


def at(seconds: int) -> Callable[[Claims], int]:
    return lambda claims: claims["iat"] + seconds


ROWS: dict[str, Forge] = {
    "RFC 8725 2.1 alg none": lambda t, c: unsigned(t, c, "none"),
    "RFC 8725 2.1 alg None": lambda t, c: unsigned(t, c, "None"),
    "RFC 8725 2.1 alg empty": lambda t, c: unsigned(t, c, ""),
    "RFC 8725 2.1 signature cut off": cut,
    "RFC 8725 2.1 claims changed": widened,
    "RFC 8725 2.1 HS256 with the public key": lambda t, c: shared(t, c, "raw"),
    "RFC 8725 2.1 HS256 with the public key in PEM": lambda t, c: shared(t, c, "pem"),
    "RFC 8725 2.1 HS256 with the public JWK": lambda t, c: shared(t, c, "jwk"),
    "RFC 8725 2.1 HS256 with the JWK's x": lambda t, c: shared(t, c, "x"),
    "RFC 8725 2.1 PS256 by another key": lambda t, c: other_kind(t, c, "PS256"),
    "RFC 8725 2.1 ES256 by another key": lambda t, c: other_kind(t, c, "ES256"),
    "RFC 8725 3.1 the algorithm of ID tokens": lambda t, c: ours(t, c, alg="EdDSA"),
    "RFC 8725 3.10 key of a stranger": strangers,
    "RFC 8725 3.10 kid unknown": lambda t, c: strangers(t, c, kid="unknown"),
    "RFC 8725 3.10 kid is a path": lambda t, c: strangers(t, c, kid="../../../../dev/null"),
    "RFC 8725 3.10 kid is SQL": lambda t, c: strangers(t, c, kid="x' UNION SELECT 'x"),
    "RFC 8725 3.10 kid is no text": lambda t, c: ours(t, c, kid=["x"]),
    "RFC 8725 3.10 kid missing": lambda t, c: ours(t, c, kid=None),
    "RFC 8725 3.10 jwk in the header": lambda t, c: strangers(t, c, jwk=...),
    "RFC 8725 3.10 jwk in the header, no kid": lambda t, c: strangers(t, c, jwk=..., kid=None),
    "RFC 8725 3.10 jku": lambda t, c: strangers(t, c, jku="https://evil.example/jwks.json"),
    "RFC 8725 3.10 jku here": lambda t, c: strangers(t, c, jku="http://127.0.0.1:1/oauth/jwks.json"),
    "RFC 8725 3.10 x5u": lambda t, c: strangers(t, c, x5u="https://evil.example/cert.pem"),
    "RFC 8725 3.10 x5c": lambda t, c: strangers(t, c, x5c=["MIIB"]),
    "RFC 7515 4.1.11 unknown crit": lambda t, c: ours(t, c, crit=["shiny"], shiny=True),
    "RFC 7515 4.1.11 crit is empty": lambda t, c: ours(t, c, crit=[]),
    "RFC 7797 6 payload unencoded": lambda t, c: ours(t, c, crit=["b64"], b64=False),
    "RFC 9700 4.9 audience is another": lambda t, c: ours(t, c | {"aud": "https://other.example"}),
    "RFC 9700 4.9 audience is a part": lambda t, c: ours(t, c | {"aud": "records"}),
    "RFC 9700 4.9 audience is a list": lambda t, c: ours(t, c | {"aud": ["https://other.example"]}),
    "RFC 9700 4.9 audience missing": lambda t, c: ours(t, c | {"aud": None}),
    "RFC 9700 4.4 issuer is another": lambda t, c: ours(t, c | {"iss": "https://evil.example"}),
    "RFC 9700 4.4 issuer missing": lambda t, c: ours(t, c | {"iss": None}),
    "RFC 9068 4 expired": lambda t, c: ours(t, c | {"iat": at(-700)(c), "exp": at(-100)(c)}),
    "RFC 9068 4 without an end": lambda t, c: ours(t, c | {"exp": None}),
    "RFC 9068 4 an end that is no number": lambda t, c: ours(t, c | {"exp": "never"}),
    "RFC 9068 4 issued in the future": lambda t, c: ours(t, c | {"iat": at(900)(c), "exp": at(1500)(c)}),
    "RFC 9068 4 not valid yet": lambda t, c: ours(t, c | {"nbf": at(900)(c)}),
    "RFC 9068 4 jti missing": lambda t, c: ours(t, c | {"jti": None}),
    "RFC 9068 4 subject is nobody": lambda t, c: ours(t, c | {"sub": str(new_id())}),
    "RFC 9068 4 client is nobody": lambda t, c: ours(t, c | {"client_id": "nobody-at-all"}),
    "RFC 8725 3.11 typ of an ID token": lambda t, c: ours(t, c, typ="JWT"),
    "RFC 8725 3.11 typ of a Txn-Token": lambda t, c: ours(t, c, typ="txntoken+jwt"),
    "RFC 8725 3.11 typ missing": lambda t, c: ours(t, c, typ=None),
    "RFC 8725 3.11 a Txn-Token": lambda t, c: t.txn(_now(c), "records", {"sub": c["sub"], "azp": "x", "scope": "x"}),
    "RFC 8725 3.11 a Txn-Token for the gateway": lambda t, c: t.txn(_now(c), t.issuer, c),
    "RFC 7519 7.2 no object": lambda t, c: by_hand(
        {"alg": "Ed25519", "typ": "at+jwt", "kid": t._key.kid},
        ["x"],
        t._key.sign,
    ),
    "RFC 7515 five parts": lambda t, c: "a.b.c.d.e",
    "RFC 7515 one part": lambda t, c: "opaque",
    "RFC 7515 no base64": lambda t, c: "!.!.!",
    "RFC 7515 very long": lambda t, c: "a" * 20_000,
}


def _now(claims: Claims) -> datetime:
    return datetime.fromtimestamp(claims["iat"], UTC)


async def good(world: World) -> tuple[Tokens, str, Claims]:
    token = await world.token("secadmin")
    tokens: Tokens = world.proxy.own.state.tokens
    return tokens, token, tokens.claims(token)


def refused(answer: httpx.Response, error: str) -> None:
    assert answer.status_code == 401, answer.text
    assert answer.headers["www-authenticate"].startswith(f'Bearer error="{error}"')
    assert answer.json()["type"] == "urn:dossier:problem:unauthenticated"


@pytest.mark.invariant(6)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("row", ROWS)
async def test_a_forged_token_is_refused(world: World, row: str, path: str) -> None:
    tokens, _, claims = await good(world)
    forged = ROWS[row](tokens, claims)
    answer = await world.http.get(path, headers={"Authorization": f"Bearer {forged}"})
    if row == "RFC 7515 very long":
        assert answer.status_code in {400, 401, 431}
    else:
        refused(answer, "invalid_token")
    assert world.upstream.received == []


async def test_the_token_that_they_are_made_of_is_good(world: World) -> None:
    tokens, token, claims = await good(world)
    for each in (token, ours(tokens, claims)):
        answer = await world.http.get("/v1/me", headers={"Authorization": f"Bearer {each}"})
        assert answer.status_code == 200


@pytest.mark.parametrize("path", PATHS)
async def test_a_token_has_one_place_where_it_may_stand(world: World, path: str) -> None:
    """RFC 9700 4.3.2, RFC 6750 2: not in an address, not in a form, not beside another."""
    _, token, _ = await good(world)
    bearer = f"Bearer {token}"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answers = [
        await world.http.get(path, params={"access_token": token}),
        await world.http.request("GET", path, content=f"access_token={token}", headers=form),
        await world.http.get(path, headers=[("Authorization", bearer), ("Authorization", bearer)]),
        await world.http.get(path, headers=[("Authorization", bearer), ("Authorization", "Bearer other")]),
        await world.http.get(path, headers={"Authorization": token}),
        await world.http.get(path, headers={"Authorization": f"Basic {token}"}),
        await world.http.get(path, headers={"X-Authorization": bearer, "Cookie": f"access_token={token}"}),
        await world.http.get(path, headers={"Txn-Token": token}),
    ]
    for answer in answers:
        refused(answer, "invalid_request")
    mixed = await world.http.get(path, headers={"Authorization": f"Bearer {token}, Bearer {token}"})
    refused(mixed, "invalid_token")
    assert world.upstream.received == []


async def test_a_txn_token_is_none_of_the_callers_business(world: World) -> None:
    """Who sends one along gets the gateway's own in its place."""
    tokens, _, claims = await good(world)
    auditor = await world.token("auditor")
    forged = tokens.txn(_now(claims), "records", {"sub": claims["sub"], "azp": "x", "scope": "records:read"})
    headers = {"Authorization": f"Bearer {auditor}", "Txn-Token": forged}
    assert (await world.http.get("/v1/me", headers=headers)).json()["username"] == "auditor"
    await world.http.get("/v1/records", headers=headers)
    assert all(forged not in each.values("txn-token") for each in world.upstream.received)


async def test_what_is_no_access_token_opens_nothing(world: World) -> None:
    app = await registered(world)
    person = await world.person("records_clerk")
    issued = await app.tokens(person["username"])
    for token in (issued["id_token"], issued["refresh_token"], app.assertion(key("EdDSA")), app.secret):
        refused(await world.http.get("/v1/me", headers={"Authorization": f"Bearer {token}"}), "invalid_token")
