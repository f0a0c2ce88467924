"""Sessions, passwords and second factors over HTTP: one's own, and those of others for who keeps accounts."""

from uuid import UUID

from fastapi import Request, Response
from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common.app import router as make_router
from dossier_common.database import WRITES, Read, Write, backlog_of
from dossier_common.identity import Subject
from dossier_common.problems import Forbidden
from dossier_common.reach import ALL_OBJECTS, Reach, objects
from dossier_gateway.auth import AccountManager, Anyone
from dossier_gateway.directory.known import known
from dossier_gateway.directory.parameters import ByAuthorisation
from dossier_gateway.oauth import repository as accounts
from dossier_gateway.oauth import token_records
from dossier_gateway.sessions import schemas, service
from dossier_gateway.tokens import Terms

router = make_router(tags=["sessions"])


@router.get("/v1/me/sessions", summary="One's own sessions", openapi_extra=objects(Reach.OWN, otherwise=200))
async def list_own_sessions(request: Request, session: Read, caller: Anyone) -> schemas.Sessions:
    """The browsers that are signed in with the caller's account; none for an application."""
    if caller.account is None:
        return schemas.Sessions(items=[])
    return await _listed(request, session, caller.account, current=await _session_of(request, session))


@router.delete(
    "/v1/me/sessions/{session_id}",
    status_code=204,
    summary="End one's own session",
    openapi_extra=objects(Reach.OWN, otherwise=404),
)
async def end_own_session(session_id: UUID, request: Request, session: Write, caller: Anyone) -> Response:
    """Ends it, with every token that came from it, at every replica within two seconds."""
    term = _terms(request).family
    await service.end_own(session, session_id, by=caller, now=request.app.state.clock.now(), term=term)
    return Response(status_code=204)


@router.get("/v1/accounts/{account_id}/sessions", summary="The sessions of an account", openapi_extra=ALL_OBJECTS)
async def list_sessions(account_id: UUID, request: Request, session: Read, _caller: AccountManager) -> schemas.Sessions:
    """The browsers that are signed in with it."""
    await known(session, account_id)
    return await _listed(request, session, account_id, current=None)


@router.delete(
    "/v1/accounts/{account_id}/sessions",
    status_code=204,
    summary="End all sessions of an account",
    openapi_extra=ALL_OBJECTS,
)
async def end_sessions(
    account_id: UUID,
    request: Request,
    session: Write,
    caller: AccountManager,
    authorisation: ByAuthorisation = None,
) -> Response:
    """Ends them, with every token that came from them. Not of one's own accounts."""
    await _end(request, session, account_id, None, caller, authorisation)
    return Response(status_code=204)


@router.delete(
    "/v1/accounts/{account_id}/sessions/{session_id}",
    status_code=204,
    summary="End one session of an account",
    openapi_extra=ALL_OBJECTS,
)
async def end_session(
    account_id: UUID,
    session_id: UUID,
    request: Request,
    session: Write,
    caller: AccountManager,
    authorisation: ByAuthorisation = None,
) -> Response:
    """Ends it, with every token that came from it. Not of one's own accounts."""
    await _end(request, session, account_id, session_id, caller, authorisation)
    return Response(status_code=204)


@router.post("/v1/me/password", status_code=204, summary="Change one's own password")
async def change_own_password(body: schemas.NewPassword, request: Request, caller: Anyone) -> Response:
    """Replaces the caller's password, and ends all his sessions but the one of this call.

    A wrong present password counts as a sign-in that failed. 422 with `wrong`, or with what the policy has against the
    new one.
    """
    backlog_of(request).ensure(WRITES)
    async with request.app.state.database.session() as session:
        user = await session.run_sync(accounts.user, caller.account) if caller.account else None
        keep = await _session_of(request, session)
    if user is None:
        raise Forbidden("Only people have passwords.")
    await request.app.state.desk.change_password(user, body.password, body.new_password, keep=keep, by=caller)
    return Response(status_code=204)


@router.post(
    "/v1/accounts/{account_id}/password-expiry",
    status_code=204,
    summary="Have a password changed at once (A6.3.2)",
    openapi_extra=ALL_OBJECTS,
)
async def expire_password(account_id: UUID, request: Request, session: Write, caller: AccountManager) -> Response:
    """On suspicion: the next sign-in asks for another password, and all sessions end. Not of one's own accounts."""
    now, term = request.app.state.clock.now(), _terms(request).family
    await service.expire_password(session, account_id, by=caller, now=now, term=term)
    return Response(status_code=204)


@router.delete(
    "/v1/accounts/{account_id}/second-factor",
    status_code=204,
    summary="Remove a second factor that was lost",
    openapi_extra=ALL_OBJECTS,
)
async def reset_second_factor(
    account_id: UUID,
    request: Request,
    session: Write,
    caller: AccountManager,
    authorisation: ByAuthorisation = None,
) -> Response:
    """The person enrols anew at his next sign-in, where his roles need one; all sessions end. Not of one's own."""
    state = request.app.state
    await service.reset_second_factor(
        session,
        state.policy,
        account_id,
        by=caller,
        clock=state.clock,
        term=_terms(request).family,
        authorisation=authorisation,
    )
    return Response(status_code=204)


def _terms(request: Request) -> Terms:
    terms: Terms = request.app.state.oauth.terms
    return terms


async def _end(
    request: Request, session: AsyncSession, account: UUID, only: UUID | None, by: Subject, named: UUID | None
) -> None:
    state = request.app.state
    await service.end_by_officer(
        session,
        state.policy,
        account,
        only,
        by=by,
        clock=state.clock,
        term=_terms(request).family,
        authorisation=named,
    )


async def _session_of(request: Request, session: AsyncSession) -> UUID | None:
    """The session that the token of this call came from."""
    _, _, token = request.headers.get("authorization", "").partition(" ")
    family = (await request.app.state.callers.resolve(token.strip())).access.family
    return await session.run_sync(token_records.session_of, family) if family else None


async def _listed(request: Request, session: AsyncSession, account: UUID, *, current: UUID | None) -> schemas.Sessions:
    now = request.app.state.clock.now()
    items = [
        schemas.Session(
            id=row.id,
            current=row.id == current,
            signed_in_at=row.signed_in_at,
            last_seen_at=row.last_seen_at,
            idle_ends_at=row.idle_ends_at,
            expires_at=row.expires_at,
            zone=row.zone,
            amr=list(row.amr),
            clients=sorted(clients),
        )
        for row, clients in await service.listed(session, account, now, _terms(request).access)
    ]
    return schemas.Sessions(items=items)
