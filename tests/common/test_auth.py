"""A part believes a token only after it has verified it itself (invariant 6)."""

import asyncio
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from joserfc import jwt
from joserfc.jwk import KeySet, OctKey, RSAKey
from starlette.datastructures import Headers
from tests.support.tokens import ISSUER, TestKeys, service_token, txn_token
from tests.support.waiting import eventually

from dossier_common import auth
from dossier_common.auth import ACCESS_TYPE, TXN_TYPE, Verifier, subject_from
from dossier_common.clock import ManualClock
from dossier_common.identity import RoleIn, Subject
from dossier_common.ids import new_id
from dossier_common.problems import Unauthenticated, UpstreamUnavailable

pytestmark = pytest.mark.invariant(6)

NOW = datetime(2026, 11, 22, 8, tzinfo=UTC)
ACCOUNT, PERSON, UNIT = new_id(), new_id(), new_id()


class Gateway:
    """The keys that the gateway publishes, and how often they were asked for."""

    def __init__(self) -> None:
        self.keys, self.clock, self.asked, self.away = TestKeys(), ManualClock(NOW), 0, False
        self.published: list[dict[str, Any]] = [self.keys.signing.public_jwk()]
        self.verifier = Verifier(ISSUER, "records", self.fetch, self.clock)

    async def fetch(self) -> KeySet:
        self.asked += 1
        await asyncio.sleep(0)
        if self.away:
            raise httpx.ConnectError("away")
        return KeySet.import_key_set({"keys": self.published})

    def txn(self, **other: Any) -> str:
        given: dict[str, Any] = {
            "audience": "records",
            "scopes": ["records:read"],
            "account": ACCOUNT,
            "person": PERSON,
            "at": NOW,
        }
        return txn_token(self.keys, **(given | other))

    def claims(self, **other: Any) -> dict[str, Any]:
        now = int(NOW.timestamp())
        claims = {"iss": ISSUER, "aud": "records", "iat": now, "exp": now + 5, "sub": str(ACCOUNT), "azp": "console"}
        return {name: value for name, value in (claims | other).items() if value is not None}

    async def verify(self, token: str, token_type: str = TXN_TYPE) -> Subject:
        return await self.verifier.verify(token, token_type)


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


def sign(keys: TestKeys, claims: Mapping[str, Any], **header: Any) -> str:
    """A token with an unusual header, made by hand so that no library refuses to."""
    full = {"alg": "Ed25519", "kid": keys.signing.kid, "typ": TXN_TYPE} | header
    parts = [encode({name: value for name, value in full.items() if value is not None}), encode(claims)]
    return ".".join([*parts, b64(keys.signing.sign(".".join(parts).encode()))])


