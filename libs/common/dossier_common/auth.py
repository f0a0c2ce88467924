"""Who calls, by a token that this part verified itself (invariant 6), and the scope that an endpoint needs.

Calls through the gateway carry a `Txn-Token` for this part; calls of other parts an RFC 9068 access token whose
audience is this part. A person's access token, whose audience is the gateway, is neither.
"""

import asyncio
import math
import time
from base64 import urlsafe_b64decode
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import replace
from typing import Annotated, Any, cast
from uuid import UUID

import httpx
import orjson
from cachetools import LRUCache
from fastapi import Request, Security
from fastapi.dependencies.models import Dependant
from fastapi.openapi.models import OAuthFlowAuthorizationCode, OAuthFlowClientCredentials, OAuthFlows
from fastapi.security import OAuth2, SecurityScopes
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection

from dossier_common import telemetry
from dossier_common.clock import Clock
from dossier_common.identity import RoleIn, Subject
from dossier_common.problems import InsufficientScope, Unauthenticated, UpstreamUnavailable
from dossier_common.scopes import SERVICE_ONLY, Scope
from dossier_common.topology import PARTS

ALGORITHM = "Ed25519"
TXN_TYPE = "txntoken+jwt"
ACCESS_TYPE = "at+jwt"
LEEWAY = 2
REFETCH_AFTER = 2.0
KEEP_KEYS = 300.0
FETCH_ERRORS = (httpx.HTTPError, OSError, JoseError, ValueError, TypeError, KeyError)

FetchKeys = Callable[[], Awaitable[KeySet]]


class Verifier:
    """Verifies tokens for one audience; keys are fetched when first needed, and again for an unknown `kid`.

    They are looked at again every five minutes, beside the calls, so that a key that was withdrawn is not trusted for
    longer; while the gateway cannot be reached, the known ones hold.
    """

    def __init__(self, issuer: str, audience: str, fetch: FetchKeys, clock: Clock) -> None:
        self._issuer, self._audience, self._fetch, self._clock = issuer, audience, fetch, clock
        self._keys: KeySet | None = None
        self._asked = float("-inf")
        self._asking = asyncio.Lock()
        self._looking: asyncio.Task[None] | None = None
        self._seen: LRUCache[tuple[str, str], tuple[Subject, float]] = LRUCache(4096)

    async def verify(self, token: str, token_type: str) -> Subject:
        """The subject that the token names. Raises Unauthenticated, or UpstreamUnavailable when no keys can be had."""
        cached = self._seen.get((token_type, token))
        if cached is None:
            claims = await self._claims(token, token_type)
            cached = (_subject(claims, token_type), float(claims["exp"]))
            self._seen[token_type, token] = cached
        if cached[1] + LEEWAY <= self._clock.now().timestamp():
            raise Unauthenticated("The token has expired.")
        return cached[0]

    async def _claims(self, token: str, token_type: str) -> dict[str, Any]:
        kid = _kid(token)
        keys = await self._keys_for(kid)
        try:
            decoded = jwt.decode(token, keys, algorithms=[ALGORITHM])
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise Unauthenticated("The token cannot be verified.") from error
        header, claims = decoded.header, decoded.claims
        now = self._clock.now().timestamp()
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        if header.get("typ") != token_type:
            raise Unauthenticated("This is another type of token.")
        if claims.get("iss") != self._issuer or self._audience not in audiences:
            raise Unauthenticated("The token is not meant for this part.")
        term = (claims.get("exp"), claims.get("iat"), claims.get("nbf", 0))
        if not all(isinstance(each, int | float) and math.isfinite(each) for each in term):
            raise Unauthenticated("The token has no term.")
        if claims["iat"] > now + LEEWAY or claims.get("nbf", 0) > now + LEEWAY:
            raise Unauthenticated("The token is not valid yet.")
        return claims

    async def _keys_for(self, kid: str) -> KeySet:
        """Keys that hold this one, if the gateway has it; asked for once at a time, and not again within seconds."""
        keys = self._keys
        if keys is not None and _holds(keys, kid):
            if time.monotonic() - self._asked >= KEEP_KEYS:
                self._asked = time.monotonic()
                self._looking = asyncio.create_task(self._look_again(keys))
            return keys
        async with self._asking:
            if (self._keys is None or not _holds(self._keys, kid)) and time.monotonic() - self._asked >= REFETCH_AFTER:
                self._asked = time.monotonic()
                try:
                    self._keys = await self._fetch()
                except FETCH_ERRORS as error:
                    raise UpstreamUnavailable("The gateway's keys cannot be had.") from error
        if self._keys is None:
            raise UpstreamUnavailable("The gateway's keys cannot be had.")
        return self._keys

    async def _look_again(self, before: KeySet) -> None:
        """Takes the keys as they are now; what was verified by one that is gone is verified anew."""
        async with self._asking:
            try:
                self._keys = keys = await self._fetch()
            except FETCH_ERRORS as error:
                telemetry.log().warning("keys-not-fetched", error=type(error).__name__)
                return
        if not all(_holds(keys, str(key.kid)) for key in before.keys):
            self._seen.clear()


