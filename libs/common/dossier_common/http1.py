"""HTTP/1.1 as every web process speaks it: strict, bounded in size and time, one request after the other.

A connection carries what can be read in one way only (RFC 9112, 6.3 and 11.2): one length or one `chunked`, one `Host`,
no pipelining, no upgrade, no trailers. What breaks this is answered once with 400, 408 or 431 and the connection is
closed, or it is just closed; nothing that comes after it is read as a request. uvicorn's own protocol knows no limit of
size or time for headers, and reads on after an error.
"""

import asyncio
import urllib.parse
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, ClassVar, Final, cast

import httptools
from uvicorn.config import Config
from uvicorn.server import ServerState

from dossier_common import telemetry
from dossier_common.door import Door, Limits
from dossier_common.exchange import Exchange, answer_of
from dossier_common.problems import HeadersTooLarge, Malformed, Problem, RequestTimeout

READ_AHEAD: Final = 64 * 1024
"""Bytes of a body that wait for the application before the connection is not read any more."""
_FRAMING: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect"})
_HOST: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:[]%")


class Phase(IntEnum):
    """What a connection is at."""

    IDLE = 0
    HEAD = 1
    BODY = 2
    WHOLE = 3
    """The request has been read; its answer is not complete."""
    OVER = 4
    """Nothing is read as a request any more."""


