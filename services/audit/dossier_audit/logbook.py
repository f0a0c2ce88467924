"""Use cases of the log: what is shown of it, and what proves an event. Reading tiles is no event: they reveal nothing.

Shown is what a published checkpoint promises, no more: a tile or an entry behind it does not exist yet.
"""

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from dossier_audit.errors import EventUnknown, NotInLog, NotYetProvable
from dossier_audit.log import notes, proofs, tiles
from dossier_audit.log.tiles import Place, width_at
from dossier_audit.log.tree import HASH, WIDTH
from dossier_audit.repository import logs
from dossier_audit.repository.logs import OpenedBody, Published
from dossier_common import outbox
from dossier_common.clock import Clock
from dossier_common.contracts.audit import BodiesOpened, EventProved
from dossier_common.identity import Subject

COSIGNED_WITHIN: Final = timedelta(seconds=10)
"""For so long a checkpoint with cosignatures is preferred to newer ones without: the witness is being asked."""


async def checkpoint(session: AsyncSession, generation: int, now: datetime) -> str:
    """The newest checkpoint, with the cosignatures that it has. Raises NotInLog."""
    return _note(_preferred(*await logs.newest_and_cosigned(session, generation, now - COSIGNED_WITHIN)))


async def tile(session: AsyncSession, generation: int, place: Place) -> bytes:
    """A tile's hashes. Raises NotInLog for one that no published checkpoint has, and for one that is damaged."""
    await _ensure_shown(session, generation, place)
    found = (await logs.tiles(session, generation, {place})).get((place.level, place.index), b"")
    if len(found) != place.width * HASH:
        raise NotInLog
    return found


async def entries(session: AsyncSession, generation: int, index: int, width: int) -> bytes:
    """A bundle of entries. Raises NotInLog, also when one of them is gone."""
    await _ensure_shown(session, generation, Place(0, index, width))
    first = index * WIDTH
    found = await logs.entries(session, generation, first, first + width)
    if len(found) != width:
        raise NotInLog
    try:
        return tiles.bundle(found)
    except OverflowError as error:  # no entry that was ever signed is so long
        raise NotInLog from error


async def bodies(
    session: AsyncSession, generation: int, index: int, width: int, auditor: Subject, clock: Clock
) -> list[OpenedBody]:
    """The bodies behind a bundle of entries; who takes them is an event. Raises NotInLog."""
    await _ensure_shown(session, generation, Place(0, index, width))
    first = index * WIDTH
    found = await logs.bodies(session, generation, first, first + width)
    if len(found) != width:
        raise NotInLog
    opened = BodiesOpened(generation=generation, first=first, count=width)
    await outbox.add(session, opened, by=auditor, at=clock.now())
    return found


async def prove(session: AsyncSession, event_id: UUID, auditor: Subject, clock: Clock) -> str:
    """The `.tlog-proof` of an event, its leaf as `extra`. Raises EventUnknown, NotYetProvable, NotInLog."""
    placed = await logs.placed(session, event_id, clock.now() - COSIGNED_WITHIN)
    if placed is None:
        raise EventUnknown
    if placed.generation is None or placed.index is None:
        raise NotYetProvable(retry_after=1)
    generation, index = placed.generation, placed.index
    shown = _preferred(placed.newest, placed.cosigned, above=index)
    if shown.size <= index:
        raise NotYetProvable(retry_after=1)
    ranges = proofs.inclusion(index, shown.size)
    try:
        hashes = proofs.evaluated(ranges, await logs.tiles(session, generation, proofs.tiles_of(ranges, shown.size)))
    except (KeyError, ValueError) as error:  # rows are gone: the verifier says which
        raise NotInLog from error
    await outbox.add(session, EventProved(object=event_id), by=auditor, at=clock.now())
    return proofs.proof_file(index, hashes, _note(shown), placed.leaf)


async def _ensure_shown(session: AsyncSession, generation: int, place: Place) -> None:
    newest = await logs.newest(session, generation)
    if newest is None or width_at(place.level, place.index, newest.size) < place.width:
        raise NotInLog


def _preferred(newest: Published | None, cosigned: Published | None, *, above: int = -1) -> Published:
    """The newest checkpoint; one with cosignatures is preferred, if it is over the leaf at this index."""
    if newest is None:
        raise NotInLog
    return cosigned if cosigned is not None and cosigned.size > above else newest


def _note(shown: Published) -> str:
    return notes.with_cosignatures(shown.note, shown.lines)
