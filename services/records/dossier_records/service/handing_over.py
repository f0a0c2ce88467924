"""Handing custody over (A4.38, A2.6, A5.3): what a person who left or moved answered for goes to his successor.

The worker takes the records in batches, each in a transaction of its own with new versions, lines of the list and
events: a crash loses nothing and repeats nothing. The list is closed when nothing can be missing from it; its digest is
what the successor signs for.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common import outbox, telemetry
from dossier_common.canonical import canonical
from dossier_common.contracts.records import CustodyHandedOver, CustodyListed, CustodyVacated, NameStruck
from dossier_common.database import Database
from dossier_common.events import Event
from dossier_common.policy import Policy
from dossier_records import custody_repository as repository
from dossier_records import envelopes
from dossier_records.envelopes import Sealed
from dossier_records.models import CustodyHandover, CustodyItem, Record
from dossier_records.service.desk import Desk

BATCH: Final = 200
IDLE_SECONDS: Final = 0.5
CLEARANCE_TOO_LOW: Final = "clearance-too-low"
DAMAGED: Final = "damaged-record"


async def run(database: Database, desk: Desk) -> None:
    """Works off handovers until it is cancelled."""
    while True:
        if not await advance(database, desk):
            await asyncio.sleep(IDLE_SECONDS)


async def advance(database: Database, desk: Desk) -> bool:
    """Takes the oldest handover one step further, in one transaction; False when there is nothing to do now."""
    async with database.transaction() as session:
        handover = await repository.next_handover(session)
        if handover is None:
            return False
        return await _next_batch(session, desk, handover) or await _close(session, desk, handover)


async def _next_batch(session: AsyncSession, desk: Desk, handover: CustodyHandover) -> bool:
    """Hands over the next records, then strikes the name from others; False when none is left of either.

    The pass begins anew at its end: a record with an earlier id may have come in meanwhile.
    """
    records = await repository.in_custody(session, handover.person_from, handover.after, BATCH)
    if records:
        await _hand_over(session, desk, handover, records)
        handover.after = records[-1].id
        return True
    if handover.after is not None:
        handover.after = None
        return True
    records = await repository.naming(session, handover.person_from, BATCH)
    await _strike(session, desk, handover, records)
    return bool(records)


async def _hand_over(session: AsyncSession, desk: Desk, handover: CustodyHandover, records: Sequence[Record]) -> None:
    damaged = await renew(session, desk, records)
    events: list[Event] = []
    lines: list[dict[str, Any]] = []
    for record in records:
        reason = DAMAGED if record.id in damaged else None
        if reason is None and not desk.policy.clears(handover.clearance, record.level):
            reason = CLEARANCE_TOO_LOW
        marks = {"record": record.id, "handover": handover.id, "version": record.version, "policy": desk.policy.digest}
        if reason is None:
            record.custodian = handover.person_to
            handover.handed_over += 1
            events.append(CustodyHandedOver(**marks, person_from=handover.person_from, person_to=handover.person_to))
        else:
            record.custodian = None
            handover.unassigned += 1
            events.append(CustodyVacated(**marks, person_from=handover.person_from, unit=record.unit, reason=reason))
        if handover.person_from in record.named:
            events.append(_struck(handover, record, desk.policy))
        lines.append(_line(handover, record, reason))
    await repository.add_items(session, lines)
    await outbox.add_all(session, events, by=None, at=desk.clock.now())


async def _strike(session: AsyncSession, desk: Desk, handover: CustodyHandover, records: Sequence[Record]) -> None:
    await renew(session, desk, records)
    events = [_struck(handover, record, desk.policy) for record in records]
    await outbox.add_all(session, events, by=None, at=desk.clock.now())


def _struck(handover: CustodyHandover, record: Record, policy: Policy) -> NameStruck:
    record.named = [person for person in record.named if person != handover.person_from]
    handover.names_struck += 1
    return NameStruck(
        record=record.id,
        handover=handover.id,
        version=record.version,
        person=handover.person_from,
        policy=policy.digest,
    )


async def renew(session: AsyncSession, desk: Desk, records: Sequence[Record]) -> frozenset[UUID]:
    """A new version of each locked record with the same content, as any change makes one.

    So an If-Match on the version before is refused. A record whose content cannot be opened stays at its version; those
    are returned.
    """
    versions = await repository.present_versions(session, records)
    epochs = await desk.vault.open_epochs(session, {each.ring for each in versions.values()})
    rows: list[dict[str, Any]] = []
    damaged: set[UUID] = set()
    for record in records:
        old = versions[record.id]
        kept = Sealed(old.ring, old.key_epoch, old.wrapped_key, old.sealed)
        try:
            fields = desk.vault.open(record.id, old.version, kept, envelopes.names(old.sealed))
        except envelopes.CannotOpen as error:
            telemetry.log().error("cannot-open", record=str(record.id), error=type(error).__name__)
            damaged.add(record.id)
            continue
        record.version += 1
        sealed = desk.vault.seal_under(old.ring, epochs[old.ring], record.id, record.version, fields)
        rows.append(
            {
                "record_id": record.id,
                "version": record.version,
                "ring": sealed.ring,
                "key_epoch": sealed.key_epoch,
                "wrapped_key": sealed.wrapped_key,
                "sealed": sealed.sealed,
                "author": None,
                "at": desk.clock.now(),
            }
        )
    await repository.add_versions(session, rows)
    return frozenset(damaged)


def _line(handover: CustodyHandover, record: Record, reason: str | None) -> dict[str, Any]:
    return {
        "handover_id": handover.id,
        "record_id": record.id,
        "number": record.number,
        "customer_type": record.customer_type,
        "level": record.level,
        "unit": record.unit,
        "state": "handed_over" if reason is None else "unassigned",
        "reason": reason,
    }


async def _close(session: AsyncSession, desk: Desk, handover: CustodyHandover) -> bool:
    """Closes the list, unless a spreadsheet still brings records of his; nobody makes him a custodian meanwhile."""
    await repository.lock_custodian(session, handover.person_from)
    if await repository.remaining(session, handover.person_from):
        return True
    if await repository.is_importing(session, handover.person_from):
        return False
    handover.digest = await digest_of(session, handover.id)
    handover.state, handover.completed_at = "complete", desk.clock.now()
    listed = CustodyListed(
        handover=handover.id,
        person_from=handover.person_from,
        person_to=handover.person_to,
        handed_over=handover.handed_over,
        unassigned=handover.unassigned,
        names_struck=handover.names_struck,
        digest=handover.digest,
    )
    await outbox.add(session, listed, by=None, at=desk.clock.now())
    return True


async def digest_of(session: AsyncSession, handover: UUID) -> str:
    """SHA-256 (hex) over the list: each line as canonical JSON (RFC 8785) and a line feed, by record."""
    digest = hashlib.sha256()
    async for item in repository.list_of(session, handover):
        digest.update(canonical(line_of(item)) + b"\n")
    return digest.hexdigest()


def line_of(item: CustodyItem) -> dict[str, Any]:
    """A line as it is signed for: no content, and nothing that may change."""
    return {
        "record": str(item.record_id),
        "number": item.number,
        "customer_type": item.customer_type,
        "level": item.level,
        "unit": str(item.unit),
        "state": item.state,
        "reason": item.reason,
    }
