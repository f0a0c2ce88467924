"""SQL of the log as it is read: checkpoints that are published, tiles, entries, and where a leaf stands."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from dossier_audit.log.tiles import Place
from dossier_audit.models import Body, Cosignature, Erasure, Leaf, Log, LogCheckpoint, Run

_BODIES: Final = text("""
SELECT b.salt, b.body, e.at, e."order"
FROM unnest(CAST(:indexes AS bigint[]), CAST(:producers AS text[]), CAST(:epochs AS int[]), CAST(:seqs AS bigint[]))
  AS w (index, producer, epoch, seq)
JOIN leaves l ON (l.producer, l.epoch, l.seq) = (w.producer, w.epoch, w.seq)
JOIN bodies b ON (b.time, b.producer, b.epoch, b.seq) = (l.time, l.producer, l.epoch, l.seq)
LEFT JOIN erasures e ON (e.producer, e.epoch, e.seq) = (l.producer, l.epoch, l.seq)
ORDER BY w.index
""")
_ENTRIES: Final = text("""
SELECT l.leaf
FROM log_runs r, LATERAL (
  SELECT seq, leaf FROM leaves WHERE producer = r.producer AND epoch = r.epoch
    AND seq >= r.first_seq + greatest(CAST(:first AS bigint) - r.first_index, 0)
    AND seq < r.first_seq + least(CAST(:end AS bigint) - r.first_index, r.count)
  ORDER BY seq LIMIT greatest(r.count, 0)) AS l
WHERE r.generation = :generation AND r.first_index < :end AND r.first_index >= (
  SELECT max(first_index) FROM log_runs WHERE generation = :generation AND first_index <= :first)
ORDER BY r.first_index, l.seq
""")
"""The limit makes each run a look into the index: as a plain join it read all leaves there are."""
_PUBLISHED: Final = """
SELECT c.generation, c.size, c.root, c.note, ARRAY(
  SELECT line FROM log_cosignatures s WHERE (s.generation, s.size) = (c.generation, c.size) ORDER BY s.witness) AS lines
FROM log_publications p JOIN log_checkpoints c ON (c.generation, c.size) = (p.generation, p.size)
WHERE p.generation = l.generation {}ORDER BY p.size DESC LIMIT 1
"""
"""Of the log `l`."""
_COSIGNED: Final = """AND p.size = (SELECT max(size) FROM log_cosignatures WHERE generation = l.generation)
  AND NOT EXISTS (SELECT FROM log_publications q
    WHERE q.generation = l.generation AND q.size > p.size AND q.at < :since) """
_PAIR: Final = f"({_PUBLISHED.format('')}) UNION ALL ({_PUBLISHED.format(_COSIGNED)})"
_OF_ONE: Final = "SELECT c.* FROM (SELECT CAST(:generation AS int) AS generation) AS l, LATERAL ({}) AS c"
_NEWEST: Final = text(_OF_ONE.format(_PUBLISHED.format("")))
_NEWEST_AND_COSIGNED: Final = text(_OF_ONE.format(_PAIR))
_FOUND: Final = """
SELECT l.leaf, l.generation AS log, l.index AS place, c.* FROM (
  SELECT l.leaf, r.generation, r.first_index + l.seq - r.first_seq AS index
  FROM (SELECT producer, epoch, seq, leaf FROM leaves WHERE id = :id ORDER BY ingested_at DESC, epoch DESC LIMIT 1) AS l
  LEFT JOIN LATERAL (
    SELECT generation, first_index, first_seq, count FROM log_runs
    WHERE producer = l.producer AND epoch = l.epoch AND first_seq <= l.seq ORDER BY first_seq DESC LIMIT 1) AS r
  ON l.seq < r.first_seq + r.count) AS l
LEFT JOIN LATERAL ({}) AS c ON true
"""
_PLACED: Final = text(_FOUND.format(_PAIR))
_TILES: Final = text("""
WITH wanted AS (
  SELECT * FROM unnest(CAST(:levels AS smallint[]), CAST(:indexes AS bigint[]), CAST(:widths AS int[]))
    AS w (level, index, width))
