"""Lists of custody: who sees them, the successor's signature, and records that nobody answers for (A5.3)."""

from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common import outbox
from dossier_common.contracts.records import CustodyAssigned, CustodyReceipted
from dossier_common.identity import Subject
from dossier_common.problems import Fault, Hidden, Invalid, NotFound
from dossier_common.reach import reaches, units_reached
from dossier_common.scopes import Scope
from dossier_records import custody_repository as repository
from dossier_records import errors
from dossier_records.models import CustodyHandover, Record
from dossier_records.repository import record as find_record
from dossier_records.service import Desk, ensure_custodian, renew

SUPERVISING: Final = Scope.RECORDS_CLASSIFY
"""Whoever holds it in an office of the unit, or above it, sees to the unit's lists and vacancies."""


async def visible(
    session: AsyncSession, desk: Desk, actor: Subject, *, state: str | None, limit: int, before: UUID | None
) -> list[CustodyHandover]:
    """Handovers to the caller, and out of the units that he supervises, the newest first."""
    units = frozenset[UUID]() if SUPERVISING not in actor.scopes else await _supervised(session, desk, actor)
    return await repository.handovers(
        session, person=actor.person, units=units, state=state, limit=limit, before=before
    )


async def _supervised(session: AsyncSession, desk: Desk, actor: Subject) -> frozenset[UUID] | None:
    return await units_reached(session, desk.policy, actor, SUPERVISING)


async def seen(
    session: AsyncSession, desk: Desk, handover_id: UUID, actor: Subject, *, lock: bool = False
) -> CustodyHandover:
    """A handover that the caller may know of. Raises NotFound, Hidden."""
    handover = await repository.handover(session, handover_id, lock=lock)
    if handover is None:
        raise NotFound("There is no such handover.")
    if actor.person is not None and actor.person == handover.person_to:
        return handover
    if SUPERVISING in actor.scopes:
        for unit in handover.units:
            if await reaches(session, desk.policy, actor, SUPERVISING, unit):
                return handover
    raise Hidden("There is no such handover.")


async def receipt(session: AsyncSession, desk: Desk, handover_id: UUID, digest: str, actor: Subject) -> CustodyHandover:
    """The successor signs for the list as he has seen it.

    Raises NotFound, Hidden, NotTheSuccessor; WrongState before the list is closed and after it was signed for; Invalid
    for the digest of another list.
    """
    handover = await seen(session, desk, handover_id, actor, lock=True)
    if actor.person != handover.person_to:
        raise errors.NotTheSuccessor
    if handover.state != "complete":
        raise errors.WrongState(f"The handover is {handover.state}.")
    if handover.digest != digest:
        raise Invalid(errors=[Fault(pointer="/body/digest", code="other-list", detail="The list has another digest.")])
    now = desk.clock.now()
    handover.state, handover.receipted_at = "receipted", now
    signed = CustodyReceipted(
        handover=handover.id, person_from=handover.person_from, person_to=handover.person_to, digest=digest
    )
    await outbox.add(session, signed, by=actor, at=now)
    return handover


async def assign(
    session: AsyncSession, desk: Desk, handover_id: UUID, record_id: UUID, custodian: UUID, actor: Subject
) -> Record:
    """Somebody answers for a record again that was left without a custodian.

    Raises NotFound, Hidden, WrongState for a record that has a custodian, Invalid for who cannot become one.
    """
    line = await repository.item(session, handover_id, record_id)
    record = await find_record(session, record_id, lock=True) if line else None
    if line is None or record is None or line.state != "unassigned":
        raise NotFound("There is no such record on the list of vacancies.")
    if not await reaches(session, desk.policy, actor, SUPERVISING, record.unit):
        raise Hidden("There is no such record on the list of vacancies.")
    if record.custodian is not None or record.status not in repository.KEPT:
        raise errors.WrongState("The record has a custodian, or needs none any more.")
    await ensure_custodian(session, record.unit, custodian)
    await renew(session, desk, [record])
    record.custodian = custodian
    assigned = CustodyAssigned(
        record=record.id,
        handover=handover_id,
        version=record.version,
        person_to=custodian,
        policy=desk.policy.digest,
    )
    await outbox.add(session, assigned, by=actor, at=desk.clock.now())
    await session.flush()
    return record
