"""What an application may ask of the sign-in itself (OpenID Connect Core, 3.1.2.1), and what it is told of it. Pure."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Final

from authlib.oauth2.rfc6749 import InvalidRequestError

from dossier_gateway.oauth.errors import RequestNotSupported, RequestUriNotSupported
from dossier_gateway.second_factor import ONE_TIME

PROMPTS: Final = ("none", "login", "consent", "select_account")
ONE_FACTOR: Final = "urn:dossier:acr:one-factor"
TWO_FACTORS: Final = "urn:dossier:acr:two-factors"
LONGEST_AGE: Final = 10**9


def acr(amr: Collection[str]) -> str:
    """The authentication context class of a session, from how its person signed in (RFC 8176)."""
    return TWO_FACTORS if ONE_TIME in amr else ONE_FACTOR


def ensure(grant: Any) -> None:
    """Raises an OAuth2Error, to be sent to the client, for what this server does not do or cannot read."""
    data: Mapping[str, str] = grant.request.payload.data
    there = {"redirect_uri": grant.redirect_uri, "state": grant.request.payload.state}
    if "request" in data:
        raise RequestNotSupported("Request objects are not supported.", **there)
    if "request_uri" in data:
        raise RequestUriNotSupported("Request objects are not supported.", **there)
    if data.get("response_mode", "query") != "query":
        raise InvalidRequestError("The response_mode is query.", **there)
    wanted = data.get("prompt", "").split()
    if not set(wanted) <= set(PROMPTS) or ("none" in wanted and len(wanted) > 1):
        raise InvalidRequestError("The prompt is none alone, or of login, consent and select_account.", **there)
    age = data.get("max_age", "0")
    if not age.isdigit() or int(age) > LONGEST_AGE:
        raise InvalidRequestError("The max_age is a number of seconds.", **there)


def sign_in_again(data: Mapping[str, str], signed_in_at: datetime, now: datetime) -> bool:
    """Whether a session that began then does not do for this request: the person has to sign in once more."""
    if {"login", "select_account"} & set(data.get("prompt", "").split()):
        return True
    return "max_age" in data and (now - signed_in_at).total_seconds() > int(data["max_age"])


def asks_consent(data: Mapping[str, str]) -> bool:
    """Whether the person is to be asked even for an application of the house."""
    return "consent" in data.get("prompt", "").split()