SELECT w.level, w.index, t.hashes FROM wanted w
JOIN log_tiles t ON t.generation = :generation AND t.level = w.level AND t.index = w.index WHERE w.width = 256
UNION ALL
SELECT w.level, w.index, (
  SELECT string_agg(t.root, CAST('' AS bytea) ORDER BY t.index) FROM log_tiles t
  WHERE t.generation = :generation AND t.level = w.level - 1
    AND t.index >= w.index * 256 AND t.index < w.index * 256 + w.width)
FROM wanted w WHERE w.width < 256 AND w.level > 0
UNION ALL
SELECT w.level, w.index, (
  SELECT string_agg(substring(r.hashes FROM CAST(greatest(w.index * 256 - r.first_index, 0) * 32 + 1 AS int)
    FOR CAST(greatest(least(w.index * 256 + w.width - r.first_index, r.count)
      - greatest(w.index * 256 - r.first_index, 0), 0) * 32 AS int)), CAST('' AS bytea) ORDER BY r.first_index)
  FROM log_runs r
  WHERE r.generation = :generation AND r.first_index < w.index * 256 + w.width AND r.first_index >= (
    SELECT max(first_index) FROM log_runs WHERE generation = :generation AND first_index <= w.index * 256))
FROM wanted w WHERE w.width < 256 AND w.level = 0
""")
"""Full tiles are rows; a partial one is made of the roots of the tiles below, at level 0 of the hashes of the runs."""


@dataclass(frozen=True, slots=True)
class Published:
    """A checkpoint with a copy outside the database; `lines` are the witnesses' signature lines."""

    generation: int
    size: int
    root: bytes
    note: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Placed:
    """A leaf, where it stands in which log (nowhere before it was put there), and what may be shown of that log."""

    leaf: bytes
    generation: int | None
    index: int | None
    newest: Published | None
    cosigned: Published | None


@dataclass(frozen=True, slots=True)
class OpenedBody:
    """What hides behind a commitment, or when and by which order it was erased."""

    salt: bytes | None
    body: bytes | None
    erased_at: datetime | None
    order: str | None


async def logs(session: AsyncSession) -> Sequence[Log]:
    """All logs, the first first."""
    return (await session.execute(select(Log).order_by(Log.generation))).scalars().all()


async def newest(session: AsyncSession, generation: int) -> Published | None:
    """The newest published checkpoint of a log."""
    row = (await session.execute(_NEWEST, {"generation": generation})).one_or_none()
    return Published(row.generation, row.size, row.root, row.note, tuple(row.lines)) if row else None


async def newest_and_cosigned(
    session: AsyncSession, generation: int, since: datetime
) -> tuple[Published | None, Published | None]:
    """The newest published checkpoint, and the newest cosigned one unless a newer was published before `since`."""
    return _pair((await session.execute(_NEWEST_AND_COSIGNED, {"generation": generation, "since": since})).all())


async def newest_of_all(session: AsyncSession) -> Published | None:
    """The newest published checkpoint of the newest log."""
    generation = (await session.execute(select(func.max(Log.generation)))).scalar_one()
    return await newest(session, generation) if generation else None


async def newest_signed(session: AsyncSession) -> LogCheckpoint | None:
    """The newest checkpoint of the newest log, published or not."""
    query = select(LogCheckpoint).order_by(LogCheckpoint.generation.desc(), LogCheckpoint.size.desc())
    return (await session.execute(query.limit(1))).scalar_one_or_none()


async def root_at(session: AsyncSession, generation: int, size: int) -> bytes | None:
    """The root of a log's checkpoint of this size; None when it has none."""
    found = await session.get(LogCheckpoint, (generation, size))
    return found.root if found else None


async def cosigned_size(session: AsyncSession, generation: int, witness: str) -> int:
    """The largest size of a log that this witness has cosigned; 0 when it has none."""
    query = select(func.max(Cosignature.size)).where(Cosignature.generation == generation)
    return (await session.execute(query.where(Cosignature.witness == witness))).scalar_one() or 0


