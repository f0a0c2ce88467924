"""Leaving and moving over HTTP."""

from typing import Annotated
from uuid import UUID

from fastapi import Query, Request, Response

from dossier_common.app import router as make_router
from dossier_common.database import Read, Write
from dossier_common.paging import Paged
from dossier_common.problems import NotFound
from dossier_common.reach import ALL_OBJECTS
from dossier_gateway.auth import EITHER, AccountManager, Officer
from dossier_gateway.directory import offboarding, offboarding_schemas
from dossier_gateway.directory import offboarding_repository as repository
from dossier_gateway.directory.offboarding import Wish
from dossier_gateway.directory.offboarding_repository import OffboardingRow
from dossier_gateway.directory.offboarding_schemas import Kind
from dossier_gateway.directory.parameters import ByAuthorisation
from dossier_gateway.directory.repository import Reading

router = make_router(tags=["directory"])


@router.post("/v1/accounts/{account_id}/offboarding", status_code=201, openapi_extra=ALL_OBJECTS)
async def offboard_person(
    account_id: UUID,
    body: offboarding_schemas.NewOffboarding,
    request: Request,
    response: Response,
    session: Write,
    caller: AccountManager,
    authorisation: ByAuthorisation = None,
) -> offboarding_schemas.Offboarding:
    """The person leaves, or moves to another unit: one act over all of his accounts (A4.38, A2.6).

    Sessions, tokens and roles end now, at every replica within two seconds; grants, tasks and custody follow.
    """
    state = request.app.state
    wish = Wish(body.kind, body.reason, body.successor, body.unit)
    row = await offboarding.offboard(
        session,
        state.policy,
        account_id,
        wish,
        by=caller,
        clock=state.clock,
        terms=state.oauth.terms,
        authorisation=authorisation,
    )
    response.headers["Location"] = f"/v1/accounts/{account_id}/offboarding"
    return _shown(row)


@router.get("/v1/accounts/{account_id}/offboarding", openapi_extra=EITHER | ALL_OBJECTS)
async def show_offboarding(account_id: UUID, session: Read, _caller: Officer) -> offboarding_schemas.Offboarding:
    """The last time that the person of this account left or moved."""
    account = await Reading(session).account(account_id)
    row = await repository.latest(session, account.person) if account else None
    if row is None:
        raise NotFound("There is no such account, or its person never left or moved.")
    return _shown(row)


@router.get("/v1/offboardings", openapi_extra=EITHER | ALL_OBJECTS)
async def list_offboardings(
    session: Read,
    page: Paged,
    _caller: Officer,
    kind: Annotated[Kind | None, Query()] = None,
    person: Annotated[UUID | None, Query()] = None,
    successor: Annotated[UUID | None, Query(description="Person who goes on with the work")] = None,
) -> offboarding_schemas.Offboardings:
    """Who left or moved, the newest first."""
    rows = await repository.find(
        session,
        kind=kind.value if kind else None,
        person=person,
        successor_person=successor,
        limit=page.limit + 1,
        before=page.after_id(),
    )
    if len(rows) > page.limit:
        page.more(str(rows[page.limit - 1].id))
    return offboarding_schemas.Offboardings(items=[_shown(row) for row in rows[: page.limit]])


def _shown(row: OffboardingRow) -> offboarding_schemas.Offboarding:
    return offboarding_schemas.Offboarding.model_validate(
        {
            "id": row.id,
            "kind": row.kind,
            "reason": row.reason,
            "person": row.person,
            "accounts": row.accounts,
            "units_left": row.units_left,
            "unit": row.unit_to,
            "successor": row.successor_account,
            "successor_person": row.successor_person,
            "by": row.by_account,
            "at": row.at,
        }
    )
