"""The organisation tree over HTTP."""

from uuid import UUID

from fastapi import Request, Response

from dossier_common import preconditions
from dossier_common.app import router as make_router
from dossier_common.database import Read, Write
from dossier_common.ids import new_id
from dossier_common.paging import Paged
from dossier_common.problems import NotFound
from dossier_common.reach import ALL_OBJECTS
from dossier_gateway.auth import AccountManager, Anyone
from dossier_gateway.directory import schemas, units
from dossier_gateway.directory.parameters import ByAuthorisation, IfMatch
from dossier_gateway.directory.repository import Reading, UnitRow

router = make_router(tags=["directory"])


def _unit(row: UnitRow, response: Response | None = None) -> schemas.Unit:
    if response is not None:
        response.headers["ETag"] = preconditions.etag(row.version)
    title = schemas.Title(zh=row.title_zh, en=row.title_en)
    return schemas.Unit(id=row.id, code=row.code, title=title, kind=row.kind, parent=row.parent, version=row.version)


@router.post("/v1/units", status_code=201, openapi_extra=ALL_OBJECTS)
async def create_unit(
    body: schemas.NewUnit,
    request: Request,
    response: Response,
    session: Write,
    caller: AccountManager,
    authorisation: ByAuthorisation = None,
) -> schemas.Unit:
    """A unit below another."""
    state = request.app.state
    unit = UnitRow(new_id(), body.code, body.title.zh, body.title.en, body.kind, body.parent)
    made = await units.create(session, state.policy, unit, by=caller, clock=state.clock, authorisation=authorisation)
    return _unit(made, response)


@router.get("/v1/units", openapi_extra=ALL_OBJECTS)
async def list_units(session: Read, page: Paged, _caller: Anyone) -> schemas.Units:
    """All units, in the order of their making."""
    rows = await Reading(session).units(page.limit + 1, page.after_id())
    if len(rows) > page.limit:
        page.more(str(rows[page.limit - 1].id))
    return schemas.Units(items=[_unit(row) for row in rows[: page.limit]])


@router.get("/v1/units/{unit_id}", openapi_extra=ALL_OBJECTS)
async def show_unit(unit_id: UUID, session: Read, response: Response, _caller: Anyone) -> schemas.Unit:
    """One unit."""
    row = await Reading(session).unit(unit_id)
    if row is None:
        raise NotFound("There is no such unit.")
    return _unit(row, response)


@router.patch("/v1/units/{unit_id}", openapi_extra=ALL_OBJECTS)
async def change_unit(
    unit_id: UUID,
    body: schemas.UnitPatch,
    request: Request,
    response: Response,
    session: Write,
    caller: AccountManager,
    if_match: IfMatch = None,
    authorisation: ByAuthorisation = None,
) -> schemas.Unit:
    """Another title, or another place in the tree, with all that is below it (merge patch)."""
    state = request.app.state
    title = (body.title.zh, body.title.en) if body.title else None
    row = await units.change(
        session,
        state.policy,
        unit_id,
        units.UnitChange(title, body.parent),
        if_match=if_match,
        by=caller,
        clock=state.clock,
        authorisation=authorisation,
    )
    return _unit(row, response)
