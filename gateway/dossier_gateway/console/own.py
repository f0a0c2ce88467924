"""What people do with their own accounts in a browser: sign in, sessions, password, second step, first password."""

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import Query, Response

from dossier_common.app import router as make_router
from dossier_common.database import WRITES
from dossier_common.identity import Subject
from dossier_common.problems import NotFound
from dossier_gateway.errors import UnknownReference, WeakPassword, WrongPassword
from dossier_gateway.oauth import credentials, sign_in
from dossier_gateway.oauth.clients import CONSOLE
from dossier_gateway.oauth.door import Door, Here, sound
from dossier_gateway.oauth.forms import read_form
from dossier_gateway.oauth.repository import SignedInUser
from dossier_gateway.oauth.service import Due, Refusal, SignIn
from dossier_gateway.sessions import service as sessions

router = make_router(tags=["pages"])
SIGN_IN: Final = "/console/sign-in"
SESSIONS, PASSWORD, SECOND_FACTOR = "sessions", "password", "second-factor"
PLACES: Final = frozenset({SESSIONS, PASSWORD, SECOND_FACTOR})
SEE_OTHER: Final = 303
TO: Final = "to"

Place = Annotated[str, Query(alias=TO, max_length=32)]


@dataclass(frozen=True, slots=True)
class Shown:
    """A session, as its person sees it."""

    id: UUID
    current: bool
    zone: str
    amr: tuple[str, ...]
    signed_in_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    clients: tuple[str, ...]


def _go(path: str) -> Response:
    return Response(status_code=SEE_OTHER, headers={"Location": path, "Cache-Control": "no-store"})


def _to_sign_in(door: Door, place: str) -> Response:
    """Asks who is there, and then shows what was asked for."""
    return door.page("sign_in.html", action=f"{SIGN_IN}?{TO}={place}")


async def _posted(door: Door) -> dict[str, str] | None:
    """The fields of a form that we made for this browser; None for any other."""
    form = dict(await read_form(door.request))
    return form if sound(form) and door.form_is_ours(form.get("form", "")) else None


def _as(signed_in: SignedInUser) -> Subject:
    user = signed_in.user
    return Subject(client=CONSOLE, scopes=frozenset(), account=user.id, person=user.person)


@router.get(SIGN_IN, include_in_schema=False)
async def show_console_sign_in(door: Here, place: Place = SESSIONS) -> Response:
    """The sign-in form of the pages that need no application."""
    return _to_sign_in(door, place if place in PLACES else SESSIONS)


@router.post(SIGN_IN, include_in_schema=False)
async def take_console_sign_in(door: Here, place: Place = SESSIONS) -> Response:
    """Takes it, with the steps after it, and goes to one of our own pages; never elsewhere."""
    place = place if place in PLACES else SESSIONS
    form = {name: value for name, value in await read_form(door.request) if name in sign_in.FIELDS}

    async def arrive(_secret: str) -> Response:
        return _go(f"/console/{place}")

    return await sign_in.take(door, form, partial(door.page, action=f"{SIGN_IN}?{TO}={place}"), arrive)


@router.get("/console/sessions", include_in_schema=False)
async def show_sessions(door: Here) -> Response:
    """The sessions of whoever is signed in, each with a button that ends it."""
    signed_in = await door.signed_in()
    return await _sessions(door, signed_in) if signed_in else _to_sign_in(door, SESSIONS)


@router.post("/console/sessions", include_in_schema=False)
async def end_session_by_form(door: Here) -> Response:
    """Ends one of them; his own asks him to sign in again."""
    signed_in, form = await door.signed_in(), await _posted(door)
    if signed_in is None or form is None:
        return _to_sign_in(door, SESSIONS)
    door.backlog.ensure(WRITES)
    try:
        wanted = UUID(form.get("session", ""))
        async with door.database.transaction() as session:
            term = door.server.terms.family
            await sessions.end_own(session, wanted, by=_as(signed_in), now=door.now, term=term)
    except (ValueError, NotFound):  # it was ended meanwhile, as he wished
        return await _sessions(door, signed_in)
    if wanted == signed_in.session:
        return _to_sign_in(door, SESSIONS)
    return await _sessions(door, signed_in, done="ended")


async def _sessions(door: Door, signed_in: SignedInUser, done: str | None = None) -> Response:
    async with door.database.session() as session:
        listed = await sessions.listed(session, signed_in.user.id, door.now, door.server.terms.access)
    shown = [
        Shown(
            id=row.id,
            current=row.id == signed_in.session,
            zone=row.zone,
            amr=row.amr,
            signed_in_at=row.signed_in_at,
            last_seen_at=row.last_seen_at,
            expires_at=row.expires_at,
            clients=tuple(clients),
        )
        for row, clients in listed
    ]
    return door.page("sessions.html", action="/console/sessions", here=SESSIONS, sessions=shown, done=done)


