"""SQL of the log as it is read: checkpoints that are published, tiles, entries, and where a leaf stands."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import Select, func, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from dossier_audit.log.tiles import Place
from dossier_audit.log.tree import WIDTH, leaf_hash
from dossier_audit.models import Body, Cosignature, Erasure, Leaf, Log, LogCheckpoint, LogTile, Publication, Run

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
FROM log_runs r JOIN leaves l ON l.producer = r.producer AND l.epoch = r.epoch
  AND l.seq >= r.first_seq + greatest(CAST(:first AS bigint) - r.first_index, 0)
  AND l.seq < r.first_seq + least(CAST(:end AS bigint) - r.first_index, r.count)
WHERE r.generation = :generation AND r.first_index < :end AND r.first_index >= (
  SELECT max(first_index) FROM log_runs WHERE generation = :generation AND first_index <= :first)
ORDER BY r.first_index, l.seq
""")


@dataclass(frozen=True, slots=True)
class Published:
    """A checkpoint with a copy outside the database; `lines` are the witnesses' signature lines."""

    generation: int
    size: int
    root: bytes
    note: str
    lines: tuple[str, ...]


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
    return await _published(session, _newest(generation))


async def newest_cosigned(session: AsyncSession, generation: int, since: datetime) -> Published | None:
    """The newest published checkpoint that a witness has cosigned since then."""
    newest = select(func.max(Cosignature.size)).where(Cosignature.generation == generation, Cosignature.at >= since)
    return await _published(session, _newest(generation).where(LogCheckpoint.size == newest.scalar_subquery()))


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


def _newest(generation: int) -> Select[LogCheckpoint]:
    same = (Publication.generation == LogCheckpoint.generation) & (Publication.size == LogCheckpoint.size)
    query = select(LogCheckpoint).join(Publication, same).where(Publication.generation == generation)
    return query.order_by(Publication.size.desc()).limit(1)


async def _published(session: AsyncSession, query: Select[LogCheckpoint]) -> Published | None:
    row = (await session.execute(query)).scalar_one_or_none()
    if row is None:
        return None
    lines = select(Cosignature.line).where(Cosignature.generation == row.generation, Cosignature.size == row.size)
    found = (await session.execute(lines.order_by(Cosignature.witness))).scalars().all()
    return Published(row.generation, row.size, row.root, row.note, tuple(found))


async def entries(session: AsyncSession, generation: int, first: int, end: int) -> list[bytes]:
    """The leaves [first, end) of a log; fewer when some are missing."""
    values = {"generation": generation, "first": first, "end": end}
    return list((await session.execute(_ENTRIES, values)).scalars())


async def tiles(session: AsyncSession, generation: int, places: Iterable[Place]) -> dict[tuple[int, int], bytes]:
    """The hashes of tiles by (level, index); what is missing is absent, or shorter than its place is wide."""
    wanted = set(places)
    full = [(place.level, place.index) for place in wanted if place.width == WIDTH]
    query = select(LogTile.level, LogTile.index, LogTile.hashes).where(
        LogTile.generation == generation, tuple_(LogTile.level, LogTile.index).in_(full)
    )
    rows = await session.execute(query) if full else ()
    found = {(level, index): hashes for level, index, hashes in rows}
    for place in wanted:
        if place.width < WIDTH:
            found[place.level, place.index] = await _partial(session, generation, place)
    return found


async def _partial(session: AsyncSession, generation: int, place: Place) -> bytes:
    """A partial tile: of leaves at level 0, of the roots of the tiles below at every other."""
    first = place.index * WIDTH
    if place.level == 0:
        return b"".join(map(leaf_hash, await entries(session, generation, first, first + place.width)))
    below = select(LogTile.root).where(
        LogTile.generation == generation,
        LogTile.level == place.level - 1,
        LogTile.index >= first,
        LogTile.index < first + place.width,
    )
    return b"".join((await session.execute(below.order_by(LogTile.index))).scalars())


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


async def place_of(session: AsyncSession, leaf: Leaf) -> tuple[int, int] | None:
    """Generation and index of a leaf; None before it was put into the log."""
    query = (
        select(Run)
        .where(Run.producer == leaf.producer, Run.epoch == leaf.epoch, Run.first_seq <= leaf.seq)
        .order_by(Run.first_seq.desc())
        .limit(1)
    )
    run = (await session.execute(query)).scalar_one_or_none()
    if run is None or leaf.seq >= run.first_seq + run.count:
        return None
    return run.generation, run.first_index + leaf.seq - run.first_seq


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
    """Leaves a stub of the body, as the owner; how many were there. Never again in the application's role."""
    query = select(func.erase_body(event, order, at))
    return int((await session.execute(query)).scalar_one())
