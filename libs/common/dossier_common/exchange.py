"""One request and its answer on a connection (`http1`), as ASGI sees them."""

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final, Protocol

import orjson
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Scope

from dossier_common import telemetry
from dossier_common.problems import Problem

Raw = tuple[bytes, bytes]
PROBLEM_TYPE: Final = b"application/problem+json"
_STATUS: Final = {each.value: f"HTTP/1.1 {each.value} {each.phrase}\r\n".encode() for each in HTTPStatus}
_WITHOUT_BODY: Final = frozenset({204, 304})
_ALWAYS: Final = (
    b"content-type: application/problem+json\r\nconnection: close\r\ncache-control: no-store\r\n"
    b"x-content-type-options: nosniff\r\nx-frame-options: DENY\r\nreferrer-policy: no-referrer\r\n"
    b"content-security-policy: default-src 'none'; frame-ancestors 'none'\r\n"
)


class Connection(Protocol):
    """What an exchange needs of its connection."""

    transport: asyncio.Transport

    @property
    def gone(self) -> bool:
        """Whether nothing can be sent any more."""

    def read_on(self) -> None:
        """More of the body is wanted."""

    def writable(self) -> asyncio.Event | None:
        """What to wait for before more is written."""

    def answered(self, *, last: bool) -> None:
        """The answer is complete."""

    def cut(self) -> None:
        """The answer will never be complete."""


def answer_of(problem: Problem, headers: Sequence[Raw]) -> bytes:
    """The whole answer to a request that no application sees; the connection ends with it."""
    body = orjson.dumps(problem.document())
    own = b"".join(b"%b: %b\r\n" % each for each in headers)
    return b"%b%b%bcontent-length: %d\r\n\r\n%b" % (_STATUS[problem.status], own, _ALWAYS, len(body), body)


class Exchange:
    """Hands the request to the application and its answer to the connection.

    An answer that begins before the request has been read is the connection's last: what is left of the body is not
    to be taken for a request.
    """

    def __init__(
        self, scope: Scope, connection: Connection, headers: list[Raw], *, waits_for_continue: bool, last: bool
    ) -> None:
        self._scope, self._connection, self._own_headers = scope, connection, headers
        self._waits = waits_for_continue
        self.last = last
        self.started = False
        self._complete = self._left = False
        self._body = bytearray()
        self._more_body = True
        self._changed = asyncio.Event()
        self._chunked = self._silent = False
        self._missing: int | None = None

    # ---- the connection's side

    def take(self, body: bytes) -> int:
        """A piece of the body; how much waits now."""
        if not (self._complete or self._left):
            self._body += body
            self._changed.set()
        return len(self._body)

    def take_end(self) -> None:
        """The body is complete."""
        self._more_body = False
        self._changed.set()

    def leave(self) -> None:
        """The caller has left, or broke off: the application hears `http.disconnect`, its answer goes nowhere."""
        self._left = True
        self._changed.set()

    # ---- the application's side

    async def run(self, app: ASGIApp) -> None:
        """Runs the application. What it raises is told to the log; a caller who got nothing yet gets a 500."""
        try:
            await app(self._scope, self.receive, self.send)
        except asyncio.CancelledError:
            self._connection.transport.abort()
            raise
        except ClientDisconnect:
            self._left = True
        except Exception as error:  # noqa: BLE001  # the server goes on, whatever an application does
            telemetry.log().error("answer-broken-off", exc_info=error)
        if self._complete or self._left:
            return
        if self.started:
            self._connection.cut()
            return
        self._complete = True
        if not self._connection.gone:
            self._connection.transport.write(answer_of(Problem(), self._own_headers))
        self._connection.answered(last=True)

    async def receive(self) -> Message:
        """The body as it comes, then `http.disconnect` when the answer is complete or the caller has left."""
        if self._waits:
            self._waits = False
            if not (self.started or self._connection.gone):
                self._connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not (self._left or self._complete):
            self._connection.read_on()
            await self._changed.wait()
            self._changed.clear()
        if self._left or self._complete:
            return {"type": "http.disconnect"}
        body, self._body = bytes(self._body), bytearray()
        return {"type": "http.request", "body": body, "more_body": self._more_body}

    async def send(self, message: Message) -> None:
        """The answer. Raises RuntimeError for one that HTTP cannot carry."""
        writable = self._connection.writable()
        if writable is not None and not self._left:
            await writable.wait()
        if self._left:
            return
        kind = message["type"]
        if not self.started and kind == "http.response.start":
            self._start(message)
        elif self.started and not self._complete and kind == "http.response.body":
            self._continue(message.get("body", b""), more=message.get("more_body", False))
        else:
            raise RuntimeError(f"{kind} is out of turn")

    def _start(self, message: Message) -> None:
        status: int = message["status"]
        lines: list[bytes] = []
        fields = 0
        self._silent = self._scope["method"] == "HEAD" or status in _WITHOUT_BODY
        for name, value in (*self._own_headers, *message.get("headers", ())):
            if name == b"content-length":
                self._missing = int(value)
            elif name == b"connection":
                self.last = self.last or b"close" in value.lower()
                continue
            elif name == b"transfer-encoding":
                continue
            lines += (name, b": ", value, b"\r\n")
            fields += 1
        if self._missing is None and not self._silent:
            self._chunked = self._scope["http_version"] == "1.1"
            self.last = self.last or not self._chunked
        self.last = self.last or self._more_body
        head = b"".join(lines)
        if head.count(b"\r") != fields or head.count(b"\n") != fields or b"\0" in head:
            raise RuntimeError("a header has a line break")
        framing = b"transfer-encoding: chunked\r\n" if self._chunked else b""
        ending = b"connection: close\r\n\r\n" if self.last else b"\r\n"
        self.started = True
        self._connection.transport.write(b"".join((_STATUS[status], head, framing, ending)))

    def _continue(self, body: bytes, *, more: bool) -> None:
        piece = body
        if self._silent:
            piece = b""
        elif self._chunked:
            piece = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            piece = piece if more else piece + b"0\r\n\r\n"
        elif self._missing is not None:
            self._missing -= len(body)
            if self._missing < 0 or (self._missing and not more):
                raise RuntimeError("the body is not as long as its Content-Length")
        if piece:
            self._connection.transport.write(piece)
        if not more:
            self._complete = True
            self._changed.set()
            self._connection.answered(last=self.last)
