"""Cursor pages: `?limit=` (1–200, default 50), an opaque `cursor`, and `Link: <…>; rel="next"` (RFC 8288)."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Annotated, Any
from urllib.parse import urlencode

import orjson
from fastapi import Depends, Query, Request, Response

from dossier_common.problems import Malformed


class Page:
    """What the caller asked for, and where to say how it goes on."""

    def __init__(self, request: Request, response: Response, limit: int, cursor: str | None) -> None:
        self.limit = limit
        self._request, self._response = request, response
        self.after: list[Any] | None = None
        if cursor is not None:
            try:
                padded = cursor + "=" * (-len(cursor) % 4)
                after = orjson.loads(urlsafe_b64decode(padded.encode("ascii")))
            except ValueError as error:
                raise Malformed("The cursor is none that was handed out.") from error
            if not isinstance(after, list) or not all(isinstance(key, str | int) for key in after):
                raise Malformed("The cursor is none that was handed out.")
            self.after = after

    def more(self, *keys: str | int) -> None:
        """Says that there is a next page, which starts after these keys."""
        cursor = urlsafe_b64encode(orjson.dumps(keys)).decode().rstrip("=")
        asked = [(k, v) for k, v in self._request.query_params.multi_items() if k not in {"cursor", "limit"}]
        query = urlencode([*asked, ("limit", str(self.limit)), ("cursor", cursor)])
        self._response.headers["Link"] = f'<{self._request.url.path}?{query}>; rel="next"'


def _page(
    request: Request,
    response: Response,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=400)] = None,
) -> Page:
    return Page(request, response, limit, cursor)


Paged = Annotated[Page, Depends(_page)]