def b64(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def encode(value: Mapping[str, Any]) -> str:
    return b64(orjson.dumps(value))


async def test_subject_says_what_the_token_says(gateway: Gateway) -> None:
    token = gateway.txn(units=[UNIT], roles=[("clerk", UNIT)], clearance="secret", qualifications=["nda"])
    subject = await gateway.verify(token)
    assert (subject.account, subject.person, subject.client) == (ACCOUNT, PERSON, "test-client")
    assert subject.units == {UNIT}
    assert subject.roles == (RoleIn("clerk", UNIT),)
    assert (subject.clearance, subject.zone) == ("secret", "office")
    assert subject.qualifications == {"nda"}
    assert subject.service is None
    application = await gateway.verify(gateway.txn(account=None, person=None, client="crm"))
    assert (application.account, application.person, application.client) == (None, None, "crm")


async def test_part_is_known_by_its_access_token(gateway: Gateway) -> None:
    token = service_token(gateway.keys, "records", "approvals", ["records:describe"], at=NOW)
    subject = await gateway.verify(token, ACCESS_TYPE)
    assert (subject.service, subject.client, subject.account) == ("approvals", "approvals", None)


async def refused(gateway: Gateway, token: str, token_type: str = TXN_TYPE) -> None:
    for _ in range(2):
        with pytest.raises(Unauthenticated):
            await gateway.verify(token, token_type)


async def test_key_of_another_is_refused(gateway: Gateway) -> None:
    await refused(gateway, txn_token(TestKeys(), "records", [], account=ACCOUNT, person=PERSON, at=NOW))
    forger = TestKeys()
    await refused(gateway, sign(forger, gateway.claims(), kid=gateway.keys.signing.kid))


@pytest.mark.parametrize("header", [{"alg": "none"}, {"alg": "EdDSA"}, {"alg": "RS256"}, {"alg": None}, {"alg": 1}])
async def test_other_algorithm_is_refused(gateway: Gateway, header: dict[str, Any]) -> None:
    await refused(gateway, sign(gateway.keys, gateway.claims(), **header))


async def test_tokens_without_signature_are_refused(gateway: Gateway) -> None:
    header, payload, _ = sign(gateway.keys, gateway.claims()).split(".")
    await refused(gateway, f"{header}.{payload}.")
    none = encode({"alg": "none", "typ": TXN_TYPE, "kid": gateway.keys.signing.kid})
    await refused(gateway, f"{none}.{payload}.")


async def test_public_key_is_no_shared_secret_and_rsa_no_ed25519(gateway: Gateway) -> None:
    public = gateway.keys.signing.public_jwk()
    secret = OctKey.import_key(orjson.dumps(public))
    header = {"alg": "HS256", "kid": public["kid"], "typ": TXN_TYPE}
    await refused(gateway, jwt.encode(header, gateway.claims(), secret, algorithms=["HS256"]))
    rsa = RSAKey.import_key(generate_private_key(65537, 2048))
    gateway.published.append(rsa.as_dict(private=False) | {"kid": "rsa"})
    header = {"alg": "RS256", "kid": "rsa", "typ": TXN_TYPE}
    await refused(gateway, jwt.encode(header, gateway.claims(), rsa, algorithms=["RS256"]))


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": "approvals"},
        {"aud": ISSUER},
        {"aud": None},
        {"aud": ["approvals", ISSUER]},
        {"aud": {"records": 1}},
        {"iss": "https://evil.example"},
        {"iss": ISSUER + "/"},
        {"iss": None},
        {"exp": None},
        {"iat": None},
        {"exp": "never"},
        {"exp": float("1e400")},
        {"exp": int(NOW.timestamp()) - 60},
        {"iat": int(NOW.timestamp()) + 60, "exp": int(NOW.timestamp()) + 90},
        {"nbf": int(NOW.timestamp()) + 60},
        {"nbf": "later"},
        {"azp": None},
        {"person": "somebody"},
        {"person": str(PERSON), "sub": "somebody"},
        {"tctx": []},
        {"tctx": {"units": ["here"]}},
        {"tctx": {"roles": ["clerk"]}},
        {"rctx": 1},
    ],
)
async def test_claims_that_do_not_hold_are_refused(gateway: Gateway, changed: dict[str, Any]) -> None:
    await gateway.verify(sign(gateway.keys, gateway.claims()))
    claims = gateway.claims(**changed)
    payload = b64(orjson.dumps(claims)) if changed.get("exp") != float("inf") else b64(b'{"exp": 1e400}')
    header = encode({"alg": "Ed25519", "kid": gateway.keys.signing.kid, "typ": TXN_TYPE})
    signature = gateway.keys.signing.sign(f"{header}.{payload}".encode())
    await refused(gateway, f"{header}.{payload}.{b64(signature)}")


@pytest.mark.parametrize("kind", [ACCESS_TYPE, "JWT", "", None, "id_token+jwt"])
async def test_other_type_of_token_is_refused(gateway: Gateway, kind: str | None) -> None:
    await refused(gateway, sign(gateway.keys, gateway.claims(), typ=kind))


async def test_txn_token_is_no_access_token(gateway: Gateway) -> None:
    await refused(gateway, gateway.txn(), ACCESS_TYPE)
    await refused(gateway, service_token(gateway.keys, "records", "approvals", [], at=NOW), TXN_TYPE)


