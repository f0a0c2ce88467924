"""Cursors: how far a producer's chain is applied here, and until when nothing of it can be missing."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common import tables
from dossier_common.clock import Clock
from dossier_common.leaves import NO_LEAF


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a producer's chain has been applied."""

    epoch: int = 0
    seq: int = 0
    hash: bytes = NO_LEAF

    @property
    def place(self) -> tuple[int, int]:
        """Epoch and seq, which compare as the chain goes."""
        return (self.epoch, self.seq)


async def read_cursor(session: AsyncSession, producer: str, *, lock: bool = False) -> Cursor:
    """How far this producer was applied; locks it for a transaction that will move it."""
    table = tables.cursors
    query = select(table.c.epoch, table.c.seq, table.c.hash).where(table.c.producer == producer)
    row = (await session.execute(query.with_for_update() if lock else query)).one_or_none()
    return Cursor(row.epoch, row.seq, row.hash) if row else Cursor()


async def locked_cursor(session: AsyncSession, producer: str, clock: Clock) -> Cursor:
    """The cursor, made if there is none yet: two that start at once must not both apply the first batch."""
    cursor = await read_cursor(session, producer, lock=True)
    if cursor != Cursor():
        return cursor
    values = {"epoch": cursor.epoch, "seq": cursor.seq, "hash": cursor.hash, "applied_at": clock.now()}
    await session.execute(insert(tables.cursors).values(producer=producer, **values).on_conflict_do_nothing())
    return await read_cursor(session, producer, lock=True)


async def write_cursor(session: AsyncSession, producer: str, cursor: Cursor, clock: Clock) -> None:
    """Moves the cursor."""
    values = {"epoch": cursor.epoch, "seq": cursor.seq, "hash": cursor.hash, "applied_at": clock.now()}
    await session.execute(
        insert(tables.cursors)
        .values(producer=producer, **values)
        .on_conflict_do_update(index_elements=["producer"], set_=values)
    )


async def write_fresh(session: AsyncSession, producer: str, at: datetime, clock: Clock) -> None:
    """Everything that the producer committed before `at` is applied here; an earlier instant changes nothing.

    But for one that lies in the future: then the clock was set back, and what it said before counts no more.
    """
    table = tables.cursors
    none, now = Cursor(), clock.now()
    values = {"epoch": none.epoch, "seq": none.seq, "hash": none.hash, "applied_at": now, "fresh_at": at}
    await session.execute(
        insert(table)
        .values(producer=producer, **values)
        .on_conflict_do_update(
            index_elements=["producer"],
            set_={"fresh_at": at},
            where=or_(table.c.fresh_at.is_(None), table.c.fresh_at < at, table.c.fresh_at > now),
        )
    )


async def fresh_at(session: AsyncSession, producer: str) -> datetime | None:
    """The instant before which nothing of this producer is missing here; None when that was never known."""
    query = select(tables.cursors.c.fresh_at).where(tables.cursors.c.producer == producer)
    return (await session.execute(query)).scalar_one_or_none()
