"""How requests of clients come to the token, revocation and introspection endpoints, and how they are refused."""

from typing import Any

import orjson
from authlib.oauth2.rfc6749 import InvalidRequestError, OAuth2Error
from fastapi import Request, Response

from dossier_common.problems import Malformed, UnsupportedMedia
from dossier_gateway.oauth.forms import read_form
from dossier_gateway.oauth.server import Asked


async def read(request: Request) -> Asked:
    """The request: a form, and nothing in the address, where secrets and tokens have no business (RFC 6749, 2.3.1).

    Raises InvalidRequestError.
    """
    try:
        parameters = await read_form(request)
    except (UnsupportedMedia, Malformed) as error:
        raise InvalidRequestError(error.detail) from error
    if request.scope["query_string"]:
        raise InvalidRequestError("Parameters stand in the body, none in the address.")
    authorization = request.headers.getlist("authorization")
    if len(authorization) > 1:
        raise InvalidRequestError("A client authenticates in one way.")
    headers = {"Authorization": authorization[0]} if authorization else {}
    return Asked(request.method, request.scope["path"], parameters, headers, request.scope["state"].get("zone"))


def refusal(error: OAuth2Error) -> Response:
    """The answer to a request that could not be read."""
    body: dict[str, Any] = {"error": error.error, "error_description": error.description}
    return Response(orjson.dumps(body), 400, {"Cache-Control": "no-store"}, media_type="application/json")
