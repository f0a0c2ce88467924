"""Calls from part to part, with an access token that this part obtained as a client (`private_key_jwt`, RFC 7523)."""

import ssl
import time
from types import TracebackType
from typing import Any, Self

import httpx
from joserfc import jwt
from joserfc.jwk import KeySet

from dossier_common.auth import ALGORITHM
from dossier_common.clock import Clock
from dossier_common.ids import new_id
from dossier_common.keys import SigningKey
from dossier_common.problems import UpstreamUnavailable
from dossier_common.settings import CommonSettings

ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_TERM = 60
RENEW_BEFORE = 30


class Peers:
    """The other parts, as this part calls them. Tokens are kept until shortly before their end."""

    def __init__(self, part: str, key: SigningKey, settings: CommonSettings, clock: Clock, tls: ssl.SSLContext) -> None:
        self._part, self._key, self._settings, self._clock = part, key, settings, clock
        self._http = httpx.AsyncClient(timeout=httpx.Timeout(5.0, connect=2.0), trust_env=False, verify=tls)
        self._tokens: dict[tuple[str, str], tuple[str, float]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def keys(self) -> KeySet:
        """The gateway's public keys. Raises httpx.HTTPError."""
        answer = await self._http.get(f"{self._settings.peers['gateway']}/oauth/jwks.json")
        answer.raise_for_status()
        return KeySet.import_key_set(answer.json())

    async def get(self, part: str, path: str, scope: str, **params: str | int) -> httpx.Response:
        """GET on another part. Raises UpstreamUnavailable when it cannot be reached, or answers 5xx or 429."""
        for attempt in (1, 2):
            token = await self._token(part, scope)
            try:
                answer = await self._http.get(
                    f"{self._settings.peers[part]}{path}", params=params, headers={"Authorization": f"Bearer {token}"}
                )
            except httpx.HTTPError as error:
                raise UpstreamUnavailable(f"The {part} service cannot be reached.") from error
            if answer.status_code == httpx.codes.UNAUTHORIZED and attempt == 1:
                self._tokens.pop((part, scope), None)
                continue
            if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR or answer.status_code in {401, 429}:
                raise UpstreamUnavailable(f"The {part} service does not answer now.")
            return answer
        raise AssertionError("unreachable")

    async def _token(self, part: str, scope: str) -> str:
        kept = self._tokens.get((part, scope))
        if kept and kept[1] > time.monotonic():
            return kept[0]
        now = int(self._clock.now().timestamp())
        claims: dict[str, Any] = {
            "iss": self._part,
            "sub": self._part,
            "aud": self._settings.issuer,
            "iat": now,
            "exp": now + ASSERTION_TERM,
            "jti": str(new_id()),
        }
        assertion = jwt.encode(
            {"alg": ALGORITHM, "kid": self._key.kid, "typ": "JWT"}, claims, self._key.jwk, algorithms=[ALGORITHM]
        )
        try:
            answer = await self._http.post(
                f"{self._settings.peers['gateway']}/oauth/token",
                data={
                    "grant_type": "client_credentials",
                    "client_id": self._part,
                    "client_assertion_type": ASSERTION,
                    "client_assertion": assertion,
                    "scope": scope,
                    "resource": f"urn:dossier:{part}",
                },
            )
            answer.raise_for_status()
            body = answer.json()
            token, term = str(body["access_token"]), int(body["expires_in"])
        except (httpx.HTTPError, ValueError, TypeError, KeyError) as error:
            raise UpstreamUnavailable("The gateway issues no token now.") from error
        self._tokens[part, scope] = (token, time.monotonic() + max(1, term - RENEW_BEFORE))
        return token
