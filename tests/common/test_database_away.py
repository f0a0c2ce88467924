"""What counts as a database that is away, and connections that ended while nobody used them."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from sqlalchemy import text
from tests.common.line import ProducerSettings
from tests.support.parts import settings_of
from tests.support.waiting import eventually

from dossier_common.database import Connection, Database, unreachable
from dossier_local.cluster import Cluster


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
        asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress"),
        asyncpg.DiskFullError("could not extend file"),
        asyncpg.LockNotAvailableError("canceling statement due to lock timeout"),
        asyncpg.IdleInTransactionSessionTimeoutError("terminating connection due to idle-in-transaction timeout"),
        ConnectionRefusedError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_connection_that_ends_under_a_statement_is_the_database_s_fault(error: Exception) -> None:
    assert unreachable(error)


def test_a_value_that_the_driver_cannot_send_is_the_request_s_fault() -> None:
    assert not unreachable(asyncpg.DataError("invalid input for query argument"))


NAME = "SELECT pg_backend_pid()"


@pytest.fixture
async def database(cluster: Cluster) -> AsyncIterator[Database]:
    opened = Database(settings_of(cluster, "retention", ProducerSettings))
    yield opened
    await opened.close()


async def backend(database: Database) -> int:
    """The server's process behind the connection that the pool gives."""
    async with database.session() as session:
        return int((await session.execute(text(NAME))).scalar_one())


async def ended(cluster: Cluster, *pids: int) -> None:
    """The server ends these connections, and the driver has heard of it."""
    cluster.postgres.psql(
        f"SELECT pg_terminate_backend(pid) FROM unnest(ARRAY{list(pids)}) AS pid", "dossier_retention"
    )
    counted = f"SELECT count(*) FROM pg_stat_activity WHERE pid = ANY(ARRAY{list(pids)})"

    async def left() -> str:
        return (await asyncio.to_thread(cluster.postgres.psql, counted, "dossier_retention")).strip()

    await eventually(left, "0")


async def test_connections_that_the_server_ended_are_replaced_unseen(cluster: Cluster, database: Database) -> None:
    async with database.session() as one, database.session() as two:
        pids = [int((await each.execute(text(NAME))).scalar_one()) for each in (one, two)]
    await ended(cluster, *pids)
    async with database.session() as one, database.session() as two:
        later = [int((await each.execute(text(NAME))).scalar_one()) for each in (one, two)]
    assert not set(pids) & set(later)


async def test_an_end_is_seen_before_the_driver_has_heard_of_it(cluster: Cluster, database: Database) -> None:
    first = await backend(database)
    cluster.postgres.psql(f"SELECT pg_terminate_backend({first}, 60000)", "dossier_retention")  # blocks the loop
    assert await backend(database) != first


async def test_a_connection_that_was_idle_is_asked_and_one_that_was_not_is_taken_as_it_is(
    cluster: Cluster, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when what lies between has forgotten the connection, of which neither end hears."""
    monkeypatch.setattr(Connection, "is_closed", lambda _: False)
    monkeypatch.setattr(Connection, "has_news", lambda _: False)
    first = await backend(database)
    assert await backend(database) == first
    await ended(cluster, first)
    monkeypatch.setattr("dossier_common.database.IDLE_SECONDS", -1.0)
    second = await backend(database)
    assert second != first
    monkeypatch.undo()
    assert await backend(database) == second
