"""SQL of events: how they are ingested, found and opened."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, bindparam, func, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from dossier_audit import rules
from dossier_audit.models import Body, Leaf, ProducerHead
from dossier_common.leaves import Head, Numbered

_INSERT: Final = """
WITH leaf AS (
  INSERT INTO leaves (producer, epoch, seq, id, hash, leaf, time, type, ingested_at)
  SELECT $1, $2, u.seq, u.id, u.hash, u.leaf, u.time, u.type, $6
  FROM unnest($7::timestamptz[], $8::bigint[], $9::uuid[], $10::text[], $11::bytea[], $12::bytea[])
    AS u (time, seq, id, type, hash, leaf)
), head AS (
  INSERT INTO producer_heads (producer, epoch, seq, hash, signature, at) VALUES ($1, $2, $3, $4, $5, $6)
)
INSERT INTO bodies (producer, epoch, time, seq, id, type, outcome, actor, person, client, subject, record, records,
  txn, salt, body)
SELECT $1, $2, u.time, u.seq, u.id, u.type, u.outcome, u.actor, u.person, u.client, u.subject, u.record,
  CAST(u.records AS uuid[]), u.txn, u.salt, u.body
FROM unnest($7::timestamptz[], $8::bigint[], $9::uuid[], $10::text[], $13::text[], $14::uuid[], $15::uuid[],
  $16::text[], $17::text[], $18::uuid[], $19::text[], $20::text[], $21::bytea[], $22::bytea[])
  AS u (time, seq, id, type, outcome, actor, person, client, subject, record, records, txn, salt, body)
"""
"""One statement a batch, its rows in arrays: 20 times faster than one with as many VALUES, and one way to the server.

It goes to the driver as it is: what SQLAlchemy does with named parameters costs more than a batch of one event.
"""


async def insert_events(
    session: AsyncSession, producer: str, events: Sequence[Numbered], head: Head, now: datetime
) -> None:
    """Stores a batch with its head. An event that is there already raises, and undoes the batch with its cursor."""
    found = zip(*(rules.extract(event.body) for event in events), strict=True)
    outcomes, actors, persons, clients, subjects, record, records, txns = found
    values = (
        *(producer, head.epoch, head.seq, head.hash, head.signature, now),
        [rules.time_of(event.leaf, now) for event in events],
        [event.seq for event in events],
        [event.id for event in events],
        [rules.type_of(event.type) for event in events],
        [event.hash for event in events],
        [event.leaf for event in events],
        *(outcomes, actors, persons, clients, subjects, record, [_array(each) for each in records], txns),
        [event.salt for event in events],
        [event.body for event in events],
    )
    connection = await session.connection()
    await connection.exec_driver_sql(_INSERT, values)


def _array(records: Sequence[str]) -> str | None:
    return "{" + ",".join(records) + "}" if records else None


async def latest_head(session: AsyncSession, producer: str) -> ProducerHead | None:
    """How far a producer's events are durable here."""
    newest = (ProducerHead.epoch.desc(), ProducerHead.seq.desc())
    query = select(ProducerHead).where(ProducerHead.producer == producer).order_by(*newest).limit(1)
    return (await session.execute(query)).scalar_one_or_none()


@dataclass(frozen=True, slots=True)
class Filters:
    """Which events; what is None does not narrow. `actor` is an account or a person."""

    actor: UUID | None = None
    client: str | None = None
    record: UUID | None = None
    type: str | None = None
    outcome: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    producer: str | None = None
    types: tuple[str, ...] = ()

    def named(self) -> tuple[str, ...]:
        """The filters in use, as the event of the query says them; they hold identifiers only."""
        given = {
            "actor": self.actor,
            "client": self.client,
            "record": self.record,
            "type": self.type,
            "outcome": self.outcome,
            "from": self.start.isoformat() if self.start else None,
            "to": self.end.isoformat() if self.end else None,
            "producer": self.producer,
            "types": ",".join(self.types) or None,
        }
        return tuple(f"{name}={value}" for name, value in given.items() if value is not None)

    def conditions(self) -> list[ColumnElement[bool]]:
        """As conditions on bodies. `record` finds events over several records too."""
        found: list[ColumnElement[bool]] = []
        if self.actor is not None:
            found.append(or_(Body.actor == self.actor, Body.person == self.actor))
        if self.record is not None:
            found.append(or_(Body.record == self.record, Body.records.contains([self.record])))
        equal = {
            Body.client: self.client,
            Body.type: self.type,
            Body.outcome: self.outcome,
            Body.producer: self.producer,
        }
        found += [column == value for column, value in equal.items() if value is not None]
        if self.types:
            found.append(Body.type.in_(self.types))
        if self.start is not None:
            found.append(Body.time >= self.start)
        if self.end is not None:
            found.append(Body.time < self.end)
        return found


