"""HTTP of the retention service."""

from collections.abc import Sequence
from datetime import date
from typing import Annotated, cast
from uuid import UUID

from fastapi import Query, Request, Response
from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common.app import router as make_router
from dossier_common.database import Read, Write
from dossier_common.paging import Paged
from dossier_common.reach import Reach, objects
from dossier_retention import certificates, repository, service
from dossier_retention.auth import Executor, HoldPlacer, HoldReleaser, Proposer, Reader, Witness
from dossier_retention.models import Disposal
from dossier_retention.rules import DisposalState
from dossier_retention.schemas import (
    CertificateView,
    Clock,
    Clocks,
    Disposals,
    DisposalView,
    DueRecord,
    DueRecords,
    Execution,
    Holds,
    HoldView,
    NewDisposal,
    NewHold,
    Release,
    WitnessStatement,
)
from dossier_retention.service import Means

router = make_router(tags=["retention"])

OfRecord = Annotated[UUID | None, Query()]
OF_UNIT = objects(Reach.UNIT, otherwise=404)
UNIT_LIST = objects(Reach.UNIT, otherwise=200)


def _means(request: Request) -> Means:
    return cast("Means", request.app.state.means)


@router.get("/v1/retention/clocks", openapi_extra=UNIT_LIST)
async def list_clocks(request: Request, session: Read, reader: Reader, page: Paged, record: OfRecord = None) -> Clocks:
    """Terms that run."""
    within = await service.units_read(session, reader, _means(request))
    found = await repository.clocks(session, record, within, limit=page.limit, after=page.after_id())
    if len(found) > page.limit:
        page.more(str(found[page.limit - 1].record))
    return Clocks(items=[Clock.of(clock) for clock in found[: page.limit]])


@router.get("/v1/retention/due", openapi_extra=UNIT_LIST)
async def list_due_records(
    request: Request, session: Read, reader: Reader, page: Paged, as_of: Annotated[date | None, Query()] = None
) -> DueRecords:
    """What is past its term on a day, today where none is given, and what still stands in the way."""
    day = as_of or request.app.state.clock.now().date()
    within = await service.units_read(session, reader, _means(request))
    found = await repository.due(session, day, within, limit=page.limit, after=page.starts(_due))
    if len(found) > page.limit:
        last = found[page.limit - 1]
        page.more(last.due_on.isoformat(), str(last.record))
    return DueRecords(as_of=day, items=[DueRecord.of(due) for due in found[: page.limit]])


@router.post("/v1/holds", status_code=201, openapi_extra=OF_UNIT)
async def place_hold(
    request: Request, response: Response, session: Write, placer: HoldPlacer, body: NewHold
) -> HoldView:
    """Freezes a record's disposal until another person lifts the hold."""
    means = _means(request)
    hold = await service.place_hold(session, body.record, body.reason, placer, means)
    response.headers["Location"] = f"/v1/holds/{hold.id}"
    return HoldView.of(hold, means.texts)


@router.get("/v1/holds", openapi_extra=UNIT_LIST)
async def list_holds(
    request: Request,
    session: Read,
    reader: Reader,
    page: Paged,
    record: OfRecord = None,
    standing: Annotated[bool, Query(description="Only those that are not released")] = False,  # noqa: FBT002  # a query parameter
) -> Holds:
    """Holds, newest first."""
    means = _means(request)
    within = await service.units_read(session, reader, means)
    found = await repository.holds(
        session, record, within, standing_only=standing, limit=page.limit, after=page.after_id()
    )
    if len(found) > page.limit:
        page.more(str(found[page.limit - 1].id))
    return Holds(items=[HoldView.of(hold, means.texts) for hold in found[: page.limit]])


@router.get("/v1/holds/{hold_id}", openapi_extra=OF_UNIT)
async def show_hold(request: Request, session: Read, reader: Reader, hold_id: UUID) -> HoldView:
    """One hold."""
    means = _means(request)
    return HoldView.of(await service.show_hold(session, hold_id, reader, means), means.texts)


@router.post("/v1/holds/{hold_id}/release", openapi_extra=OF_UNIT)
async def release_hold(
    request: Request, session: Write, releaser: HoldReleaser, hold_id: UUID, body: Release
) -> HoldView:
    """Lifts a hold; another person than placed it."""
    means = _means(request)
    return HoldView.of(await service.release_hold(session, hold_id, body.reason, releaser, means), means.texts)


@router.post("/v1/disposals", status_code=201, openapi_extra=OF_UNIT)
async def propose_disposal(
    request: Request, response: Response, session: Write, proposer: Proposer, body: NewDisposal
) -> DisposalView:
    """Opens a case over a record whose term is over; approvals decides it by the flow of the pack."""
    means = _means(request)
    case = await service.propose_disposal(session, body.record, body.reason, proposer, means)
    response.headers["Location"] = f"/v1/disposals/{case.id}"
    return (await _views(session, [case], means))[0]


@router.get("/v1/disposals", openapi_extra=UNIT_LIST)
async def list_disposals(
    request: Request,
    session: Read,
    reader: Reader,
    page: Paged,
    record: OfRecord = None,
    state: Annotated[DisposalState | None, Query()] = None,
) -> Disposals:
    """Cases, newest first."""
    means = _means(request)
    within = await service.units_read(session, reader, means)
    found = await repository.disposals(session, record, state, within, limit=page.limit, after=page.after_id())
    if len(found) > page.limit:
        page.more(str(found[page.limit - 1].id))
    return Disposals(items=await _views(session, found[: page.limit], means))


@router.get("/v1/disposals/{disposal_id}", openapi_extra=OF_UNIT)
async def show_disposal(request: Request, session: Read, reader: Reader, disposal_id: UUID) -> DisposalView:
    """One case."""
    means = _means(request)
    return (await _views(session, [await service.show_disposal(session, disposal_id, reader, means)], means))[0]


@router.post("/v1/disposals/{disposal_id}/execution", openapi_extra=OF_UNIT)
async def execute_disposal(
    request: Request, session: Write, executor: Executor, disposal_id: UUID, body: Execution
) -> DisposalView:
    """Turns the first key, by a person who has no other duty in the case."""
    means = _means(request)
    case = await service.execute_disposal(session, disposal_id, body.method, body.note, executor, means)
    return (await _views(session, [case], means))[0]


@router.post("/v1/disposals/{disposal_id}/witness-statement", openapi_extra=OF_UNIT)
async def witness_disposal(
    request: Request, session: Write, witness: Witness, disposal_id: UUID, body: WitnessStatement
) -> DisposalView:
    """Turns the second key, by a further person; the records service then destroys."""
    means = _means(request)
    case = await service.witness_disposal(session, disposal_id, body.statement, witness, means)
    return (await _views(session, [case], means))[0]


@router.get("/v1/certificates/{certificate_id}", openapi_extra=OF_UNIT)
async def show_certificate(request: Request, session: Read, reader: Reader, certificate_id: UUID) -> CertificateView:
    """A certificate of destruction, as it was signed."""
    found = await service.show_certificate(session, certificate_id, reader, _means(request))
    return CertificateView.model_validate(certificates.signed(found.document, found.signature))


async def _views(session: AsyncSession, cases: Sequence[Disposal], means: Means) -> list[DisposalView]:
    participants = await repository.participants(session, cases)
    issued = await repository.certificates_of(session, cases)
    return [DisposalView.of(case, participants[case.id], issued.get(case.id), means.texts) for case in cases]


def _due(due_on: str, record: str) -> tuple[date, UUID]:
    return date.fromisoformat(due_on), UUID(record)
