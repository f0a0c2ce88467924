"""The gateway's worker: the relay of its outbox, and the removal of what is over: codes, tokens, sessions, roles."""

import asyncio
from collections.abc import Mapping

from dossier_common import worker
from dossier_common.startup import prepared
from dossier_common.worker import Context, Job
from dossier_gateway.directory import holdings
from dossier_gateway.oauth import repository
from dossier_gateway.policies import service as policies
from dossier_gateway.settings import Settings

FORGET_EVERY = 300.0


def jobs(context: Context) -> Mapping[str, Job]:
    """What runs beside one another."""

    async def forget() -> None:
        while True:
            async with context.database.transaction() as session:
                await session.run_sync(repository.forget, context.clock.now())
                await holdings.end_roles(session, context.clock)
            await asyncio.sleep(FORGET_EVERY)

    async def note_policy() -> None:
        file = context.settings.common.policy
        policy, said = context.settings.common.pack, file.read_text(encoding="utf-8")
        while True:
            async with context.database.transaction() as session:
                await policies.note_deployed(session, policy, said, context.clock.now())
            await asyncio.sleep(FORGET_EVERY)

    return {"relay": context.relay().run, "note-policy": note_policy, "forget": forget}


if __name__ == "__main__":
    worker.run("gateway", prepared(Settings), jobs)
