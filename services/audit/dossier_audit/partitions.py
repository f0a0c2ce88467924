"""The operator's job that makes monthly partitions of event bodies ahead: `python -m dossier_audit.partitions`.

Runs as `audit_migrator` on DOSSIER_MIGRATOR_URL, at any time and as often as wanted; monthly is right. Events for which
no partition was made land in the default partition, so that a forgotten job loses nothing.
"""

import asyncio
import os
import sys

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from dossier_audit.repository import events
from dossier_common.clock import SystemClock

MONTHS = 12


async def make_ahead(url: str, months: int = MONTHS) -> list[str]:
    """Makes what is missing of this month and the next ones; returns the names. Waits five seconds for a lock."""
    engine = create_async_engine(url, poolclass=NullPool)
    try:
        async with AsyncSession(engine) as session, session.begin():
            await session.execute(text("SET ROLE audit_owner"))
            await session.execute(text("SET lock_timeout = '5s'"))
            return await events.make_partitions(session, SystemClock().now(), months)
    finally:
        await engine.dispose()


if __name__ == "__main__":
    for made in asyncio.run(make_ahead(os.environ["DOSSIER_MIGRATOR_URL"])):
        sys.stdout.write(f"{made}\n")
