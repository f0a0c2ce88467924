"""A part's database as it is after its migrations, so that no test finds what another has left."""

from collections.abc import Collection

import asyncpg

from dossier_local.cluster import Cluster

MADE_BY_MIGRATIONS = frozenset({"alembic_version", "outbox_state"})


async def superuser(cluster: Cluster, part: str) -> asyncpg.Connection:
    """A connection to the part's database past all grants; the caller closes it."""
    return await asyncpg.connect(
        user="postgres",
        password=cluster.state.read_secret("postgres-superuser"),
        database=f"dossier_{part}",
        host=str(cluster.postgres.sockets),
    )


async def emptied(connection: asyncpg.Connection, kept: Collection[str] = ()) -> None:
    """Deletes all rows but those that migrations have made, and those of the tables that are kept."""
    tables = await connection.fetch(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> ALL($1::text[])",
        [*MADE_BY_MIGRATIONS, *kept],
    )
    deletions = ";".join(f'DELETE FROM "{table["tablename"]}"' for table in tables)
    await connection.execute(f"SET session_replication_role = replica; {deletions}; RESET session_replication_role")
