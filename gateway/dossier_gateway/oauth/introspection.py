"""Introspection (RFC 7662): what a token is good for at this moment, as the database says it, never from a cache."""

from typing import Any, Final
from uuid import UUID

from authlib.oauth2.rfc6749 import InvalidRequestError, OAuth2Request

from dossier_common.problems import Unauthenticated
from dossier_gateway.models import RefreshToken
from dossier_gateway.oauth import grants, repository, token_records
from dossier_gateway.oauth.call import current
from dossier_gateway.oauth.clients import PartClient
from dossier_gateway.oauth.server import AnyClient, Server

METHODS = grants.CONFIDENTIAL
INACTIVE: Final = {"active": False}


def introspect(server: Server, request: OAuth2Request) -> dict[str, Any]:
    """Says of an access or refresh token whether it holds, and for what; a public client learns nothing.

    A client learns of its own tokens, a part also of those that are meant for it. Whatever else is asked about is not
    active, for whatever reason (RFC 7662, 4).
    """
    client: AnyClient = server.authenticate_client(request, METHODS, "introspection")
    token: str | None = request.form.get("token")
    if not token:
        raise InvalidRequestError("The token is missing.")
    row = token_records.refresh_token(current().session, token)
    found = _refresh(server, client, row) if row is not None else _access(server, client, token)
    return {"active": True, "iss": server.issuer} | found if found else dict(INACTIVE)


def _refresh(server: Server, client: AnyClient, row: RefreshToken) -> dict[str, Any] | None:
    call = current()
    if row.client != client.get_client_id() or row.used_at is not None or row.expires_at <= call.now:
        return None
    scope = _scope_of_person(server, client, row.account, row.family, row.session, row.scope)
    if scope is None:
        return None
    return {
        "scope": scope,
        "client_id": row.client,
        "sub": str(row.account),
        "exp": int(row.expires_at.timestamp()),
    }


def _access(server: Server, client: AnyClient, token: str) -> dict[str, Any] | None:
    try:
        claims = server.tokens.claims(token)
    except Unauthenticated:
        return None
    call = current()
    own = claims["client_id"] == client.get_client_id()
    meant = isinstance(client, PartClient) and claims["aud"] == client.id
    holder = server.query_client(claims["client_id"])
    if not (own or meant) or holder is None or claims["exp"] <= call.now.timestamp():
        return None
    if token_records.any_revoked(call.session, [UUID(claims["jti"])]):
        return None
    scope: str | None
    if "person" in claims:
        family = UUID(claims["sid"])
        browser = token_records.session_of(call.session, family)
        if browser is None:
            return None
        scope = _scope_of_person(server, holder, UUID(claims["sub"]), family, browser, claims["scope"])
    else:
        scope = _written(server.granted(holder, None, frozenset(claims["scope"].split())))
    if scope is None:
        return None
    told = {name: claims[name] for name in ("client_id", "sub", "person", "aud", "iat", "exp", "jti") if name in claims}
    return told | {"scope": scope, "token_type": "Bearer"}


def _scope_of_person(
    server: Server, client: AnyClient, account: UUID, family: UUID, browser: UUID, scope: str
) -> str | None:
    """What of a person's token his roles give at this moment; None when account, session or family are over."""
    call = current()
    user = repository.user(call.session, account)
    if user is None or token_records.any_revoked(call.session, [family]):
        return None
    if repository.session_signed_in_at(call.session, browser, call.now) is None:
        return None
    call.browser = browser  # what it was opened with says which roles count
    return _written(server.granted(client, user, frozenset(scope.split())))


def _written(scopes: frozenset[str]) -> str:
    return " ".join(sorted(scopes))
