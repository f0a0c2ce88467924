"""Digests of what the services keep, to see that a refused call changed nothing."""

import asyncio
from typing import Final

import asyncpg

from dossier_common.topology import PARTS
from dossier_local.environment import of_running
from dossier_local.launched import RunningStack

MOVING: Final = frozenset(
    {"outbox", "outbox_state", "outbox_heads", "handled_events", "cursors", "idempotency_keys"}
    | {"producer_heads", "revocations", "client_assertions", "alembic_version"}
)
"""Tables of the mechanism of events, which a refusal moves too, since it is an event, and of the parts' own tokens."""
QUIET, PATIENCE = 1.0, 60.0
"""Seconds without a change after which the workers have done their work, and how long that may take."""


async def kept(stack: RunningStack) -> dict[str, str]:
    """Table → digest of its rows, for all parts but audit, which keeps nothing but events."""
    found: dict[str, str] = {}
    environment = of_running(stack.state)
    for part in PARTS:
        if part == "audit":
            continue
        connection = await asyncpg.connect(environment.postgres.url(part, "app", password=True))
        try:
            tables = await connection.fetch("SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'")
            for name in sorted({row["name"] for row in tables} - MOVING):
                query = f'SELECT md5(string_agg(t::text, chr(10) ORDER BY t::text)) FROM "{name}" t'
                found[f"{part}.{name}"] = await connection.fetchval(query) or ""
        finally:
            await connection.close()
    return found


async def settled(stack: RunningStack) -> dict[str, str]:
    """What is kept once nothing moves any more."""
    until = asyncio.get_running_loop().time() + PATIENCE
    before = await kept(stack)
    while True:
        await asyncio.sleep(QUIET)
        now = await kept(stack)
        if now == before:
            return now
        moved = sorted(name for name in now if now[name] != before.get(name))
        assert asyncio.get_running_loop().time() < until, f"still moving: {moved}"
        before = now


def changed(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """The tables whose rows are others."""
    return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
