"""Raw sockets on either side of a gateway: what a caller may send byte for byte, and a part that keeps what arrives."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Behaviour = Callable[["Part", asyncio.StreamReader, asyncio.StreamWriter, bytes], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


@dataclass
class Part:
    """A part that reads requests as literally as can be, and keeps them."""

    requests: list[bytes] = field(default_factory=list)
    """Head and body of each, with the framing of its chunks."""
    rest: list[bytes] = field(default_factory=list)
    """What came on connections and was no whole request."""
    connections: int = 0
    behaviour: Behaviour | None = None
    port: int = 0
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await self._head(reader):
                body = await _body(reader, head)
                self.requests.append(head + body)
                if self.behaviour is None:
                    writer.write(OK)
                    await writer.drain()
                else:
                    await self.behaviour(self, reader, writer, head)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            self.rest.append(getattr(error, "partial", b""))
        finally:
            self.left.set()
            writer.close()

    async def _head(self, reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            if error.partial:
                self.rest.append(error.partial)
            return b""

    def calm(self) -> None:
        self.requests.clear()
        self.rest.clear()
        self.left.clear()
        self.behaviour = None


async def _body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    length, chunked = 0, False
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b": ")
        length = int(value) if name == b"content-length" else length
        chunked = chunked or (name == b"transfer-encoding" and value == b"chunked")
    if not chunked:
        return await reader.readexactly(length)
    found = b""
    while True:
        line = await reader.readuntil(b"\r\n")
        found += line + await reader.readexactly(int(line, 16) + 2)
        if line == b"0\r\n":
            return found


def dechunked(body: bytes) -> bytes:
    found = b""
    while body != b"0\r\n\r\n":
        size, _, body = body.partition(b"\r\n")
        found, body = found + body[: int(size, 16)], body[int(size, 16) + 2 :]
    return found


@asynccontextmanager
async def part() -> AsyncIterator[Part]:
    found = Part()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()


@dataclass
class Caller:
    """A connection of a caller."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> bytes:
        """One answer that has a length."""
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 10)
        (length,) = [int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"content-length: ")]
        return head + await asyncio.wait_for(self.reader.readexactly(length), 10)

    async def all(self) -> bytes:
        """Everything until the other side closes."""
        try:
            return await asyncio.wait_for(self.reader.read(), 15)
        except ConnectionError:
            return b""

    def hang_up(self) -> None:
        self.writer.transport.abort()


@asynccontextmanager
async def caller(port: int) -> AsyncIterator[Caller]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Caller(reader, writer)
    finally:
        writer.close()


async def told(port: int, data: bytes) -> bytes:
    """All that comes back for this, until the connection is closed by the other side."""
    async with caller(port) as mine:
        try:
            await mine.send(data)
        except ConnectionError:
            return b""
        return await mine.all()
