"""Servers of a test: a web process as `serve` makes it, and a front that gives the embedded PostgreSQL TLS."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp
from tests.support.waiting import eventually

from dossier_common.door import Limits
from dossier_common.handshake import protocol


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """The signals are the test runner's."""
        yield


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


@asynccontextmanager
async def web_process(app: ASGIApp, context: ssl.SSLContext | None, limits: Limits) -> AsyncIterator[int]:
    """The port of an application that listens by our own protocol, with TLS or without."""
    port, kind = free_port(), protocol(limits, context)
    config = uvicorn.Config(app, port=port, loop="none", http=kind, ws="none", lifespan="off", log_config=None)
    server = _Server(config)
    task = asyncio.create_task(server.serve())

    async def started() -> bool:
        return bool(server.started)

    await eventually(started, True)  # noqa: FBT003  # what is expected
    try:
        yield port
    finally:
        server.should_exit = True
        await task


@asynccontextmanager
async def tls_front(sockets: Path, context: ssl.SSLContext | None) -> AsyncIterator[int]:
    """A port that answers PostgreSQL's SSLRequest, with TLS or with a refusal, and forwards to its Unix socket."""
    running: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        with suppress(OSError, asyncio.IncompleteReadError):
            assert await reader.readexactly(8) == b"\0\0\0\x08\x04\xd2\x16\x2f"
            writer.write(b"N" if context is None else b"S")
            await writer.drain()
            if context is not None:
                await writer.start_tls(context)
                up_reader, up_writer = await asyncio.open_unix_connection(str(sockets / ".s.PGSQL.5432"))
                await asyncio.gather(pump(reader, up_writer), pump(up_reader, writer))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
