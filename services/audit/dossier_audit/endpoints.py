"""HTTP of the audit service."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Path, Query, Request

from dossier_audit import service
from dossier_audit.auth import Auditor, Producer
from dossier_audit.models import Body
from dossier_audit.repository.events import Deeds, Filters, Place
from dossier_audit.schemas import (
    Activity,
    AuditEvent,
    AuditEvents,
    Instant,
    OpenedEvent,
    Order,
    ReceiptAnswer,
    TouchedRecord,
    TypeCount,
    WireReceipt,
)
from dossier_common.app import router as make_router
from dossier_common.contracts.audit import ALARMS
from dossier_common.database import Read, Recorded
from dossier_common.events import Outcome
from dossier_common.paging import Paged
from dossier_common.reach import ALL_OBJECTS

router = make_router(tags=["audit"])

Name = Annotated[str | None, Query(max_length=128, pattern=r"^[A-Za-z0-9._-]+$")]


async def _filters(
    actor: Annotated[UUID | None, Query(description="Account or person")] = None,
    client: Name = None,
    record: Annotated[UUID | None, Query()] = None,
    type: Name = None,  # noqa: A002  # the name in the address
    outcome: Annotated[Outcome | None, Query()] = None,
    start: Annotated[Instant | None, Query(alias="from", description="From this instant on")] = None,
    end: Annotated[Instant | None, Query(alias="to", description="Before this instant")] = None,
    producer: Name = None,
) -> Filters:
    return Filters(actor, client, record, type, outcome, start, end, producer)


Filtered = Annotated[Filters, Depends(_filters)]


@router.get("/v1/audit/events", openapi_extra=ALL_OBJECTS)
async def list_audit_events(
    request: Request,
    session: Recorded,
    auditor: Auditor,
    filters: Filtered,
    page: Paged,
    order: Annotated[Order, Query()] = Order.NEWEST,
) -> AuditEvents:
    """Events that match all filters. The query itself is an event, and found by later ones."""
    return await _found(request, session, auditor, filters, page, newest_first=order is Order.NEWEST)


@router.get("/v1/audit/events/{event_id}", openapi_extra=ALL_OBJECTS)
async def open_audit_event(request: Request, session: Recorded, auditor: Auditor, event_id: UUID) -> OpenedEvent:
    """One event with leaf, body and salt: what an auditor needs to check its commitment."""
    opened = await service.open_event(session, event_id, auditor, request.app.state.clock)
    return OpenedEvent.opened(*opened)


@router.get("/v1/audit/alarms", openapi_extra=ALL_OBJECTS)
async def list_alarms(
    request: Request,
    session: Recorded,
    auditor: Auditor,
    page: Paged,
    start: Annotated[Instant | None, Query(alias="from", description="From this instant on")] = None,
    end: Annotated[Instant | None, Query(alias="to", description="Before this instant")] = None,
) -> AuditEvents:
    """Events that somebody has to look into, newest first: forks, silences, restores, lost witnesses, emergencies."""
    filters = Filters(types=ALARMS, start=start, end=end)
    return await _found(request, session, auditor, filters, page, newest_first=True)


@router.get("/v1/audit/activity", openapi_extra=ALL_OBJECTS)
async def show_activity(
    request: Request,
    session: Recorded,
    auditor: Auditor,
    page: Paged,
    person: Annotated[UUID, Query(description="A person, with all his accounts")],
    start: Annotated[Instant | None, Query(alias="from", description="From this instant on")] = None,
    end: Annotated[Instant | None, Query(alias="to", description="Before this instant")] = None,
) -> Activity:
    """What one person did: counts by type and outcome, and the records that he touched, page by page (A4.38)."""
    found = await service.find_activity(
        session,
        Deeds(person, start, end),
        limit=page.limit,
        after=page.after_id(),
        auditor=auditor,
        clock=request.app.state.clock,
    )
    if len(found.records) > page.limit:
        page.more(str(found.records[page.limit - 1][0]))
    tallies = [tally for _, _, tally in found.counts]
    return Activity(
        person=person,
        events=sum(tally.events for tally in tallies),
        first=min((tally.first for tally in tallies), default=None),
        last=max((tally.last for tally in tallies), default=None),
        counts=[TypeCount(type=kind, outcome=outcome, **asdict(tally)) for kind, outcome, tally in found.counts],
        records=[TouchedRecord(record=record, **asdict(tally)) for record, tally in found.records[: page.limit]],
    )


@router.get("/internal/v1/receipts/{producer}")
async def show_receipt(
    request: Request,
    session: Read,
    caller: Producer,
    producer: Annotated[str, Path(max_length=32, pattern="^[a-z]+$")],
) -> ReceiptAnswer:
    """How far the calling producer's events are durable here, signed. For that producer only."""
    receipt = await service.receipt_for(session, producer, caller, request.app.state.signing_key)
    return ReceiptAnswer(receipt=WireReceipt.of(receipt) if receipt else None)


async def _found(
    request: Request, session: Recorded, auditor: Auditor, filters: Filters, page: Paged, *, newest_first: bool
) -> AuditEvents:
    found = await service.find_events(
        session,
        filters,
        limit=page.limit,
        after=page.starts(_place),
        newest_first=newest_first,
        auditor=auditor,
        clock=request.app.state.clock,
    )
    if len(found) > page.limit:
        page.more(*_keys(found[page.limit - 1]))
    return AuditEvents(items=[AuditEvent.of(body) for body in found[: page.limit]])


def _keys(body: Body) -> tuple[str, str, int, int]:
    return (body.time.astimezone(UTC).isoformat(), body.producer, body.epoch, body.seq)


def _place(time: str, producer: str, epoch: int, seq: int) -> Place:
    return datetime.fromisoformat(time).astimezone(UTC), producer, epoch, seq