class Http1(asyncio.Protocol):
    """One connection. uvicorn makes it, keeps it in `server_state.connections` and calls `shutdown`."""

    door: ClassVar[Door]

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,  # uvicorn's name for it
    ) -> None:
        if not config.loaded:
            config.load()
        self._app = config.loaded_app
        self._asgi = {"version": config.asgi_version, "spec_version": "2.3"}
        self._server_state, self._app_state = server_state, app_state
        self._loop = _loop or asyncio.get_running_loop()
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._phase, self._since, self._heard = Phase.HEAD, self._loop.time(), 0.0
        self._exchange: Exchange | None = None
        self._reading = True
        self._stuck: float | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._begin()

    # ---- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Refuses whoever has too many connections."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by class
        self._peer, self._own = address_of(transport, "peername"), address_of(transport, "sockname")
        self._scheme = "https" if transport.get_extra_info("sslcontext") else "http"
        self._address = self._peer[0] if self._peer else ""
        if self.door.enter(self, self._address):
            self._server_state.connections.add(self)  # type: ignore[arg-type]  # it names uvicorn's own protocols
        else:
            self._phase = Phase.OVER
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tells the application that the caller has left."""
        del exc
        self.door.leave(self, self._address)
        self._server_state.connections.discard(self)
        self._phase = Phase.OVER
        if self._exchange is not None:
            self._exchange.leave()
        self._writable.set()
        self._parser = None  # it refers to this object

    def eof_received(self) -> None:
        """Whoever ends his side has left: the transport closes."""

    def data_received(self, data: bytes) -> None:
        """Reads on, unless this connection is over."""
        if self._phase is Phase.OVER or self._parser is None:
            self._heard = self._loop.time()
            return
        if self._phase is Phase.IDLE:
            self._begin()
            self._phase, self._since = Phase.HEAD, self._loop.time()
        elif self._phase is Phase.BODY:
            self._heard = self._loop.time()
        if self._phase is Phase.HEAD:
            self._arrived += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._stop_reading()  # its protocol is none of ours: the request is answered as HTTP/1.1, and the last one
        except httptools.HttpParserError as error:
            self._refuse(_told(error))
        else:
            if self._phase is Phase.HEAD and self._arrived > self.door.limits.head_bytes:
                self._refuse(HeadersTooLarge())

    def pause_writing(self) -> None:
        """The peer does not read."""
        self._writable.clear()
        self._stuck = self._loop.time()

    def resume_writing(self) -> None:
        """The peer reads again."""
        self._writable.set()
        self._stuck = None

    def shutdown(self) -> None:
        """The server ends: so does this connection, after the answer that is being made."""
        if self._exchange is None:
            self.transport.close()
        else:
            self._exchange.last = True

    def look(self, now: float) -> None:
        """Ends what takes too long; called by the door."""
        limits, since = self.door.limits, now - self._since
        if self._stuck is not None and now - self._stuck > limits.body_seconds:
            self.transport.abort()
        elif self._phase is Phase.HEAD and since > limits.head_seconds:
            if self._arrived:
                self._refuse(RequestTimeout())
            else:
                self.transport.close()
        elif self._phase is Phase.BODY and self._reading and now - self._heard > limits.body_seconds:
            self._refuse(RequestTimeout())
        elif self._phase is Phase.IDLE and since > limits.idle_seconds:
            self.transport.close()
        elif self._phase is Phase.OVER and self._exchange is None and self._lingered(now):
            self.transport.abort()

    def _lingered(self, now: float) -> bool:
        """Whether this connection, which is over, has had its time: more while anything is sent or comes."""
        if now - self._since > self.door.limits.body_seconds:
            return True
        silent = now - max(self._heard, self._since) > self.door.limits.linger_seconds
        return silent and not self.transport.get_write_buffer_size()

    # ---- the parser's side; what these raise, `data_received` finds as the context of a parser's error

    def _begin(self) -> None:
        self._arrived = self._size = self._fields = 0
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._hosts: list[bytes] = []
        self._framing: list[tuple[bytes, bytes]] = []
        self._continue = False

    def on_message_begin(self) -> None:
        """Refuses a request that comes before the last one was answered."""
        if self._phase is not Phase.HEAD:
            raise Malformed

    def on_url(self, url: bytes) -> None:
        """A piece of the request's target."""
        self._url += url
        self._measure(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; trailers are measured and dropped (RFC 9110, 6.5.1)."""
        self._fields += 1
        self._measure(len(name) + len(value) + 4)
        if self._phase is not Phase.HEAD:
            return
        name = name.lower()
        if name in _FRAMING:
            if name == b"host":
                self._hosts.append(value)
            elif name == b"expect":
                self._continue = value.lower() == b"100-continue"
            else:
                self._framing.append((name, value))
        self._headers.append((name, value))

    def _measure(self, more: int) -> None:
        self._size += more
        if self._size > self.door.limits.head_bytes or self._fields > self.door.limits.head_fields:
            raise HeadersTooLarge

    def on_headers_complete(self) -> None:
        """Starts the application. Raises Malformed for a request that could be read in two ways."""
        parser = self._parser
        assert parser is not None
        version = parser.get_http_version()
        method = parser.get_method().decode("ascii")
        if version not in {"1.1", "1.0"} or method in {"CONNECT", "PRI"}:
            raise Malformed
        ensure_framing(version, self._framing)
        if self._framing and parser.should_upgrade():
            raise Malformed  # the parser takes the body of such a request for the other protocol
        if (
            len(self._hosts) > 1
            or (version == "1.1" and not self._hosts)
            or not _HOST.issuperset(b"".join(self._hosts))
        ):
            raise Malformed
        raw_path, query = _split(self._url)
        path = raw_path.decode("ascii")
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": self._asgi,
            "http_version": version,
            "server": self._own,
            "client": self._peer,
            "scheme": self._scheme,
            "method": method,
            "root_path": "",
            "path": urllib.parse.unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": self._headers,
            "state": self._app_state.copy(),
        }
        self._phase, self._heard = Phase.BODY, self._loop.time()
        self._exchange = exchange = Exchange(
            scope,
            self,
            self._server_state.default_headers,
            waits_for_continue=self._continue and version == "1.1",
            last=version == "1.0" or parser.should_upgrade() or not parser.should_keep_alive(),
        )
        task = self._loop.create_task(exchange.run(self._app))
        self._server_state.tasks.add(task)
        task.add_done_callback(self._server_state.tasks.discard)

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if self._exchange is not None and self._exchange.take(body) > READ_AHEAD and self._reading:
            self._reading = False
            self.transport.pause_reading()

    def on_message_complete(self) -> None:
        """The request has been read."""
        if self._phase is Phase.BODY:
            self._phase = Phase.WHOLE
        if self._exchange is not None:
            self._exchange.take_end()

    # ---- the exchange's side

    @property
    def gone(self) -> bool:
        """Whether nothing can be sent any more."""
        return self.transport.is_closing()

    def read_on(self) -> None:
        """The application wants more of the body."""
        if not self._reading:
            self._reading, self._heard = True, self._loop.time()
            self.transport.resume_reading()

    def writable(self) -> "asyncio.Event | None":
        """What to wait for before more is written."""
        return None if self._stuck is None else self._writable

    def answered(self, *, last: bool) -> None:
        """The answer is complete: the next request may come, or the connection ends."""
        self._server_state.total_requests += 1
        whole = self._phase is Phase.WHOLE
        self._exchange = None
        if whole and not last:
            self._phase, self._since = Phase.IDLE, self._loop.time()
            self.read_on()
        elif whole:
            self._phase, self._since = Phase.OVER, self._loop.time()
            self.transport.close()
        else:
            self._end()

    def cut(self) -> None:
        """Ends the connection within an answer, so that the caller sees that it is not complete."""
        self._phase, self._since, self._exchange = Phase.OVER, self._loop.time(), None
        self.transport.close()

    def _stop_reading(self) -> None:
        if self._exchange is not None:
            self._exchange.last = True
        if self._phase is Phase.WHOLE:
            self._phase, self._since = Phase.OVER, self._loop.time()

    def _refuse(self, problem: Problem) -> None:
        """After a whole request: its answer still goes out, as the last. Else this problem is the answer."""
        exchange = self._exchange
        if exchange is not None and self._phase is Phase.WHOLE:
            self._stop_reading()
            return
        self._phase = Phase.OVER
        begun = exchange is not None and exchange.started
        if exchange is not None:
            exchange.leave()
            self._exchange = None
        if not begun:
            self.transport.write(answer_of(problem, self._server_state.default_headers))
        self._end()

    def _end(self) -> None:
        """Ends the connection gently: closed at once, what the peer still sends would destroy what it has not read."""
        self._phase, self._since = Phase.OVER, self._loop.time()
        self.read_on()
        if self.transport.is_closing():
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()


def http1(limits: Limits) -> type[Http1]:
    """The protocol for `uvicorn.Config(http=…)`, for one server."""
    return type("Http1", (Http1,), {"door": Door(limits)})


def ensure_framing(version: str, framing: Sequence[tuple[bytes, bytes]]) -> None:
    """Raises Malformed unless there is one Content-Length in digits, one `Transfer-Encoding: chunked`, or neither."""
    if not framing:
        return
    (name, value), *more = framing
    if more:
        raise Malformed
    if name == b"content-length":
        if not value.isdigit() or len(value) > 18:
            raise Malformed
    elif value.lower() != b"chunked" or version != "1.1":
        raise Malformed


def _split(target: bytes) -> tuple[bytes, bytes]:
    """Path and query of a target in origin or absolute form; its authority is not believed (RFC 9112, 3.2)."""
    if not target.startswith(b"/"):
        parsed = httptools.parse_url(target)
        if (parsed.schema or b"").lower() not in {b"http", b"https"} or not parsed.host or parsed.userinfo:
            raise Malformed
        path, query = parsed.path or b"/", parsed.query or b""
    else:
        path, _, query = target.partition(b"?")
    if b"#" in target or not target.isascii():
        raise Malformed
    return path, query


def _told(error: httptools.HttpParserError) -> Problem:
    """What the parser found, or what one of its callbacks raised."""
    cause = error.__context__
    if isinstance(cause, Problem):
        return cause
    if cause is not None and not isinstance(cause, httptools.HttpParserError):
        telemetry.log().error("request-not-read", exc_info=cause)
    return Malformed()


def address_of(transport: asyncio.BaseTransport, which: str) -> tuple[str, int] | None:
    """Host and port of one end of a connection (`peername`, `sockname`), if it has them."""
    found = transport.get_extra_info(which)
    return (str(found[0]), int(found[1])) if isinstance(found, tuple | list) and len(found) >= 2 else None
