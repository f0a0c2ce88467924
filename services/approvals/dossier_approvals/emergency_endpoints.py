"""Emergency access over HTTP."""

from typing import Annotated, Final
from uuid import UUID

from fastapi import Query, Request, Response

from dossier_approvals import service
from dossier_approvals.auth import EITHER, EmergencyParty, EmergencyReviewer, EmergencyUser
from dossier_approvals.emergency_schemas import EmergencyList, EmergencyShown, NewEmergency, NewReview
from dossier_approvals.service.emergencies import Means
from dossier_common import app
from dossier_common.database import Read, Write
from dossier_common.paging import Paged
from dossier_common.reach import ALL_OBJECTS, Reach, objects
from dossier_common.scopes import Scope

router = app.router(tags=["emergency access"])
OF_REVIEWER: Final = {Scope.EMERGENCY_REVIEW: (Reach.PARTY, Reach.UNIT)}


def _means(request: Request) -> Means:
    state = request.app.state
    return Means(state.policy, state.peers, state.texts, state.clock.now())


@router.post("/v1/emergency-access", status_code=201, openapi_extra=ALL_OBJECTS)
async def use_emergency_access(
    body: NewEmergency, by: EmergencyUser, session: Write, request: Request, response: Response
) -> EmergencyShown:
    """Opens one record to the caller at once, within the policy's term and count; others are told, and review it."""
    means = _means(request)
    emergency = await service.use_emergency(session, means, body.plea(), by)
    response.headers["Location"] = f"/v1/emergency-access/{emergency}"
    return await service.show_emergency(session, means, emergency, by)


@router.get("/v1/emergency-access", openapi_extra=EITHER | objects(Reach.OWN, otherwise=200, also=OF_REVIEWER))
async def list_emergency_accesses(
    by: EmergencyParty,
    session: Read,
    page: Paged,
    request: Request,
    *,
    waiting: Annotated[bool, Query(description="Leave out what was reviewed")] = False,
) -> EmergencyList:
    """The caller's own; a reviewer's are also those that he was told of and those of the units of his office.

    Newest first.
    """
    items = await service.list_emergencies(
        session, _means(request), by, waiting=waiting, limit=page.limit, before=page.after_id()
    )
    if len(items) > page.limit:
        page.more(str(items[page.limit - 1].id))
    return EmergencyList(items=items[: page.limit])


@router.get(
    "/v1/emergency-access/{emergency_id}", openapi_extra=EITHER | objects(Reach.OWN, otherwise=404, also=OF_REVIEWER)
)
async def show_emergency_access(
    emergency_id: UUID, by: EmergencyParty, session: Read, request: Request
) -> EmergencyShown:
    """One emergency access with its grant and its review."""
    return await service.show_emergency(session, _means(request), emergency_id, by)


@router.post(
    "/v1/emergency-access/{emergency_id}/review", openapi_extra=objects(Reach.PARTY, Reach.UNIT, otherwise=404)
)
async def review_emergency_access(
    emergency_id: UUID, body: NewReview, by: EmergencyReviewer, session: Write, request: Request
) -> EmergencyShown:
    """Another person's finding, once. An unjustified access ends at once, and is an alarm."""
    means = _means(request)
    await service.review_emergency(session, means, emergency_id, body.verdict, body.comment, by)
    return await service.show_emergency(session, means, emergency_id, by)
