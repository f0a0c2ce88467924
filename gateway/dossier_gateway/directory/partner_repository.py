"""SQL of partners and what they are qualified for."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final
from uuid import UUID

from sqlalchemy import insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from dossier_gateway.models import Partner, PartnerQualification


@dataclass(frozen=True, slots=True)
class PartnerRow:
    """Another company; `registration` is its number in the register of companies."""

    id: UUID
    title: str
    registration: str | None
    state: str = "active"
    version: int = 1


@dataclass(frozen=True, slots=True)
class PartnerQualificationRow:
    """An agreement that it signed, or an assessment of it."""

    id: UUID
    partner: UUID
    qualification: str
    evidence: str
    valid_from: date
    valid_until: date | None
    withdrawn_at: datetime | None = None
    withdrawn_for: str | None = None


_PARTNER: Final = (Partner.id, Partner.title, Partner.registration, Partner.state, Partner.version)
_QUALIFICATION: Final = (
    PartnerQualification.id,
    PartnerQualification.partner,
    PartnerQualification.qualification,
    PartnerQualification.evidence,
    PartnerQualification.valid_from,
    PartnerQualification.valid_until,
    PartnerQualification.withdrawn_at,
    PartnerQualification.withdrawn_for,
)


async def add(session: AsyncSession, new: PartnerRow, now: datetime) -> bool:
    """Keeps a new partner; False when its registration is taken."""
    values = {"id": new.id, "title": new.title, "registration": new.registration, "state": new.state}
    kept = await session.execute(
        upsert(Partner).values(**values, created_at=now).on_conflict_do_nothing().returning(Partner.id)
    )
    return kept.first() is not None


async def found(session: AsyncSession, partner: UUID, *, lock: bool = False) -> PartnerRow | None:
    """One, locked until the transaction ends where it is to be changed."""
    query = select(*_PARTNER).where(Partner.id == partner)
    row = (await session.execute(query.with_for_update() if lock else query)).one_or_none()
    return PartnerRow(*row) if row else None


async def listed(session: AsyncSession, limit: int, after: UUID | None, state: str | None) -> list[PartnerRow]:
    """Partners in the order of their making."""
    query = select(*_PARTNER).order_by(Partner.id).limit(limit)
    if after:
        query = query.where(Partner.id > after)
    if state:
        query = query.where(Partner.state == state)
    return [PartnerRow(*row) for row in await session.execute(query)]


async def registered(session: AsyncSession, registration: str) -> UUID | None:
    """The partner with this number in the register of companies."""
    query = select(Partner.id).where(Partner.registration == registration)
    return (await session.execute(query)).scalar_one_or_none()


async def change(session: AsyncSession, partner: UUID, **values: object) -> None:
    """Keeps other values, as the next version."""
    await session.execute(update(Partner).where(Partner.id == partner).values(**values, version=Partner.version + 1))


async def in_force(session: AsyncSession, partners: Collection[UUID], on: date) -> dict[UUID, list[str]]:
    """What each partner is qualified for on this day."""
    query = select(PartnerQualification.partner, PartnerQualification.qualification).where(
        PartnerQualification.partner.in_(partners),
        PartnerQualification.withdrawn_at.is_(None),
        PartnerQualification.valid_from <= on,
        or_(PartnerQualification.valid_until.is_(None), PartnerQualification.valid_until >= on),
    )
    held: dict[UUID, set[str]] = {partner: set() for partner in partners}
    for partner, qualification in await session.execute(query):
        held[partner].add(qualification)
    return {partner: sorted(names) for partner, names in held.items()}


async def add_qualification(session: AsyncSession, new: PartnerQualificationRow, now: datetime) -> None:
    """Keeps a qualification."""
    await session.execute(
        insert(PartnerQualification).values(
            id=new.id,
            partner=new.partner,
            qualification=new.qualification,
            evidence=new.evidence,
            valid_from=new.valid_from,
            valid_until=new.valid_until,
            recorded_at=now,
        )
    )


async def qualifications(
    session: AsyncSession, partner: UUID, limit: int, after: UUID | None
) -> list[PartnerQualificationRow]:
    """What was recorded of a partner, with what is over or withdrawn."""
    query = select(*_QUALIFICATION).where(PartnerQualification.partner == partner)
    if after:
        query = query.where(PartnerQualification.id > after)
    rows = await session.execute(query.order_by(PartnerQualification.id).limit(limit))
    return [PartnerQualificationRow(*row) for row in rows]


async def qualification_for_update(
    session: AsyncSession, partner: UUID, qualification: UUID
) -> PartnerQualificationRow | None:
    """A qualification of this partner, locked."""
    query = select(*_QUALIFICATION).where(
        PartnerQualification.id == qualification, PartnerQualification.partner == partner
    )
    row = (await session.execute(query.with_for_update())).one_or_none()
    return PartnerQualificationRow(*row) if row else None


async def withdraw(session: AsyncSession, qualification: UUID, reason: str, now: datetime) -> None:
    """It counts no more."""
    await session.execute(
        update(PartnerQualification)
        .where(PartnerQualification.id == qualification)
        .values(withdrawn_at=now, withdrawn_for=reason)
    )
