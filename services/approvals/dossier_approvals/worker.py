"""The worker process of the approvals service: relay, consumers, time limits."""

import asyncio
from collections.abc import Mapping
from typing import Final

from dossier_approvals import service
from dossier_approvals.consumers import handlers
from dossier_approvals.settings import Settings
from dossier_common import worker
from dossier_common.clock import Clock
from dossier_common.database import Database
from dossier_common.startup import prepared
from dossier_common.worker import Context, Job

EVERY: Final = 5.0
"""Seconds between two looks at the time limits."""


async def enforce_time_limits(database: Database, clock: Clock) -> None:
    """Escalates, expires or reports everything that is overdue now, each in a transaction of its own."""
    for one in (service.enforce_time_limit, service.flag_overdue_review):
        overdue = True
        while overdue:
            async with database.transaction() as session:
                overdue = await one(session, clock.now())


def jobs(context: Context) -> Mapping[str, Job]:
    """What runs here."""
    policy = context.settings.common.pack

    async def time_limits() -> None:
        while True:
            await enforce_time_limits(context.database, context.clock)
            await asyncio.sleep(EVERY)

    applied = handlers(policy, context.clock).apply
    return {"relay": context.relay().run, **worker.follow(context, applied), "time-limits": time_limits}


if __name__ == "__main__":
    worker.run("approvals", prepared(Settings), jobs)
