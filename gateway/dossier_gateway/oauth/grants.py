"""The grants: authorization code with PKCE, client credentials, refresh. No implicit and no password grant."""

import re
from dataclasses import dataclass

from authlib.oauth2.rfc6749 import InvalidRequestError, InvalidScopeError, OAuth2Request, grants
from authlib.oauth2.rfc7636 import CodeChallenge

from dossier_common.topology import PARTS
from dossier_gateway.models import AuthorizationCode, RefreshToken
from dossier_gateway.oauth import repository, token_records
from dossier_gateway.oauth.call import current
from dossier_gateway.oauth.clients import PartClient, RegisteredClient
from dossier_gateway.oauth.errors import InvalidTarget

CODE_SECONDS = 60
RESOURCE = "urn:dossier:"
_CHALLENGE = re.compile(r"^[A-Za-z0-9_-]{43}$")
CONFIDENTIAL = ["private_key_jwt", "client_secret_basic", "client_secret_post"]
"""How a client proves who it is; a public one only says so."""


@dataclass(frozen=True, slots=True)
class _Code:
    row: AuthorizationCode
    code_challenge_method: str = "S256"

    @property
    def code_challenge(self) -> str:
        return self.row.challenge

    def get_redirect_uri(self) -> str:
        return self.row.redirect_uri

    def get_scope(self) -> str:
        return self.row.scope


class AuthorizationCodeGrant(grants.AuthorizationCodeGrant):  # type: ignore[misc]  # Authlib has no types
    """RFC 6749, 4.1, as RFC 9700 narrows it."""

    TOKEN_ENDPOINT_AUTH_METHODS = [*CONFIDENTIAL, "none"]  # noqa: RUF012  # Authlib's way

    @staticmethod
    def validate_authorization_redirect_uri(request: OAuth2Request, client: RegisteredClient) -> str:
        """The redirect that the request names, if it is a registered one; an error is never sent to another."""
        uri: str | None = request.payload.redirect_uri
        if uri is None or not client.check_redirect_uri(uri):
            raise InvalidRequestError("The redirect_uri is none that is registered for this client.")
        return uri

    def save_authorization_code(self, code: str, request: OAuth2Request) -> None:
        """Keeps it for a minute, bound to client, redirect, challenge, person and browser."""
        call = current()
        repository.add_code(
            call.session,
            code,
            client=request.client.get_client_id(),
            account=request.user.id,
            session=call.browser,
            family=call.family,
            redirect_uri=request.payload.redirect_uri,
            scope=request.scope,
            challenge=request.payload.data["code_challenge"],
            nonce=request.payload.data.get("nonce"),
            expires_at=call.now.fromtimestamp(call.now.timestamp() + CODE_SECONDS, call.now.tzinfo),
        )

    def query_authorization_code(self, code: str, client: RegisteredClient) -> _Code | None:
        """The code, which is used up by this. One that comes again revokes what came from it (RFC 9700, 4.5)."""
        call = current()
        row = repository.code_for_update(call.session, code)
        if row is None:
            return None
        if row.used_at is not None:
            call.revoke_family(row.family, row.client, row.account, "code-reuse")
            return None
        repository.use_code(call.session, row.digest, call.now)
        if row.client != client.get_client_id() or row.expires_at <= call.now:
            return None
        call.signed_in_at = repository.session_signed_in_at(call.session, row.session, call.now)
        if call.signed_in_at is None:
            return None
        call.family, call.browser, call.nonce = row.family, row.session, row.nonce
        call.browser_until = token_records.session_ends_at(call.session, row.session)
        return _Code(row)

    def delete_authorization_code(self, authorization_code: _Code) -> None:
        """It stays, used up, so that a second presentation is recognised."""

    def authenticate_user(self, authorization_code: _Code) -> repository.User | None:
        """The person, if his account is still active."""
        return repository.user(current().session, authorization_code.row.account)


