"""A part's database as it is after its migrations, so that no test finds what another has left."""

from collections.abc import Collection

import asyncpg

from dossier_local.cluster import Cluster

MADE_ANEW = "INSERT INTO outbox_state DEFAULT VALUES"
"""The one row that migrations make."""


async def superuser(cluster: Cluster, part: str) -> asyncpg.Connection:
    """A connection to the part's database past all grants; the caller closes it."""
    return await asyncpg.connect(
        user="postgres",
        password=cluster.state.read_secret("postgres-superuser"),
        database=f"dossier_{part}",
        host=str(cluster.postgres.sockets),
    )


async def emptied(connection: asyncpg.Connection, kept: Collection[str] = ()) -> None:
    """Deletes all rows but those of the tables that are kept; no event of the part has a number then."""
    tables = await connection.fetch(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> ALL($1::text[])",
        ["alembic_version", *kept],
    )
    statements = [f'DELETE FROM "{table["tablename"]}"' for table in tables]
    statements = ["SET session_replication_role = replica", *statements, MADE_ANEW, "RESET session_replication_role"]
    await connection.execute(";".join(statements))
