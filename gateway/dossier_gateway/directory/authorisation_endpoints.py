"""Maintenance authorisations over HTTP."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import Query, Request

from dossier_common.app import router as make_router
from dossier_common.database import Read, Write
from dossier_common.paging import Paged
from dossier_common.reach import Reach, objects
from dossier_common.texts import SealedTexts
from dossier_gateway.auth import Anyone
from dossier_gateway.directory import authorisation_repository, authorisations
from dossier_gateway.directory.authorisation_repository import AuthorisationRow
from dossier_gateway.directory.authorisation_schemas import (
    Authorisation,
    Authorisations,
    AuthorisationState,
    AuthorisationVerdict,
    NewAuthorisation,
    NewDecision,
)

router = make_router(tags=["directory"])
OF_PARTY = objects(Reach.PARTY, otherwise=404)


def _texts(request: Request) -> SealedTexts:
    texts: SealedTexts = request.app.state.authorisation_texts
    return texts


def _authorisation(row: AuthorisationRow, texts: SealedTexts) -> Authorisation:
    told: dict[str, Any] = {name: getattr(row, name) for name in Authorisation.model_fields}
    comment = texts.open(row.comment) if row.comment is not None else None
    return Authorisation(**told | {"reason": texts.open(row.reason), "comment": comment})


@router.post("/v1/authorisations", status_code=201)
async def request_authorisation(
    body: NewAuthorisation, request: Request, session: Write, caller: Anyone
) -> Authorisation:
    """Asks for leave to do a maintenance operation oneself; the scope of that operation is needed."""
    texts = _texts(request)
    row = await authorisations.request(
        session,
        request.app.state.policy,
        texts,
        operation=body.operation,
        object_=body.object,
        reason=body.reason,
        by=caller,
        clock=request.app.state.clock,
    )
    return _authorisation(row, texts)


@router.get("/v1/authorisations", openapi_extra=objects(Reach.PARTY, otherwise=200))
async def list_authorisations(
    request: Request,
    session: Read,
    page: Paged,
    caller: Anyone,
    state: Annotated[AuthorisationState | None, Query()] = None,
) -> Authorisations:
    """What the caller asked for, and what one of his scopes decides; the latest first."""
    seen = authorisations.seen_by(caller)
    rows = await authorisation_repository.listed(session, seen, page.limit + 1, page.after_id(), state)
    if len(rows) > page.limit:
        page.more(str(rows[page.limit - 1].id))
    texts = _texts(request)
    return Authorisations(items=[_authorisation(row, texts) for row in rows[: page.limit]])


@router.get("/v1/authorisations/{authorisation_id}", openapi_extra=OF_PARTY)
async def show_authorisation(authorisation_id: UUID, request: Request, session: Read, caller: Anyone) -> Authorisation:
    """One that the caller asked for, or that one of his scopes decides."""
    row = await authorisations.show(session, authorisation_id, caller)
    return _authorisation(row, _texts(request))


@router.post("/v1/authorisations/{authorisation_id}/decision", openapi_extra=OF_PARTY)
async def decide_authorisation(
    authorisation_id: UUID, body: NewDecision, request: Request, session: Write, caller: Anyone
) -> Authorisation:
    """Allows it or not: another person than who asked and than whom it is about, with one of the scopes `deciders`."""
    texts = _texts(request)
    row = await authorisations.decide(
        session,
        request.app.state.policy,
        texts,
        authorisation_id,
        approve=body.verdict is AuthorisationVerdict.APPROVE,
        comment=body.comment,
        by=caller,
        clock=request.app.state.clock,
    )
    return _authorisation(row, texts)
