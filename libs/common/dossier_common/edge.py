"""What happens to every request before routing: its id, its limits, and what cannot be text at all."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dossier_common.ids import new_id
from dossier_common.problems import Malformed, TooLarge, Unavailable
from dossier_common.standing import HEALTH, Standing

REQUEST_ID = re.compile(r"^[A-Za-z0-9._-]{8,64}$")
SECONDS = 30.0

Answer = Callable[[Request, Exception], Awaitable[Response]]


class Edge:
    """ASGI middleware: `X-Request-Id`, the limit of the body, the limit of the time, no NUL in an address.

    While the part may not work (see standing) only its health is answered.

    `limits` gives other body limits by path. `answer` makes the answer of whatever no handler took, so that a server
    error too has its request id, and its message stays out of the server's own log.
    """

    def __init__(
        self, app: ASGIApp, *, standing: Standing, limit: int, limits: Mapping[str, int], answer: Answer
    ) -> None:
        self._standing = standing
        self._app, self._limit, self._limits, self._answer = app, limit, dict(limits), answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers with a problem."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = headers.get("x-request-id", "")
        if not REQUEST_ID.match(request_id):
            request_id = str(new_id())
        scope.setdefault("state", {})["request_id"] = request_id
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        try:
            self._check(scope, headers)
            async with asyncio.timeout(SECONDS):
                await self._app(scope, self._limited(scope, receive), sending)
        except Exception as error:
            if started:
                raise
            answer = await self._answer(Request(scope), _late() if isinstance(error, TimeoutError) else error)
            answer.headers["Connection"] = "close"  # what is left of the body is not read
            await answer(scope, receive, sending)

    def _limit_of(self, scope: Scope) -> int:
        return self._limits.get(scope["path"], self._limit)

    def _check(self, scope: Scope, headers: Headers) -> None:
        if not self._standing.open and scope["path"] not in HEALTH:
            raise self._standing.refusal()
        if b"%00" in scope.get("raw_path", b"") or b"%00" in scope["query_string"] or "\0" in scope["path"]:
            raise Malformed("An address holds no NUL.")
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._limit_of(scope):
            raise _too_large(self._limit_of(scope))

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        left = self._limit_of(scope)

        async def receiving() -> Message:
            nonlocal left
            message = await receive()
            if message["type"] == "http.request":
                left -= len(message.get("body", b""))
                if left < 0:
                    raise HTTPException(TooLarge.status)  # which FastAPI lets pass while it reads a body
            return message

        return receiving


def _late() -> Unavailable:
    return Unavailable("The request took too long; whether it was done can be asked with its Idempotency-Key.")


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"This operation takes at most {limit} bytes.")
