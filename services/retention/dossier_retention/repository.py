"""All SQL of the retention service."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, exists, func, insert, select, true, tuple_, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from dossier_retention.models import Certificate, Copy, Disposal, Hold, Participant, Record, RetentionClock
from dossier_retention.rules import OPEN, CopyState, DisposalState, Duty, Standing

_STANDING_HOLD = Hold.released_at.is_(None)
_IS_OPEN = Disposal.state.in_(sorted(OPEN))


# -- records and clocks ---------------------------------------------------------------------------------------------


async def insert_record(session: AsyncSession, **values: Any) -> None:
    """A record that the records service registered; one that is known already stays as it is."""
    await session.execute(upsert(Record).values(**values).on_conflict_do_nothing())


async def record(session: AsyncSession, record_id: UUID, *, lock: bool = False) -> Record | None:
    """A record; `lock` orders all decisions over it one after another."""
    query = select(Record).where(Record.id == record_id)
    return (await session.execute(query.with_for_update() if lock else query)).scalar_one_or_none()


async def clock_of(session: AsyncSession, record_id: UUID) -> RetentionClock | None:
    """The clock of a record, if one runs."""
    return (
        await session.execute(select(RetentionClock).where(RetentionClock.record == record_id))
    ).scalar_one_or_none()


async def set_clock(session: AsyncSession, record_id: UUID, **values: Any) -> None:
    """Starts the record's clock, or sets it anew."""
    await session.execute(
        upsert(RetentionClock)
        .values(record=record_id, **values)
        .on_conflict_do_update(index_elements=["record"], set_=values)
    )


async def clocks(
    session: AsyncSession, record_id: UUID | None, within: Collection[UUID] | None, *, limit: int, after: UUID | None
) -> Sequence[RetentionClock]:
    """A page of clocks, with one more than `limit` when there are more."""
    query = select(RetentionClock).where(_of_units(RetentionClock.record, within))
    if record_id is not None:
        query = query.where(RetentionClock.record == record_id)
    if after is not None:
        query = query.where(RetentionClock.record > after)
    return (await session.execute(query.order_by(RetentionClock.record).limit(limit + 1))).scalars().all()


def _of_units(record_id: Any, units: Collection[UUID] | None) -> ColumnElement[bool]:
    """Whether the record belongs to one of the units; to any of all of them for None."""
    of = aliased(Record)
    return true() if units is None else exists().where(of.id == record_id, of.unit.in_(units))


@dataclass(frozen=True, slots=True)
class Due:
    """A record whose term is over, and what still stands in the way."""

    record: UUID
    unit: UUID
    rule: str
    started_on: date
    due_on: date
    held: bool
    outstanding_copies: int
    disposal: UUID | None


async def due(
    session: AsyncSession, as_of: date, within: Collection[UUID] | None, *, limit: int, after: tuple[date, UUID] | None
) -> list[Due]:
    """Records whose term is over on a day, longest over first; with one more than `limit` when there are more (E)."""
    held = exists().where(Hold.record == Record.id, _STANDING_HOLD)
    copies = (
        select(func.count())
        .where(Copy.record == Record.id, Copy.state == CopyState.OPEN)
        .correlate(Record)
        .scalar_subquery()
    )
    query: Select[Any] = (
        select(RetentionClock, Record.unit, held, copies, Disposal.id)
        .join(Record, Record.id == RetentionClock.record)
        .outerjoin(Disposal, (Disposal.record == Record.id) & _IS_OPEN)
        .where(RetentionClock.due_on <= as_of, Record.destroyed_at.is_(None), _of_units(RetentionClock.record, within))
    )
    if after is not None:
        query = query.where(tuple_(RetentionClock.due_on, RetentionClock.record) > tuple_(*after))
    rows = await session.execute(query.order_by(RetentionClock.due_on, RetentionClock.record).limit(limit + 1))
    return [
        Due(clock.record, unit, clock.rule, clock.started_on, clock.due_on, is_held, out, disposal_id)
        for clock, unit, is_held, out, disposal_id in rows
    ]


async def standing(session: AsyncSession, of: Record) -> Standing:
    """What speaks for or against the record's disposal now."""
    clock = await clock_of(session, of.id)
    held = await session.execute(select(Hold.id).where(Hold.record == of.id, _STANDING_HOLD).limit(1))
    copies = await copies_in(session, of.id, CopyState.OPEN)
    return Standing(
        destroyed=of.destroyed_at is not None,
        due_on=clock.due_on if clock else None,
        held=held.first() is not None,
        copies_out=tuple(copy.number for copy in copies),
    )


# -- copies ---------------------------------------------------------------------------------------------------------


async def insert_copy(session: AsyncSession, copy_id: UUID, record_id: UUID, number: str) -> None:
    """A copy that left the system."""
    values = {"id": copy_id, "record": record_id, "number": number, "state": CopyState.OPEN}
    await session.execute(upsert(Copy).values(**values).on_conflict_do_nothing())


async def close_copy(session: AsyncSession, copy_id: UUID, state: CopyState) -> None:
    """What became of a copy."""
    await session.execute(update(Copy).where(Copy.id == copy_id).values(state=state))


