"""Endpoints with which clients end what they hold, or ask about it: revocation, introspection, logout."""

from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from authlib.oauth2.rfc6749 import OAuth2Error, OAuth2Request
from fastapi import Request, Response

from dossier_common import outbox
from dossier_common.app import router as make_router
from dossier_common.identity import Subject
from dossier_common.problems import Invalid
from dossier_gateway.console import pages
from dossier_gateway.oauth import introspection, logout, protocol, revocation
from dossier_gateway.oauth.door import Door, Here
from dossier_gateway.oauth.endpoints import SEE_OTHER
from dossier_gateway.oauth.forms import read_form, read_query
from dossier_gateway.oauth.logout import Leave
from dossier_gateway.oauth.server import Asked, Server

router = make_router(tags=["oauth"])
LOGOUT: Final = "/oauth/logout"
KEPT: Final = ("client_id", "post_logout_redirect_uri", "state", "ui_locales")
"""What a page of ours carries on; never the hint, which says who somebody is and has no business in an address."""

Work = Callable[[Server, OAuth2Request], dict[str, Any]]


@router.post("/oauth/revoke", include_in_schema=False)
async def revoke_token(request: Request) -> Response:
    """RFC 7009. Not kept back by what waits for its audit record: it only ends rights."""
    return await _managed(request, revocation.revoke)


@router.post("/oauth/introspect", include_in_schema=False)
async def introspect_token(request: Request) -> Response:
    """RFC 7662."""
    return await _managed(request, introspection.introspect)


async def _managed(request: Request, work: Work) -> Response:
    state = request.app.state
    try:
        asked = await protocol.read(request)
    except OAuth2Error as error:
        return protocol.refusal(error)
    now = state.clock.now()
    async with state.database.transaction() as session:
        answer, call = await session.run_sync(state.oauth.manage, asked, now, work)
        for event in call.events:
            await outbox.add(session, event, by=Subject(client=event.client_id, scopes=frozenset()), at=now)
    return Response(answer.body, answer.status, answer.headers)


@router.get(LOGOUT, include_in_schema=False)
async def show_logout(door: Here) -> Response:
    """Ends the session of this browser for an application that shows whose it is; else asks."""
    return await _leave(door, read_query(door.request), confirmed=False)


@router.post(LOGOUT, include_in_schema=False)
async def log_out(door: Here) -> Response:
    """The same by a form of the application; or the answer to our own page, whose request stands in the address."""
    parameters = await read_form(door.request)
    ours = dict(parameters).get("form")
    if ours is None:
        return await _leave(door, parameters, confirmed=False)
    if not door.form_is_ours(ours):
        raise Invalid("The form is none of this browser.")
    return await _leave(door, read_query(door.request), confirmed=True)


async def _leave(door: Door, parameters: Sequence[tuple[str, str]], *, confirmed: bool) -> Response:
    asked = Asked(door.request.method, LOGOUT, parameters)
    user = await door.signed_in()
    try:
        async with door.database.session() as session:
            call = door.server.call(session.sync_session, door.now)
            leave = await session.run_sync(logout.read, door.server, asked, call)
    except OAuth2Error as error:
        return pages.render(door.request, "error.html", status=400, code=error.error, detail=error.description)
    # A form of another site comes without our cookie, so that its silence says nothing.
    nobody = user is None and (confirmed or door.request.method == "GET")
    its_own = user is not None and user.session == leave.session
    if not (confirmed or nobody or its_own):
        return _ask(door, {name: value for name, value in parameters if name in KEPT}, leave)
    if user is not None:
        await door.desk.sign_out(door.cookie(door.session_cookie))
    response = _left(door, leave)
    door.drop_cookie(response, door.session_cookie)
    return response


def _left(door: Door, leave: Leave) -> Response:
    if leave.redirect is None:
        return pages.render(door.request, "signed_out.html")
    return Response(status_code=SEE_OTHER, headers={"Location": leave.redirect, "Cache-Control": "no-store"})


def _ask(door: Door, kept: dict[str, str], leave: Leave) -> Response:
    return door.page("sign_out.html", action=f"{LOGOUT}?{urlencode(kept)}", redirect=leave.redirect)
