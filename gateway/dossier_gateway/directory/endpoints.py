"""The directory over HTTP: who calls, what roles there are, what is kept apart; and the first password."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common.app import router as make_router
from dossier_common.database import WRITES, Read, backlog_of
from dossier_common.policy import Policy
from dossier_gateway.auth import Anyone
from dossier_gateway.directory import (
    account_endpoints,
    authorisation_endpoints,
    client_endpoints,
    holding_endpoints,
    partner_endpoints,
    rules,
    schemas,
    unit_endpoints,
)
from dossier_gateway.directory.repository import Reading

_own = make_router(tags=["directory"])


async def _anonymous_session(request: Request) -> AsyncIterator[AsyncSession]:
    backlog_of(request).ensure(WRITES)
    async with request.app.state.database.transaction() as session:
        yield session


AnonymousWrite = Annotated[AsyncSession, Depends(_anonymous_session, scope="function")]
"""As Write, for a caller without a name, who can have no Idempotency-Key."""


def _policy(request: Request) -> Policy:
    policy: Policy = request.app.state.policy
    return policy


@_own.post("/v1/enrolments", status_code=204, openapi_extra={"security": []})
async def enrol(body: schemas.Enrolment, request: Request, session: AnonymousWrite) -> Response:
    """Sets a password by a one-time code. Needs no token: whoever has the code is the person."""
    await request.app.state.desk.enrol(session, body.code, body.password)
    return Response(status_code=204)


@_own.get("/v1/me")
async def show_me(session: Read, caller: Anyone) -> schemas.Me:
    """Who calls, in which units and roles, and what this token may."""
    account = await Reading(session).account(caller.account) if caller.account else None
    return schemas.Me(
        account=caller.account,
        person=caller.person,
        username=account.username if account else None,
        display_name=account.display_name if account else None,
        client=caller.client,
        unit=account.unit if account else None,
        units=sorted(caller.units),
        roles=[schemas.Held(role=each.role, unit=each.unit) for each in caller.roles],
        clearance=caller.clearance,
        qualifications=sorted(caller.qualifications),
        scopes=sorted(caller.scopes),
    )


@_own.get("/v1/roles")
async def list_roles(request: Request, _caller: Anyone) -> schemas.Roles:
    """The roles of the policy, and the scopes that each bundles."""
    return schemas.Roles(
        items=[
            schemas.Role(
                id=role.id,
                title=schemas.Title(zh=role.title.zh, en=role.title.en),
                scopes=sorted(map(str, role.scopes)),
                officer=role.officer,
            )
            for role in _policy(request).roles
        ]
    )


@_own.get("/v1/conflicts")
async def list_conflicts(request: Request, _caller: Anyone) -> schemas.Conflicts:
    """What nobody may hold together, and what nobody may do together in one case."""
    policy = _policy(request)
    pairs = rules.conflicting_roles(policy)
    return schemas.Conflicts(
        items=[
            schemas.ConflictSet(
                id=each.id,
                title=schemas.Title(zh=each.title.zh, en=each.title.en),
                between=[list(map(str, side)) for side in each.between],
            )
            for each in policy.conflicts
        ],
        roles=[schemas.RoleConflict(roles=pair, conflicts=found) for pair, found in pairs.items()],
        per_case=[
            schemas.CaseConflict(
                id=each.id,
                title=schemas.Title(zh=each.title.zh, en=each.title.en),
                scopes=list(map(str, each.scopes)),
            )
            for each in policy.case_conflicts
        ],
    )


router = APIRouter()
for each in (
    unit_endpoints,
    account_endpoints,
    holding_endpoints,
    partner_endpoints,
    client_endpoints,
    authorisation_endpoints,
):
    router.include_router(each.router)
router.include_router(_own)
