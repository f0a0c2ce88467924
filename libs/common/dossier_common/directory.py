"""A projection of the gateway's directory: the tree of units, accounts, and who holds which role where.

Kept by every part that resolves persons; `attach` adds its tables, `handlers` keeps them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import Column, MetaData, String, Table, Text, Uuid, delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common.contracts.gateway import AccountCreated, RoleAssigned, RoleRevoked, UnitCreated
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
)

assignments = Table(
    "directory_assignments",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("account", Uuid, nullable=False),
    Column("person", Uuid, nullable=False),
    Column("role", String(64), nullable=False),
    Column("unit", Uuid, nullable=False, index=True),
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


@handlers.on(AccountCreated)
async def _account_created(session: AsyncSession, event: AccountCreated, _envelope: Envelope) -> None:
    await session.execute(
        insert(accounts).values(id=event.account, person=event.person, unit=event.unit).on_conflict_do_nothing()
    )


@handlers.on(RoleAssigned)
async def _role_assigned(session: AsyncSession, event: RoleAssigned, _envelope: Envelope) -> None:
    await session.execute(
        insert(assignments)
        .values(id=event.assignment, account=event.account, person=event.person, role=event.role, unit=event.unit)
        .on_conflict_do_nothing()
    )


@handlers.on(RoleRevoked)
async def _role_revoked(session: AsyncSession, event: RoleRevoked, _envelope: Envelope) -> None:
    await session.execute(delete(assignments).where(assignments.c.id == event.assignment))


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


async def holders(session: AsyncSession, role: str, at: Sequence[UUID]) -> list[Holder]:
    """Who holds the role in any of these units."""
    rows = await session.execute(
        select(assignments).where(assignments.c.role == role, assignments.c.unit.in_(at)).order_by(assignments.c.id)
    )
    return [Holder(row.account, row.person, row.role, row.unit) for row in rows]


async def unit_of(session: AsyncSession, account: UUID) -> UUID | None:
    """The account's home unit."""
    return (await session.execute(select(accounts.c.unit).where(accounts.c.id == account))).scalar_one_or_none()


async def knows_person(session: AsyncSession, person: UUID) -> bool:
    """Whether an account of this person exists."""
    query = select(accounts.c.id).where(accounts.c.person == person).limit(1)
    return (await session.execute(query)).first() is not None
