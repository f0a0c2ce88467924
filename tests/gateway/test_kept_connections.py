"""A connection to a part that is kept for the next call: nothing of one answer is left in another."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from dossier_common.tls import Tls
from dossier_gateway.proxy.upstream import SMALL, Pool

LONG = SMALL + 1


@asynccontextmanager
async def part(*answers: bytes) -> AsyncIterator[Pool]:
    """A part that gives these answers in turn, to whatever it is asked."""
    left = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while left:
            try:
                await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            await asyncio.sleep(0)
            writer.write(left.pop(0))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        pool = Pool(address, 1, part="records", tls=Tls().client)
        yield pool
        pool.close()


async def ask(pool: Pool) -> tuple[int, bytes, int]:
    """Status, a header, and the length of the body of one answer."""
    upstream = await pool.take()
    try:
        await upstream.ask(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        status, headers = upstream.status, dict(upstream.headers)
        length = 0
        while piece := await upstream.read():
            length += len(piece)
    finally:
        upstream.release()
    return status, headers.get(b"x-answer", b""), length


def plain(number: int, status: int, length: int) -> bytes:
    head = f"HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nx-answer: {number}\r\n\r\n"
    return head.encode() + b"x" * length


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nx-answer: 1\r\n\r\n3\r\nabc\r\n0\r\n\r\n"


@pytest.mark.parametrize("first", [plain(1, 200, 3), plain(1, 200, LONG), CHUNKED])
async def test_no_answer_has_the_head_of_the_one_before(first: bytes) -> None:
    async with part(first, plain(2, 404, 5), plain(3, 201, LONG), plain(4, 200, 1)) as pool:
        assert (await ask(pool))[:2] == (200, b"1")
        assert await ask(pool) == (404, b"2", 5)
        assert await ask(pool) == (201, b"3", LONG)
        assert await ask(pool) == (200, b"4", 1)
