"""Registered applications over HTTP."""

from typing import Annotated, Any

from fastapi import Path, Request, Response

from dossier_common import preconditions
from dossier_common.app import router as make_router
from dossier_common.database import Read, Write
from dossier_common.paging import Paged
from dossier_common.problems import NotFound
from dossier_gateway.auth import ClientManager
from dossier_gateway.directory import client_repository, client_rules, client_schemas, clients
from dossier_gateway.directory.client_repository import ClientRow
from dossier_gateway.directory.paging import after_name

router = make_router(tags=["directory"])
ClientId = Annotated[str, Path(max_length=64, pattern=r"^[a-z][a-z0-9-]*$")]


def _client(row: ClientRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "title": row.title,
        "grant_types": row.grant_types,
        "scopes": row.scopes,
        "redirect_uris": row.redirect_uris,
        "post_logout_redirect_uris": row.post_logout_redirect_uris,
        "confidential": row.confidential,
        "jwks": row.jwks,
        "zones": row.zones,
        "version": row.version,
    }


def _zones(request: Request) -> frozenset[str]:
    settings = request.app.state.settings
    return frozenset({*settings.zones.values(), settings.other_zone})


@router.post("/v1/clients", status_code=201)
async def register_client(
    body: client_schemas.NewClient, request: Request, response: Response, session: Write, caller: ClientManager
) -> client_schemas.CreatedClient:
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
    state = request.app.state
    secret = await clients.register(session, state.policy, row, _zones(request), by=caller, clock=state.clock)
    response.headers["ETag"] = preconditions.etag(row.version)
    return client_schemas.CreatedClient(**_client(row), secret=secret)


@router.get("/v1/clients")
async def list_clients(session: Read, page: Paged, _caller: ClientManager) -> client_schemas.Clients:
    """Registered applications, by id."""
    rows = await client_repository.clients(session, page.limit + 1, after_name(page))
    if len(rows) > page.limit:
        page.more(rows[page.limit - 1].id)
    return client_schemas.Clients(items=[client_schemas.Client(**_client(row)) for row in rows[: page.limit]])


@router.get("/v1/clients/{client_id}")
async def show_client(
    client_id: ClientId, session: Read, response: Response, _caller: ClientManager
) -> client_schemas.Client:
    """One application."""
    row = await client_repository.client(session, client_id)
    if row is None:
        raise NotFound("There is no such client.")
    response.headers["ETag"] = preconditions.etag(row.version)
    return client_schemas.Client(**_client(row))