def _holds(keys: KeySet, kid: str) -> bool:
    return any(key.kid == kid for key in keys.keys)


def _kid(token: str) -> str:
    """The key that the token names, by its header; `jku`, `jwk` and `x5u` are never followed."""
    try:
        encoded = token.split(".", 1)[0].encode("ascii")
        kid = orjson.loads(urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4)))["kid"]
    except (ValueError, TypeError, KeyError) as error:
        raise Unauthenticated("The token cannot be verified.") from error
    if not isinstance(kid, str):
        raise Unauthenticated("The token cannot be verified.")
    return kid


def _subject(claims: dict[str, Any], token_type: str) -> Subject:
    try:
        scopes = frozenset(str(claims.get("scope", "")).split())
        if token_type == ACCESS_TYPE:
            part = claims["client_id"]
            if part not in PARTS or claims.get("sub") != part or claims.get("person"):
                raise Unauthenticated("Only a part of Dossier calls another part directly.")
            return Subject(client=part, scopes=scopes, service=part)
        tctx, rctx = claims.get("tctx", {}), claims.get("rctx", {})
        person = claims.get("person")
        return Subject(
            client=str(claims["azp"]),
            scopes=scopes,
            account=UUID(claims["sub"]) if person else None,
            person=UUID(person) if person else None,
            units=frozenset(UUID(unit) for unit in tctx.get("units", ())),
            roles=tuple(RoleIn(role["role"], UUID(role["unit"])) for role in tctx.get("roles", ())),
            clearance=str(tctx.get("clearance", "")),
            qualifications=frozenset(tctx.get("qualifications", ())),
            address=str(rctx.get("address", "")),
            zone=str(rctx.get("zone", "")),
            txn=str(claims.get("txn", "")),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unauthenticated("The token lacks a claim.") from error


async def subject_from(headers: Headers, verifier: Verifier) -> Subject:
    """The subject of a request, from its headers. Raises Unauthenticated, also where a header is there twice.

    An application that acts for itself has a client and no person; a part has its name in `service`.
    """
    if any(len(headers.getlist(name)) > 1 for name in ("authorization", "txn-token")):
        raise Unauthenticated("One token is needed.", error="invalid_request")
    txn = headers.get("txn-token")
    if txn:
        return await verifier.verify(txn, TXN_TYPE)
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("A token is needed.", error="invalid_request")
    return await verifier.verify(token.strip(), ACCESS_TYPE)


async def identify(request: Request) -> Subject:
    """The subject of this request; found once. Raises Unauthenticated.

    Its transaction is this request (`X-Request-Id`, which the gateway makes): a token serves several.
    """
    known = getattr(request.state, "subject", None)
    if known is None:
        known = await subject_from(request.headers, request.app.state.verifier)
        request_id = getattr(request.state, "request_id", "")
        if request_id:
            known = replace(known, txn=request_id)
        request.state.subject = known
    return cast("Subject", known)


class _Scheme(OAuth2):
    """Declares the gateway's OAuth2 server in the OpenAPI document; verification is `identify`'s."""

    async def __call__(self, request: HTTPConnection) -> str | None:
        return request.headers.get("authorization")


_ALL = {scope.value: scope.value for scope in Scope}
oauth2 = _Scheme(
    scheme_name="oauth2",
    auto_error=False,
    flows=OAuthFlows(
        authorizationCode=OAuthFlowAuthorizationCode(
            authorizationUrl="/oauth/authorize", tokenUrl="/oauth/token", scopes=_ALL
        ),
        clientCredentials=OAuthFlowClientCredentials(tokenUrl="/oauth/token", scopes=_ALL),
    ),
)


async def permitted(
    request: Request, scopes: SecurityScopes, _declared: Annotated[str | None, Security(oauth2)] = None
) -> Subject:
    """The caller, who has every scope that the endpoint declares. Raises Unauthenticated, InsufficientScope.

    Scopes for services only are refused to everyone else, whatever the token says.
    """
    subject = await identify(request)
    _ensure_scopes(subject, scopes.scopes)
    return subject


async def ensure_declared(request: Request) -> None:
    """The caller has every scope that this request's endpoint declares. Raises Unauthenticated, InsufficientScope."""
    route = request.scope["route"]
    _ensure_scopes(await identify(request), declared_scopes(route.dependant))


def declared_scopes(dependant: Dependant) -> Iterator[str]:
    """The scopes that an endpoint declares, through all that it depends on."""
    yield from dependant.own_oauth_scopes or []
    for each in dependant.dependencies:
        yield from declared_scopes(each)


def _ensure_scopes(subject: Subject, scopes: Iterable[str]) -> None:
    for scope in scopes:
        if scope not in subject.scopes or (scope in SERVICE_ONLY and subject.service is None):
            raise InsufficientScope(scope)


def scope(*scopes: Scope) -> Any:
    """Makes an `Annotated[Subject, …]` alias: the caller, if he has all of these scopes."""
    return Security(permitted, scopes=[str(needed) for needed in scopes])


Caller = Annotated[Subject, Security(permitted)]
"""Any authenticated caller."""
