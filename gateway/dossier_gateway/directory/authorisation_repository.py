"""SQL of maintenance authorisations."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import ARRAY, Text, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from dossier_gateway.models import Authorisation


@dataclass(frozen=True, slots=True)
class AuthorisationRow:
    """What was asked for, and what was said to it; `reason` and `comment` are sealed.

    `concerned_person` is whose account it is about, `deciders` are the scopes of which one decides.
    """

    id: UUID
    operation: str
    object: str | None
    concerned_person: UUID | None
    deciders: Sequence[str]
    reason: bytes
    requester_account: UUID
    requester_person: UUID
    requested_at: datetime
    state: str
    decider_account: UUID | None = None
    decider_person: UUID | None = None
    comment: bytes | None = None
    decided_at: datetime | None = None
    valid_until: datetime | None = None
    used_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """Which authorisations a caller sees: his own, and those that one of his scopes decides."""

    account: UUID | None
    scopes: frozenset[str]


_ALL: Final = (
    Authorisation.id,
    Authorisation.operation,
    Authorisation.object,
    Authorisation.concerned_person,
    Authorisation.deciders,
    Authorisation.reason,
    Authorisation.requester_account,
    Authorisation.requester_person,
    Authorisation.requested_at,
    Authorisation.state,
    Authorisation.decider_account,
    Authorisation.decider_person,
    Authorisation.comment,
    Authorisation.decided_at,
    Authorisation.valid_until,
    Authorisation.used_at,
)


async def add(session: AsyncSession, new: AuthorisationRow) -> None:
    """Keeps a request for an authorisation."""
    await session.execute(
        insert(Authorisation).values(
            id=new.id,
            operation=new.operation,
            object=new.object,
            concerned_person=new.concerned_person,
            deciders=list(new.deciders),
            reason=new.reason,
            requester_account=new.requester_account,
            requester_person=new.requester_person,
            requested_at=new.requested_at,
            state=new.state,
        )
    )


async def found(session: AsyncSession, authorisation: UUID, *, lock: bool = False) -> AuthorisationRow | None:
    """One, locked until the transaction ends where it is to be decided or used."""
    query = select(*_ALL).where(Authorisation.id == authorisation)
    row = (await session.execute(query.with_for_update() if lock else query)).one_or_none()
    return AuthorisationRow(*row) if row else None


async def listed(
    session: AsyncSession, seen: Seen, limit: int, after: UUID | None, state: str | None
) -> list[AuthorisationRow]:
    """Those that the caller sees, the latest first."""
    decided = Authorisation.deciders.bool_op("&&")(literal(sorted(seen.scopes), ARRAY(Text)))
    query = select(*_ALL).where((Authorisation.requester_account == seen.account) | decided)
    if after:
        query = query.where(Authorisation.id < after)
    if state:
        query = query.where(Authorisation.state == state)
    rows = await session.execute(query.order_by(Authorisation.id.desc()).limit(limit))
    return [AuthorisationRow(*row) for row in rows]


async def decide(
    session: AsyncSession,
    authorisation: UUID,
    *,
    state: str,
    account: UUID,
    person: UUID,
    comment: bytes,
    at: datetime,
    valid_until: datetime | None,
) -> None:
    """Keeps the decision."""
    await session.execute(
        update(Authorisation)
        .where(Authorisation.id == authorisation)
        .values(
            state=state,
            decider_account=account,
            decider_person=person,
            comment=comment,
            decided_at=at,
            valid_until=valid_until,
        )
    )


async def use(session: AsyncSession, authorisation: UUID, at: datetime) -> None:
    """It is used up."""
    await session.execute(update(Authorisation).where(Authorisation.id == authorisation).values(used_at=at))
