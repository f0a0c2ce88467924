"""Forwards one call to a part and its answer back, both as streams, over kept connections.

Nothing is retried but a request that changes nothing, uses no grant, and met a connection that had died before a byte
of its answer: reading under a grant counts as a use, so that a GET is not idempotent there.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from starlette.types import Message, Receive, Send

from dossier_common.problems import Malformed, Problem, RequestTimeout, TooLarge, UpstreamUnavailable
from dossier_gateway.proxy import headers as hygiene
from dossier_gateway.proxy.upstream import LOOK_EVERY, Away, Broken, Pool, Upstream
from dossier_gateway.settings import Settings

SMALL: Final = 64 * 1024
"""Bodies up to this are sent in one piece, without a task of their own."""
WATCH_AFTER: Final = 0.5


class Gone(Exception):
    """The caller left before his answer was complete."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A call as it goes to a part."""

    pool: Pool
    head: bytes
    length: int | None
    repeatable: bool


class Body:
    """The body of a request, as it arrives: exactly as long as it says (`length`), or at most so long (`limit`)."""

    def __init__(self, receive: Receive, length: int | None, limit: int) -> None:
        self._receive, self._length, self._limit = receive, length, limit
        self._got = 0
        self.complete = length == 0

    async def chunks(self) -> AsyncIterator[bytes]:
        """Raises Gone, TooLarge, Malformed."""
        while not self.complete:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Gone
            chunk: bytes = message.get("body", b"")
            self._got += len(chunk)
            if self._got > self._limit:
                raise TooLarge(f"A body has at most {self._limit} bytes.")
            ended = not message.get("more_body", False)
            if self._length is not None and (self._got > self._length or (ended and self._got < self._length)):
                raise Malformed("The body is not as long as it says.", headers={"Connection": "close"})
            if chunk:
                yield chunk
            self.complete = ended

    async def whole(self) -> bytes:
        """All of a small body."""
        return b"".join([chunk async for chunk in self.chunks()])


