"""The protocol of every web process, with applications that do well and badly; hostile callers are in test_wire."""

import asyncio
import socket
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager

import pytest
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from tests.support.waiting import eventually

from dossier_common.door import Limits
from dossier_common.http1 import http1

QUICK = Limits(idle_seconds=0.5, linger_seconds=0.3, body_seconds=1.0)
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """The signals are the test runner's."""
        yield


@asynccontextmanager
async def serving(app: ASGIApp, limits: Limits = QUICK) -> AsyncIterator[tuple[_Server, int]]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    config = uvicorn.Config(
        app, port=port, loop="none", http=http1(limits), ws="none", lifespan="off", log_config=None, server_header=False
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve())
    await eventually(lambda: _started(server), True)  # noqa: FBT003  # what is expected
    try:
        yield server, port
    finally:
        server.should_exit = True
        await task


async def _started(server: _Server) -> bool:
    return bool(server.started)


async def told(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


def answering(status: int, headers: Sequence[tuple[bytes, bytes]], *pieces: bytes) -> ASGIApp:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return app


async def body_of(receive: Receive) -> bytes:
    body: bytes = b""
    while True:
        message: Message = await receive()
        body += message.get("body", b"")
        if message["type"] == "http.disconnect" or not message["more_body"]:
            return body


@pytest.mark.parametrize(
    ("request_", "status", "headers", "expected"),
    [
        (GET, 200, [(b"content-length", b"5")], b"content-length: 5\r\n\r\nhello"),
        (GET, 200, [], b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        (GET.replace(b"/1.1", b"/1.0"), 200, [], b"connection: close\r\n\r\nhello"),
        (GET.replace(b"GET", b"HEAD"), 200, [(b"content-length", b"5")], b"content-length: 5\r\n\r\n"),
        (GET, 204, [], b"204 No Content\r\n"),
        (GET, 304, [(b"etag", b"a")], b"etag: a\r\n\r\n"),
        (GET, 200, [(b"transfer-encoding", b"gzip"), (b"connection", b"x")], b"chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    ],
    ids=["length", "chunks", "HTTP/1.0", "HEAD", "204", "304", "framing is the server's"],
)
async def test_answers_are_framed(
    request_: bytes, status: int, headers: list[tuple[bytes, bytes]], expected: bytes
) -> None:
    async with serving(answering(status, headers, b"hello")) as (_, port):
        answer = await told(port, request_)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert expected in answer if status == 204 else answer.endswith(expected)
    assert b"hello" not in answer or status == 200


@pytest.mark.parametrize(
    ("headers", "pieces"),
    [
        ([(b"x-a", b"b\r\nx-forged: d")], [b""]),
        ([(b"x-a", b"b\nx-forged: d")], [b""]),
        ([(b"x-a\r\nx-forged", b"d")], [b""]),
        ([(b"x-a", b"\0")], [b""]),
    ],
)
async def test_a_header_with_a_line_break_is_a_500_and_is_not_sent(
    headers: list[tuple[bytes, bytes]], pieces: list[bytes]
) -> None:
    async with serving(answering(200, headers, *pieces)) as (_, port):
        answer = await told(port, GET)
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"x-forged" not in answer
    assert b"connection: close" in answer


@pytest.mark.parametrize("piece", [b"four", b"sixsix"])
async def test_an_answer_of_another_length_than_it_says_is_cut(piece: bytes) -> None:
    async with serving(answering(200, [(b"content-length", b"5")], piece)) as (_, port):
        answer = await told(port, GET + GET)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert len(answer.partition(b"\r\n\r\n")[2]) < 5


@pytest.mark.parametrize("begun", [True, False])
async def test_an_application_that_fails_tells_its_caller_nothing(*, begun: bool) -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError("secret")

    async with serving(app) as (_, port):
        answer = await told(port, GET)
    assert b"secret" not in answer
    if begun:
        assert not answer.endswith(b"0\r\n\r\n")
    else:
        assert answer.startswith(b"HTTP/1.1 500 ")
        assert b"application/problem+json" in answer


async def test_an_application_that_says_nothing_is_a_500() -> None:
    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        return

    async with serving(app) as (_, port):
        assert (await told(port, GET)).startswith(b"HTTP/1.1 500 ")


async def test_an_address_has_only_so_many_connections() -> None:
    async with serving(answering(204, []), Limits(per_address=2, head_seconds=30)) as (server, port):
        kept = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        await eventually(lambda: _connections(server), 2, seconds=5)
        third, writer = await asyncio.open_connection("127.0.0.1", port)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(third.readexactly(1), 5)
        writer.close()
        kept[0][1].close()
        await eventually(lambda: _connections(server), 1, seconds=5)
        assert b"204" in await told(port, GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        kept[1][1].close()


async def _connections(server: _Server) -> int:
    return len(server.server_state.connections)


async def test_what_is_not_read_is_not_taken_in() -> None:
    """An application that does not read holds the sender back: 64 KiB wait, and what a socket holds."""
    going, taken = asyncio.Event(), 0

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal taken
        await going.wait()
        taken = len(await body_of(receive))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    size = 32 << 20
    async with serving(app) as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
        sending = asyncio.create_task(_send(writer, size))
        await eventually(lambda: _paused(server), True, seconds=5)  # noqa: FBT003  # what is expected
        assert not sending.done()
        going.set()
        assert b" 204 " in await asyncio.wait_for(reader.readline(), 20)
        await sending
        writer.close()
    assert taken == size


async def _send(writer: asyncio.StreamWriter, size: int) -> None:
    for _ in range(size >> 20):
        writer.write(b"x" * (1 << 20))
        await writer.drain()


async def _paused(server: _Server) -> bool:
    return all(not connection._reading for connection in server.server_state.connections)  # type: ignore[union-attr]


async def test_a_caller_who_does_not_read_is_let_go() -> None:
    left = asyncio.Event()

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        watching = asyncio.create_task(_until_left(receive))
        while not watching.done():
            await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})
            await asyncio.sleep(0)
        left.set()

    async with serving(app) as (_, port):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.sendall(GET)
        await asyncio.wait_for(left.wait(), 15)
        sock.close()


async def _until_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def test_a_server_that_ends_lets_the_answer_end() -> None:
    begun, going = asyncio.Event(), asyncio.Event()

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        begun.set()
        await going.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async with serving(app) as (server, port):
        asking = asyncio.create_task(told(port, GET))
        idle, writer = await asyncio.open_connection("127.0.0.1", port)
        await begun.wait()
        server.should_exit = True
        assert await asyncio.wait_for(idle.read(), 5) == b""
        going.set()
        answer = await asking
        writer.close()
    assert b"connection: close" in answer
    assert answer.endswith(b"ok")