async def test_access_token_of_a_person_or_application_is_refused_at_a_part(gateway: Gateway) -> None:
    now = int(NOW.timestamp())
    common = {"iss": ISSUER, "iat": now, "exp": now + 300, "scope": "events:pull records:describe"}
    for claims in (
        {"aud": ISSUER, "sub": str(ACCOUNT), "client_id": "console", "person": str(PERSON)},
        {"aud": "records", "sub": str(ACCOUNT), "client_id": "console", "person": str(PERSON)},
        {"aud": "records", "sub": str(ACCOUNT), "client_id": "approvals", "person": str(PERSON)},
        {"aud": "records", "sub": str(ACCOUNT), "client_id": "approvals"},
        {"aud": "records", "sub": "approvals", "client_id": "approvals", "person": str(PERSON)},
        {"aud": "records", "sub": "crm", "client_id": "crm"},
        {"aud": "records", "sub": "approvals"},
        {"aud": "records", "sub": "approvals", "client_id": ["approvals"]},
    ):
        await refused(gateway, gateway.keys.encode(ACCESS_TYPE, common | claims), ACCESS_TYPE)


@pytest.mark.parametrize(
    "token", ["", ".", "..", "a.b.c", "€.b.c", "e30.e30.", "bnVsbA.e30.", "W10.e30.", "eyJraWQiOjF9.e30.", "a" * 9000]
)
async def test_what_is_no_token_is_refused_and_asks_for_no_keys(gateway: Gateway, token: str) -> None:
    await refused(gateway, token)
    assert gateway.asked == 0


async def test_token_without_kid_is_refused(gateway: Gateway) -> None:
    await refused(gateway, sign(gateway.keys, gateway.claims(), kid=None))


async def test_unknown_critical_header_is_refused(gateway: Gateway) -> None:
    await refused(gateway, sign(gateway.keys, gateway.claims(), crit=["exp"], exp=1))
    await refused(gateway, sign(gateway.keys, gateway.claims(), crit=["b64"], b64=False))
    await refused(gateway, sign(gateway.keys, gateway.claims(), crit=["unheard"], unheard=True))


async def test_keys_named_in_the_header_are_not_used(gateway: Gateway) -> None:
    forger = TestKeys()
    jwk = forger.signing.public_jwk()
    for header in ({"jwk": jwk}, {"jku": "https://evil.example/jwks.json"}, {"x5u": "https://evil.example/x"}):
        await refused(gateway, sign(forger, gateway.claims(), **header))
        await refused(gateway, sign(forger, gateway.claims(), kid=gateway.keys.signing.kid, **header))


async def test_token_that_was_seen_is_refused_after_its_term(gateway: Gateway) -> None:
    token = gateway.txn()
    assert await gateway.verify(token) is await gateway.verify(token)
    gateway.clock.advance(timedelta(seconds=6))
    await gateway.verify(token)
    gateway.clock.advance(timedelta(seconds=1))
    await refused(gateway, token)
    gateway.clock.advance(timedelta(seconds=-5))
    await gateway.verify(token)


async def test_seen_token_is_not_taken_for_another_type(gateway: Gateway) -> None:
    token = gateway.txn()
    await gateway.verify(token)
    await refused(gateway, token, ACCESS_TYPE)


