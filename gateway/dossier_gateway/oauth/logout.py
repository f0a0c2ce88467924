"""RP-initiated logout (OpenID Connect RP-Initiated Logout 1.0): what an application asks for, checked."""

from dataclasses import dataclass
from uuid import UUID

from authlib.common.urls import add_params_to_uri
from authlib.oauth2.rfc6749 import InvalidRequestError
from sqlalchemy.orm import Session

from dossier_common.problems import Unauthenticated
from dossier_gateway.oauth import token_records
from dossier_gateway.oauth.call import Call, working_on
from dossier_gateway.oauth.clients import RegisteredClient
from dossier_gateway.oauth.server import Asked, Server, check


@dataclass(frozen=True, slots=True)
class Leave:
    """What may follow the end of a session."""

    redirect: str | None
    """Where the browser goes then, `state` included; None for a page of ours."""
    session: UUID | None
    """The session that a valid `id_token_hint` came from."""


def read(session: Session, server: Server, asked: Asked, call: Call) -> Leave:
    """Checks a request. Raises InvalidRequestError for one that contradicts itself.

    A hint may be over. One that cannot be verified says nothing, and then the person is asked. A redirect counts when
    it is, character by character, a registered one of a known client.
    """
    check(asked)
    given = dict(asked.parameters)
    client_id, family = given.get("client_id"), None
    try:
        claims = server.tokens.identity_claims(given["id_token_hint"]) if given.get("id_token_hint") else None
    except Unauthenticated:
        claims = None
    if claims is not None:
        if client_id not in {None, claims["aud"]}:
            raise InvalidRequestError("The id_token_hint was issued to another client.")
        client_id, family = str(claims["aud"]), UUID(claims["sid"])
    with working_on(call):
        client = server.query_client(client_id) if client_id else None
    uri = given.get("post_logout_redirect_uri")
    redirect = None
    if isinstance(client, RegisteredClient) and uri in client.post_logout_redirect_uris:
        state = given.get("state")
        redirect = add_params_to_uri(uri, [("state", state)]) if state else uri
    return Leave(redirect, token_records.session_of(session, family) if family else None)
