"""Tokens that the gateway signs: access tokens (RFC 9068), ID tokens, Txn-Tokens; and the check of its own.

One key pair for tokens alone, apart from the one that signs events. Keys come from our own set by `kid`, never from
a header (`jku`, `jwk`, `x5u`); the algorithm is fixed.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from cachetools import LRUCache
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, OKPKey

from dossier_common.auth import ACCESS_TYPE, ALGORITHM, LEEWAY, TXN_TYPE
from dossier_common.ids import new_id
from dossier_common.keys import SigningKey
from dossier_common.problems import Unauthenticated
from dossier_gateway.settings import Settings

TXN_SECONDS = 5
SERVICE_MINUTES = 5
OWN_AUDIENCE = "gateway"


@dataclass(frozen=True, slots=True)
class Access:
    """What a verified access token says."""

    client: str
    scopes: frozenset[str]
    expires: float
    token: UUID
    family: UUID | None
    account: UUID | None
    person: UUID | None
    service: str | None


class Tokens:
    """Signs and verifies for one issuer."""

    def __init__(self, issuer: str, key: SigningKey, retired: Sequence[Mapping[str, Any]] = ()) -> None:
        self.issuer = issuer
        self._key = key
        self._jwks = [key.public_jwk(), *(dict(jwk) for jwk in retired)]
        self._keys = KeySet([OKPKey.import_key(jwk) for jwk in self._jwks])
        self._kids = {jwk["kid"] for jwk in self._jwks}
        self._seen: LRUCache[str, Access] = LRUCache(8192)

    @classmethod
    def open(cls, settings: Settings) -> "Tokens":
        """Reads the keys. Raises OSError, ValueError."""
        retired = settings.token_retired_keys_file
        return cls(
            settings.common.issuer,
            SigningKey.read(settings.token_key_file),
            json.loads(retired.read_text()) if retired else (),
        )

    def jwks(self) -> dict[str, Any]:
        """The public keys (RFC 7517)."""
        return {"keys": self._jwks}

    def sign(self, kind: str, claims: dict[str, Any]) -> str:
        """A JWT of this `typ`."""
        header = {"alg": ALGORITHM, "typ": kind, "kid": self._key.kid}
        return jwt.encode(header, claims, self._key.jwk, algorithms=[ALGORITHM])

    def txn(self, now: datetime, audience: str, claims: Mapping[str, Any]) -> str:
        """A Txn-Token for one part, of five seconds."""
        at = int(now.timestamp())
        return self.sign(TXN_TYPE, {"iss": self.issuer, "aud": audience, "iat": at, "exp": at + TXN_SECONDS, **claims})

    def verify(self, token: str, now: datetime) -> Access:
        """What an access token for the gateway says; its expiry is checked on each call. Raises Unauthenticated."""
        access = self._seen.get(token)
        if access is None:
            access = self._read(token, now)
            self._seen[token] = access
        if access.expires <= now.timestamp():
            raise Unauthenticated("The token has expired.")
        return access

    def _read(self, token: str, now: datetime) -> Access:
        try:
            decoded = jwt.decode(token, self._keys, algorithms=[ALGORITHM])
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise Unauthenticated("The token cannot be verified.") from error
        header, claims = decoded.header, decoded.claims
        if header.get("kid") not in self._kids or header.get("typ") != ACCESS_TYPE:
            raise Unauthenticated("This is another type of token.")
        if claims.get("iss") != self.issuer or claims.get("aud") not in {self.issuer, OWN_AUDIENCE}:
            raise Unauthenticated("The token is not meant for the gateway.")
        try:
            if claims["iat"] > now.timestamp() + LEEWAY or claims.get("nbf", 0) > now.timestamp() + LEEWAY:
                raise Unauthenticated("The token is not valid yet.")
            person = claims.get("person")
            return Access(
                client=str(claims["client_id"]),
                scopes=frozenset(str(claims.get("scope", "")).split()),
                expires=float(claims["exp"]),
                token=UUID(claims["jti"]),
                family=UUID(claims["sid"]) if "sid" in claims else None,
                account=UUID(claims["sub"]) if person else None,
                person=UUID(person) if person else None,
                service=str(claims["client_id"]) if claims["aud"] == OWN_AUDIENCE else None,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Unauthenticated("The token lacks a claim.") from error

    def access(
        self,
        now: datetime,
        *,
        seconds: int,
        audience: str,
        subject: str,
        client: str,
        scopes: Sequence[str],
        **claims: str | int,
    ) -> tuple[str, UUID]:
        """An access token and its `jti` (RFC 9068)."""
        at, jti = int(now.timestamp()), new_id()
        issued: dict[str, Any] = {
            "iss": self.issuer,
            "aud": audience,
            "sub": subject,
            "client_id": client,
            "scope": " ".join(scopes),
            "iat": at,
            "exp": at + seconds,
            "jti": str(jti),
            **claims,
        }
        return self.sign(ACCESS_TYPE, issued), jti

    def identity(self, now: datetime, *, seconds: int, audience: str, subject: str, **claims: str | int) -> str:
        """An ID token (OpenID Connect Core, 2)."""
        at = int(now.timestamp())
        issued: dict[str, Any] = {"iss": self.issuer, "aud": audience, "sub": subject, "iat": at, "exp": at + seconds}
        return self.sign("JWT", issued | claims)
