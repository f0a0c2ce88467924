"""A worker is connected to NATS in the end, whatever answers at its address before that."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
from tests.common.line import Line
from tests.support.waiting import eventually, running

from dossier_common.publisher import Publisher
from dossier_common.worker import opened

GREETING = b'INFO {"server_id":"x","version":"2.15.0","headers":true,"max_payload":1048576,"auth_required":true}\r\n'
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def is_another_program(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"x" * 200_000 + b"\r\n")


async def closes(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    pass


async def greets_and_leaves(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(GREETING)


async def refuses_without_a_word(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(GREETING)
    await reader.readline()
    writer.write(b"-ERR\r\n")


async def leaves_as_it_is_asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(GREETING)
    await reader.readline()


@dataclass
class Door:
    """An address at which NATS is, or something else."""

    broker: int
    answer: Answer | None = None
    asked: int = 0
    open_: set[asyncio.StreamWriter] = field(default_factory=set)

    async def came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        self.open_.add(writer)
        with suppress(OSError):
            if self.answer is not None:
                await self.answer(reader, writer)
                await writer.drain()
            else:
                await self._pass_on(reader, writer)
        self.open_.discard(writer)
        writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection("127.0.0.1", self.broker)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_copy(reader, ours))
            tasks.create_task(_copy(theirs, writer))

    def break_off(self) -> None:
        """Ends what is open."""
        for writer in self.open_:
            writer.transport.abort()

    async def tried(self, times: int = 2) -> None:
        """Waits until somebody came so often again."""
        before = self.asked

        async def more() -> bool:
            return self.asked >= before + times

        await eventually(more, expected=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def door(line: Line) -> AsyncIterator[tuple[Door, str]]:
    found = Door(line.cluster.broker.port)
    server = await asyncio.start_server(found.came, "127.0.0.1", 0)
    try:
        yield found, f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        found.break_off()
        await server.wait_closed()


@pytest.mark.invariant(2)
@pytest.mark.parametrize(
    "answer", [is_another_program, closes, greets_and_leaves, refuses_without_a_word, leaves_as_it_is_asked]
)
async def test_events_are_numbered_without_nats_and_published_once_it_is_there(line: Line, answer: Answer) -> None:
    async with door(line) as (nats, url):
        nats.answer = answer
        settings = line.producer.settings.model_copy(update={"nats_url": url})
        async with opened("retention", settings) as producer:
            relay = line.relay(Publisher(producer.nats, "retention").deliver)
            async with running(relay.run()):
                await line.emit(3)
                await line.numbered(3)
                await nats.tried()
                assert not producer.nats.is_connected
                nats.answer = None
                await line.published()
            nats.answer = answer
            nats.break_off()
            await nats.tried()
            nats.answer = None
            async with running(relay.run()):
                await line.emit(3)
                await line.published()
    assert await line.stream_length() == 6
