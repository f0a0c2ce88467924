"""Tokens that the gateway signs: access tokens (RFC 9068), ID tokens, Txn-Tokens; and the check of its own.

Keys for tokens alone, apart from the one that signs events; they change while the gateway runs (`keys`). A key comes
from our own set by `kid`, never from a header (`jku`, `jwk`, `x5u`), and each type of token has one algorithm.

Access tokens and Txn-Tokens, which our own parts read, say `Ed25519` (RFC 9864). ID tokens say `EdDSA`, the older name
of the same: most of the libraries that verify them know that one alone.
"""

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Self
from uuid import UUID

from joserfc import jwt
from joserfc.errors import JoseError, UnsupportedHeaderError
from joserfc.jwk import KeySet, OKPKey
from joserfc.jws import JWSRegistry

from dossier_common.auth import ACCESS_TYPE, ALGORITHM, LEEWAY, TXN_TYPE
from dossier_common.ids import new_id
from dossier_common.keys import SigningKey
from dossier_common.problems import Unauthenticated
from dossier_gateway import keys
from dossier_gateway.kept import Kept
from dossier_gateway.second_factor import ONE_TIME
from dossier_gateway.settings import Settings

TXN_SECONDS = 5
SERVICE_MINUTES = 5
OWN_AUDIENCE = "gateway"
SEEN: Final = 20_000
"""Verified tokens that are kept, so that each is verified once."""
IDENTITY_TYPE: Final = "JWT"
IDENTITY_ALGORITHM: Final = "EdDSA"


class Algorithms(JWSRegistry):
    """Signatures of asymmetric keys; the name `EdDSA` means Ed25519 and no other curve."""

    algorithms = {name: JWSRegistry.algorithms[name] for name in (ALGORITHM, "ES256", "PS256")} | {
        IDENTITY_ALGORITHM: JWSRegistry.algorithms[ALGORITHM]
    }

    def check_header(self, header: dict[str, Any]) -> None:
        """Raises JoseError also for any `crit`: there is no extension that we would understand (RFC 7515, 4.1.11)."""
        if "crit" in header:
            raise UnsupportedHeaderError("No extension is critical here.")
        super().check_header(header)


_OWN: Final = {name: Algorithms(algorithms=[name]) for name in (ALGORITHM, IDENTITY_ALGORITHM)}


@dataclass(frozen=True, slots=True)
class Terms:
    """How long an access token lives, and at most any token of a family: so long a revocation is kept."""

    access: timedelta
    family: timedelta

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """As the settings say."""
        access = timedelta(minutes=settings.access_token_minutes)
        return cls(access, timedelta(days=settings.refresh_days) + access)


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
    second_factor: bool = False
    """Whether the session that it came from was opened with a second factor."""


class Tokens:
    """Signs and verifies for one issuer."""

    def __init__(self, issuer: str, key: SigningKey, others: Sequence[Mapping[str, Any]] = ()) -> None:
        self.issuer = issuer
        self.use(key, others)

    @classmethod
    def open(cls, settings: Settings, now: datetime) -> "Tokens":
        """Reads the keys. Raises OSError, ValueError."""
        ring = keys.read(settings.token_key_file)
        return cls(settings.common.issuer, ring.current, ring.others(now))

    def use(self, key: SigningKey, others: Sequence[Mapping[str, Any]] = ()) -> None:
        """From now on signs with this key, and takes what these others signed too; nothing verified before counts."""
        self._key = key
        self._jwks = [keys.published(key), *map(dict, others)]
        self._keys = KeySet([OKPKey.import_key(jwk) for jwk in self._jwks])
        self._kids = {jwk["kid"] for jwk in self._jwks}
        self._seen: Kept[str, Access] = Kept(SEEN)

    def follow(self, ring: keys.Ring, now: datetime) -> None:
        """From now on uses the keys of this ring."""
        self.use(ring.current, ring.others(now))

    def jwks(self) -> dict[str, Any]:
        """The public keys (RFC 7517)."""
        return {"keys": self._jwks}

    def sign(self, kind: str, claims: dict[str, Any], *, algorithm: str = ALGORITHM) -> str:
        """A JWT of this `typ`."""
        header = {"alg": algorithm, "typ": kind, "kid": self._key.kid}
        return jwt.encode(header, claims, self._key.jwk, registry=_OWN[algorithm])

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

    def claims(self, token: str) -> dict[str, Any]:
        """What an access token of ours says, whoever it is for, and though it may be over. Raises Unauthenticated."""
        return self._signed(token, ACCESS_TYPE, ALGORITHM)

    def identity_claims(self, token: str) -> dict[str, Any]:
        """What an ID token of ours says, whether or not it is over. Raises Unauthenticated."""
        return self._signed(token, IDENTITY_TYPE, IDENTITY_ALGORITHM)

    def _signed(self, token: str, kind: str, algorithm: str) -> dict[str, Any]:
        try:
            decoded = jwt.decode(token, self._keys, registry=_OWN[algorithm])
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise Unauthenticated("The token cannot be verified.") from error
        if decoded.header.get("kid") not in self._kids or decoded.header.get("typ") != kind:
            raise Unauthenticated("This is another type of token.")
        if decoded.claims.get("iss") != self.issuer:
            raise Unauthenticated("The token is not of this issuer.")
        return decoded.claims

    def _read(self, token: str, now: datetime) -> Access:
        claims = self._signed(token, ACCESS_TYPE, ALGORITHM)
        if claims.get("aud") not in (self.issuer, OWN_AUDIENCE):
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
                second_factor=ONE_TIME in claims.get("amr", ()),
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
        **claims: str | int | list[str],
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

    def identity(
        self,
        now: datetime,
        *,
        seconds: int,
        audience: str,
        subject: str,
        access_token: str,
        **claims: str | int | list[str],
    ) -> str:
        """An ID token (OpenID Connect Core, 2), bound by `at_hash` to the access token beside it.

        The hash is that of the signature: SHA-512 for Ed25519, of which the left half counts.
        """
        at = int(now.timestamp())
        half = hashlib.sha512(access_token.encode()).digest()[:32]
        issued: dict[str, Any] = {"iss": self.issuer, "aud": audience, "sub": subject, "iat": at, "exp": at + seconds}
        issued["at_hash"] = urlsafe_b64encode(half).rstrip(b"=").decode()
        return self.sign(IDENTITY_TYPE, issued | claims, algorithm=IDENTITY_ALGORITHM)
