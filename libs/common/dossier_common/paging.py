"""Cursor pages: `?limit=` (1–200, default 50), an opaque `cursor`, and `Link: <…>; rel="next"` (RFC 8288)."""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Annotated, Any
from urllib.parse import urlencode

import orjson
from fastapi import Depends, Query, Request, Response

from dossier_common.problems import Malformed

_MARK = 12


class Page:
    """What the caller asked for, and where to say how it goes on."""

    def __init__(self, request: Request, response: Response, limit: int, cursor: str | None) -> None:
        self.limit = limit
        self._request, self._response = request, response
        self.after: list[Any] | None = None
        if cursor is not None:
            self.after = self._opened(cursor)

    def more(self, *keys: str | int) -> None:
        """Says that there is a next page, which starts after these keys."""
        plain = orjson.dumps(keys)
        cursor = urlsafe_b64encode(self._mark(plain) + plain).decode().rstrip("=")
        asked = [(k, v) for k, v in self._request.query_params.multi_items() if k not in {"cursor", "limit"}]
        query = urlencode([*asked, ("limit", str(self.limit)), ("cursor", cursor)])
        self._response.headers["Link"] = f'<{self._request.url.path}?{query}>; rel="next"'

    def _opened(self, cursor: str) -> list[Any]:
        try:
            raw = urlsafe_b64decode((cursor + "=" * (-len(cursor) % 4)).encode("ascii"))
        except ValueError as error:
            raise Malformed("The cursor is none that was handed out.") from error
        if not hmac.compare_digest(self._mark(raw[_MARK:]), raw[:_MARK]):
            raise Malformed("The cursor is none that was handed out.")
        after: list[Any] = orjson.loads(raw[_MARK:])
        return after

    def _mark(self, plain: bytes) -> bytes:
        """What only this part can have put before the keys of this list, so that nobody else makes a cursor."""
        secret: bytes = self._request.app.state.cursor_secret
        return hmac.digest(secret, self._request.url.path.encode() + b"\0" + plain, "sha256")[:_MARK]


def _page(
    request: Request,
    response: Response,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=400)] = None,
) -> Page:
    return Page(request, response, limit, cursor)


Paged = Annotated[Page, Depends(_page)]
