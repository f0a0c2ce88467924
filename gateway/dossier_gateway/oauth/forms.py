"""Fields of a request: of a form in its body, and of its address. At most fifty, in the order in which they came."""

from typing import Final
from urllib.parse import parse_qsl

from fastapi import Request

from dossier_common.problems import Malformed, UnsupportedMedia

FORM: Final = "application/x-www-form-urlencoded"
MAX_FIELDS: Final = 50


async def read_form(request: Request) -> list[tuple[str, str]]:
    """The fields of a form. Raises UnsupportedMedia, Malformed."""
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != FORM:
        raise UnsupportedMedia(f"The body is {FORM}.")
    return _fields(await request.body(), "The form cannot be read.")


def read_query(request: Request) -> list[tuple[str, str]]:
    """The parameters in the address. Raises Malformed."""
    return _fields(request.scope["query_string"], "The query cannot be read.")


def _fields(raw: bytes, fault: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(raw.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError as error:
        raise Malformed(fault) from error
