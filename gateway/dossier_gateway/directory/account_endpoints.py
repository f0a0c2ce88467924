"""Accounts over HTTP."""

from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Query, Request, Response

from dossier_common import preconditions
from dossier_common.app import router as make_router
from dossier_common.database import Read, Write
from dossier_common.paging import Paged
from dossier_common.reach import ALL_OBJECTS
from dossier_gateway.auth import EITHER, AccountManager, Officer, RoleAssigner
from dossier_gateway.directory import accounts, schemas
from dossier_gateway.directory.holding_endpoints import as_assignment
from dossier_gateway.directory.known import known
from dossier_gateway.directory.parameters import ByAuthorisation, IfMatch
from dossier_gateway.directory.repository import AccountFilter, AccountRow, Reading

router = make_router(tags=["directory"])


def _term(request: Request) -> timedelta:
    return timedelta(days=request.app.state.settings.enrolment_days)


def _fields(row: AccountRow, response: Response | None = None) -> dict[str, Any]:
    if response is not None:
        response.headers["ETag"] = preconditions.etag(row.version)
    return {name: getattr(row, name) for name in schemas.Account.model_fields}


async def _filter(
    unit: Annotated[UUID | None, Query(description="Home unit")] = None,
    state: Annotated[schemas.AccountState | None, Query()] = None,
    person: Annotated[UUID | None, Query()] = None,
) -> AccountFilter:
    return AccountFilter(unit, state, person)


@router.post("/v1/accounts", status_code=201, openapi_extra=ALL_OBJECTS)
async def create_account(
    body: schemas.NewAccount,
    request: Request,
    response: Response,
    session: Write,
    caller: AccountManager,
    authorisation: ByAuthorisation = None,
) -> schemas.CreatedAccount:
    """An account, with a one-time code for its person. A further account names the person."""
    row = accounts.new(body.username, body.display_name, body.unit, body.person)
    state = request.app.state
    code = await accounts.create(
        session,
        state.policy,
        row,
        further=body.person is not None,
        by=caller,
        clock=state.clock,
        term=_term(request),
        authorisation=authorisation,
    )
    return schemas.CreatedAccount(**_fields(await known(session, row.id), response), enrolment_code=code)


@router.get("/v1/accounts", openapi_extra=EITHER | ALL_OBJECTS)
async def list_accounts(
    session: Read, page: Paged, _caller: Officer, wanted: Annotated[AccountFilter, Depends(_filter)]
) -> schemas.Accounts:
    """Accounts in the order of their making: all, or those of a unit, a state, a person."""
    rows = await Reading(session).accounts(page.limit + 1, page.after_id(), wanted)
    if len(rows) > page.limit:
        page.more(str(rows[page.limit - 1].id))
    return schemas.Accounts(items=[schemas.Account(**_fields(row)) for row in rows[: page.limit]])


@router.get("/v1/accounts/{account_id}", openapi_extra=EITHER | ALL_OBJECTS)
async def show_account(
    account_id: UUID, request: Request, session: Read, response: Response, _caller: Officer
) -> schemas.AccountDetails:
    """One account, with the roles and qualifications of its person that are in force."""
    row = await known(session, account_id)
    reading, now = Reading(session), request.app.state.clock.now()
    return schemas.AccountDetails(
        **_fields(row, response),
        roles=[as_assignment(each) for each in await reading.assignments(account_id, now)],
        qualifications=sorted(await reading.valid_qualifications(row.person, now.date())),
    )


@router.patch("/v1/accounts/{account_id}", openapi_extra=ALL_OBJECTS)
async def change_account(
    account_id: UUID,
    body: schemas.AccountPatch,
    request: Request,
    response: Response,
    session: Write,
    caller: AccountManager,
    if_match: IfMatch = None,
) -> schemas.Account:
    """Another name that people see, or another home unit (merge patch). Not for one's own accounts."""
    wanted = accounts.AccountChange(body.display_name, body.unit)
    clock = request.app.state.clock
    row = await accounts.change(session, account_id, wanted, if_match=if_match, by=caller, clock=clock)
    return schemas.Account(**_fields(row, response))


@router.post("/v1/accounts/{account_id}/disabling", openapi_extra=ALL_OBJECTS)
async def disable_account(
    account_id: UUID,
    body: schemas.Disabling,
    request: Request,
    response: Response,
    session: Write,
    caller: AccountManager,
    authorisation: ByAuthorisation = None,
) -> schemas.Account:
    """Ends all that the account can do, within two seconds at every replica. Not for one's own accounts."""
    state = request.app.state
    row = await accounts.disable(
        session,
        state.policy,
        account_id,
        body.reason,
        by=caller,
        clock=state.clock,
        terms=state.oauth.terms,
        authorisation=authorisation,
    )
    return schemas.Account(**_fields(row, response))


@router.post("/v1/accounts/{account_id}/enabling", openapi_extra=ALL_OBJECTS)
async def enable_account(
    account_id: UUID,
    request: Request,
    response: Response,
    session: Write,
    caller: AccountManager,
    authorisation: ByAuthorisation = None,
) -> schemas.Account:
    """The account may be signed in to again; what it had open stays ended. Not for one's own accounts."""
    state = request.app.state
    row = await accounts.enable(
        session, state.policy, account_id, by=caller, clock=state.clock, authorisation=authorisation
    )
    return schemas.Account(**_fields(row, response))


@router.post("/v1/accounts/{account_id}/enrolment-codes", status_code=201, openapi_extra=ALL_OBJECTS)
async def issue_enrolment(
    account_id: UUID,
    request: Request,
    session: Write,
    caller: AccountManager,
    authorisation: ByAuthorisation = None,
) -> schemas.EnrolmentCode:
    """Another one-time code, for a person who lost his password; the one before is void."""
    state = request.app.state
    code = await accounts.issue_enrolment(
        session,
        state.policy,
        account_id,
        by=caller,
        clock=state.clock,
        term=_term(request),
        authorisation=authorisation,
    )
    return schemas.EnrolmentCode(enrolment_code=code)


@router.put("/v1/accounts/{account_id}/clearance", openapi_extra=ALL_OBJECTS)
async def change_clearance(
    account_id: UUID,
    body: schemas.NewClearance,
    request: Request,
    response: Response,
    session: Write,
    caller: RoleAssigner,
    if_match: IfMatch = None,
) -> schemas.Account:
    """Up to which level of secrecy the account is cleared."""
    state = request.app.state
    row = await accounts.change_clearance(
        session, state.policy, account_id, body.clearance, if_match=if_match, by=caller, clock=state.clock
    )
    return schemas.Account(**_fields(row, response))
