"""Use cases of partners: other companies to which information may be handed (B3.5). Every change is an event."""

from dataclasses import replace
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common import outbox, preconditions
from dossier_common.clock import Clock
from dossier_common.contracts.gateway import (
    PartnerChanged,
    PartnerQualificationWithdrawn,
    PartnerQualified,
    PartnerRegistered,
)
from dossier_common.identity import Subject
from dossier_common.problems import Conflict, NotFound
from dossier_gateway.directory import partner_repository as repository
from dossier_gateway.directory import rules
from dossier_gateway.directory.partner_repository import PartnerQualificationRow, PartnerRow
from dossier_gateway.directory.rules import WithdrawalReason
from dossier_gateway.errors import Taken


async def register(session: AsyncSession, partner: PartnerRow, *, by: Subject, clock: Clock) -> PartnerRow:
    """A partner without qualifications, which are recorded one by one. Raises Taken."""
    now = clock.now()
    if not await repository.add(session, partner, now):
        raise Taken("A partner has this registration.")
    await outbox.add(session, PartnerRegistered(partner=partner.id, state=partner.state), by=by, at=now)
    return partner


async def show(session: AsyncSession, partner_id: UUID) -> PartnerRow:
    """One. Raises NotFound."""
    partner = await repository.found(session, partner_id)
    if partner is None:
        raise NotFound("There is no such partner.")
    return partner


async def change(
    session: AsyncSession,
    partner_id: UUID,
    wanted: dict[str, Any],
    *,
    if_match: str | None,
    by: Subject,
    clock: Clock,
) -> PartnerRow:
    """Another title, registration or state; nothing is handed to one that is ended, whatever it is qualified for.

    Raises NotFound, PreconditionMissing, Stale, Taken.
    """
    partner = await repository.found(session, partner_id, lock=True)
    if partner is None:
        raise NotFound("There is no such partner.")
    preconditions.require_match(if_match, partner.version)
    after = replace(partner, **wanted)
    changed = tuple(sorted(name for name in wanted if getattr(after, name) != getattr(partner, name)))
    if not changed:
        return partner
    if "registration" in changed and after.registration is not None:
        holder = await repository.registered(session, after.registration)
        if holder is not None:
            raise Taken("A partner has this registration.")
    await repository.change(session, partner.id, **{name: getattr(after, name) for name in changed})
    event = PartnerChanged(partner=partner.id, changed=changed, state_from=partner.state, state_to=after.state)
    await outbox.add(session, event, by=by, at=clock.now())
    return replace(after, version=partner.version + 1)


async def qualify(
    session: AsyncSession, qualification: PartnerQualificationRow, *, by: Subject, clock: Clock
) -> PartnerQualificationRow:
    """Records an agreement or an assessment, with its term. Raises NotFound, Conflict, UnknownReference."""
    partner = await repository.found(session, qualification.partner, lock=True)
    if partner is None:
        raise NotFound("There is no such partner.")
    if partner.state != "active":
        raise Conflict("The partner is ended.")
    rules.ensure_term(qualification.valid_from, qualification.valid_until)
    now = clock.now()
    await repository.add_qualification(session, qualification, now)
    qualified = PartnerQualified(
        partner=partner.id,
        record=qualification.id,
        qualification=qualification.qualification,
        valid_from=qualification.valid_from,
        valid_until=qualification.valid_until,
    )
    await outbox.add(session, qualified, by=by, at=now)
    return qualification


async def withdraw(
    session: AsyncSession,
    partner_id: UUID,
    qualification_id: UUID,
    reason: WithdrawalReason,
    *,
    by: Subject,
    clock: Clock,
) -> PartnerQualificationRow:
    """What was recorded counts no more, from now on. Raises NotFound, Conflict."""
    row = await repository.qualification_for_update(session, partner_id, qualification_id)
    if row is None:
        raise NotFound("The partner has no such qualification.")
    if row.withdrawn_at is not None:
        raise Conflict("It was withdrawn before.")
    now = clock.now()
    await repository.withdraw(session, row.id, reason.value, now)
    withdrawn = PartnerQualificationWithdrawn(
        partner=row.partner, record=row.id, qualification=row.qualification, reason=reason.value
    )
    await outbox.add(session, withdrawn, by=by, at=now)
    return replace(row, withdrawn_at=now, withdrawn_for=reason.value)
