"""Silence of a producer: it may be down, or somebody keeps its events back. Either way somebody has to look."""

import asyncio
from datetime import timedelta
from typing import Final

from sqlalchemy import select

from dossier_common import outbox, tables, telemetry
from dossier_common.clock import Clock
from dossier_common.contracts.audit import ProducerHeard, ProducerSilent
from dossier_common.database import Database
from dossier_common.events import Event
from dossier_common.topology import FOLLOWS

EVERY_SECONDS: Final = 5.0


async def watch(database: Database, clock: Clock, limit: float) -> None:
    """Says once when nothing was heard of a producer for `limit` seconds, and once when it is heard again.

    The first look is taken after `limit` seconds, so that what starts together is not called silent. Never returns.
    """
    silent: set[str] = set()
    await asyncio.sleep(limit)
    while True:
        await look(database, clock, limit, silent)
        await asyncio.sleep(EVERY_SECONDS)


async def look(database: Database, clock: Clock, limit: float, silent: set[str]) -> None:
    """One look; keeps `silent` up to date in the same step as the event is durable."""
    since = clock.now() - timedelta(seconds=limit)
    async with database.session() as session:
        cursors = select(tables.cursors.c.producer).where(tables.cursors.c.fresh_at >= since)
        heard = set((await session.execute(cursors)).scalars())
    for producer in FOLLOWS["audit"]:
        event: Event | None = None
        if producer in heard and producer in silent:
            event = ProducerHeard(producer=producer)
        elif producer not in heard and producer not in silent:
            telemetry.log().error("producer-silent", producer=producer)
            event = ProducerSilent(producer=producer)
        if event is not None:
            async with database.transaction() as session:
                await outbox.add(session, event, by=None, at=clock.now())
            silent ^= {producer}