@router.get("/console/password", include_in_schema=False)
async def show_password(door: Here) -> Response:
    """Asks for the present password and another one."""
    signed_in = await door.signed_in()
    return _password(door) if signed_in else _to_sign_in(door, PASSWORD)


@router.post("/console/password", include_in_schema=False)
async def change_password_by_form(door: Here) -> Response:
    """Replaces the password, and ends all other sessions."""
    signed_in, form = await door.signed_in(), await _posted(door)
    if signed_in is None or form is None:
        return _to_sign_in(door, PASSWORD)
    chosen = form.get("new_password", "")
    if chosen != form.get("again"):
        return _password(door, refusal="differ")
    door.backlog.ensure(WRITES)
    try:
        present = form.get("password", "")
        await door.desk.change_password(signed_in.user, present, chosen, keep=signed_in.session)
    except WrongPassword:
        return _password(door, refusal="wrong_password")
    except WeakPassword as error:
        return _password(door, refusal=Refusal.WEAK, faults=error.codes)
    return _password(door, done="changed")


def _password(door: Door, **values: Any) -> Response:
    given = {"done": None} | values
    return door.page("password.html", action="/console/password", here=PASSWORD, rules=door.desk.rules, **given)


@router.get("/console/second-factor", include_in_schema=False)
async def show_second_factor(door: Here) -> Response:
    """Says whether there is a second factor, and starts the enrolment of one."""
    signed_in = await door.signed_in()
    return await _second_factor(door, signed_in) if signed_in else _to_sign_in(door, SECOND_FACTOR)


@router.post("/console/second-factor", include_in_schema=False)
async def enrol_second_factor_by_form(door: Here) -> Response:
    """Enrols one: first the password (and a code of the present one), then a code of the new one."""
    signed_in, form = await door.signed_in(), await _posted(door)
    if signed_in is None or form is None:
        return _to_sign_in(door, SECOND_FACTOR)
    show = partial(door.page, action="/console/second-factor", here=SECOND_FACTOR)
    if form.get("step") == "next":
        return _go("/console/second-factor")
    door.backlog.ensure(WRITES)
    code = form.get("code", "").strip()
    if "step" in form:
        done = await door.desk.confirm_enrolment(signed_in, door.cookie(door.step_cookie), code)
    else:
        done = await door.desk.begin_enrolment(signed_in, form.get("password", ""), code)
    if done.due is None:
        return await _second_factor(door, signed_in, done)
    response = sign_in.due_page(door, done, show)
    if done.due is Due.RECOVERY:
        door.drop_cookie(response, door.step_cookie)
    return response


async def _second_factor(door: Door, signed_in: SignedInUser, done: SignIn | None = None) -> Response:
    async with door.database.session() as session:
        account = signed_in.user.id
        there = await credentials.has_factor(session, account)
        left = await credentials.recovery_codes_left(session, account) if there else None
    refusal = done.refusal if done else None
    return door.page(
        "second_factor.html",
        action="/console/second-factor",
        here=SECOND_FACTOR,
        left=left,
        refusal="wrong_password" if refusal is Refusal.WRONG else refusal,
    )


@router.get("/enrol", include_in_schema=False)
async def show_enrolment(door: Here) -> Response:
    """Asks for a one-time code and a first password; the code is typed, and never stands in an address."""
    return _enrolment(door)


@router.post("/enrol", include_in_schema=False)
async def enrol_by_form(door: Here) -> Response:
    """Sets the first password. Whoever has the code is the person."""
    form = await _posted(door)
    if form is None:
        return _enrolment(door, refusal=Refusal.OVER)
    chosen = form.get("new_password", "")
    if chosen != form.get("again"):
        return _enrolment(door, refusal="differ")
    door.backlog.ensure(WRITES)
    try:
        async with door.database.transaction() as session:
            await door.desk.enrol(session, form.get("code", "").strip(), chosen)
    except UnknownReference:
        return _enrolment(door, refusal="wrong_enrolment")
    except WeakPassword as error:
        return _enrolment(door, refusal=Refusal.WEAK, faults=error.codes)
    return _enrolment(door, done="enrolled")


def _enrolment(door: Door, **values: Any) -> Response:
    return door.page("enrol.html", action="/enrol", rules=door.desk.rules, **{"done": None} | values)
