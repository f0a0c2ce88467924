"""The OAuth2 endpoints: authorize with the sign-in page, token, keys, metadata, sign-out."""

import hmac
import secrets
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlencode

from authlib.oauth2.rfc6749 import OAuth2Error
from fastapi import Depends, Request, Response

from dossier_common.app import router as make_router
from dossier_common.backlog import Backlog
from dossier_common.database import WRITES, Database
from dossier_common.problems import Invalid, Malformed, UnsupportedMedia
from dossier_gateway.console import pages
from dossier_gateway.oauth import repository, service
from dossier_gateway.oauth.clients import OPENID, RegisteredClient
from dossier_gateway.oauth.errors import LoginRequired
from dossier_gateway.oauth.server import FORM, Answer, Asked, Server
from dossier_gateway.oauth.service import SignInDesk

router = make_router(tags=["oauth"])
MAX_FIELDS = 50
SEE_OTHER = 303
SIGN_IN_FIELDS = ("username", "password", "new_password", "form", "agree")


class Door:
    """What these endpoints take from the application."""

    def __init__(self, request: Request) -> None:
        state = request.app.state
        self.request = request
        self.server: Server = state.oauth
        self.desk: SignInDesk = state.desk
        self.database: Database = state.database
        self.backlog: Backlog = state.backlog
        self.now = state.clock.now()
        self.secure: bool = state.settings.secure
        prefix = "__Host-" if self.secure else ""
        self.session_cookie, self.form_cookie = f"{prefix}dossier-session", f"{prefix}dossier-form"
        self._secret: bytes = state.signing_key.derive("sign-in form")

    async def signed_in(self, secret: str | None) -> repository.SignedInUser | None:
        """Who is signed in with this browser; `secret` is that of a session that it does not have yet."""
        secret = secret or self.request.cookies.get(self.session_cookie)
        if not secret:
            return None
        async with self.database.session() as session:
            return await session.run_sync(repository.signed_in, secret, self.now)

    def form_token(self, cookie: str) -> str:
        """What a form must carry that was made for the browser with this cookie."""
        return hmac.new(self._secret, cookie.encode(), "sha256").hexdigest()

    def form_is_ours(self, given: str) -> bool:
        """Whether the form was made by us for this browser."""
        cookie = self.request.cookies.get(self.form_cookie, "")
        return bool(cookie) and hmac.compare_digest(self.form_token(cookie), given)

    def set_cookie(self, response: Response, name: str, value: str) -> None:
        """Sets a cookie for this browser's session, which no script and no other site's form sees."""
        response.set_cookie(name, value, path="/", httponly=True, secure=self.secure, samesite="lax")


Here = Annotated[Door, Depends(Door)]


