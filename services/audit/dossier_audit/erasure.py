"""The owner's job that erases the body of one event by law: `dossier erase EVENT ORDER`.

Runs as `audit_migrator`: the service itself cannot do it. In the body's place stands by which order it went; the
leaf stays, and so does every proof over it. The erasure is an event. The body also lay in the producer's outbox and
in its stream, from which it goes with everything else after `outbox_keep_days`; and in backups, after whose restore
this job is repeated for each row of `erasures` that the restored database lacks.
"""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from dossier_audit.repository import logs
from dossier_audit.rules import ensure_reference
from dossier_common import outbox
from dossier_common.clock import Clock
from dossier_common.contracts.audit import BodyErased


async def erase(engine: AsyncEngine, event: UUID, order: str, clock: Clock) -> int:
    """Erases the body of this event, in each epoch in which it stands; returns how many were there.

    Disposes of the engine, which connects as `audit_migrator`. Raises NoReference.
    """
    try:
        ensure_reference(order)
        async with AsyncSession(engine) as session, session.begin():
            await session.execute(text("SET ROLE audit_owner"))
            await session.execute(text("SET lock_timeout = '5s'"))
            erased = await logs.erase_body(session, event, order, clock.now())
            if erased:
                await outbox.add(session, BodyErased(object=event, order=order), by=None, at=clock.now())
            return erased
    finally:
        await engine.dispose()