Place = tuple[datetime, str, int, int]
"""The order of events: time, producer, epoch, seq."""


async def find_events(
    session: AsyncSession, filters: Filters, *, limit: int, after: Place | None, newest_first: bool
) -> Sequence[Body]:
    """A page of events after a place, with one more than `limit` when there are more."""
    order = (Body.time, Body.producer, Body.epoch, Body.seq)
    query: Select[Any] = select(Body).where(*filters.conditions())
    if after is not None:
        key, place = tuple_(*order), tuple_(*after)
        query = query.where(key < place if newest_first else key > place)
    query = query.order_by(*(each.desc() if newest_first else each.asc() for each in order)).limit(limit + 1)
    found: Sequence[Body] = (await session.execute(query)).scalars().all()
    return found


@dataclass(frozen=True, slots=True)
class Deeds:
    """What one person did by himself, with all his accounts, in a span of time."""

    person: UUID
    start: datetime | None = None
    end: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """As conditions on bodies."""
        found: list[ColumnElement[bool]] = [Body.person == self.person]
        if self.start is not None:
            found.append(Body.time >= self.start)
        if self.end is not None:
            found.append(Body.time < self.end)
        return found


@dataclass(frozen=True, slots=True)
class Tally:
    """How many events, and when the first and the last."""

    events: int
    first: datetime
    last: datetime


async def count_deeds(session: AsyncSession, deeds: Deeds) -> list[tuple[str, str | None, Tally]]:
    """Events by type and outcome."""
    query = (
        select(Body.type, Body.outcome, func.count(), func.min(Body.time), func.max(Body.time))
        .where(*deeds.conditions())
        .group_by(Body.type, Body.outcome)
        .order_by(Body.type, Body.outcome)
    )
    return [(row[0], row[1], Tally(*row[2:])) for row in await session.execute(query)]


async def records_touched(
    session: AsyncSession, deeds: Deeds, *, limit: int, after: UUID | None
) -> list[tuple[UUID, Tally]]:
    """Records that the events were about, by id, each once."""
    single = select(Body.record.label("record"), Body.time).where(*deeds.conditions(), Body.record.is_not(None))
    several = select(func.unnest(Body.records).label("record"), Body.time).where(
        *deeds.conditions(), Body.records.is_not(None)
    )
    touched = single.union_all(several).subquery()
    record, time = touched.c.record, touched.c.time
    query = select(record, func.count(), func.min(time), func.max(time)).group_by(record).order_by(record).limit(limit)
    rows = await session.execute(query.where(record > after) if after else query)
    return [(row[0], Tally(*row[1:])) for row in rows]


_SAME: Final = (Body.time == Leaf.time, Body.producer == Leaf.producer, Body.epoch == Leaf.epoch, Body.seq == Leaf.seq)
_EVENT: Final = (
    select(Leaf, Body)
    .join(Body, and_(*_SAME))
    .where(Leaf.id == bindparam("id"))
    .order_by(Leaf.ingested_at.desc(), Leaf.epoch.desc())
    .limit(1)
)
"""Made once: to build it for each request costs more than to run it."""


async def event(session: AsyncSession, event_id: UUID) -> tuple[Leaf, Body] | None:
    """An event with its leaf; of one that stands in two epochs the newer."""
    row = (await session.execute(_EVENT, {"id": event_id})).one_or_none()
    return (row[0], row[1]) if row else None


async def make_partitions(session: AsyncSession, first: datetime, months: int) -> list[str]:
    """Makes the partitions of this month and the next ones, as the owner. Returns what was missing."""
    query = select(func.make_body_partitions(first.date(), months))
    return list((await session.execute(query)).scalars())
