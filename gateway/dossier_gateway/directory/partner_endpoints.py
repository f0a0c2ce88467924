"""Partners over HTTP."""

from datetime import date
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query, Request, Response
from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common import preconditions
from dossier_common.app import router as make_router
from dossier_common.database import Read, Write
from dossier_common.ids import new_id
from dossier_common.paging import Paged
from dossier_common.reach import ALL_OBJECTS
from dossier_gateway.auth import AccountManager, Anyone
from dossier_gateway.directory import partner_repository, partners
from dossier_gateway.directory.parameters import IfMatch
from dossier_gateway.directory.partner_repository import PartnerQualificationRow, PartnerRow
from dossier_gateway.directory.partner_schemas import (
    NewPartner,
    NewPartnerQualification,
    Partner,
    PartnerEvidence,
    PartnerPatch,
    PartnerQualification,
    PartnerQualifications,
    Partners,
    PartnerState,
)
from dossier_gateway.directory.schemas import NewWithdrawal

router = make_router(tags=["directory"])


def _qualification(row: PartnerQualificationRow) -> PartnerQualification:
    told: dict[str, Any] = {name: getattr(row, name) for name in PartnerQualification.model_fields}
    return PartnerQualification(**told)


async def _told(session: AsyncSession, rows: list[PartnerRow], on: date) -> list[Partner]:
    held = await partner_repository.in_force(session, [row.id for row in rows], on)
    return [
        Partner(
            id=row.id,
            title=row.title,
            registration=row.registration,
            state=PartnerState(row.state),
            qualifications=[PartnerEvidence(each) for each in held[row.id]],
            version=row.version,
        )
        for row in rows
    ]


async def _one(session: AsyncSession, row: PartnerRow, request: Request, response: Response) -> Partner:
    response.headers["ETag"] = preconditions.etag(row.version)
    (told,) = await _told(session, [row], request.app.state.clock.now().date())
    return told


@router.post("/v1/partners", status_code=201, openapi_extra=ALL_OBJECTS)
async def register_partner(
    body: NewPartner, request: Request, response: Response, session: Write, caller: AccountManager
) -> Partner:
    """Another company; nothing is handed to it until an agreement and an assessment are recorded."""
    row = PartnerRow(new_id(), body.title, body.registration)
    row = await partners.register(session, row, by=caller, clock=request.app.state.clock)
    return await _one(session, row, request, response)


@router.get("/v1/partners", openapi_extra=ALL_OBJECTS)
async def list_partners(
    request: Request, session: Read, page: Paged, _caller: Anyone, state: Annotated[PartnerState | None, Query()] = None
) -> Partners:
    """Partners in the order of their making: who asks to hand something over names one."""
    rows = await partner_repository.listed(session, page.limit + 1, page.after_id(), state)
    if len(rows) > page.limit:
        page.more(str(rows[page.limit - 1].id))
    return Partners(items=await _told(session, rows[: page.limit], request.app.state.clock.now().date()))


@router.get("/v1/partners/{partner_id}", openapi_extra=ALL_OBJECTS)
async def show_partner(
    partner_id: UUID, request: Request, response: Response, session: Read, _caller: Anyone
) -> Partner:
    """One partner, with the agreements and assessments that are in force."""
    return await _one(session, await partners.show(session, partner_id), request, response)


@router.patch("/v1/partners/{partner_id}", openapi_extra=ALL_OBJECTS)
async def change_partner(
    partner_id: UUID,
    body: PartnerPatch,
    request: Request,
    response: Response,
    session: Write,
    caller: AccountManager,
    if_match: IfMatch = None,
) -> Partner:
    """Another title, registration or state (merge patch)."""
    wanted = body.model_dump(exclude_unset=True, mode="json")
    clock = request.app.state.clock
    row = await partners.change(session, partner_id, wanted, if_match=if_match, by=caller, clock=clock)
    return await _one(session, row, request, response)


@router.post("/v1/partners/{partner_id}/qualifications", status_code=201, openapi_extra=ALL_OBJECTS)
async def record_partner_qualification(
    partner_id: UUID, body: NewPartnerQualification, request: Request, session: Write, caller: AccountManager
) -> PartnerQualification:
    """An agreement that it signed, or an assessment of it, with the term."""
    row = PartnerQualificationRow(
        new_id(), partner_id, body.qualification.value, body.evidence, body.valid_from, body.valid_until
    )
    return _qualification(await partners.qualify(session, row, by=caller, clock=request.app.state.clock))


@router.get("/v1/partners/{partner_id}/qualifications", openapi_extra=ALL_OBJECTS)
async def list_partner_qualifications(
    partner_id: UUID, session: Read, page: Paged, _caller: AccountManager
) -> PartnerQualifications:
    """What was recorded of a partner, with what is over or withdrawn."""
    await partners.show(session, partner_id)
    rows = await partner_repository.qualifications(session, partner_id, page.limit + 1, page.after_id())
    if len(rows) > page.limit:
        page.more(str(rows[page.limit - 1].id))
    return PartnerQualifications(items=[_qualification(row) for row in rows[: page.limit]])


@router.post("/v1/partners/{partner_id}/qualifications/{qualification_id}/withdrawal", openapi_extra=ALL_OBJECTS)
async def withdraw_partner_qualification(
    partner_id: UUID,
    qualification_id: UUID,
    body: NewWithdrawal,
    request: Request,
    session: Write,
    caller: AccountManager,
) -> PartnerQualification:
    """It counts no more, from now on; that it was recorded stays to be seen."""
    clock = request.app.state.clock
    row = await partners.withdraw(session, partner_id, qualification_id, body.reason, by=caller, clock=clock)
    return _qualification(row)
