"""Registered applications over HTTP."""

from typing import Annotated, Any

from fastapi import Depends, Path, Request, Response

from dossier_common import preconditions
from dossier_common.app import router as make_router
from dossier_common.database import Read, Write
from dossier_common.paging import Paged
from dossier_common.problems import NotFound
from dossier_common.reach import ALL_OBJECTS
from dossier_gateway.auth import ClientManager
from dossier_gateway.directory import client_repository, client_rules, clients
from dossier_gateway.directory import client_schemas as schemas
from dossier_gateway.directory.client_repository import ClientRow
from dossier_gateway.directory.clients import Change
from dossier_gateway.directory.parameters import ByAuthorisation, IfMatch
from dossier_gateway.directory.schemas import Disabling

router = make_router(tags=["directory"])
ClientId = Annotated[str, Path(max_length=64, pattern=r"^[a-z][a-z0-9-]*$")]


def _fields(row: ClientRow, response: Response | None = None) -> dict[str, Any]:
    if response is not None:
        response.headers["ETag"] = preconditions.etag(row.version)
    told = {name: getattr(row, name) for name in schemas.Client.model_fields if name != "former_secret_until"}
    return told | {"former_secret_until": row.former_until}


def _zones(request: Request) -> frozenset[str]:
    settings = request.app.state.settings
    return frozenset({*settings.zones.values(), settings.other_zone})


async def _change(request: Request, caller: ClientManager, authorisation: ByAuthorisation = None) -> Change:
    return Change(request.app.state.policy, caller, request.app.state.clock, authorisation)


Changing = Annotated[Change, Depends(_change)]


@router.post("/v1/clients", status_code=201)
async def register_client(
    body: schemas.NewClient, request: Request, response: Response, session: Write, change: Changing
) -> schemas.CreatedClient:
    """An application, with the scopes that it may ask for. 409 `duty-conflict` as for roles."""
    row = ClientRow(
        body.id,
        body.title,
        sorted({str(each) for each in body.grant_types}),
        sorted({str(each) for each in body.scopes}),
        body.redirect_uris,
        body.confidential,
        first_party=False,
        post_logout_redirect_uris=body.post_logout_redirect_uris,
        jwks=client_rules.public_keys(body.jwks.keys) if body.jwks else None,
        zones=sorted(set(body.zones)),
    )
    secret = await clients.register(session, row, _zones(request), change)
    return schemas.CreatedClient(**_fields(row, response), secret=secret)


@router.get("/v1/clients", openapi_extra=ALL_OBJECTS)
async def list_clients(session: Read, page: Paged, _caller: ClientManager) -> schemas.Clients:
    """Registered applications, by id."""
    rows = await client_repository.clients(session, page.limit + 1, page.starts(str))
    if len(rows) > page.limit:
        page.more(rows[page.limit - 1].id)
    return schemas.Clients(items=[schemas.Client(**_fields(row)) for row in rows[: page.limit]])


@router.get("/v1/clients/{client_id}", openapi_extra=ALL_OBJECTS)
async def show_client(client_id: ClientId, session: Read, response: Response, _caller: ClientManager) -> schemas.Client:
    """One application."""
    row = await client_repository.client(session, client_id)
    if row is None:
        raise NotFound("There is no such client.")
    return schemas.Client(**_fields(row, response))


@router.patch("/v1/clients/{client_id}", openapi_extra=ALL_OBJECTS)
async def change_client(
    client_id: ClientId,
    body: schemas.ClientPatch,
    request: Request,
    response: Response,
    session: Write,
    change: Changing,
    if_match: IfMatch = None,
) -> schemas.Client:
    """Other fields (merge patch). 409 `duty-conflict` as at registration."""
    wanted = body.model_dump(exclude_unset=True, mode="json")
    wanted |= {name: sorted(set(wanted[name])) for name in ("scopes", "zones") if name in wanted}
    if body.jwks:
        wanted["jwks"] = client_rules.public_keys(body.jwks.keys)
    row = await clients.alter(session, client_id, wanted, _zones(request), change, if_match=if_match)
    return schemas.Client(**_fields(row, response))


@router.post("/v1/clients/{client_id}/secrets", status_code=201, openapi_extra=ALL_OBJECTS)
async def issue_client_secret(
    client_id: ClientId, body: schemas.NewSecret, response: Response, session: Write, change: Changing
) -> schemas.CreatedClient:
    """Another secret, shown this once; the one before holds for the overlap."""
    row, secret = await clients.issue_secret(session, client_id, body.overlap, change)
    return schemas.CreatedClient(**_fields(row, response), secret=secret)


@router.delete("/v1/clients/{client_id}/secrets/former", status_code=204, openapi_extra=ALL_OBJECTS)
async def end_former_client_secret(client_id: ClientId, session: Write, change: Changing) -> None:
    """The secret before the present one holds no more."""
    await clients.end_former_secret(session, client_id, change)


@router.post("/v1/clients/{client_id}/disabling", openapi_extra=ALL_OBJECTS)
async def disable_client(
    client_id: ClientId, body: Disabling, request: Request, response: Response, session: Write, change: Changing
) -> schemas.Client:
    """Ends its tokens, and those that persons got by it, within two seconds at every replica."""
    terms = request.app.state.oauth.terms
    row = await clients.disable(session, client_id, body.reason, change, terms)
    return schemas.Client(**_fields(row, response))


@router.post("/v1/clients/{client_id}/enabling", openapi_extra=ALL_OBJECTS)
async def enable_client(client_id: ClientId, response: Response, session: Write, change: Changing) -> schemas.Client:
    """It may ask for tokens again."""
    return schemas.Client(**_fields(await clients.enable(session, client_id, change), response))
