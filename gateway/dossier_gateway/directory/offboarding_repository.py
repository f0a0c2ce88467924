"""SQL of leaving and moving."""

from collections.abc import Collection
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from dossier_gateway.directory.repository import AssignmentRow, live
from dossier_gateway.models import Account, Assignment, Offboarding


@dataclass(frozen=True, slots=True)
class Held:
    """An account as the act finds it, locked."""

    id: UUID
    person: UUID
    unit: UUID
    clearance: str
    state: str


@dataclass(frozen=True, slots=True)
class OffboardingRow:
    """What was done, over all accounts of a person."""

    id: UUID
    kind: str
    reason: str
    person: UUID
    accounts: list[UUID]
    units_left: list[UUID]
    unit_to: UUID | None
    successor_account: UUID
    successor_person: UUID
    by_account: UUID | None
    at: datetime


_HELD = (Account.id, Account.person, Account.unit, Account.clearance, Account.state)
_COLUMNS = tuple(OffboardingRow.__dataclass_fields__)
_OFFBOARDING = tuple(getattr(Offboarding, name) for name in _COLUMNS)


async def locked(session: AsyncSession, person: UUID, successor: UUID) -> list[Held]:
    """All accounts of a person, and the successor's, locked in one order so that two acts never cross."""
    query = select(*_HELD).where(or_(Account.person == person, Account.id == successor)).order_by(Account.id)
    return [Held(*row) for row in await session.execute(query.with_for_update())]


async def assignments_of(session: AsyncSession, person: UUID, now: datetime) -> list[AssignmentRow]:
    """The roles that a person holds in all of his accounts, without those whose term is over."""
    query = select(Assignment.id, Assignment.account, Assignment.person, Assignment.role, Assignment.unit)
    rows = await session.execute(query.where(Assignment.person == person, live(now)).order_by(Assignment.id))
    return [AssignmentRow(*row) for row in rows]


async def held_by_others(session: AsyncSession, roles: Collection[str], person: UUID, now: datetime) -> frozenset[str]:
    """Those of the roles that somebody else holds with an active account, and whose term is not over."""
    query = (
        select(Assignment.role)
        .join(Account, Account.id == Assignment.account)
        .where(Assignment.role.in_(roles), Assignment.person != person, Account.state == "active", live(now))
    )
    return frozenset((await session.execute(query)).scalars())


async def end_assignments(session: AsyncSession, assignments: Collection[UUID]) -> None:
    """Ends these roles."""
    await session.execute(delete(Assignment).where(Assignment.id.in_(assignments)))


async def change_accounts(session: AsyncSession, accounts: Collection[UUID], **values: Any) -> None:
    """The same change to each of these accounts, which get a new version."""
    changed = update(Account).where(Account.id.in_(accounts)).values(version=Account.version + 1, **values)
    await session.execute(changed, execution_options={"synchronize_session": False})


async def add(session: AsyncSession, row: OffboardingRow) -> None:
    """Keeps what was done."""
    await session.execute(insert(Offboarding).values(**dict(zip(_COLUMNS, astuple(row), strict=True))))


async def latest(session: AsyncSession, person: UUID) -> OffboardingRow | None:
    """The last time that the person left or moved."""
    found = await find(session, person=person, limit=1)
    return found[0] if found else None


async def find(
    session: AsyncSession,
    *,
    kind: str | None = None,
    person: UUID | None = None,
    successor_person: UUID | None = None,
    limit: int,
    before: UUID | None = None,
) -> list[OffboardingRow]:
    """The newest first; what is None does not narrow."""
    query = select(*_OFFBOARDING).order_by(Offboarding.id.desc()).limit(limit)
    wanted = {Offboarding.kind: kind, Offboarding.person: person, Offboarding.successor_person: successor_person}
    query = query.where(*(column == value for column, value in wanted.items() if value is not None))
    rows = await session.execute(query.where(Offboarding.id < before) if before else query)
    return [OffboardingRow(*row) for row in rows]
