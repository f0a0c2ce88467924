"""Handovers of custody over HTTP."""

from typing import Annotated, Final, cast
from uuid import UUID

from fastapi import Query, Request, Response

from dossier_common import preconditions
from dossier_common.app import router as make_router
from dossier_common.database import Read, Write
from dossier_common.paging import Paged
from dossier_common.reach import Reach, objects
from dossier_common.scopes import Scope
from dossier_records import auth, copies, custody, custody_schemas, schemas
from dossier_records import custody_repository as repository
from dossier_records.custody_schemas import HandoverState, ItemState
from dossier_records.endpoints import described
from dossier_records.models import CustodyHandover, CustodyItem
from dossier_records.service import Desk

router = make_router(tags=["custody"])

SHOWN_COPIES: Final = 200
SUPERVISED: Final = {Scope.RECORDS_CLASSIFY: (Reach.UNIT,)}
OF_SUCCESSOR: Final = objects(Reach.OWN, otherwise=404, also=SUPERVISED)
LISTED: Final = objects(Reach.OWN, otherwise=200, also=SUPERVISED)


def _desk(request: Request) -> Desk:
    return cast("Desk", request.app.state.desk)


@router.get("/v1/custody-handovers", openapi_extra=LISTED)
async def list_handovers(
    request: Request,
    session: Read,
    page: Paged,
    actor: auth.Cataloguer,
    state: Annotated[HandoverState | None, Query()] = None,
) -> custody_schemas.Handovers:
    """What goes to the caller as a successor, and out of the units that he supervises; the newest first."""
    found = await custody.visible(
        session,
        _desk(request),
        actor,
        state=state.value if state else None,
        limit=page.limit + 1,
        before=page.after_id(),
    )
    if len(found) > page.limit:
        page.more(str(found[page.limit - 1].id))
    items = [custody_schemas.Handover.model_validate(each) for each in found[: page.limit]]
    return custody_schemas.Handovers(items=items)


@router.get("/v1/custody-handovers/{handover_id}", openapi_extra=OF_SUCCESSOR)
async def show_handover(
    request: Request, session: Read, handover_id: UUID, actor: auth.Cataloguer
) -> custody_schemas.HandoverShown:
    """How far it has come, the digest of the closed list, and the copies that must come back."""
    return await _shown(session, await custody.seen(session, _desk(request), handover_id, actor))


@router.get("/v1/custody-handovers/{handover_id}/items", openapi_extra=OF_SUCCESSOR)
async def list_handover_items(
    request: Request,
    session: Read,
    page: Paged,
    handover_id: UUID,
    actor: auth.Cataloguer,
    state: Annotated[ItemState | None, Query()] = None,
) -> custody_schemas.Items:
    """The list, by record: descriptors, never content."""
    await custody.seen(session, _desk(request), handover_id, actor)
    narrowed = state.value if state else None
    found = await repository.items(session, handover_id, state=narrowed, limit=page.limit + 1, after=page.after_id())
    if len(found) > page.limit:
        page.more(str(found[page.limit - 1][0].record_id))
    return custody_schemas.Items(items=[_item(line, custodian) for line, custodian in found[: page.limit]])


@router.post("/v1/custody-handovers/{handover_id}/receipt", openapi_extra=OF_SUCCESSOR)
async def receipt_handover(
    request: Request, session: Write, handover_id: UUID, body: custody_schemas.NewReceipt, actor: auth.Cataloguer
) -> custody_schemas.HandoverShown:
    """The successor signs for the closed list, by its digest (A5.3)."""
    return await _shown(session, await custody.receipt(session, _desk(request), handover_id, body.digest, actor))


@router.post(
    "/v1/custody-handovers/{handover_id}/items/{record_id}/assignment",
    openapi_extra=objects(Reach.UNIT, otherwise=404),
)
async def assign_custodian(
    request: Request,
    response: Response,
    session: Write,
    handover_id: UUID,
    record_id: UUID,
    body: custody_schemas.NewCustodian,
    actor: auth.Supervisor,
) -> schemas.Descriptor:
    """Gives a record that was left without a custodian to somebody, by who supervises its unit."""
    record = await custody.assign(session, _desk(request), handover_id, record_id, body.custodian, actor)
    response.headers["ETag"] = preconditions.etag(record.version)
    return described(_desk(request), record)


async def _shown(session: Read, handover: CustodyHandover) -> custody_schemas.HandoverShown:
    count, out = await repository.copies_out(session, handover.person_from, SHOWN_COPIES)
    running = handover.state == HandoverState.RUNNING
    return custody_schemas.HandoverShown(
        **custody_schemas.Handover.model_validate(handover).model_dump(),
        remaining=await repository.remaining(session, handover.person_from) if running else 0,
        copies_outstanding=count,
        copies=[
            custody_schemas.OutstandingCopy(
                id=copy.id,
                number=copies.number(copy),
                record=copy.record_id,
                state=copy.state,
                issued_at=copy.issued_at,
            )
            for copy in out
        ],
    )


def _item(line: CustodyItem, custodian: UUID | None) -> custody_schemas.Item:
    return custody_schemas.Item(
        record=line.record_id,
        number=line.number,
        customer_type=line.customer_type,
        level=line.level,
        unit=line.unit,
        state=ItemState(line.state),
        reason=line.reason,
        vacant=custodian is None,
    )
