"""Shapes of applications on the wire."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from dossier_gateway.directory.schemas import Maybe, PersonScope, Wire, Words

LONGEST_OVERLAP = timedelta(hours=24)

Redirects = Annotated[list[Annotated[str, StringConstraints(max_length=500)]], Field(max_length=10)]
Scopes = Annotated[list[PersonScope], Field(max_length=60)]
Zones = Annotated[list[Annotated[str, StringConstraints(min_length=1, max_length=64)]], Field(max_length=20)]


class GrantType(StrEnum):
    """How a client may obtain tokens."""

    AUTHORIZATION_CODE = "authorization_code"
    CLIENT_CREDENTIALS = "client_credentials"
    REFRESH_TOKEN = "refresh_token"  # noqa: S105  # the name of a grant


class KeySet(Wire):
    """Public keys (RFC 7517): Ed25519, P-256, or RSA of 2048 bits and more, each with a `kid` of its own."""

    keys: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=10)]


class NewClient(Wire):
    """An application to be registered.

    With `jwks` it authenticates by `private_key_jwt` and has no secret. `zones`: from where its tokens are of use;
    empty is everywhere.
    """

    id: Annotated[str, StringConstraints(min_length=3, max_length=64, pattern=r"^[a-z][a-z0-9-]*$")]
    title: Words
    grant_types: Annotated[list[GrantType], Field(min_length=1, max_length=3)]
    scopes: Scopes
    redirect_uris: Redirects = Field(default_factory=list)
    post_logout_redirect_uris: Redirects = Field(default_factory=list)
    confidential: bool = True
    jwks: KeySet | None = None
    zones: Zones = Field(default_factory=list)


class ClientPatch(Wire):
    """What is to be otherwise. With `jwks` it authenticates by these keys from now on, and has no secret any more."""

    title: Maybe[Words] = None
    scopes: Maybe[Scopes] = None
    redirect_uris: Maybe[Redirects] = None
    post_logout_redirect_uris: Maybe[Redirects] = None
    jwks: Maybe[KeySet] = None
    zones: Maybe[Zones] = None


class ClientState(StrEnum):
    """A disabled client gets no tokens, and has none that hold."""

    ACTIVE = "active"
    DISABLED = "disabled"


class NewSecret(Wire):
    """How long the secret before holds: at most a day, ISO 8601."""

    overlap: Annotated[timedelta, Field(ge=timedelta(0), le=LONGEST_OVERLAP)] = timedelta(0)


class Client(Wire):
    """A registered application. `last_used_at` is when it last got a token, to the minute."""

    id: str
    title: str
    grant_types: list[GrantType]
    scopes: list[str]
    redirect_uris: list[str]
    post_logout_redirect_uris: list[str]
    confidential: bool
    jwks: KeySet | None
    zones: list[str]
    state: ClientState
    former_secret_until: datetime | None
    last_used_at: datetime | None
    version: int


class CreatedClient(Client):
    """With its secret, which is shown this once; none for a public client, and for one with keys."""

    secret: str | None


class Clients(Wire):
    """A page of clients."""

    items: list[Client]
