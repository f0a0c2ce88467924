"""Forwards one call to a part and its answer back, both as streams, over kept connections.

Nothing is retried but a request that changes nothing, uses no grant, and met a connection that had died: reading
under a grant counts as a use, so that a GET is not idempotent there.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Self

import aiohttp
from aiohttp import ClientResponse, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
from starlette.types import Message, Receive, Send
from yarl import URL

from dossier_common.problems import Malformed, Problem, TooLarge, UpstreamUnavailable
from dossier_gateway.proxy import headers as hygiene
from dossier_gateway.settings import Settings

SMALL: Final = 64 * 1024
"""Bodies up to this are sent in one piece, without a task of their own."""
WATCH_AFTER: Final = 0.5
SKIPPED: Final = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class Gone(Exception):
    """The caller left before his answer was complete."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A call as it goes to a part."""

    method: str
    url: URL
    headers: list[tuple[str, str]]
    length: int | None
    repeatable: bool


class Body:
    """The body of a request, as it arrives. Says afterwards why it ended early."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive, self._left = receive, limit
        self._limit = limit
        self.complete = False
        self.failure: Exception | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        """Raises Gone, TooLarge."""
        while not self.complete:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.failure = Gone()
                raise self.failure
            chunk: bytes = message.get("body", b"")
            self._left -= len(chunk)
            if self._left < 0:
                self.failure = TooLarge(f"A body has at most {self._limit} bytes.")
                raise self.failure
            self.complete = not message.get("more_body", False)
            if chunk:
                yield chunk

    async def whole(self) -> bytes:
        """All of a small body."""
        return b"".join([chunk async for chunk in self.chunks()])


class Forwarder:
    """One client session a process."""

    def __init__(self, settings: Settings, security: list[hygiene.Raw]) -> None:
        self._limit = settings.forwarded_body
        self._bases = settings.common.peers
        self._security = security
        self._session = ClientSession(
            connector=TCPConnector(
                limit=settings.upstream_connections,
                limit_per_host=settings.upstream_connections,
                keepalive_timeout=30,
                ttl_dns_cache=30,
            ),
            cookie_jar=DummyCookieJar(),
            timeout=ClientTimeout(total=None, connect=5, sock_connect=3, sock_read=settings.upstream_seconds),
            auto_decompress=False,
            skip_auto_headers=SKIPPED,
            trust_env=False,
            raise_for_status=False,
        )
        self._session._retry_connection = False  # noqa: SLF001  # the client has no option for it, and a GET may use a grant

    async def close(self) -> None:
        """Closes the connections."""
        await self._session.close()

    def outgoing(
        self, part: str, method: str, target: str, raw: list[hygiene.Raw], added: Mapping[str, str]
    ) -> Outgoing:
        """What goes to the part. Raises Malformed, TooLarge, before anything is sent."""
        try:
            length = hygiene.length(raw)
        except ValueError as error:
            raise Malformed("The length of the body is not clear.", headers={"Connection": "close"}) from error
        if length is not None and length > self._limit:
            raise TooLarge(f"A body has at most {self._limit} bytes.")
        headers = [*hygiene.passed_on(raw), *added.items()]
        if length:
            headers.append(("Content-Length", str(length)))
        query = target.partition("?")[2]
        repeatable = method == "GET" and length == 0 and "grant" not in query
        return Outgoing(method, URL(self._bases[part] + target, encoded=True), headers, length, repeatable)

    async def forward(self, call: Outgoing, receive: Receive, send: Send) -> int:
        """Sends the call, then the answer; its status. Raises Problem before an answer began, Gone, ConnectionError."""
        body = Body(receive, self._limit)
        data: bytes | AsyncIterator[bytes] | None
        if call.length == 0:
            body.complete, data = True, None
        elif call.length is not None and call.length <= SMALL:
            data = await body.whole()
        else:
            data = body.chunks()
        with Watch(receive, body) as watch:
            response = await self._answer(call, data, body, watch)
            async with response:
                return await self._return(response, send, watch)

    async def _answer(
        self, call: Outgoing, data: bytes | AsyncIterator[bytes] | None, body: Body, watch: "Watch"
    ) -> ClientResponse:
        for attempt in (1, 2):
            try:
                return await self._session.request(
                    call.method, call.url, headers=call.headers, data=data, allow_redirects=False
                )
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                if attempt == 1 and call.repeatable and not isinstance(error, aiohttp.ClientConnectorError):
                    continue
                raise self._unavailable(body) from error
            except (aiohttp.ClientError, TimeoutError, Gone, Problem) as error:
                raise self._unavailable(body) from error
            except asyncio.CancelledError:
                watch.raise_if_gone()
                raise
        raise AssertionError("unreachable")

    def _unavailable(self, body: Body) -> Exception:
        return body.failure or UpstreamUnavailable("The part that answers this does not answer now.")

    async def _return(self, response: ClientResponse, send: Send, watch: "Watch") -> int:
        if response.status == 401:  # our own Txn-Token was refused: not the caller's fault, nor his business
            raise UpstreamUnavailable("The part that answers this does not take the gateway's word now.")
        headers = hygiene.returned(response.raw_headers, self._security)
        start: Message = {"type": "http.response.start", "status": response.status, "headers": headers}
        length = response.content_length
        try:
            if length is not None and length <= SMALL:
                content = await response.read()
                await send(start)
                await send({"type": "http.response.body", "body": content})
                return response.status
            await send(start)
            async for chunk in response.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except (aiohttp.ClientError, TimeoutError) as error:
            if length is not None and length <= SMALL:
                raise UpstreamUnavailable("The part that answers this broke off.") from error
            raise ConnectionError("The part broke off within its answer.") from error
        except asyncio.CancelledError:
            watch.raise_if_gone()
            raise
        return response.status


class Watch:
    """Cancels a call whose caller has left. It starts to look only when the call takes long, so it costs nothing."""

    def __init__(self, receive: Receive, body: Body) -> None:
        self._receive, self._body = receive, body
        self._task = asyncio.current_task()
        self._watching: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._gone = False

    def __enter__(self) -> Self:
        self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER, self._start)
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._watching is not None:
            self._watching.cancel()

    def raise_if_gone(self) -> None:
        """Turns the cancellation that this made into Gone."""
        if self._gone and self._task is not None and self._task.uncancel() == 0:
            raise Gone

    def _start(self) -> None:
        self._watching = asyncio.create_task(self._look())

    async def _look(self) -> None:
        while not self._body.complete:  # noqa: ASYNC110  # its reader sees the caller leave, and is not to pay for an event
            await asyncio.sleep(WATCH_AFTER)
        with suppress(asyncio.CancelledError):
            while (await self._receive())["type"] != "http.disconnect":
                pass
            self._gone = True
            if self._task is not None:
                self._task.cancel()
