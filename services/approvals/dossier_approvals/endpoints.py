"""HTTP in and out."""

from datetime import datetime
from typing import Final, cast
from uuid import UUID

from fastapi import Request, Response

from dossier_approvals import service
from dossier_approvals.auth import Decider, GrantReader, Reader, Requester, Resolver, Revoker
from dossier_approvals.schemas import (
    GrantList,
    GrantResolved,
    GrantShown,
    NewDecision,
    NewRequest,
    NewRevocation,
    Preview,
    RequestList,
    RequestShown,
    StageOutlook,
    TaskList,
)
from dossier_approvals.service.offices import Resolved
from dossier_common import app
from dossier_common.database import Read, Write
from dossier_common.paging import Paged
from dossier_common.peers import Peers
from dossier_common.policy import Policy
from dossier_common.reach import ALL_OBJECTS, Reach, objects
from dossier_common.scopes import Scope
from dossier_common.texts import SealedTexts

router = app.router(tags=["approvals"])

OWN = objects(Reach.OWN, otherwise=404)
OF_PARTY = objects(Reach.PARTY, otherwise=404)
OF_REVOKER: Final = {Scope.GRANTS_REVOKE: (Reach.UNIT,)}


def _now(request: Request) -> datetime:
    return cast("datetime", request.app.state.clock.now())


def _policy(request: Request) -> Policy:
    return cast("Policy", request.app.state.policy)


def _peers(request: Request) -> Peers:
    return cast("Peers", request.app.state.peers)


def _texts(request: Request) -> SealedTexts:
    return cast("SealedTexts", request.app.state.texts)


@router.post("/v1/requests/preview", openapi_extra=ALL_OBJECTS)
async def preview_request(body: NewRequest, by: Requester, session: Read, request: Request) -> Preview:
    """Which flow this would take and who would decide it; changes nothing. Missing parts are listed, not refused."""
    plan = await service.preview_request(session, _peers(request), _policy(request), body.wish(), by, _now(request))
    return Preview(
        flow=plan.flow.id,
        title=plan.flow.title,
        required=list(plan.flow.request.required),
        one_of=list(plan.flow.request.one_of),
        stages=[_outlook(resolved) for resolved in plan.stages],
    )


def _outlook(resolved: Resolved) -> StageOutlook:
    stage = resolved.stage
    role, unit = resolved.offices[0]
    return StageOutlook.model_validate(
        {
            "name": stage.name,
            "title": stage.title,
            "role": role,
            "unit": unit,
            "offices": [{"role": role, "unit": unit} for role, unit in resolved.offices],
            "candidates": len(resolved.persons),
            "needed": resolved.needed,
            "doing": stage.doing,
            "time_limit": str(stage.time_limit) if stage.time_limit else None,
        }
    )


@router.post("/v1/requests", status_code=201, openapi_extra=ALL_OBJECTS)
async def create_request(
    body: NewRequest, by: Requester, session: Write, request: Request, response: Response
) -> RequestShown:
    """Asks for something; its approvers are found and frozen now (A2.7, A8.17, A8.18.1)."""
    request_id = await service.create_request(
        session, _peers(request), _policy(request), _texts(request), body.wish(), by, _now(request)
    )
    response.headers["Location"] = f"/v1/requests/{request_id}"
    return await service.show_request(session, _texts(request), request_id, by)


@router.get("/v1/requests", openapi_extra=objects(Reach.PARTY, otherwise=200))
async def list_requests(by: Reader, session: Read, page: Paged) -> RequestList:
    """The caller's own requests, and those in which he may decide or might have decided."""
    items = await service.list_requests(session, by, limit=page.limit, before=page.after_id())
    if len(items) > page.limit:
        page.more(str(items[page.limit - 1].id))
    return RequestList(items=items[: page.limit])


@router.get("/v1/requests/{request_id}", openapi_extra=OF_PARTY)
async def show_request(request_id: UUID, by: Reader, session: Read, request: Request) -> RequestShown:
    """A request with its stages and decisions, to those who take part in it."""
    return await service.show_request(session, _texts(request), request_id, by)


@router.post("/v1/requests/{request_id}/withdrawal", openapi_extra=OWN)
async def withdraw_request(request_id: UUID, by: Requester, session: Write, request: Request) -> RequestShown:
    """The requester takes an open request back."""
    await service.withdraw_request(session, request_id, by, _now(request))
    return await service.show_request(session, _texts(request), request_id, by)


@router.get("/v1/tasks", openapi_extra=objects(Reach.PARTY, otherwise=200))
async def list_tasks(by: Decider, session: Read, page: Paged, request: Request) -> TaskList:
    """What waits for the caller's decision."""
    items = await service.list_tasks(session, _texts(request), by, limit=page.limit, after=page.after_id())
    if len(items) > page.limit:
        page.more(str(items[page.limit - 1].id))
    return TaskList(items=items[: page.limit])


@router.post("/v1/tasks/{task_id}/decision", openapi_extra=OF_PARTY)
async def decide_task(task_id: UUID, body: NewDecision, by: Decider, session: Write, request: Request) -> RequestShown:
    """Decides a stage: never one's own request (A1.5), and never twice in one round."""
    request_id = await service.decide_task(
        session, _texts(request), task_id, body.verdict, body.comment, by, _now(request)
    )
    return await service.show_request(session, _texts(request), request_id, by)


@router.get("/v1/grants", openapi_extra=objects(Reach.PARTY, otherwise=200, also=OF_REVOKER))
async def list_grants(by: GrantReader, session: Read, page: Paged, request: Request) -> GrantList:
    """Grants that the caller holds or has decided on; who may revoke sees those of the units of his office."""
    items = await service.list_grants(
        session, _policy(request), by, _now(request), limit=page.limit, before=page.after_id()
    )
    if len(items) > page.limit:
        page.more(str(items[page.limit - 1].id))
    return GrantList(items=items[: page.limit])


@router.get("/v1/grants/{grant_id}", openapi_extra=objects(Reach.PARTY, otherwise=404, also=OF_REVOKER))
async def show_grant(grant_id: UUID, by: GrantReader, session: Read, request: Request) -> GrantShown:
    """A grant, during its term and after it."""
    return await service.show_grant(session, _policy(request), grant_id, by, _now(request))


@router.post("/v1/grants/{grant_id}/return", openapi_extra=OWN)
async def return_grant(grant_id: UUID, by: GrantReader, session: Write, request: Request) -> GrantShown:
    """The holder gives the grant back early."""
    await service.return_grant(session, grant_id, by, _now(request))
    return await service.show_grant(session, _policy(request), grant_id, by, _now(request))


@router.post("/v1/grants/{grant_id}/revocation", openapi_extra=objects(Reach.PARTY, Reach.UNIT, otherwise=404))
async def revoke_grant(
    grant_id: UUID, body: NewRevocation, by: Revoker, session: Write, request: Request
) -> GrantShown:
    """Ends a grant before its time."""
    policy, now = _policy(request), _now(request)
    await service.revoke_grant(session, policy, _texts(request), grant_id, body.reason, by, now)
    return await service.show_grant(session, policy, grant_id, by, now)


@router.get("/internal/v1/grants/{grant_id}")
async def resolve_grant(grant_id: UUID, _by: Resolver, session: Read, request: Request) -> GrantResolved:
    """The whole grant with its present state, for the records service."""
    return await service.resolve_grant(session, grant_id, _now(request))
