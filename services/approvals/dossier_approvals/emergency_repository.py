"""All SQL of emergency access. Its request, grant, stage, step and candidates stand where those of others do."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, exists, or_, select, true, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from dossier_approvals.models import Candidate, Emergency, EmergencyReview, Grant, Request, RequestRecord, Step
from dossier_approvals.repository import FRESH


@dataclass(frozen=True, slots=True)
class Found:
    """An emergency access with all that is shown of it."""

    emergency: Emergency
    request: Request
    grant: Grant
    unit: UUID
    level: str
    review: EmergencyReview | None


async def add(session: AsyncSession, values: dict[str, Any]) -> bool:
    """An emergency access that waits for its review; False when the person has one to this record (a unique index)."""
    added = insert(Emergency).values(values).on_conflict_do_nothing().returning(Emergency.id)
    return (await session.execute(added)).first() is not None


async def locked(session: AsyncSession, emergency_id: UUID) -> Emergency | None:
    """An emergency access, locked for its review."""
    query = select(Emergency).where(Emergency.id == emergency_id).with_for_update().execution_options(**FRESH)
    return (await session.execute(query)).scalar_one_or_none()


def _found() -> "Select[Emergency, Request, Grant, UUID, str, EmergencyReview]":
    return (
        select(Emergency, Request, Grant, RequestRecord.unit, RequestRecord.level, EmergencyReview)
        .join(Request, Request.id == Emergency.id)
        .join(Grant, Grant.id == Emergency.grant)
        .join(RequestRecord, and_(RequestRecord.request == Emergency.id, RequestRecord.record == Emergency.record))
        .outerjoin(EmergencyReview, EmergencyReview.emergency == Emergency.id)
        .execution_options(**FRESH)
    )


async def one(session: AsyncSession, emergency_id: UUID) -> Found | None:
    """One emergency access."""
    row = (await session.execute(_found().where(Emergency.id == emergency_id))).one_or_none()
    return Found(*row) if row else None


def _told(person: UUID) -> ColumnElement[bool]:
    return exists().where(Candidate.request == Emergency.id, Candidate.person == person, Candidate.removed_at.is_(None))


async def was_told(session: AsyncSession, emergency_id: UUID, person: UUID) -> bool:
    """Whether the person is one of those who were told, and still in that office."""
    return (await session.execute(select(_told(person)).where(Emergency.id == emergency_id))).scalar_one()


def used_by(person: UUID) -> ColumnElement[bool]:
    """Those that a person used."""
    return Emergency.person == person


def reviewed_by(person: UUID, units: Collection[UUID]) -> ColumnElement[bool]:
    """Those that a person used or was told of, and those on records of the units."""
    return or_(used_by(person), _told(person), RequestRecord.unit.in_(units))


async def several(
    session: AsyncSession, seen: ColumnElement[bool] | None, *, waiting: bool, limit: int, before: UUID | None
) -> list[Found]:
    """Those that are seen, or all for None, the newest first; `waiting` leaves out what was reviewed."""
    query = _found().where(true() if seen is None else seen).order_by(Emergency.id.desc()).limit(limit)
    if waiting:
        query = query.where(Emergency.reviewed_at.is_(None))
    if before is not None:
        query = query.where(Emergency.id < before)
    return [Found(*row) for row in await session.execute(query)]


async def add_review(session: AsyncSession, values: dict[str, Any]) -> None:
    """The review, with which the access is open no more, and its task is done."""
    at, emergency = values["at"], values["emergency"]
    await session.execute(insert(EmergencyReview).values(values))
    await session.execute(update(Emergency).where(Emergency.id == emergency).values(reviewed_at=at))
    done = update(Step).where(Step.request == emergency, Step.state == "open")
    await session.execute(done.values(state="done", closed_at=at))


async def overdue(session: AsyncSession, now: datetime) -> Emergency | None:
    """One whose review is overdue and was not said to be, locked; passes by what somebody else holds."""
    query = select(Emergency).where(
        Emergency.reviewed_at.is_(None), Emergency.overdue_at.is_(None), Emergency.review_by <= now
    )
    query = query.limit(1).with_for_update(skip_locked=True).execution_options(**FRESH)
    return (await session.execute(query)).scalar_one_or_none()


async def set_overdue(session: AsyncSession, emergency_id: UUID, now: datetime) -> None:
    """It was said that the review is overdue."""
    await session.execute(update(Emergency).where(Emergency.id == emergency_id).values(overdue_at=now))