async def _form(request: Request) -> list[tuple[str, str]]:
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != FORM:
        raise UnsupportedMedia(f"The body is {FORM}.")
    try:
        return parse_qsl((await request.body()).decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError as error:
        raise Malformed("The form cannot be read.") from error


def _query(request: Request) -> list[tuple[str, str]]:
    try:
        return parse_qsl(request.scope["query_string"].decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError as error:
        raise Malformed("The query cannot be read.") from error


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
    return await _authorize(door, Asked("GET", "/oauth/authorize", _query(door.request)), agreed=False)


@router.post("/oauth/authorize", include_in_schema=False)
async def sign_in(door: Here) -> Response:
    """Takes the sign-in form. The authorization request stands in the address, as it came.

    Raises AuditUnavailable while too much waits for its audit record; signing out goes on, since it only ends rights.
    """
    asked = Asked("GET", "/oauth/authorize", _query(door.request))
    form = {name: value for name, value in await _form(door.request) if name in SIGN_IN_FIELDS}
    if not door.form_is_ours(form.get("form", "")):
        return _page(door, asked, refusal="form")
    if form.get("agree"):
        return await _authorize(door, asked, agreed=True)
    username, password = form.get("username", "").strip(), form.get("password", "")
    if not username or not password or max(map(len, form.values())) > 1000 or "\0" in "".join(form.values()):
        return _page(door, asked, refusal=service.Refusal.WRONG)
    try:
        async with door.database.session() as session:
            await session.run_sync(door.server.consent, asked, door.now)
    except OAuth2Error as error:
        return _refused(door, error)
    door.backlog.ensure(WRITES)
    done = await door.desk.sign_in(username, password, form.get("new_password"))
    if done.secret is None:
        return _page(door, asked, refusal=str(done.refusal), faults=done.faults, username=username)
    response = await _authorize(door, asked, agreed=True, secret=done.secret)
    door.set_cookie(response, door.session_cookie, done.secret)
    return response


async def _authorize(door: Door, asked: Asked, *, agreed: bool, secret: str | None = None) -> Response:
    """Answers with a code, when it is known who is there and he has agreed; else with the page that asks."""
    try:
        async with door.database.session() as session:
            grant = await session.run_sync(door.server.consent, asked, door.now)
        client: RegisteredClient = grant.request.client
        prompt = dict(asked.parameters).get("prompt", "").split()
        user = await door.signed_in(secret)
        if "none" in prompt and (user is None or not client.first_party):
            raise LoginRequired(
                "Nobody is signed in.", redirect_uri=grant.redirect_uri, state=grant.request.payload.state
            )
    except OAuth2Error as error:
        return _refused(door, error)
    if user is None or ("login" in prompt and not agreed):
        return _page(door, asked, redirect=grant.redirect_uri, application=client.title)
    if not (agreed or client.first_party):
        name = user.user.display_name
        return _page(door, asked, "agree.html", redirect=grant.redirect_uri, application=client.title, name=name)
    async with door.database.transaction() as session:
        answer, call = await session.run_sync(door.server.authorize, asked, user, door.now)
        assert not call.events
    return _redirect(answer)


def _page(door: Door, asked: Asked, template: str = "sign_in.html", **values: Any) -> Response:
    cookie = door.request.cookies.get(door.form_cookie) or secrets.token_urlsafe(32)
    response = pages.render(
        door.request,
        template,
        status=200 if not values.get("refusal") else 401,
        action=f"/oauth/authorize?{urlencode(asked.parameters)}",
        form=door.form_token(cookie),
        **values,
    )
    door.set_cookie(response, door.form_cookie, cookie)
    return response


@router.post("/oauth/token", include_in_schema=False)
async def issue_token(door: Here) -> Response:
    """RFC 6749, 3.2: an error of the protocol commits as a success does."""
    try:
        parameters = await _form(door.request)
    except (UnsupportedMedia, Malformed):
        body = b'{"error":"invalid_request"}'
        return Response(body, 400, {"Cache-Control": "no-store"}, media_type="application/json")
    authorization = door.request.headers.get("authorization")
    asked = Asked("POST", "/oauth/token", parameters, {"Authorization": authorization} if authorization else {})
    async with door.database.transaction() as session:
        status, body, answered = await service.issue_token(session, door.server, asked, door.now, door.backlog)
    return Response(body, status, answered)


@router.post("/oauth/sign-out", include_in_schema=False)
async def sign_out(door: Here) -> Response:
    """Ends the session of this browser, by a form that we made."""
    form = dict(await _form(door.request))
    if not door.form_is_ours(form.get("form", "")):
        raise Invalid("The form is none of this browser.")
    await door.desk.sign_out(door.server, door.request.cookies.get(door.session_cookie, ""))
    response = pages.render(door.request, "signed_out.html")
    response.delete_cookie(door.session_cookie, path="/", secure=door.secure, httponly=True, samesite="lax")
    return response


@router.get("/oauth/sign-out", include_in_schema=False)
async def show_sign_out(door: Here) -> Response:
    """Asks before it ends the session, since a link may be anybody's."""
    cookie = door.request.cookies.get(door.form_cookie) or secrets.token_urlsafe(32)
    response = pages.render(door.request, "sign_out.html", form=door.form_token(cookie))
    door.set_cookie(response, door.form_cookie, cookie)
    return response


@router.get("/oauth/jwks.json", include_in_schema=False)
async def show_keys(request: Request) -> dict[str, Any]:
    """The public keys of tokens."""
    jwks: dict[str, Any] = request.app.state.tokens.jwks()
    return jwks


@router.get("/.well-known/oauth-authorization-server", include_in_schema=False)
async def show_metadata(request: Request) -> dict[str, Any]:
    """RFC 8414."""
    return metadata(request.app.state.oauth)


@router.get("/.well-known/openid-configuration", include_in_schema=False)
async def show_openid_metadata(request: Request) -> dict[str, Any]:
    """OpenID Connect Discovery."""
    return metadata(request.app.state.oauth) | {
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["Ed25519"],
        "claims_supported": [
            "iss",
            "sub",
            "aud",
            "exp",
            "iat",
            "auth_time",
            "nonce",
            "sid",
            "name",
            "preferred_username",
        ],
    }


def metadata(server: Server) -> dict[str, Any]:
    """What clients have to know of this server (RFC 8414); the audit log's vkey for whoever verifies it."""
    issuer, vkey = server.issuer, server.audit_log_vkey
    log = {"dossier_audit_log": {"url": f"{issuer}/v1/audit/log", "vkey": vkey}} if vkey else {}
    return log | {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/oauth/authorize",
        "token_endpoint": f"{issuer}/oauth/token",
        "jwks_uri": f"{issuer}/oauth/jwks.json",
        "scopes_supported": sorted({*server.scopes_supported, OPENID}),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "client_credentials", "refresh_token"],
        "token_endpoint_auth_methods_supported": [
            "none",
            "client_secret_basic",
            "client_secret_post",
            "private_key_jwt",
        ],
        "token_endpoint_auth_signing_alg_values_supported": ["Ed25519"],
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": True,
        "ui_locales_supported": ["zh-CN", "en"],
        "service_documentation": f"{issuer}/docs",
    }
