"""The operator's job that makes monthly partitions of event bodies ahead: `dossier partitions`.

Runs as `audit_migrator`, at any time and as often as wanted; monthly is right. Events for which no partition was made
land in the default partition, so that a forgotten job loses nothing.
"""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from dossier_audit.repository import events
from dossier_common.clock import SystemClock


async def make_ahead(engine: AsyncEngine, months: int) -> list[str]:
    """Makes what is missing of this month and the next ones; returns the names. Waits five seconds for a lock.

    Disposes of the engine, which connects as `audit_migrator`.
    """
    try:
        async with AsyncSession(engine) as session, session.begin():
            await session.execute(text("SET ROLE audit_owner"))
            await session.execute(text("SET lock_timeout = '5s'"))
            return await events.make_partitions(session, SystemClock().now(), months)
    finally:
        await engine.dispose()
