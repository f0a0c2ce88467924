"""What the audit service takes in: every event of every producer, its own among them."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from dossier_audit import service
from dossier_common.clock import Clock
from dossier_common.inbox import Apply
from dossier_common.leaves import Head, Numbered


def ingest(clock: Clock) -> Apply:
    """Stores each batch in the transaction that moves the cursor; unknown types are stored like all others."""

    async def apply(session: AsyncSession, producer: str, events: Sequence[Numbered], head: Head) -> None:
        await service.ingest(session, producer, events, head, clock.now())

    return apply