async def test_unknown_key_is_asked_for_once_in_a_while(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    await gateway.verify(gateway.txn())
    assert gateway.asked == 1
    strangers = [txn_token(TestKeys(), "records", [], client=f"c{n}", at=NOW) for n in range(20)]
    done = await asyncio.gather(*map(gateway.verify, strangers), return_exceptions=True)
    assert all(isinstance(error, Unauthenticated) for error in done)
    assert gateway.asked == 1
    monkeypatch.setattr(auth, "REFETCH_AFTER", 0.05)
    await asyncio.sleep(0.06)
    await asyncio.gather(*map(gateway.verify, strangers), return_exceptions=True)
    assert gateway.asked == 2


async def test_bad_signature_of_a_known_key_asks_for_no_keys(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "REFETCH_AFTER", 0.0)
    await gateway.verify(gateway.txn())
    await refused(gateway, sign(TestKeys(), gateway.claims(), kid=gateway.keys.signing.kid))
    assert gateway.asked == 1


async def test_new_key_of_the_gateway_is_found(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    await gateway.verify(gateway.txn())
    old, gateway.keys = gateway.txn(), TestKeys()
    gateway.published.append(gateway.keys.signing.public_jwk())
    monkeypatch.setattr(auth, "REFETCH_AFTER", 0.0)
    await gateway.verify(gateway.txn())
    await gateway.verify(old)


async def test_key_that_was_withdrawn_is_trusted_no_longer(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, stolen = gateway.txn(), gateway.keys
    await gateway.verify(seen)
    monkeypatch.setattr(auth, "KEEP_KEYS", 0.0)
    gateway.away = True
    await gateway.verify(gateway.txn(client="while-away"))
    gateway.away, gateway.keys = False, TestKeys()
    gateway.published = [gateway.keys.signing.public_jwk()]

    async def forged() -> bool:
        try:
            await gateway.verify(sign(stolen, gateway.claims(sub=str(new_id()), person=str(new_id()))))
            await gateway.verify(seen)
        except Unauthenticated:
            return False
        return True

    await eventually(forged, expected=False)
    await refused(gateway, seen)
    monkeypatch.setattr(auth, "REFETCH_AFTER", 0.0)
    await gateway.verify(gateway.txn())


async def test_without_keys_nobody_is_believed_and_the_answer_is_503(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.away = True
    for _ in range(5):
        with pytest.raises(UpstreamUnavailable):
            await gateway.verify(gateway.txn())
    assert gateway.asked == 1
    gateway.away = False
    gateway.published = [{"kty": "nonsense"}]
    monkeypatch.setattr(auth, "REFETCH_AFTER", 0.0)
    with pytest.raises(UpstreamUnavailable):
        await gateway.verify(gateway.txn())
    gateway.published = [gateway.keys.signing.public_jwk()]
    await gateway.verify(gateway.txn())


async def test_known_keys_serve_while_the_gateway_is_away(gateway: Gateway) -> None:
    await gateway.verify(gateway.txn())
    gateway.away = True
    await gateway.verify(gateway.txn(client="another"))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer"},
        {"authorization": "Bearer  "},
        {"authorization": "Basic YTpi"},
        {"x-account": str(ACCOUNT), "x-forwarded-user": "admin"},
        {"txn-token": ""},
    ],
)
async def test_without_a_token_nobody_is_known(gateway: Gateway, headers: dict[str, str]) -> None:
    with pytest.raises(Unauthenticated) as refusal:
        await subject_from(Headers(headers), gateway.verifier)
    assert refusal.value.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("name", [b"authorization", b"txn-token"])
async def test_a_header_that_is_there_twice_is_no_token(gateway: Gateway, name: bytes) -> None:
    value = gateway.txn() if name == b"txn-token" else f"Bearer {service_token(gateway.keys, 'records', 'audit', [])}"
    twice = Headers(raw=[(name, value.encode())] * 2)
    with pytest.raises(Unauthenticated) as refusal:
        await subject_from(twice, gateway.verifier)
    assert refusal.value.headers == {"WWW-Authenticate": 'Bearer error="invalid_request"'}


async def test_txn_token_goes_before_an_access_token(gateway: Gateway) -> None:
    part = service_token(gateway.keys, "records", "approvals", [], at=NOW)
    both = Headers({"txn-token": gateway.txn(), "authorization": f"Bearer {part}"})
    assert (await subject_from(both, gateway.verifier)).account == ACCOUNT
    only = Headers({"authorization": f"bearer {part}"})
    assert (await subject_from(only, gateway.verifier)).service == "approvals"


def test_marks_of_one_request_are_not_those_of_another() -> None:
    known = Subject(client="approvals", scopes=frozenset(), service="approvals")
    first, second = replace(known, txn="one"), replace(known, txn="two")
    assert (first.marks()["txn"], second.marks()["txn"]) == ("one", "two")
    assert replace(first, txn="three").marks()["txn"] == "three"
