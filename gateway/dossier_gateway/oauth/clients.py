"""Clients of the OAuth2 server: registered applications, and the parts of Dossier, as Authlib asks for them."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

from authlib.oauth2.rfc6749 import ClientMixin

from dossier_common.scopes import Scope
from dossier_common.topology import FOLLOWS, PARTS, PUBLISHERS

CONSOLE: Final = "dossier-console"
CLI: Final = "dossier-cli"
LOOPBACK: Final = "http://127.0.0.1/callback"
"""A native application takes whatever port is free: the one part of a redirect that may differ (RFC 8252, 7.3)."""
OPENID: Final = "openid"
PERSON_GRANTS: Final = ("authorization_code", "refresh_token")


def _calls() -> dict[str, frozenset[tuple[str, Scope]]]:
    calls = {part: {(producer, Scope.EVENTS_PULL) for producer in FOLLOWS[part]} for part in PARTS}
    for part in PUBLISHERS:
        calls[part].add(("audit", Scope.EVENTS_PULL))
    calls["approvals"].add(("records", Scope.RECORDS_DESCRIBE))
    calls["retention"].add(("records", Scope.RECORDS_DESCRIBE))
    calls["records"].add(("approvals", Scope.GRANTS_RESOLVE))
    return {part: frozenset(allowed) for part, allowed in calls.items()}


CALLS: Final = _calls()
"""What each part may ask of which other part, and nothing else."""


def digest(secret: str) -> bytes:
    """What is kept of a code, a token or a secret that has 256 random bits."""
    return hashlib.sha256(secret.encode()).digest()


@dataclass(frozen=True, slots=True)
class RegisteredClient(ClientMixin):  # type: ignore[misc]  # Authlib has no types
    """An application of the directory."""

    id: str
    title: str
    secret: bytes | None
    grant_types: tuple[str, ...]
    scopes: frozenset[str]
    redirect_uris: tuple[str, ...]
    first_party: bool
    post_logout_redirect_uris: tuple[str, ...] = ()
    keys: tuple[Mapping[str, Any], ...] = ()
    former_secret: bytes | None = None
    last_used_at: datetime | None = None
    zones: tuple[str, ...] = ()

    def get_client_id(self) -> str:
        """Its id."""
        return self.id

    def get_default_redirect_uri(self) -> None:
        """None: the redirect is always named in the request."""
        return

    def get_allowed_scope(self, scope: str | None) -> str:
        """What of a wish the registration covers; without a wish all of it."""
        wanted = (scope or "").split()
        allowed = self.scopes | {OPENID}
        return " ".join(each for each in wanted if each in allowed) if wanted else " ".join(sorted(self.scopes))

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        """Whether it is one of the registered, character by character (RFC 9700, 4.1.3)."""
        return redirect_uri in self.redirect_uris or (LOOPBACK in self.redirect_uris and _loopback(redirect_uri))

    def check_client_secret(self, client_secret: str) -> bool:
        """Whether it is the secret, or the one before while that holds; who has keys has none."""
        if self.keys:
            return False
        given, known = digest(client_secret), (self.secret, self.former_secret)
        return any(hmac.compare_digest(each, given) for each in known if each is not None)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:  # noqa: ARG002  # Authlib's signature
        """A client with keys authenticates by them alone, one with a secret by that, a public one by none."""
        if self.keys:
            return method == "private_key_jwt"
        return method in ({"none"} if self.secret is None else {"client_secret_basic", "client_secret_post"})

    def check_response_type(self, response_type: str) -> bool:
        """Codes only: there is no implicit flow."""
        return response_type == "code" and "authorization_code" in self.grant_types

    def check_grant_type(self, grant_type: str) -> bool:
        """As registered."""
        return grant_type in self.grant_types


@dataclass(frozen=True, slots=True)
class PartClient(ClientMixin):  # type: ignore[misc]  # Authlib has no types
    """A part of Dossier, which signs its assertions with its own key."""

    id: str
    keys: tuple[Mapping[str, Any], ...]

    @staticmethod
    def named(client: str) -> bool:
        """Whether this is the name of a part."""
        return client in PARTS

    @classmethod
    def find(cls, client: str, producer_keys: Mapping[str, list[dict[str, Any]]]) -> "PartClient | None":
        """The part of this name, if the deployment has keys of it."""
        if client not in PARTS or not producer_keys.get(client):
            return None
        return cls(client, tuple(producer_keys[client]))

    def may(self, audience: str, scopes: frozenset[str]) -> bool:
        """Whether this part may ask that part for all of these."""
        allowed = CALLS[self.id]
        return bool(scopes) and all((audience, scope) in allowed for scope in scopes)

    def get_client_id(self) -> str:
        """Its name."""
        return self.id

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:  # noqa: ARG002  # Authlib's signature
        """Assertions only."""
        return method == "private_key_jwt"

    def check_grant_type(self, grant_type: str) -> bool:
        """Client credentials only."""
        return grant_type == "client_credentials"

    def check_response_type(self, response_type: str) -> bool:  # noqa: ARG002  # Authlib's signature
        """Never: a part has no browser."""
        return False

    def check_redirect_uri(self, redirect_uri: str) -> bool:  # noqa: ARG002  # Authlib's signature
        """Never."""
        return False

    def get_default_redirect_uri(self) -> None:
        """None."""
        return

    def check_client_secret(self, client_secret: str) -> bool:  # noqa: ARG002  # Authlib's signature
        """Never: a part has no secret that it could send."""
        return False


def _loopback(redirect_uri: str) -> bool:
    try:
        port = urlsplit(redirect_uri).port
    except ValueError:
        return False
    return port is not None and redirect_uri == f"http://127.0.0.1:{port}/callback"
