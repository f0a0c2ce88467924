"""SQL of custody that goes from one person to another."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, exists, func, insert, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from dossier_records.models import Copy, CustodyHandover, CustodyItem, Import, Record, RecordVersion
from dossier_records.repository import OUTSTANDING

CUSTODIAN_LOCK: Final = 0x0D0C5
KEPT: Final = ("active", "ended")
"""States of a record that somebody answers for."""


# ---- who may become a custodian


async def hold_custodian(session: AsyncSession, person: UUID) -> None:
    """While this transaction lasts, no list of what the person had is closed."""
    await session.execute(_lock("pg_advisory_xact_lock_shared"), {"space": CUSTODIAN_LOCK, "person": str(person)})


async def lock_custodian(session: AsyncSession, person: UUID) -> None:
    """Waits for who makes the person a custodian just now, and keeps others from it until this transaction ends."""
    await session.execute(_lock("pg_advisory_xact_lock"), {"space": CUSTODIAN_LOCK, "person": str(person)})


def _lock(function: str) -> Any:
    return text(f"SELECT {function}(:space, hashtext(:person))")


async def leaving(session: AsyncSession, person: UUID) -> str | None:
    """`left` for who has left, `moving` while his records are being handed over; None for everybody else."""
    query = select(CustodyHandover.kind, CustodyHandover.state).where(
        CustodyHandover.person_from == person, CustodyHandover.returned_at.is_(None)
    )
    found = (await session.execute(query)).all()
    if any(row.kind == "leaving" for row in found):
        return "left"
    return "moving" if any(row.state == "running" for row in found) else None


async def come_back(session: AsyncSession, person: UUID, at: datetime) -> None:
    """Who had left may answer for records again; his earlier lists stay as they are."""
    back = update(CustodyHandover).where(
        CustodyHandover.person_from == person,
        CustodyHandover.kind == "leaving",
        CustodyHandover.returned_at.is_(None),
    )
    await session.execute(back.values(returned_at=at))


async def succeeds(session: AsyncSession, person: UUID, successor: UUID | None) -> bool:
    """Whether the custody of this person went, or goes, to that one."""
    query = exists().where(CustodyHandover.person_from == person, CustodyHandover.person_to == successor)
    return bool((await session.execute(select(query))).scalar_one())


# ---- the work


async def open_handover(session: AsyncSession, **values: Any) -> None:
    """The records of a person are to be handed over; known already, it stays as it is."""
    await session.execute(upsert(CustodyHandover).values(state="running", **values).on_conflict_do_nothing())


async def next_handover(session: AsyncSession) -> CustodyHandover | None:
    """The oldest that is not complete; who asks meanwhile waits, so that two never cross."""
    query = select(CustodyHandover).where(CustodyHandover.state == "running").order_by(CustodyHandover.id).limit(1)
    return (await session.scalars(query.with_for_update())).one_or_none()


def _answered_for_by(person: UUID) -> ColumnElement[bool]:
    return (Record.custodian == person) & Record.status.in_(KEPT)


def _naming(person: UUID) -> ColumnElement[bool]:
    return Record.named.contains([person]) & (Record.named != text("'{}'")) & Record.status.in_(KEPT)


async def in_custody(session: AsyncSession, person: UUID, after: UUID | None, limit: int) -> list[Record]:
    """The next records that the person answers for, locked, by id."""
    query = select(Record).where(_answered_for_by(person)).order_by(Record.id).limit(limit).with_for_update()
    return list((await session.scalars(query.where(Record.id > after) if after else query)).all())


async def naming(session: AsyncSession, person: UUID, limit: int) -> list[Record]:
    """Records for which the person is named, locked."""
    return list((await session.scalars(select(Record).where(_naming(person)).limit(limit).with_for_update())).all())


async def remaining(session: AsyncSession, person: UUID) -> int:
    """How many records the person answers for, or is named for."""
    query = select(func.count()).select_from(Record).where(or_(_answered_for_by(person), _naming(person)))
    return (await session.execute(query)).scalar_one()


async def is_importing(session: AsyncSession, person: UUID) -> bool:
    """Whether a spreadsheet is still being taken in for which the person is to answer."""
    query = exists().where(Import.custodian == person, Import.state.in_(("received", "running")))
    return bool((await session.execute(select(query))).scalar_one())


async def present_versions(session: AsyncSession, records: Collection[Record]) -> dict[UUID, RecordVersion]:
    """The present version of each, which no destruction re-wraps before this transaction ends."""
    query = select(RecordVersion).join(Record, Record.id == RecordVersion.record_id)
    query = query.where(Record.id.in_([each.id for each in records]), RecordVersion.version == Record.version)
    rows = await session.scalars(query.with_for_update(read=True, of=RecordVersion))
    return {row.record_id: row for row in rows}


async def add_versions(session: AsyncSession, rows: Sequence[Mapping[str, Any]]) -> None:
    """Many versions at once."""
    if rows:
        await session.execute(insert(RecordVersion), list(rows))


async def add_items(session: AsyncSession, rows: Sequence[Mapping[str, Any]]) -> None:
    """Lines of the list."""
    if rows:
        await session.execute(insert(CustodyItem), list(rows), execution_options={"render_nulls": True})


async def list_of(session: AsyncSession, handover: UUID) -> AsyncIterator[CustodyItem]:
    """The whole list, by record, without ever having it all at hand."""
    query = select(CustodyItem).where(CustodyItem.handover_id == handover).order_by(CustodyItem.record_id)
    async for item in await session.stream_scalars(query.execution_options(yield_per=1000)):
        yield item


# ---- what is shown


async def handover(session: AsyncSession, handover_id: UUID, *, lock: bool = False) -> CustodyHandover | None:
    """One handover."""
    query = select(CustodyHandover).where(CustodyHandover.id == handover_id)
    return (await session.scalars(query.with_for_update() if lock else query)).one_or_none()


async def handovers(
    session: AsyncSession,
    *,
    person: UUID | None,
    units: Collection[UUID] | None,
    state: str | None,
    limit: int,
    before: UUID | None,
) -> list[CustodyHandover]:
    """Those to the person, and those out of one of the units (all for None), the newest first."""
    query = select(CustodyHandover).order_by(CustodyHandover.id.desc()).limit(limit)
    if units is not None:
        query = query.where(or_(CustodyHandover.person_to == person, CustodyHandover.units.overlap(list(units))))
    if state is not None:
        query = query.where(CustodyHandover.state == state)
    return list((await session.scalars(query.where(CustodyHandover.id < before) if before else query)).all())


async def item(session: AsyncSession, handover_id: UUID, record_id: UUID) -> CustodyItem | None:
    """One line."""
    return await session.get(CustodyItem, (handover_id, record_id))


async def items(
    session: AsyncSession, handover_id: UUID, *, state: str | None, limit: int, after: UUID | None
) -> list[tuple[CustodyItem, UUID | None]]:
    """Lines by record, each with who answers for the record now."""
    query = select(CustodyItem, Record.custodian).join(Record, Record.id == CustodyItem.record_id)
    query = query.where(CustodyItem.handover_id == handover_id).order_by(CustodyItem.record_id).limit(limit)
    if state is not None:
        query = query.where(CustodyItem.state == state)
    rows = await session.execute(query.where(CustodyItem.record_id > after) if after else query)
    return [(row[0], row[1]) for row in rows]


async def copies_out(session: AsyncSession, person: UUID, limit: int) -> tuple[int, list[Copy]]:
    """How many controlled copies the person has not brought back, and the oldest of them."""
    held = (Copy.holder == person, Copy.state.in_(OUTSTANDING))
    count = (await session.execute(select(func.count()).select_from(Copy).where(*held))).scalar_one()
    found = await session.scalars(select(Copy).where(*held).order_by(Copy.id).limit(limit))
    return count, list(found.all())