class Forwarder:
    """Forwards calls, and ends those that take too long or whose caller has left. One a process, in its loop."""

    def __init__(self, settings: Settings, security: list[hygiene.Raw]) -> None:
        self._limit = settings.forwarded_body
        self._silence, self._longest = settings.upstream_seconds, settings.call_seconds
        self._security = security
        self.pools = {
            part: Pool(base, settings.upstream_connections, part=part, tls=settings.tls.client)
            for part, base in settings.common.peers.items()
        }
        self._running: set[_Call] = set()
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(LOOK_EVERY, self._look)

    def close(self) -> None:
        """Closes the connections."""
        self._timer.cancel()
        for pool in self.pools.values():
            pool.close()

    def outgoing(
        self, part: str, method: str, target: bytes, inbound: hygiene.Inbound, added: list[hygiene.Raw]
    ) -> Outgoing:
        """What goes to the part. Raises Malformed, TooLarge, before anything is sent."""
        length = inbound.length()
        if length is not None and length > self._limit:
            raise TooLarge(f"A body has at most {self._limit} bytes.")
        pool = self.pools[part]
        lines = [b"%b %b%b HTTP/1.1\r\nhost: %b\r\n" % (method.encode("ascii"), pool.prefix, target, pool.host)]
        lines += [b"%b: %b\r\n" % each for each in inbound.kept]
        lines += [b"%b: %b\r\n" % each for each in added]
        if length is None:
            lines.append(b"transfer-encoding: chunked\r\n")
        elif length or method != "GET":
            lines.append(b"content-length: %d\r\n" % length)
        head = b"".join(lines)
        if not head.count(b"\r") == head.count(b"\n") == len(lines) + 1 or b"\0" in head:
            raise Malformed("A header has a line break.")
        repeatable = method == "GET" and length == 0 and b"grant" not in target.partition(b"?")[2]
        return Outgoing(pool, head + b"\r\n", length, repeatable)

    async def forward(self, call: Outgoing, receive: Receive, send: Send) -> None:
        """Sends the call, then the answer. Raises Problem before an answer began, Gone, ConnectionError."""
        running = _Call(Body(receive, call.length, self._limit), receive, self._loop.time())
        self._running.add(running)
        try:
            upstream = await self._answer(call, running)
            try:
                await self._return(upstream, send, running)
            finally:
                upstream.release()
        except asyncio.CancelledError:
            running.raise_reason()
            raise
        finally:
            self._running.discard(running)
            running.stop()

    async def _answer(self, call: Outgoing, running: "_Call") -> Upstream:
        """A connection on which the answer has begun."""
        body, data = running.body, b""
        if call.length is not None and call.length <= SMALL:
            data = await body.whole()
        for last in (not call.repeatable, True):
            try:
                upstream = await call.pool.take(fresh=last and call.repeatable)
            except Away as error:
                raise _unavailable() from error
            running.upstream = upstream
            try:
                if body.complete:
                    await upstream.ask(call.head, data)
                else:
                    upstream.start(call.head)
                    running.sending = asyncio.create_task(_upload(upstream, body, chunked=call.length is None))
                    await upstream.answered()
            except Broken as error:
                upstream.release()
                if last or not error.untouched:
                    raise _unavailable() from error
            except BaseException:
                upstream.release()
                raise
            else:
                return upstream
        raise AssertionError("unreachable")

    async def _return(self, upstream: Upstream, send: Send, running: "_Call") -> None:
        if upstream.status == 401:  # our own Txn-Token was refused: not the caller's fault, nor his business
            raise UpstreamUnavailable("The part that answers this does not take the gateway's word now.")
        headers = hygiene.returned(upstream.headers, self._security)
        start: Message = {"type": "http.response.start", "status": upstream.status, "headers": headers}
        running.upstream = None
        await send(start)
        if upstream.complete:
            await send({"type": "http.response.body", "body": upstream.taken()})
            return
        while True:
            running.upstream = upstream
            try:
                piece = await upstream.read()
            except Broken as error:
                raise ConnectionError("The part broke off within its answer.") from error
            running.upstream = None
            await send({"type": "http.response.body", "body": piece, "more_body": bool(piece)})
            if not piece:
                return

    def _look(self) -> None:
        """Looks at all calls twice a second, so that a short one pays for no timer."""
        self._timer = self._loop.call_later(LOOK_EVERY, self._look)
        now = self._loop.time()
        for each in self._running:
            if now - each.begun > self._longest:
                each.end(_unavailable() if each.body.complete else RequestTimeout())
            elif each.upstream is not None and each.body.complete and now - each.upstream.heard > self._silence:
                each.end(_unavailable())
            elif now - each.begun > WATCH_AFTER:
                each.watch()


def _unavailable() -> UpstreamUnavailable:
    return UpstreamUnavailable("The part that answers this does not answer now.")


async def _upload(upstream: Upstream, body: Body, *, chunked: bool) -> None:
    """Passes the body on; what keeps it from being complete breaks the call off."""
    try:
        async for piece in body.chunks():
            await upstream.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if chunked:
            await upstream.write(b"0\r\n\r\n")
        upstream.end()
    except (Gone, Problem) as error:
        upstream.break_off(error)
    except Broken:
        return  # whoever waits for the answer meets the same


class _Call:
    """A call that is being forwarded, by the task that made this."""

    def __init__(self, body: Body, receive: Receive, begun: float) -> None:
        self.body, self.begun = body, begun
        self.upstream: Upstream | None = None
        """The part that is being waited for, and not the caller."""
        self.sending: asyncio.Task[None] | None = None
        self._receive = receive
        self._task = asyncio.current_task()
        self._watching: asyncio.Task[None] | None = None
        self._reason: Exception | None = None

    def end(self, reason: Exception) -> None:
        """Ends the call: `forward` raises the reason."""
        if self._reason is None and self._task is not None:
            self._reason = reason
            self._task.cancel()

    def raise_reason(self) -> None:
        """Raises what the call was ended for, if it was this that cancelled its task."""
        if self._reason is not None and self._task is not None and self._task.uncancel() == 0:
            raise self._reason

    def watch(self) -> None:
        """Ends the call when its caller leaves. While his body comes, its reader sees that."""
        if self._watching is None and self.body.complete:
            self._watching = asyncio.create_task(self._look())

    async def _look(self) -> None:
        with suppress(asyncio.CancelledError):
            while (await self._receive())["type"] != "http.disconnect":
                pass
            self.end(Gone())

    def stop(self) -> None:
        """The call is over."""
        for task in (self._watching, self.sending):
            if task is not None:
                task.cancel()
