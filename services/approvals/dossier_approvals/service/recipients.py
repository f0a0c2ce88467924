"""Partners that something is to be handed to: looked at when it is asked for, and again when it is granted (B3.5)."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from dossier_approvals.errors import PartnerNotQualified, invalid
from dossier_common import directory


async def ensure_may_ask(session: AsyncSession, partner: UUID | None, needed: Collection[str], now: datetime) -> None:
    """Passes where the flow asks for nothing, or the partner has all of it today.

    Raises Invalid for a partner that is unknown or ended, PartnerNotQualified for one that lacks something.
    """
    if partner is not None and needed and await directory.partner_lacks(session, partner, (), now.date()) is None:
        raise invalid("/body/recipient", "unknown-partner", "There is no such active partner.")
    await ensure_qualified(session, partner, needed, now)


async def ensure_qualified(session: AsyncSession, partner: UUID | None, needed: Collection[str], now: datetime) -> None:
    """Raises PartnerNotQualified when the partner lacks something of it today; one that has ended lacks all."""
    if partner is None or not needed:
        return
    lacks = await directory.partner_lacks(session, partner, needed, now.date())
    if lacks is None or lacks:
        raise PartnerNotQualified(needed if lacks is None else lacks)
