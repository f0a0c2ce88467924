"""Revocation (RFC 7009): a client gives back what it holds, and nobody else's."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from authlib.oauth2.rfc6749 import InvalidGrantError, InvalidRequestError, OAuth2Request

from dossier_common.problems import Unauthenticated
from dossier_common.topology import PARTS
from dossier_gateway.oauth import grants, repository, token_records
from dossier_gateway.oauth.call import current
from dossier_gateway.oauth.errors import UnsupportedTokenType
from dossier_gateway.oauth.server import Server

METHODS = [*grants.CONFIDENTIAL, "none"]
REASON = "asked-by-client"


def revoke(server: Server, request: OAuth2Request) -> dict[str, Any]:
    """Revokes a refresh token with its family; an access token, and where it is a person's its family too.

    A token that is unknown or over is answered as if it had been revoked. Raises InvalidGrantError for a token of
    another client, UnsupportedTokenType for a part's, which the parts verify by themselves.
    """
    client: str = server.authenticate_client(request, METHODS, "revocation").get_client_id()
    token: str | None = request.form.get("token")
    if not token:
        raise InvalidRequestError("The token is missing.")
    call = current()
    row = repository.refresh_token_for_update(call.session, token)
    if row is not None:
        _ensure_own(row.client, client)
        _revoke_family(row.family, client, row.account)
        return {}
    try:
        claims = server.tokens.claims(token)
    except Unauthenticated:
        return {}
    _ensure_own(claims["client_id"], client)
    if client in PARTS:
        raise UnsupportedTokenType("A token of a part ends by itself, within minutes.")
    ends = datetime.fromtimestamp(claims["exp"], UTC)
    if ends <= call.now:
        return {}
    if "sid" in claims:
        _revoke_family(UUID(claims["sid"]), client, UUID(claims["sub"]))
    elif not token_records.any_revoked(call.session, [UUID(claims["jti"])]):
        call.revoke_token(UUID(claims["jti"]), ends, client, REASON)
    return {}


def _ensure_own(owner: str, client: str) -> None:
    if owner != client:
        raise InvalidGrantError("The token was issued to another client.")


def _revoke_family(family: UUID, client: str, account: UUID) -> None:
    call = current()
    if not repository.is_revoked(call.session, family):
        call.revoke_family(family, client, account, REASON)
