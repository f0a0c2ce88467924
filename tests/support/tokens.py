"""Tokens as the gateway issues them, by keys that a test controls."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from joserfc import jwt
from joserfc.jwk import KeySet

from dossier_common.auth import ACCESS_TYPE, ALGORITHM, TXN_TYPE
from dossier_common.keys import SigningKey

ISSUER = "http://127.0.0.1:1"
"""The issuer of the fixture `cluster`, whose gateway has port 1."""


class TestKeys:
    """The gateway's signing key; `fetch` is what a Verifier takes."""

    __test__ = False

    def __init__(self) -> None:
        self.signing = SigningKey.generate()

    def jwks(self) -> dict[str, Any]:
        """What the gateway publishes."""
        return {"keys": [self.signing.public_jwk()]}

    async def fetch(self) -> KeySet:
        """The public half."""
        return KeySet.import_key_set(self.jwks())  # type: ignore[arg-type]  # joserfc wants its own TypedDict

    def encode(self, token_type: str, claims: Mapping[str, Any]) -> str:
        """A signed token."""
        header = {"alg": ALGORITHM, "kid": self.signing.kid, "typ": token_type}
        return jwt.encode(header, dict(claims), self.signing.jwk, algorithms=[ALGORITHM])


def txn_token(
    keys: TestKeys,
    audience: str,
    scopes: Iterable[str],
    *,
    account: UUID | None = None,
    person: UUID | None = None,
    units: Iterable[UUID] = (),
    roles: Iterable[tuple[str, UUID]] = (),
    clearance: str = "internal",
    qualifications: Iterable[str] = (),
    client: str = "test-client",
    zone: str = "office",
    issuer: str = ISSUER,
    at: datetime | None = None,
    lifetime: int = 5,
) -> str:
    """A Txn-Token for one part: of a person where one is given, else of an application."""
    now = int((at or datetime.now(UTC)).timestamp())
    claims: dict[str, Any] = {
        "iss": issuer,
        "aud": audience,
        "iat": now,
        "exp": now + lifetime,
        "sub": str(account) if account else client,
        "azp": client,
        "scope": " ".join(scopes),
        "txn": f"txn-{now}",
        "tctx": {
            "units": [str(unit) for unit in units],
            "roles": [{"role": role, "unit": str(unit)} for role, unit in roles],
            "clearance": clearance,
            "qualifications": list(qualifications),
        },
        "rctx": {"address": "127.0.0.1", "zone": zone},
    }
    if person:
        claims["person"] = str(person)
    return keys.encode(TXN_TYPE, claims)


def service_token(
    keys: TestKeys,
    audience: str,
    client: str,
    scopes: Iterable[str],
    *,
    issuer: str = ISSUER,
    at: datetime | None = None,
) -> str:
    """An access token of one part for another."""
    now = int((at or datetime.now(UTC)).timestamp())
    claims = {
        "iss": issuer,
        "aud": audience,
        "iat": now,
        "exp": now + 300,
        "sub": client,
        "client_id": client,
        "scope": " ".join(scopes),
    }
    return keys.encode(ACCESS_TYPE, claims)
