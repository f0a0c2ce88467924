"""The directory over HTTP."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Request, Response
from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common.app import router as make_router
from dossier_common.database import WRITES, Read, Write, backlog_of
from dossier_common.ids import new_id
from dossier_common.paging import Paged
from dossier_common.policy import Policy
from dossier_common.problems import NotFound
from dossier_gateway.auth import EITHER, AccountManager, Anyone, Officer, RoleAssigner
from dossier_gateway.directory import schemas, service
from dossier_gateway.directory.paging import after_id
from dossier_gateway.directory.repository import (
    AccountRow,
    AssignmentRow,
    QualificationRow,
    Reading,
    UnitRow,
)

router = make_router(tags=["directory"])


async def _anonymous_session(request: Request) -> AsyncIterator[AsyncSession]:
    backlog_of(request).ensure(WRITES)
    async with request.app.state.database.transaction() as session:
        yield session


AnonymousWrite = Annotated[AsyncSession, Depends(_anonymous_session, scope="function")]
"""As Write, for a caller without a name, who can have no Idempotency-Key."""


def _policy(request: Request) -> Policy:
    policy: Policy = request.app.state.policy
    return policy


def _term(request: Request) -> timedelta:
    return timedelta(days=request.app.state.settings.enrolment_days)


def _unit(row: UnitRow) -> schemas.Unit:
    title = schemas.Title(zh=row.title_zh, en=row.title_en)
    return schemas.Unit(id=row.id, code=row.code, title=title, kind=row.kind, parent=row.parent)


def _account(row: AccountRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "person": row.person,
        "username": row.username,
        "display_name": row.display_name,
        "unit": row.unit,
        "clearance": row.clearance,
        "state": row.state,
    }


@router.post("/v1/units", status_code=201)
async def create_unit(body: schemas.NewUnit, request: Request, session: Write, caller: AccountManager) -> schemas.Unit:
    """A unit below another."""
    unit = UnitRow(new_id(), body.code, body.title.zh, body.title.en, body.kind, body.parent)
    return _unit(await service.create_unit(session, unit, by=caller, clock=request.app.state.clock))


@router.get("/v1/units")
async def list_units(session: Read, page: Paged, _caller: Anyone) -> schemas.Units:
    """All units, in the order of their making."""
    rows = await Reading(session).units(page.limit + 1, after_id(page))
    if len(rows) > page.limit:
        page.more(str(rows[page.limit - 1].id))
    return schemas.Units(items=[_unit(row) for row in rows[: page.limit]])


@router.get("/v1/units/{unit_id}")
async def show_unit(unit_id: UUID, session: Read, _caller: Anyone) -> schemas.Unit:
    """One unit."""
    row = await Reading(session).unit(unit_id)
    if row is None:
        raise NotFound("There is no such unit.")
    return _unit(row)


@router.post("/v1/accounts", status_code=201)
async def create_account(
    body: schemas.NewAccount, request: Request, session: Write, caller: AccountManager
) -> schemas.CreatedAccount:
    """An account, with a one-time code for its person. A further account names the person."""
    row = service.new_account(body.username, body.display_name, body.unit, body.person)
    state = request.app.state
    code = await service.create_account(
        session,
        state.policy,
        row,
        further=body.person is not None,
        by=caller,
        clock=state.clock,
        term=_term(request),
    )
    return schemas.CreatedAccount(**_account(await _found(session, row.id)), enrolment_code=code)


@router.get("/v1/accounts", openapi_extra=EITHER)
async def list_accounts(session: Read, page: Paged, _caller: Officer) -> schemas.Accounts:
    """All accounts, in the order of their making."""
    rows = await Reading(session).accounts(page.limit + 1, after_id(page))
    if len(rows) > page.limit:
        page.more(str(rows[page.limit - 1].id))
    return schemas.Accounts(items=[schemas.Account(**_account(row)) for row in rows[: page.limit]])


@router.get("/v1/accounts/{account_id}", openapi_extra=EITHER)
async def show_account(account_id: UUID, session: Read, _caller: Officer) -> schemas.Account:
    """One account."""
    return schemas.Account(**_account(await _found(session, account_id)))


@router.post("/v1/accounts/{account_id}/enrolment-codes", status_code=201)
async def issue_enrolment(
    account_id: UUID, request: Request, session: Write, caller: AccountManager
) -> schemas.EnrolmentCode:
    """Another one-time code, for a person who lost his password; the one before is void."""
    code = await service.issue_enrolment(session, account_id, caller, request.app.state.clock, _term(request))
    return schemas.EnrolmentCode(enrolment_code=code)


@router.put("/v1/accounts/{account_id}/clearance")
async def change_clearance(
    account_id: UUID, body: schemas.NewClearance, request: Request, session: Write, caller: RoleAssigner
) -> schemas.Account:
    """Up to which level of secrecy the account is cleared."""
    clock = request.app.state.clock
    row = await service.change_clearance(session, _policy(request), account_id, body.clearance, caller, clock)
    return schemas.Account(**_account(row))


@router.post("/v1/accounts/{account_id}/roles", status_code=201)
async def assign_role(
    account_id: UUID, body: schemas.NewAssignment, request: Request, session: Write, caller: RoleAssigner
) -> schemas.Assignment:
    """A role in a unit. 409 `duty-conflict` when the person would hold what nobody may hold together."""
    wanted = AssignmentRow(new_id(), account_id, new_id(), body.role, body.unit)
    clock = request.app.state.clock
    row = await service.assign_role(session, _policy(request), wanted, by=caller, clock=clock)
    return schemas.Assignment(id=row.id, account=row.account, role=row.role, unit=row.unit)


@router.get("/v1/accounts/{account_id}/roles", openapi_extra=EITHER)
async def list_assignments(account_id: UUID, session: Read, _caller: Officer) -> schemas.Assignments:
    """The roles of an account."""
    await _found(session, account_id)
    rows = await Reading(session).assignments(account_id)
    items = [schemas.Assignment(id=row.id, account=row.account, role=row.role, unit=row.unit) for row in rows]
    return schemas.Assignments(items=items)


@router.delete("/v1/accounts/{account_id}/roles/{assignment_id}", status_code=204)
async def revoke_role(
    account_id: UUID, assignment_id: UUID, request: Request, session: Write, caller: RoleAssigner
) -> None:
    """Ends a role; tokens that were issued for it lose its scopes within two seconds."""
    await service.revoke_role(session, account_id, assignment_id, caller, request.app.state.clock)


@router.post("/v1/accounts/{account_id}/qualifications", status_code=201)
async def record_qualification(
    account_id: UUID, body: schemas.NewQualification, request: Request, session: Write, caller: AccountManager
) -> schemas.Qualification:
    """An agreement signed, a training passed, a vetting done. It counts for the person, with all his accounts."""
    row = QualificationRow(
        new_id(), account_id, new_id(), body.qualification, body.evidence, body.valid_from, body.valid_until
    )
    kept = await service.record_qualification(session, _policy(request), row, caller, request.app.state.clock)
    return _qualification(kept)


@router.get("/v1/accounts/{account_id}/qualifications", openapi_extra=EITHER)
async def list_qualifications(account_id: UUID, session: Read, _caller: Officer) -> schemas.Qualifications:
    """What was recorded for an account, with what is over."""
    await _found(session, account_id)
    rows = await Reading(session).qualifications(account_id)
    return schemas.Qualifications(items=[_qualification(row) for row in rows])


@router.post("/v1/enrolments", status_code=204, openapi_extra={"security": []})
async def enrol(body: schemas.Enrolment, request: Request, session: AnonymousWrite) -> Response:
    """Sets a password by a one-time code. Needs no token: whoever has the code is the person."""
    await request.app.state.desk.enrol(session, body.code, body.password)
    return Response(status_code=204)


@router.get("/v1/me")
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


@router.get("/v1/roles")
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


@router.get("/v1/conflicts")
async def list_conflicts(request: Request, _caller: Anyone) -> schemas.Conflicts:
    """What nobody may hold together, and what nobody may do together in one case."""
    policy = _policy(request)
    return schemas.Conflicts(
        items=[
            schemas.ConflictSet(
                id=each.id,
                title=schemas.Title(zh=each.title.zh, en=each.title.en),
                between=[list(map(str, side)) for side in each.between],
            )
            for each in policy.conflicts
        ],
        per_case=[
            schemas.CaseConflict(
                id=each.id,
                title=schemas.Title(zh=each.title.zh, en=each.title.en),
                scopes=list(map(str, each.scopes)),
            )
            for each in policy.case_conflicts
        ],
    )


async def _found(session: AsyncSession, account_id: UUID) -> AccountRow:
    row = await Reading(session).account(account_id)
    if row is None:
        raise NotFound("There is no such account.")
    return row


def _qualification(row: QualificationRow) -> schemas.Qualification:
    return schemas.Qualification(
        id=row.id,
        account=row.account,
        qualification=row.qualification,
        evidence=row.evidence,
        valid_from=row.valid_from,
        valid_until=row.valid_until,
    )
