"""All SQL of policy versions."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, select, text, update
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from dossier_gateway.directory.repository import live
from dossier_gateway.models import Assignment, Client, PolicyDecision, PolicyVersion

VERSIONS_LOCK = 0x0D05504


@dataclass(frozen=True, slots=True)
class Found:
    """A version, and what another person decided on it."""

    version: PolicyVersion
    decision: PolicyDecision | None


async def lock(session: AsyncSession) -> None:
    """One change at a time to what is in force, until the transaction ends."""
    await session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": VERSIONS_LOCK})


async def add(session: AsyncSession, values: dict[str, Any]) -> bool:
    """A new version; False when there is one of this digest."""
    added = upsert(PolicyVersion).values(values).on_conflict_do_nothing().returning(PolicyVersion.digest)
    return (await session.execute(added)).first() is not None


async def version(session: AsyncSession, digest: str, *, lock: bool = False) -> PolicyVersion | None:
    """A version; locked for a change of its state."""
    query = select(PolicyVersion).where(PolicyVersion.digest == digest)
    query = query.execution_options(populate_existing=True)
    return (await session.execute(query.with_for_update() if lock else query)).scalar_one_or_none()


async def active(session: AsyncSession) -> str | None:
    """The digest of the version in force."""
    return (
        await session.execute(select(PolicyVersion.digest).where(PolicyVersion.state == "active"))
    ).scalar_one_or_none()


async def set_state(session: AsyncSession, digest: str, state: str, **values: Any) -> None:
    """A version stands otherwise."""
    await session.execute(
        update(PolicyVersion).where(PolicyVersion.digest == digest).values(state=state, **values),
        execution_options={"synchronize_session": False},
    )


async def add_decision(session: AsyncSession, values: dict[str, Any]) -> None:
    """The one decision on a version."""
    await session.execute(insert(PolicyDecision).values(values))


async def found(session: AsyncSession, digest: str) -> Found | None:
    """A version with its decision."""
    query = select(PolicyVersion, PolicyDecision).outerjoin(
        PolicyDecision, PolicyDecision.digest == PolicyVersion.digest
    )
    query = query.where(PolicyVersion.digest == digest).execution_options(populate_existing=True)
    row = (await session.execute(query)).one_or_none()
    return Found(*row) if row else None


async def listed(session: AsyncSession, *, limit: int, before: UUID | None) -> list[Found]:
    """Versions with their decisions, the newest first."""
    query = select(PolicyVersion, PolicyDecision).outerjoin(
        PolicyDecision, PolicyDecision.digest == PolicyVersion.digest
    )
    if before is not None:
        query = query.where(PolicyVersion.id < before)
    return [Found(*row) for row in await session.execute(query.order_by(PolicyVersion.id.desc()).limit(limit))]


async def held_together(session: AsyncSession, now: datetime) -> list[tuple[Sequence[str], int]]:
    """Each set of roles that some person holds now, over all of his accounts, and how many persons hold it."""
    roles = func.array_agg(aggregate_order_by(Assignment.role.distinct(), Assignment.role))
    of_person = select(Assignment.person, roles.label("roles")).where(live(now)).group_by(Assignment.person).subquery()
    sets = select(of_person.c.roles, func.count()).group_by(of_person.c.roles).order_by(of_person.c.roles)
    return [(row[0], row[1]) for row in await session.execute(sets)]


async def client_scopes(session: AsyncSession) -> list[tuple[str, Sequence[str]]]:
    """What each application may ask for, whether it is disabled or not."""
    rows = await session.execute(select(Client.id, Client.scopes).order_by(Client.id))
    return [(row[0], row[1]) for row in rows]
