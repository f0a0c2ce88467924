import asyncpg
import pytest
from tests.records.world import World

from dossier_common.tables import metadata
from dossier_local.cluster import Cluster
from dossier_local.migrations import Action, Migrations
from dossier_records.models import Base


def test_the_models_ask_for_no_other_database_than_the_migrations_make(cluster: Cluster) -> None:
    with Migrations(cluster.state, Action.CHECK) as check:
        check.run(cluster.postgres)


async def test_the_tables_belong_to_a_role_that_cannot_log_in(world: World) -> None:
    owners = await world.owner.fetch("SELECT tablename, tableowner FROM pg_tables WHERE schemaname = 'public'")
    assert {row["tableowner"] for row in owners} == {"records_owner"}
    assert {row["tablename"] for row in owners} == {*Base.metadata.tables, "alembic_version"}
    assert set(metadata.tables) < set(Base.metadata.tables)
    assert not await world.owner.fetchval("SELECT rolcanlogin FROM pg_roles WHERE rolname = 'records_owner'")


async def test_the_application_role_changes_no_table(world: World) -> None:
    connection = await world.app.state.database.connect()
    try:
        for statement in (
            "ALTER TABLE record_versions DISABLE TRIGGER ALL",
            "DROP TABLE records",
            "CREATE TABLE mine (id int)",
            "SET ROLE records_owner",
            "UPDATE outbox_heads SET hash = ''",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()
