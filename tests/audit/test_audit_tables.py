"""Invariant 3, its first two layers: grants, and triggers."""

from contextlib import AsyncExitStack

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from tests.audit.bench import Bench
from tests.support.waiting import running

from dossier_audit.models import APPEND_ONLY
from dossier_audit.partitions import make_ahead
from dossier_local.cluster import Cluster

CHANGES = (
    "UPDATE {} SET {} = {}",
    "DELETE FROM {}",
    "TRUNCATE {}",
)


@pytest.fixture
async def filled(bench: Bench) -> None:
    records = await bench.emit(1)
    async with running(bench.producer.relay().run()), running(bench.consumer().run()):
        await bench.stored(records)


@pytest.mark.invariant(3)
@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("table", APPEND_ONLY)
@pytest.mark.parametrize("change", CHANGES)
async def test_application_may_change_nothing(cluster: Cluster, table: str, change: str) -> None:
    connection = await asyncpg.connect(cluster.database_url("audit", "app"))
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
            await connection.execute(await _statement(connection, change, table))
    finally:
        await connection.close()


async def _statement(connection: asyncpg.Connection, change: str, table: str) -> str:
    columns = "SELECT attname FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum = 1"
    column = await connection.fetchval(columns, table)
    return change.format(table, column, column)


@pytest.mark.invariant(3)
@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("change", CHANGES)
async def test_triggers_refuse_the_owner_too(cluster: Cluster, change: str) -> None:
    connection = await asyncpg.connect(cluster.database_url("audit", "migrator"))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(connection.close)
        await connection.execute("SET ROLE audit_owner")
        partitions = await connection.fetch(
            "SELECT DISTINCT tableoid::regclass::text AS name FROM bodies UNION SELECT 'bodies_default'"
        )
        tables = [*APPEND_ONLY, *(row["name"] for row in partitions)]
        assert len(tables) > len(APPEND_ONLY) + 1
        for table in tables:
            if change != "TRUNCATE {}" and not await connection.fetchval(f"SELECT count(*) FROM {table}"):
                # a trigger for each row has none to refuse in an empty table: then it has to be there
                guard = (
                    "SELECT tgenabled FROM pg_trigger WHERE tgrelid = $1::text::regclass AND tgname = 'refuse_change'"
                )
                assert await connection.fetchval(guard, table) == b"O", table
                continue
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="is append-only"):
                await connection.execute(await _statement(connection, change, table))


async def test_partitions_are_made_ahead_once_and_guarded(cluster: Cluster) -> None:
    url = cluster.database_url("audit", "migrator", scheme="postgresql+asyncpg")
    made = await make_ahead(create_async_engine(url, poolclass=NullPool), 15)
    assert len(made) == 3
    assert await make_ahead(create_async_engine(url, poolclass=NullPool), 15) == []
    connection = await asyncpg.connect(cluster.database_url("audit", "migrator"))
    try:
        await connection.execute("SET ROLE audit_owner")
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="is append-only"):
            await connection.execute(f"TRUNCATE {made[0]}")
    finally:
        await connection.close()
