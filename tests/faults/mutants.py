"""Broken products, to prove the harness: each breaks one promise, and must turn its row red.

Each function changes the process that it is called in, before the part starts. What is broken is late by LATE seconds,
so that without a fault all goes well: it is the fault that shows it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import asyncpg

from dossier_common.database import Database
from dossier_common.inbox import Apply, Consumer
from dossier_common.leaves import Head, Numbered
from dossier_common.relay import Deliver, Relay

LATE: Final = 0.5
_RUNNING: set[asyncio.Task[Any]] = set()


def _later(do: Callable[[], Awaitable[Any]], turn: asyncio.Lock) -> None:
    """Does it LATE seconds from now, in the order of the calls that share a turn."""

    async def wait_and_do() -> None:
        await asyncio.sleep(LATE)
        async with turn:
            await do()

    task = asyncio.get_running_loop().create_task(wait_and_do())
    _RUNNING.add(task)
    task.add_done_callback(_RUNNING.discard)


def _replace(owner: type, name: str, by: Callable[..., Any]) -> None:
    """Raises AttributeError where the product has no such thing any more."""
    getattr(owner, name)
    setattr(owner, name, by)


def marks_first() -> None:
    """A relay that marks a batch as published before it publishes it."""
    original = Relay.__init__

    def constructor(relay: Relay, *args: Any, deliver: Deliver, **kwargs: Any) -> None:
        turn = asyncio.Lock()

        async def later(events: Sequence[Numbered], head: Head) -> None:
            _later(lambda: deliver(events, head), turn)

        original(relay, *args, deliver=later, **kwargs)

    _replace(Relay, "__init__", constructor)


def no_feed() -> None:
    """A consumer that never asks the feed: the stream alone has to bring all. No mutant by itself."""

    async def nothing(_consumer: Consumer) -> None:
        await asyncio.sleep(0.2)

    _replace(Consumer, "catch_up", nothing)


def acknowledges_first() -> None:
    """A consumer that moves its cursor and acknowledges, and then applies and commits."""
    original = Consumer.__init__

    def constructor(consumer: Consumer, *args: Any, apply: Apply, database: Database, **kwargs: Any) -> None:
        turn = asyncio.Lock()

        async def later(_session: Any, producer: str, events: Sequence[Numbered], head: Head) -> None:
            async def commit() -> None:
                async with database.transaction() as session:
                    await apply(session, producer, events, head)

            _later(commit, turn)

        original(consumer, *args, apply=later, database=database, **kwargs)

    _replace(Consumer, "__init__", constructor)


def answers_first() -> None:
    """A reading that is decrypted and answered before its intent is committed."""
    from dossier_records import reading  # noqa: PLC0415  # only where there is one

    original = reading.Reader._decide_and_record
    turn = asyncio.Lock()

    class Late:
        """A connection that writes intents later, and all else at once."""

        def __init__(self, connection: asyncpg.Connection, database: Database) -> None:
            self._connection, self._database = connection, database

        def __getattr__(self, name: str) -> Any:
            return getattr(self._connection, name)

        async def execute(self, query: str, *args: Any) -> Any:
            if query != reading._INTENTS:
                return await self._connection.execute(query, *args)

            async def record() -> None:
                connection = await self._database.connect()
                try:
                    await connection.execute(query, *args)
                finally:
                    await connection.close()

            _later(record, turn)
            return None

    async def decide(reader: Any, connection: Any, asks: Any) -> Any:
        late: Any = Late(connection, reader._database)
        return await original(reader, late, asks)

    _replace(reading.Reader, "_decide_and_record", decide)


MUTANTS: Final[dict[str, Callable[[], None]]] = {
    "marks-first": marks_first,
    "no-feed": no_feed,
    "acknowledges-first": acknowledges_first,
    "answers-first": answers_first,
}