async def origin(session: AsyncSession, generation: int) -> str:
    """The origin of a log."""
    return (await session.execute(select(Log.origin).where(Log.generation == generation))).scalar_one()


async def announce(session: AsyncSession, channel: str) -> None:
    """Wakes whoever listens, at the commit."""
    await session.execute(select(func.pg_notify(channel, "")))


async def entries(session: AsyncSession, generation: int, first: int, end: int) -> list[bytes]:
    """The leaves [first, end) of a log; fewer when some are missing."""
    values = {"generation": generation, "first": first, "end": end}
    return list((await session.execute(_ENTRIES, values)).scalars())


async def tiles(session: AsyncSession, generation: int, places: Iterable[Place]) -> dict[tuple[int, int], bytes]:
    """The hashes of tiles by (level, index); what is missing is absent, or shorter than its place is wide."""
    wanted = list(places)
    values = {
        "generation": generation,
        "levels": [place.level for place in wanted],
        "indexes": [place.index for place in wanted],
        "widths": [place.width for place in wanted],
    }
    rows = await session.execute(_TILES, values) if wanted else ()
    return {(level, index): hashes or b"" for level, index, hashes in rows}


async def bodies(session: AsyncSession, generation: int, first: int, end: int) -> list[OpenedBody]:
    """The bodies of leaves [first, end), in their order."""
    start = select(func.max(Run.first_index)).where(Run.generation == generation, Run.first_index <= first)
    query = select(Run).where(
        Run.generation == generation, Run.first_index < end, Run.first_index >= start.scalar_subquery()
    )
    places = [
        (run.first_index + at, run.producer, run.epoch, run.first_seq + at)
        for run in (await session.execute(query.order_by(Run.first_index))).scalars()
        for at in range(max(first - run.first_index, 0), min(end - run.first_index, run.count))
    ]
    indexes, producers, epochs, seqs = zip(*places, strict=True) if places else ((), (), (), ())
    values = {"indexes": list(indexes), "producers": list(producers), "epochs": list(epochs), "seqs": list(seqs)}
    return [OpenedBody(*row) for row in await session.execute(_BODIES, values)]


async def placed(session: AsyncSession, event_id: UUID, since: datetime) -> Placed | None:
    """An event's leaf and where it stands; of one that stands in two epochs the newer.

    With it, in one statement, the log's checkpoints as `newest_and_cosigned` gives them.
    """
    rows = (await session.execute(_PLACED, {"id": event_id, "since": since})).all()
    if not rows:
        return None
    return Placed(rows[0].leaf, rows[0].log, rows[0].place, *_pair([row for row in rows if row.size is not None]))


async def erasure(session: AsyncSession, leaf: Leaf) -> Erasure | None:
    """By which order an event's body was erased."""
    return await session.get(Erasure, (leaf.producer, leaf.epoch, leaf.seq))


async def opening(session: AsyncSession, generation: int) -> tuple[Leaf | None, Body | None]:
    """The first leaf of a log, and what it says; None for a row that is gone."""
    same = (Body.time == Leaf.time) & (Body.producer == Leaf.producer) & (Body.epoch == Leaf.epoch)
    query = select(Leaf, Body).outerjoin(Body, same & (Body.seq == Leaf.seq))
    row = (await session.execute(query.where(Leaf.producer == "log", Leaf.epoch == generation))).one_or_none()
    return (row[0], row[1]) if row else (None, None)


async def erase_body(session: AsyncSession, event: UUID, order: str, at: datetime) -> int:
    """Leaves a stub of the body; how many there were. Only the owner's role can."""
    query = select(func.erase_body(event, order, at))
    return int((await session.execute(query)).scalar_one())


def _pair(rows: Sequence[Any]) -> tuple[Published | None, Published | None]:
    """The newest checkpoint, and the cosigned one; rows as `_PAIR` gives them, the newest first."""
    found = [Published(row.generation, row.size, row.root, row.note, tuple(row.lines)) for row in rows]
    return (found[0] if found else None, next((each for each in found if each.lines), None))
