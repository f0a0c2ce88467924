"""Cursor pages: `?limit=` (1–200, default 50), an opaque `cursor`, and `Link: <…>; rel="next"` (RFC 8288).

A service reads where its page starts by `page.after_id()`, or by `page.starts(…)` where a cursor has other keys.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode
from uuid import UUID

import orjson
from fastapi import Depends, Query, Request, Response

from dossier_common.problems import Malformed

T = TypeVar("T")
_MARK = 12
_FOREIGN = "The cursor is none that was handed out."


class Page:
    """What the caller asked for, and where to say how it goes on."""

    def __init__(self, request: Request, response: Response, limit: int, cursor: str | None) -> None:
        self.limit = limit
        self._request, self._response = request, response
        self._after = None if cursor is None else self._opened(cursor)

    def after_id(self) -> UUID | None:
        """The id that the page comes after; None for the first page. Raises Malformed."""
        return self.starts(UUID)

    def starts(self, read: Callable[..., T]) -> T | None:
        """What `read` makes of the keys that the page comes after; None for the first page.

        Raises Malformed where it cannot: the cursor is one of another version.
        """
        if self._after is None:
            return None
        try:
            return read(*self._after)
        except (ValueError, TypeError, AttributeError, OverflowError) as error:
            raise Malformed(_FOREIGN) from error

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
            raise Malformed(_FOREIGN) from error
        if not hmac.compare_digest(self._mark(raw[_MARK:]), raw[:_MARK]):
            raise Malformed(_FOREIGN)
        after: list[Any] = orjson.loads(raw[_MARK:])
        return after

    def _mark(self, plain: bytes) -> bytes:
        """What only this part can have put before the keys of this list, so that nobody else makes a cursor."""
        secret: bytes = self._request.app.state.cursor_secret
        return hmac.digest(secret, self._request.url.path.encode() + b"\0" + plain, "sha256")[:_MARK]


async def _page(
    request: Request,
    response: Response,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=400)] = None,
) -> Page:
    return Page(request, response, limit, cursor)


Paged = Annotated[Page, Depends(_page)]
