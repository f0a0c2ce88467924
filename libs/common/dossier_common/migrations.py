"""What the parts' Alembic environments and first migrations have in common.

Migrations run as `<part>_migrator`, who becomes `<part>_owner` and grants each table to `<part>_app` by name.
"""

import asyncio
import re
from collections.abc import Iterable

from alembic import context, op
from sqlalchemy import Connection, MetaData, text

from dossier_common import migrator

PART = re.compile(r"^[a-z]+$")
PARTITION = re.compile(r"_(\d{4}_\d{2}|default)$")
"""How partitions are named: by month, and the one for all else."""


LOCK = 0x6D696772
"""Advisory lock of a part's database: of two runs at once, one is second and finds nothing left to do."""
MOVED = "moved"
"""Attribute of Alembic's configuration that takes the revisions before and after."""


def run(metadata: MetaData, part: str) -> None:
    """Runs the migrations of one part, in one transaction as its owner; another run that is at it is waited for.

    A lock that is not had within five seconds ends the migration: the old version is still using the database.
    Address and password are found as in `migrator.engine`.
    """
    if not PART.match(part):
        raise ValueError(part)
    asyncio.run(_run(metadata, part))


async def _run(metadata: MetaData, part: str) -> None:
    engine = migrator.engine(part)
    try:
        async with engine.begin() as connection:
            await connection.execute(text(f"SET ROLE {part}_owner"))
            await connection.execute(text("SET lock_timeout = 0"))
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
            await connection.execute(text("SET lock_timeout = '5s'"))
            await connection.run_sync(_migrate, metadata)
    finally:
        await engine.dispose()


def _migrate(connection: Connection, metadata: MetaData) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        compare_type=True,
        compare_server_default=False,
        include_object=_ours,
    )
    migrating = context.get_context()
    before = migrating.get_current_revision()
    with context.begin_transaction():
        context.run_migrations()
    context.config.attributes[MOVED] = (before, migrating.get_current_revision())


def _ours(_object: object, name: str | None, kind: str, reflected: bool, _compare_to: object) -> bool:  # noqa: FBT001
    """Partitions are made by a job of the operator, and are no tables of the models."""
    made_elsewhere = name == "alembic_version" or (reflected and bool(PARTITION.search(name or "")))
    return not (kind == "table" and made_elsewhere)


def create_tables(metadata: MetaData, part: str) -> None:
    """Creates the tables of a first migration, the common ones among them, and wakes the relay at each insert.

    The application role may read and write its own tables; grants that are narrower follow with `revoke`.
    """
    connection = op.get_bind()
    metadata.create_all(connection)
    for table in metadata.sorted_tables:
        op.execute(f'GRANT SELECT, INSERT, UPDATE, DELETE ON "{table.name}" TO {part}_app')
    op.execute(f"REVOKE UPDATE, DELETE ON outbox_heads FROM {part}_app")
    op.execute(f"GRANT DELETE ON outbox_heads TO {part}_app")
    op.execute(f"REVOKE DELETE ON outbox_state FROM {part}_app")
    op.execute("INSERT INTO outbox_state DEFAULT VALUES")
    op.execute(
        "CREATE FUNCTION outbox_added() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_notify('outbox', ''); RETURN NULL; END $$"
    )
    op.execute("CREATE TRIGGER outbox_added AFTER INSERT ON outbox FOR EACH STATEMENT EXECUTE FUNCTION outbox_added()")
    op.execute(f"GRANT SELECT ON alembic_version TO {part}_app")


def revoke(table: str, rights: str, part: str) -> None:
    """Takes rights on one table from the application role: `revoke("leaves", "UPDATE, DELETE", "audit")`."""
    op.execute(f'REVOKE {rights} ON "{table}" FROM {part}_app')


def append_only(names: Iterable[str], part: str) -> None:
    """These tables can be added to and read, no more; call it once in a database.

    The application role has neither UPDATE nor DELETE, and triggers refuse both, and TRUNCATE, to the owner too.
    """
    op.execute(
        "CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION 'table % is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege'; END $$"
    )
    for table in names:
        revoke(table, "UPDATE, DELETE", part)
        op.execute(
            f"CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            f"CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
