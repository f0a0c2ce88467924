"""Connections to the parts: HTTP/1.1 by httptools, with TLS to https addresses, kept open, one call at a time on each.

A connection is used again only when nothing about it is in doubt: the call went out whole, the answer came whole and is
delimited by its length or its chunks, and no byte came that belongs to no answer. Everything else closes it.
"""

import asyncio
import ssl
from collections import deque
from typing import Final, cast
from urllib.parse import urlsplit

import httptools

from dossier_common import telemetry
from dossier_common.tls import reason_of

Raw = tuple[bytes, bytes]

SMALL: Final = 64 * 1024
"""An answer of at most so many bytes is handed on in one piece."""
READ_AHEAD: Final = 256 * 1024
HEAD_BYTES: Final = 64 * 1024
CONNECT_SECONDS: Final = 3.0
WAIT_SECONDS: Final = 5.0
"""How long a call waits for a connection when all are in use."""
IDLE_SECONDS: Final = 30.0
"""Less than the parts keep theirs (75 s), so that they seldom close one that is just being used."""
LOOK_EVERY: Final = 0.5


class Broken(ConnectionError):
    """The connection ended, or the answer is none. `untouched`: before a single byte of it."""

    def __init__(self, why: str, *, untouched: bool = False) -> None:
        super().__init__(why)
        self.untouched = untouched


class Away(ConnectionError):
    """No connection can be had."""


