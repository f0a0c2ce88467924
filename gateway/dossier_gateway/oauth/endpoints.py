"""The OAuth2 endpoints: authorize with the sign-in page, token, keys, metadata, sign-out."""

from functools import partial
from typing import Any
from urllib.parse import urlencode

from authlib.oauth2.rfc6749 import OAuth2Error
from fastapi import Request, Response

from dossier_common.app import router as make_router
from dossier_common.problems import Invalid
from dossier_gateway.console import pages
from dossier_gateway.keys import JWKS_MAX_AGE
from dossier_gateway.oauth import issuing, metadata, prompts, protocol, repository, sign_in
from dossier_gateway.oauth.clients import RegisteredClient
from dossier_gateway.oauth.door import Door, Here
from dossier_gateway.oauth.errors import LoginRequired
from dossier_gateway.oauth.forms import read_form, read_query
from dossier_gateway.oauth.server import Answer, Asked
from dossier_gateway.second_factor import ONE_TIME

router = make_router(tags=["oauth"])
SEE_OTHER = 303


def _redirect(answer: Answer) -> Response:
    assert answer.location is not None
    return Response(status_code=SEE_OTHER, headers={"Location": answer.location, "Cache-Control": "no-store"})


def _refused(door: Door, error: OAuth2Error) -> Response:
    answer = door.server.refusal(error)
    if answer.location is not None:
        return _redirect(answer)
    return pages.render(door.request, "error.html", status=400, code=error.error, detail=error.get_error_description())


@router.get("/oauth/authorize", include_in_schema=False)
async def show_sign_in(door: Here) -> Response:
    """Checks the authorization request, then answers it, or asks who is there."""
    return await _authorize(door, Asked("GET", "/oauth/authorize", read_query(door.request)), agreed=False)


@router.post("/oauth/authorize", include_in_schema=False)
async def take_sign_in(door: Here) -> Response:
    """Takes the sign-in form, and those of the steps after it. The authorization request stands in the address.

    Raises AuditUnavailable while too much waits for its audit record; signing out goes on, since it only ends rights.
    """
    asked = Asked("GET", "/oauth/authorize", read_query(door.request))
    form = {name: value for name, value in await read_form(door.request) if name in sign_in.FIELDS}
    if form.get("agree") and door.form_is_ours(form.get("form", "")):
        return await _authorize(door, asked, agreed=True)
    try:
        async with door.database.session() as session:
            grant = await session.run_sync(door.server.consent, asked, door.now)
    except OAuth2Error as error:
        return _refused(door, error)
    show = partial(_page, door, asked, redirect=grant.redirect_uri, application=grant.request.client.title)

    async def arrive(secret: str) -> Response:
        return await _authorize(door, asked, agreed=True, secret=secret)

    return await sign_in.take(door, form, show, arrive)


async def _authorize(door: Door, asked: Asked, *, agreed: bool, secret: str | None = None) -> Response:
    """Answers with a code, when it is known who is there and he has agreed; else with the page that asks."""
    try:
        async with door.database.session() as session:
            grant = await session.run_sync(door.server.consent, asked, door.now)
        client: RegisteredClient = grant.request.client
        wish = dict(asked.parameters)
        user = await _enough(door, await door.signed_in(secret))
        if user is not None and secret is None and prompts.sign_in_again(wish, user.signed_in_at, door.now):
            user = None
        if wish.get("prompt") == "none" and (user is None or not client.first_party):
            raise LoginRequired(
                "Nobody is signed in.", redirect_uri=grant.redirect_uri, state=grant.request.payload.state
            )
    except OAuth2Error as error:
        return _refused(door, error)
    if user is None:
        return _page(door, asked, redirect=grant.redirect_uri, application=client.title)
    if not agreed and (not client.first_party or prompts.asks_consent(wish)):
        name = user.user.display_name
        return _page(door, asked, "agree.html", redirect=grant.redirect_uri, application=client.title, name=name)
    async with door.database.transaction() as session:
        answer, call = await session.run_sync(door.server.authorize, asked, user, door.now)
        assert not call.events
        await session.run_sync(repository.touch, user.session, door.now, door.server.idle)
    return _redirect(answer)


async def _enough(door: Door, user: repository.SignedInUser | None) -> repository.SignedInUser | None:
    """Who is signed in, if it was with a second factor where his roles ask for one; else he signs in once more."""
    if user is None or ONE_TIME in user.amr:
        return user
    async with door.database.session() as session:
        return None if await door.desk.needs_factor(session, user.user, door.now) else user


def _page(door: Door, asked: Asked, template: str = "sign_in.html", **values: Any) -> Response:
    return door.page(template, action=f"/oauth/authorize?{urlencode(asked.parameters)}", **values)


@router.post("/oauth/token", include_in_schema=False)
async def issue_token(door: Here) -> Response:
    """RFC 6749, 3.2: an error of the protocol commits as a success does."""
    try:
        asked = await protocol.read(door.request)
    except OAuth2Error as error:
        return protocol.refusal(error)
    async with door.database.transaction() as session:
        status, body, answered = await issuing.issue_token(session, door.server, asked, door.now, door.backlog)
    return Response(body, status, answered)


@router.post("/oauth/sign-out", include_in_schema=False)
async def sign_out(door: Here) -> Response:
    """Ends the session of this browser, by a form that we made."""
    form = dict(await read_form(door.request))
    if not door.form_is_ours(form.get("form", "")):
        raise Invalid("The form is none of this browser.")
    await door.desk.sign_out(door.cookie(door.session_cookie))
    response = pages.render(door.request, "signed_out.html")
    door.drop_cookie(response, door.session_cookie)
    return response


@router.get("/oauth/sign-out", include_in_schema=False)
async def show_sign_out(door: Here) -> Response:
    """Asks before it ends the session, since a link may be anybody's."""
    return door.page("sign_out.html")


@router.get("/oauth/jwks.json", include_in_schema=False)
async def show_keys(request: Request, response: Response) -> dict[str, Any]:
    """The public keys of tokens."""
    response.headers["Cache-Control"] = f"public, max-age={JWKS_MAX_AGE}"
    jwks: dict[str, Any] = request.app.state.tokens.jwks()
    return jwks


@router.get("/.well-known/oauth-authorization-server", include_in_schema=False)
async def show_metadata(request: Request) -> dict[str, Any]:
    """RFC 8414."""
    return metadata.metadata(request.app.state.oauth)


@router.get("/.well-known/openid-configuration", include_in_schema=False)
async def show_openid_metadata(request: Request) -> dict[str, Any]:
    """OpenID Connect Discovery."""
    return metadata.openid_metadata(request.app.state.oauth)
