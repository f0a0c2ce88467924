"""What accounts hold, over HTTP: roles in units, and qualifications."""

from uuid import UUID

from fastapi import Request

from dossier_common.app import router as make_router
from dossier_common.database import Read, Write
from dossier_common.ids import new_id
from dossier_common.paging import Paged
from dossier_common.reach import ALL_OBJECTS
from dossier_gateway.auth import EITHER, AccountManager, Officer, RoleAssigner
from dossier_gateway.directory import holdings, schemas
from dossier_gateway.directory.known import known
from dossier_gateway.directory.repository import AssignmentRow, QualificationRow, Reading

router = make_router(tags=["directory"])


def as_assignment(row: AssignmentRow) -> schemas.Assignment:
    """A role on the wire."""
    return schemas.Assignment(id=row.id, account=row.account, role=row.role, unit=row.unit, valid_until=row.valid_until)


def _qualification(row: QualificationRow) -> schemas.Qualification:
    return schemas.Qualification(**{name: getattr(row, name) for name in schemas.Qualification.model_fields})


@router.post("/v1/accounts/{account_id}/roles", status_code=201, openapi_extra=ALL_OBJECTS)
async def assign_role(
    account_id: UUID, body: schemas.NewAssignment, request: Request, session: Write, caller: RoleAssigner
) -> schemas.Assignment:
    """A role in a unit. 409 `duty-conflict` when the person would hold what nobody may hold together."""
    wanted = AssignmentRow(new_id(), account_id, new_id(), body.role, body.unit, body.valid_until)
    state = request.app.state
    return as_assignment(await holdings.assign_role(session, state.policy, wanted, by=caller, clock=state.clock))


@router.get("/v1/accounts/{account_id}/roles", openapi_extra=EITHER | ALL_OBJECTS)
async def list_assignments(
    account_id: UUID, request: Request, session: Read, page: Paged, _caller: Officer
) -> schemas.Assignments:
    """The roles of an account, without those whose term is over."""
    await known(session, account_id)
    now = request.app.state.clock.now()
    rows = await Reading(session).assignment_page(account_id, now, page.limit + 1, page.after_id())
    if len(rows) > page.limit:
        page.more(str(rows[page.limit - 1].id))
    return schemas.Assignments(items=[as_assignment(row) for row in rows[: page.limit]])


@router.delete("/v1/accounts/{account_id}/roles/{assignment_id}", status_code=204, openapi_extra=ALL_OBJECTS)
async def revoke_role(
    account_id: UUID, assignment_id: UUID, request: Request, session: Write, caller: RoleAssigner
) -> None:
    """Ends a role; tokens that were issued for it lose its scopes within two seconds."""
    state = request.app.state
    await holdings.revoke_role(session, state.policy, account_id, assignment_id, by=caller, clock=state.clock)


@router.post("/v1/accounts/{account_id}/qualifications", status_code=201, openapi_extra=ALL_OBJECTS)
async def record_qualification(
    account_id: UUID, body: schemas.NewQualification, request: Request, session: Write, caller: AccountManager
) -> schemas.Qualification:
    """An agreement signed, a training passed, a vetting done. It counts for the person, with all his accounts."""
    row = QualificationRow(
        new_id(), account_id, new_id(), body.qualification, body.evidence, body.valid_from, body.valid_until
    )
    state = request.app.state
    return _qualification(await holdings.record_qualification(session, state.policy, row, by=caller, clock=state.clock))


@router.get("/v1/accounts/{account_id}/qualifications", openapi_extra=EITHER | ALL_OBJECTS)
async def list_qualifications(account_id: UUID, session: Read, page: Paged, _caller: Officer) -> schemas.Qualifications:
    """What was recorded for an account, with what is over or withdrawn."""
    await known(session, account_id)
    rows = await Reading(session).qualifications(account_id, page.limit + 1, page.after_id())
    if len(rows) > page.limit:
        page.more(str(rows[page.limit - 1].id))
    return schemas.Qualifications(items=[_qualification(row) for row in rows[: page.limit]])


@router.post("/v1/accounts/{account_id}/qualifications/{qualification_id}/withdrawal", openapi_extra=ALL_OBJECTS)
async def withdraw_qualification(
    account_id: UUID,
    qualification_id: UUID,
    body: schemas.NewWithdrawal,
    request: Request,
    session: Write,
    caller: AccountManager,
) -> schemas.Qualification:
    """It counts no more, from now on; that it was recorded stays to be seen. Not for one's own accounts."""
    clock = request.app.state.clock
    row = await holdings.withdraw_qualification(
        session, account_id, qualification_id, body.reason, by=caller, clock=clock
    )
    return _qualification(row)
