"""Errors of the OAuth2 protocol that Authlib does not have."""

from authlib.oauth2.rfc6749 import InvalidClientError, OAuth2Error


class InvalidTarget(OAuth2Error):  # type: ignore[misc]  # Authlib has no types
    """The resource is none that this client gets tokens for (RFC 8707)."""

    error = "invalid_target"


class LoginRequired(OAuth2Error):  # type: ignore[misc]  # Authlib has no types
    """`prompt=none`, and nobody is signed in (OpenID Connect Core, 3.1.2.6)."""

    error = "login_required"


class InvalidClient(InvalidClientError):  # type: ignore[misc]  # Authlib has no types
    """The client did not authenticate."""

    status_code = 401


class OutsideZone(OAuth2Error):  # type: ignore[misc]  # Authlib has no types
    """The client may not be used from this network zone (D.4.6)."""

    error = "unauthorized_client"
    description = "outside-zone: this client is of no use from this network zone."
    status_code = 403


class RequestNotSupported(OAuth2Error):  # type: ignore[misc]  # Authlib has no types
    """A request object (OpenID Connect Core, 6.1)."""

    error = "request_not_supported"


class RequestUriNotSupported(OAuth2Error):  # type: ignore[misc]  # Authlib has no types
    """A request object elsewhere (OpenID Connect Core, 6.2): it is never fetched."""

    error = "request_uri_not_supported"


class UnsupportedTokenType(OAuth2Error):  # type: ignore[misc]  # Authlib has no types
    """A token that cannot be revoked (RFC 7009, 2.2.1)."""

    error = "unsupported_token_type"