class Pkce(CodeChallenge):  # type: ignore[misc]  # Authlib has no types
    """PKCE with S256, for every client (RFC 9700, 2.1.1); `plain` is a downgrade and refused."""

    SUPPORTED_CODE_CHALLENGE_METHOD = ["S256"]  # noqa: RUF012  # Authlib's way
    DEFAULT_CODE_CHALLENGE_METHOD = "S256"

    def validate_code_challenge(self, grant: AuthorizationCodeGrant, redirect_uri: str) -> None:  # noqa: ARG002  # Authlib's signature
        """Raises InvalidRequestError without a challenge, or with any method but S256."""
        data = grant.request.payload.data
        if data.get("code_challenge_method") != "S256":
            raise InvalidRequestError("PKCE with code_challenge_method S256 is required.")
        if not _CHALLENGE.match(data.get("code_challenge", "")):
            raise InvalidRequestError("A code_challenge of S256 has 43 characters of base64url.")


class ClientCredentialsGrant(grants.ClientCredentialsGrant):  # type: ignore[misc]  # Authlib has no types
    """RFC 6749, 4.4. Applications act for themselves; parts get tokens for one other part each (RFC 8707)."""

    TOKEN_ENDPOINT_AUTH_METHODS = CONFIDENTIAL

    def validate_requested_scope(self) -> None:
        """What is asked for must be registered, as a whole; scopes for services only are for the parts alone."""
        client, wanted = self.request.client, frozenset((self.request.payload.scope or "").split())
        resource = self.request.form.get("resource")
        if isinstance(client, PartClient):
            audience = (resource or "").removeprefix(RESOURCE)
            if not resource or not resource.startswith(RESOURCE) or audience not in PARTS:
                raise InvalidTarget("The resource of a part is urn:dossier: and the name of another.")
            if not client.may(audience, wanted):
                raise InvalidScopeError("This part has no such business with that part.")
            current().audience = audience
            return
        if resource not in {None, self.server.issuer}:
            raise InvalidTarget("An application has tokens for the gateway only.")
        if not wanted <= client.scopes:
            raise InvalidScopeError("The client is not registered for all of these scopes.")


class RefreshTokenGrant(grants.RefreshTokenGrant):  # type: ignore[misc]  # Authlib has no types
    """RFC 6749, 6, with rotation: each is used once, and a second use revokes the family (RFC 9700, 4.14.2)."""

    TOKEN_ENDPOINT_AUTH_METHODS = [*CONFIDENTIAL, "none"]  # noqa: RUF012  # Authlib's way
    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, refresh_token: str) -> "_Refresh | None":
        """The token, if it is live, of this client, and of a person whose session is."""
        call = current()
        row = repository.refresh_token_for_update(call.session, refresh_token)
        if row is None or row.client != self.request.client.get_client_id():
            return None
        if row.used_at is not None:
            call.revoke_family(row.family, row.client, row.account, "refresh-reuse")
            return None
        call.signed_in_at = repository.session_signed_in_at(call.session, row.session, call.now)
        if row.expires_at <= call.now or call.signed_in_at is None or repository.is_revoked(call.session, row.family):
            return None
        user = repository.user(call.session, row.account)
        if user is None:
            return None
        call.family, call.browser = row.family, row.session
        call.browser_until = token_records.session_ends_at(call.session, row.session)
        call.refresh_scope, call.refresh_until = row.scope, row.expires_at
        return _Refresh(row, user)

    def authenticate_user(self, refresh_token: "_Refresh") -> repository.User:
        """The person that it was issued for."""
        return refresh_token.user

    def revoke_old_credential(self, refresh_token: "_Refresh") -> None:
        """It is used up."""
        repository.use_refresh_token(current().session, refresh_token.row.digest, current().now)


@dataclass(frozen=True, slots=True)
class _Refresh:
    row: RefreshToken
    user: repository.User

    def check_client(self, client: RegisteredClient) -> bool:
        return self.row.client == client.get_client_id()

    def get_scope(self) -> str:
        return self.row.scope
