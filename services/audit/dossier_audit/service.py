"""Use cases of the audit service. Whoever looks into the log is in it himself (A4.33)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from dossier_audit.errors import EventUnknown, ForeignReceipt
from dossier_audit.models import Body, Erasure, Leaf
from dossier_audit.repository import events as repository
from dossier_audit.repository import logs
from dossier_audit.repository.events import Deeds, Filters, Place, Tally
from dossier_common import outbox
from dossier_common.clock import Clock
from dossier_common.contracts.audit import ActivityQueried, EventOpened, EventsQueried, ProducerForked
from dossier_common.identity import Subject
from dossier_common.keys import SigningKey
from dossier_common.leaves import Head, Numbered
from dossier_common.receipts import Receipt


@dataclass(frozen=True, slots=True)
class Activity:
    """What a person did: by type and outcome, and a page of the records that it was about."""

    counts: list[tuple[str, str | None, Tally]]
    records: list[tuple[UUID, Tally]]


async def ingest(session: AsyncSession, producer: str, events: Sequence[Numbered], head: Head, now: datetime) -> None:
    """Stores a verified batch, and with it what the next receipt says.

    A new epoch after an old one means that the producer was restored, or that another signs with its key: that
    is an event of its own.
    """
    begins = events[0].seq == 1  # as each epoch does; all other batches need not ask
    before = await repository.latest_head(session, producer) if begins else None
    if before is not None and head.epoch > before.epoch:
        forked = ProducerForked(producer=producer, epoch=before.epoch, seq=before.seq)
        await outbox.add(session, forked, by=None, at=now)
    await repository.insert_events(session, producer, events, head, now)


async def receipt(session: AsyncSession, producer: str, key: SigningKey) -> Receipt | None:
    """How far this producer's events are durable here, signed; None before its first event."""
    head = await repository.latest_head(session, producer)
    return Receipt.sign(key, producer, head.epoch, head.seq, head.hash, head.at) if head else None


async def receipt_for(session: AsyncSession, producer: str, caller: Subject, key: SigningKey) -> Receipt | None:
    """The caller's own receipt. Raises ForeignReceipt for that of another."""
    if caller.service != producer:
        raise ForeignReceipt
    return await receipt(session, producer, key)


async def find_events(
    session: AsyncSession,
    filters: Filters,
    *,
    limit: int,
    after: Place | None,
    newest_first: bool,
    auditor: Subject,
    clock: Clock,
) -> Sequence[Body]:
    """A page of events, perhaps with one more than `limit`. The query is an event, durable before its answer."""
    found = await repository.find_events(session, filters, limit=limit, after=after, newest_first=newest_first)
    queried = EventsQueried(filters=filters.named(), found=min(len(found), limit))
    await outbox.add(session, queried, by=auditor, at=clock.now())
    return found


async def find_activity(
    session: AsyncSession, deeds: Deeds, *, limit: int, after: UUID | None, auditor: Subject, clock: Clock
) -> Activity:
    """What a person did, with perhaps one record more than `limit` (A4.38). The query is an event (A4.33)."""
    counts = await repository.count_deeds(session, deeds)
    records = await repository.records_touched(session, deeds, limit=limit + 1, after=after)
    queried = ActivityQueried(
        subject_person=deeds.person,
        start=deeds.start,
        end=deeds.end,
        types=len({kind for kind, _, _ in counts}),
        found=min(len(records), limit),
    )
    await outbox.add(session, queried, by=auditor, at=clock.now())
    return Activity(counts, records)


async def open_event(
    session: AsyncSession, event_id: UUID, auditor: Subject, clock: Clock
) -> tuple[Leaf, Body, Erasure | None]:
    """An event with leaf, body and salt, so that the auditor can check the commitment. Raises EventUnknown."""
    found = await repository.event(session, event_id)
    if found is None:
        raise EventUnknown
    await outbox.add(session, EventOpened(object=event_id), by=auditor, at=clock.now())
    leaf, body = found
    return leaf, body, await logs.erasure(session, leaf) if body.body is None else None
