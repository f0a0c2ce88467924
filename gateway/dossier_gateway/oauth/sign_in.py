"""The pages between a person and his session: password, one-time code, enrolment, renewal; whatever comes after.

The authorization endpoint and the console's own sign-in show the same steps, each at its own address.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from fastapi import Response

from dossier_common.database import WRITES
from dossier_gateway import second_factor
from dossier_gateway.oauth.door import Door, sound
from dossier_gateway.oauth.service import Due, Refusal, SignIn

FIELDS: Final = frozenset({"username", "password", "step", "code", "recovery", "new_password", "form", "agree"})
PAGES: Final = {
    Due.CODE: "second_step.html",
    Due.ENROL: "enrol_factor.html",
    Due.RECOVERY: "recovery_codes.html",
    Due.RENEW: "renew.html",
}

Show = Callable[..., Response]
"""Shows a template whose form goes to where the sign-in happens."""
Arrive = Callable[[str], Awaitable[Response]]
"""What comes after a session was opened with this secret."""


async def take(door: Door, form: dict[str, str], show: Show, arrive: Arrive) -> Response:
    """Takes the sign-in form, or that of a step after it; opens the session when nothing more is due.

    Raises AuditUnavailable while too much waits for its audit record.
    """
    if not door.form_is_ours(form.get("form", "")):
        return show("sign_in.html", refusal=Refusal.OVER)
    username, password = form.get("username", "").strip(), form.get("password", "")
    step = "step" in form
    if not sound(form) or not (step or (username and password)):
        return show("sign_in.html", refusal=Refusal.WRONG)
    door.backlog.ensure(WRITES)
    if step:
        done = await door.desk.go_on(
            door.cookie(door.step_cookie),
            door.zone,
            code=form.get("code", "").strip() or form.get("recovery", "").strip(),
            new_password=form.get("new_password", ""),
        )
    else:
        done = await door.desk.sign_in(username, password, door.zone)
    if done.secret is not None:
        response = await arrive(done.secret)
        door.set_cookie(response, door.session_cookie, done.secret)
        door.drop_cookie(response, door.step_cookie)
        return response
    if done.due is None:
        return show("sign_in.html", refusal=done.refusal, username=username)
    return due_page(door, done, show)


def due_page(door: Door, done: SignIn, show: Show) -> Response:
    """The page that asks for what is due."""
    assert done.due is not None
    response = show(
        PAGES[done.due],
        refusal=done.refusal,
        faults=done.faults,
        codes=done.codes,
        rules=door.desk.rules,
        secret=second_factor.grouped(done.enrolling) if done.enrolling else None,
        picture=second_factor.picture(done.enrolling, done.username) if done.enrolling else None,
    )
    if done.step is not None:
        door.set_cookie(response, door.step_cookie, done.step)
    return response
