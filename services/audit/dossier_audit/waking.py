"""Being woken by the database: LISTEN on a connection of its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg

from dossier_common.database import Database


class Waking:
    """What was announced on a channel since the last `wait`."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection, self._woken = connection, asyncio.Event()

    def wake(self) -> None:
        """As an announcement does."""
        self._woken.set()

    async def wait(self, seconds: float) -> None:
        """Returns at an announcement, or after so long. Raises ConnectionError when none can come any more."""
        with suppress(TimeoutError):  # not by wait_for: before Python 3.12 it loses a cancellation that meets the event
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        self._woken.clear()
        if self._connection.is_closed():
            raise ConnectionError("the listening connection is lost")


@asynccontextmanager
async def woken_by(database: Database, channel: str) -> AsyncIterator[Waking]:
    """Announcements on this channel, from now on."""
    connection = await database.connect()
    try:
        waking = Waking(connection)
        await connection.add_listener(channel, lambda *_: waking.wake())
        yield waking
    finally:
        with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
            await connection.close(timeout=2)