class Upstream(asyncio.Protocol):
    """One connection to a part."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._busy = self._sent = self._complete = self._touched = self._paused = self._lasting = False
        self._broken: Exception | None = None
        self.status = 0
        self.headers: list[Raw] = []
        self.length: int | None = None
        self._pieces: list[bytes] = []
        self._waiting = self._head = 0
        self._delimited = False
        self.heard = self._loop.time()

    # ---- a call

    async def ask(self, head: bytes, body: bytes = b"") -> None:
        """Sends a call whole, and waits until its answer has begun; a small one is complete then. Raises Broken."""
        self.start(head, body)
        self.end()
        await self.answered()

    def start(self, head: bytes, body: bytes = b"") -> None:
        """Sends the head of a call. Raises Broken."""
        assert not self._busy
        if self._broken is not None or self._transport is None or self._transport.is_closing():
            raise Broken("closed while it was idle", untouched=True)
        self._parser = httptools.HttpResponseParser(self)
        self._busy, self._sent, self._complete, self._touched = True, False, False, False
        self._forget()  # else a long answer before this one would stand for the answer that is awaited
        self._pieces, self._waiting = [], 0
        self.heard = self._loop.time()
        self._transport.write(head + body if body else head)

    async def write(self, piece: bytes) -> None:
        """Sends a piece of the body. Raises Broken."""
        await self._writable.wait()
        self._ensure_open()
        assert self._transport is not None
        self.heard = self._loop.time()
        self._transport.write(piece)

    def end(self) -> None:
        """The call has been sent."""
        self._sent = True

    async def answered(self) -> None:
        """Waits until the answer has begun; a small one is complete then. Raises Broken."""
        while not self._told():
            await self._wait()
        if not self.status or (self.small and not self._complete):
            self._ensure_open()

    @property
    def small(self) -> bool:
        """Whether the answer says that it is."""
        return self.length is not None and self.length <= SMALL

    @property
    def complete(self) -> bool:
        """Whether all of the answer is here."""
        return self._complete

    def taken(self) -> bytes:
        """What of the answer's body is here."""
        found = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces, self._waiting = [], 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return found

    async def read(self) -> bytes:
        """The next piece of the answer's body; empty at its end. Raises Broken."""
        while not (self._pieces or self._complete):
            self._ensure_open()
            await self._wait()
        return self.taken()

    def usable(self) -> bool:
        """Whether this idle connection may carry another call; else it is closed."""
        if self._broken is None and self._loop.time() - self.heard < IDLE_SECONDS:
            return True
        self.break_off(Broken("idle for too long"))
        return False

    def release(self) -> None:
        """The call is over, however it ended."""
        transport = self._transport
        good = (
            self._sent
            and self._complete
            and self._broken is None
            and self._lasting
            and transport is not None
            and not transport.is_closing()
        )
        self._busy = False
        self._parser = None
        if not good and transport is not None:
            transport.abort()
        self._pool.release(self, good=good)

    def break_off(self, error: Exception) -> None:
        """Ends the connection; whoever waits for it meets this error."""
        if self._broken is None:
            self._broken = error
        if self._transport is not None:
            self._transport.abort()
        self._writable.set()
        self._wake()

    def _told(self) -> bool:
        return self._broken is not None or self._complete or bool(self.status and not self.small)

    def _ensure_open(self) -> None:
        if self._broken is not None:
            raise self._broken

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # ---- the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Kept."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by class

    def connection_lost(self, exc: Exception | None) -> None:
        """An answer that is not complete is broken, even when it has no end of its own: parts delimit theirs."""
        self._pool.note(exc)
        if self._broken is None:
            self._broken = Broken("the part hung up", untouched=not self._touched)
        self._writable.set()
        self._wake()
        self._pool.lost(self)

    def data_received(self, data: bytes) -> None:
        """Reads an answer; what comes unasked ends the connection."""
        self.heard = self._loop.time()
        if not self._busy or self._parser is None or self._complete:
            self.break_off(Broken("the part spoke unasked"))
            return
        self._touched = True
        if not self.status:
            self._head += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.break_off(Broken("the answer is not HTTP"))
            return
        if not self.status and self._head > HEAD_BYTES:
            self.break_off(Broken("the answer's head is too long"))
        elif self._waiter is not None and self._told():
            self._wake()

    def pause_writing(self) -> None:
        """The part does not read."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The part reads again."""
        self._writable.set()

    # ---- the parser

    def on_message_begin(self) -> None:
        """Once an answer, but for what a part says before it (1xx)."""
        if self._complete:
            raise Broken("a second answer")
        self._forget()

    def _forget(self) -> None:
        """Nothing of an answer's head is known."""
        self.status, self.length, self.headers, self._head, self._delimited = 0, None, [], 0, False

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; trailers are dropped."""
        if self.status:
            return
        name = name.lower()
        self.headers.append((name, value))
        if name == b"content-length":
            self.length, self._delimited = int(value), True
        elif name == b"transfer-encoding":
            self._delimited = value.lower() == b"chunked"

    def on_headers_complete(self) -> None:
        """The status; an answer without an end of its own is refused."""
        assert self._parser is not None
        status: int = self._parser.get_status_code()
        if status == 101 or (status >= 200 and status not in {204, 304} and not self._delimited):
            raise Broken("the answer has no end")
        if status in {204, 304}:
            self.length = 0
        if status >= 200:
            self.status = status
            self._lasting = self._parser.should_keep_alive()  # the parser forgets it with the end of the message

    def on_body(self, body: bytes) -> None:
        """A piece."""
        self._pieces.append(body)
        self._waiting += len(body)
        if self._waiting > READ_AHEAD and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        """The end, unless it was a 1xx."""
        self._complete = bool(self.status)


class Pool:
    """The connections to one part."""

    def __init__(self, base: str, limit: int, *, part: str, tls: ssl.SSLContext) -> None:
        address = urlsplit(base)
        self._part, self._said = part, ""
        self._tls = tls if address.scheme == "https" else None
        self._name = address.hostname or ""
        self._port = address.port or (443 if self._tls else 80)
        self.prefix = address.path.rstrip("/").encode("ascii")
        self.host = address.netloc.rpartition("@")[2].encode("ascii")
        self._free = asyncio.Semaphore(limit)
        self._idle: deque[Upstream] = deque()
        self._open: set[Upstream] = set()

    async def take(self, *, fresh: bool = False) -> Upstream:
        """A connection for one call, kept or new (`fresh`: new); `release` it afterwards. Raises Away."""
        if self._free.locked():
            try:
                async with asyncio.timeout(WAIT_SECONDS):
                    await self._free.acquire()
            except TimeoutError as error:
                raise Away("all connections are in use") from error
        else:
            await self._free.acquire()  # at once
        while self._idle and not fresh:
            kept = self._idle.popleft()  # in turn, so that the replicas of a part share the work
            if kept.usable():
                return kept
        try:
            return await self._connect()
        except BaseException:
            self._free.release()
            raise

    async def _connect(self) -> Upstream:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, made = await loop.create_connection(lambda: Upstream(self), self._name, self._port, ssl=self._tls)
        except OSError as error:  # TimeoutError is one
            self.note(error)
            raise Away("no connection") from error
        self._open.add(made)
        return made

    def note(self, error: Exception | None) -> None:
        """Says in the log what TLS found wrong with the part, or the part with us: once, until a call is answered."""
        reason = reason_of(error) or ""
        if reason and reason != self._said:
            telemetry.log().error("part-not-trusted", called=self._part, reason=reason)
        self._said = reason or self._said

    def release(self, upstream: Upstream, *, good: bool) -> None:
        """A call is over."""
        self._free.release()
        if good:
            self._said = ""
            self._idle.append(upstream)

    def lost(self, upstream: Upstream) -> None:
        """A connection has ended."""
        self._open.discard(upstream)
        if upstream in self._idle:
            self._idle.remove(upstream)

    def close(self) -> None:
        """Ends all connections."""
        for each in list(self._open):
            each.break_off(Broken("the gateway ends"))
