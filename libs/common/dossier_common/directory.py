"""A projection of the gateway's directory: units as a tree, accounts, who holds which role where, and partners.

Kept by every part that resolves persons; `attach` adds its tables, `handlers` keeps them.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final
from uuid import UUID

from sqlalchemy import (
    Boolean,
    Column,
    Date,
    DateTime,
    MetaData,
    String,
    Table,
    Text,
    Uuid,
    delete,
    false,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common.contracts.gateway import (
    AccountChanged,
    AccountCreated,
    AccountDisabled,
    AccountEnabled,
    PartnerChanged,
    PartnerQualificationWithdrawn,
    PartnerQualified,
    PartnerRegistered,
    RoleAssigned,
    RoleRevoked,
    UnitCreated,
    UnitMoved,
)
from dossier_common.events import Envelope
from dossier_common.inbox import Handlers
from dossier_common.tables import NAMING

metadata = MetaData(naming_convention=NAMING)

units = Table(
    "directory_units",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("parent", Uuid),
    Column("kind", String(32), nullable=False),
    Column("code", Text, nullable=False),
)

accounts = Table(
    "directory_accounts",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("person", Uuid, nullable=False, index=True),
    Column("unit", Uuid, nullable=False),
    Column("disabled", Boolean, nullable=False, server_default=false()),
)

assignments = Table(
    "directory_assignments",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("account", Uuid, nullable=False),
    Column("person", Uuid, nullable=False),
    Column("role", String(64), nullable=False),
    Column("unit", Uuid, nullable=False, index=True),
    Column("valid_until", DateTime(timezone=True)),
)

partners = Table(
    "directory_partners",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("state", String(16), nullable=False),
)

partner_qualifications = Table(
    "directory_partner_qualifications",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("partner", Uuid, nullable=False, index=True),
    Column("qualification", String(16), nullable=False),
    Column("valid_from", Date, nullable=False),
    Column("valid_until", Date),
)

handlers: Final = Handlers()


def attach(target: MetaData) -> None:
    """Puts these tables beside a part's own."""
    for table in metadata.sorted_tables:
        table.to_metadata(target)


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit, and the one above it."""

    id: UUID
    parent: UUID | None
    kind: str


@dataclass(frozen=True, slots=True)
class Holder:
    """An account that holds a role in a unit."""

    account: UUID
    person: UUID
    role: str
    unit: UUID


@handlers.on(UnitCreated)
async def _unit_created(session: AsyncSession, event: UnitCreated, _envelope: Envelope) -> None:
    await session.execute(
        insert(units)
        .values(id=event.unit, parent=event.parent, kind=event.kind, code=event.code)
        .on_conflict_do_nothing()
    )


@handlers.on(UnitMoved)
async def _unit_moved(session: AsyncSession, event: UnitMoved, _envelope: Envelope) -> None:
    await session.execute(update(units).where(units.c.id == event.unit).values(parent=event.parent_to))


@handlers.on(AccountCreated)
async def _account_created(session: AsyncSession, event: AccountCreated, _envelope: Envelope) -> None:
    await session.execute(
        insert(accounts).values(id=event.account, person=event.person, unit=event.unit).on_conflict_do_nothing()
    )


@handlers.on(AccountChanged)
async def _account_changed(session: AsyncSession, event: AccountChanged, _envelope: Envelope) -> None:
    await session.execute(update(accounts).where(accounts.c.id == event.account).values(unit=event.unit_to))


@handlers.on(AccountDisabled)
async def _account_disabled(session: AsyncSession, event: AccountDisabled, _envelope: Envelope) -> None:
    await session.execute(update(accounts).where(accounts.c.id == event.account).values(disabled=True))


@handlers.on(AccountEnabled)
async def _account_enabled(session: AsyncSession, event: AccountEnabled, _envelope: Envelope) -> None:
    await session.execute(update(accounts).where(accounts.c.id == event.account).values(disabled=False))


@handlers.on(RoleAssigned)
async def _role_assigned(session: AsyncSession, event: RoleAssigned, _envelope: Envelope) -> None:
    await session.execute(
        insert(assignments)
        .values(
            id=event.assignment,
            account=event.account,
            person=event.person,
            role=event.role,
            unit=event.unit,
            valid_until=event.valid_until,
        )
        .on_conflict_do_nothing()
    )


@handlers.on(RoleRevoked)
async def _role_revoked(session: AsyncSession, event: RoleRevoked, _envelope: Envelope) -> None:
    await session.execute(delete(assignments).where(assignments.c.id == event.assignment))


@handlers.on(PartnerRegistered)
async def _partner_registered(session: AsyncSession, event: PartnerRegistered, _envelope: Envelope) -> None:
    await session.execute(insert(partners).values(id=event.partner, state=event.state).on_conflict_do_nothing())


@handlers.on(PartnerChanged)
async def _partner_changed(session: AsyncSession, event: PartnerChanged, _envelope: Envelope) -> None:
    await session.execute(update(partners).where(partners.c.id == event.partner).values(state=event.state_to))


@handlers.on(PartnerQualified)
async def _partner_qualified(session: AsyncSession, event: PartnerQualified, _envelope: Envelope) -> None:
    await session.execute(
        insert(partner_qualifications)
        .values(
            id=event.record,
            partner=event.partner,
            qualification=event.qualification,
            valid_from=event.valid_from,
            valid_until=event.valid_until,
        )
        .on_conflict_do_nothing()
    )


@handlers.on(PartnerQualificationWithdrawn)
async def _partner_qualification_withdrawn(
    session: AsyncSession, event: PartnerQualificationWithdrawn, _envelope: Envelope
) -> None:
    await session.execute(delete(partner_qualifications).where(partner_qualifications.c.id == event.record))


async def path_to_root(session: AsyncSession, unit: UUID) -> list[Unit]:
    """The unit and those above it, nearest first; empty when it is unknown."""
    step = select(units.c.id, units.c.parent, units.c.kind).where(units.c.id == unit).cte(recursive=True)
    step = step.union(
        select(units.c.id, units.c.parent, units.c.kind).join_from(units, step, units.c.id == step.c.parent)
    )
    found = {row.id: Unit(row.id, row.parent, row.kind) for row in await session.execute(select(step))}
    path: list[Unit] = []
    at: UUID | None = unit
    while at in found and at is not None:
        path.append(found.pop(at))
        at = path[-1].parent
    return path


async def holders(session: AsyncSession, role: str, at: Sequence[UUID], now: datetime) -> list[Holder]:
    """Who holds the role in any of these units, by an account that is not disabled and a term that is not over."""
    rows = await session.execute(
        select(assignments)
        .join(accounts, accounts.c.id == assignments.c.account)
        .where(
            assignments.c.role == role,
            assignments.c.unit.in_(at),
            or_(assignments.c.valid_until.is_(None), assignments.c.valid_until > now),
            accounts.c.disabled.is_(False),
        )
        .order_by(assignments.c.id)
    )
    return [Holder(row.account, row.person, row.role, row.unit) for row in rows]


async def partner_lacks(
    session: AsyncSession, partner: UUID, needed: Collection[str], on: date
) -> frozenset[str] | None:
    """Which of the needed qualifications a partner does not have on this day; None for one that is unknown or ended."""
    state = (await session.execute(select(partners.c.state).where(partners.c.id == partner))).scalar_one_or_none()
    if state != "active":
        return None
    table = partner_qualifications
    held = await session.execute(
        select(table.c.qualification).where(
            table.c.partner == partner,
            table.c.valid_from <= on,
            or_(table.c.valid_until.is_(None), table.c.valid_until >= on),
        )
    )
    return frozenset(needed) - frozenset(held.scalars())


async def unit_of(session: AsyncSession, account: UUID) -> UUID | None:
    """The account's home unit."""
    return (await session.execute(select(accounts.c.unit).where(accounts.c.id == account))).scalar_one_or_none()


async def knows_person(session: AsyncSession, person: UUID) -> bool:
    """Whether an account of this person exists."""
    query = select(accounts.c.id).where(accounts.c.person == person).limit(1)
    return (await session.execute(query)).first() is not None