async def copies_in(session: AsyncSession, record_id: UUID, state: CopyState) -> Sequence[Copy]:
    """The record's copies in a state, by number."""
    query = select(Copy).where(Copy.record == record_id, Copy.state == state).order_by(Copy.number)
    return (await session.execute(query)).scalars().all()


# -- holds ----------------------------------------------------------------------------------------------------------


async def hold(session: AsyncSession, hold_id: UUID, *, lock: bool = False) -> Hold | None:
    """A hold."""
    query = select(Hold).where(Hold.id == hold_id)
    return (await session.execute(query.with_for_update() if lock else query)).scalar_one_or_none()


async def holds(
    session: AsyncSession,
    record_id: UUID | None,
    within: Collection[UUID] | None,
    *,
    standing_only: bool,
    limit: int,
    after: UUID | None,
) -> Sequence[Hold]:
    """A page of holds, newest first, with one more than `limit` when there are more."""
    query = select(Hold).where(_of_units(Hold.record, within))
    if record_id is not None:
        query = query.where(Hold.record == record_id)
    if standing_only:
        query = query.where(_STANDING_HOLD)
    if after is not None:
        query = query.where(Hold.id < after)
    return (await session.execute(query.order_by(Hold.id.desc()).limit(limit + 1))).scalars().all()


# -- disposals ------------------------------------------------------------------------------------------------------


async def disposal(session: AsyncSession, disposal_id: UUID) -> Disposal | None:
    """A disposal, to look at."""
    return (await session.execute(select(Disposal).where(Disposal.id == disposal_id))).scalar_one_or_none()


async def disposal_for_update(session: AsyncSession, disposal_id: UUID) -> tuple[Record, Disposal] | None:
    """A disposal with its record, both locked, the record first as everywhere."""
    record_id = (await session.execute(select(Disposal.record).where(Disposal.id == disposal_id))).scalar_one_or_none()
    if record_id is None:
        return None
    locked = (await session.execute(select(Record).where(Record.id == record_id).with_for_update())).scalar_one()
    query = select(Disposal).where(Disposal.id == disposal_id).with_for_update()
    return locked, (await session.execute(query)).scalar_one()


async def open_disposal(session: AsyncSession, record_id: UUID) -> Disposal | None:
    """The open case over a record, locked; lock the record before."""
    query = select(Disposal).where(Disposal.record == record_id, _IS_OPEN).with_for_update()
    return (await session.execute(query)).scalar_one_or_none()


async def disposal_of_grant(session: AsyncSession, grant: UUID) -> UUID | None:
    """The case that a grant belongs to."""
    return (await session.execute(select(Disposal.id).where(Disposal.grant == grant))).scalar_one_or_none()


async def disposals(
    session: AsyncSession,
    record_id: UUID | None,
    state: DisposalState | None,
    within: Collection[UUID] | None,
    *,
    limit: int,
    after: UUID | None,
) -> Sequence[Disposal]:
    """A page of disposals, newest first, with one more than `limit` when there are more."""
    query = select(Disposal).where(_of_units(Disposal.record, within))
    if record_id is not None:
        query = query.where(Disposal.record == record_id)
    if state is not None:
        query = query.where(Disposal.state == state)
    if after is not None:
        query = query.where(Disposal.id < after)
    return (await session.execute(query.order_by(Disposal.id.desc()).limit(limit + 1))).scalars().all()


async def add_participant(session: AsyncSession, case: Disposal, person: UUID, duty: Duty) -> bool:
    """Enters a person into the case's present round; False when he has a duty in it already (the key says so)."""
    entered = await session.execute(
        upsert(Participant)
        .values(disposal=case.id, round=case.round, person=person, duty=duty)
        .on_conflict_do_nothing()
        .returning(Participant.person)
    )
    return entered.first() is not None


async def carry_over(session: AsyncSession, case: Disposal, duties: Collection[Duty]) -> None:
    """Enters those of the round before, with these duties, into the present round."""
    before = select(Participant.disposal, Participant.round + 1, Participant.person, Participant.duty).where(
        Participant.disposal == case.id, Participant.round == case.round - 1, Participant.duty.in_(sorted(duties))
    )
    await session.execute(insert(Participant).from_select(["disposal", "round", "person", "duty"], before))


async def participants(session: AsyncSession, cases: Iterable[Disposal]) -> dict[UUID, list[Participant]]:
    """Who has a duty in the present round of each case."""
    found: dict[UUID, list[Participant]] = {case.id: [] for case in cases}
    rounds = [(case.id, case.round) for case in cases]
    if rounds:
        query = select(Participant).where(tuple_(Participant.disposal, Participant.round).in_(rounds))
        for each in (await session.execute(query.order_by(Participant.person))).scalars():
            found[each.disposal].append(each)
    return found


# -- certificates ---------------------------------------------------------------------------------------------------


async def certificate(session: AsyncSession, certificate_id: UUID) -> Certificate | None:
    """A certificate."""
    query = select(Certificate).where(Certificate.id == certificate_id)
    return (await session.execute(query)).scalar_one_or_none()


async def certificates_of(session: AsyncSession, cases: Iterable[Disposal]) -> dict[UUID, UUID]:
    """The certificate of each case that has one."""
    ids = [case.id for case in cases]
    query = select(Certificate.disposal, Certificate.id).where(Certificate.disposal.in_(ids))
    return {row.disposal: row.id for row in await session.execute(query)}
