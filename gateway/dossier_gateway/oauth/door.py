"""What the pages of people take from the application, and the two cookies of their browser."""

import hmac
import secrets
from typing import Annotated, Any

from fastapi import Depends, Request, Response

from dossier_common.backlog import Backlog
from dossier_common.database import Database
from dossier_gateway.console import pages
from dossier_gateway.oauth import repository
from dossier_gateway.oauth.server import Server
from dossier_gateway.oauth.service import STEP_TERM, SignInDesk

LONGEST = 1000


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
        self.step_cookie = f"{prefix}dossier-step"
        self._secret: bytes = state.signing_key.derive("sign-in form")

    @property
    def zone(self) -> str:
        """The zone that the browser is in, as the proxy found it."""
        zone: str = self.request.state.zone
        return zone

    def cookie(self, name: str) -> str:
        """The value of a cookie, empty where there is none."""
        return self.request.cookies.get(name, "")

    async def signed_in(self, secret: str | None = None) -> repository.SignedInUser | None:
        """Who is signed in with this browser; `secret` is that of a session that it does not have yet."""
        secret = secret or self.cookie(self.session_cookie)
        if not secret:
            return None
        async with self.database.session() as session:
            return await session.run_sync(repository.signed_in, secret, self.now)

    def form_token(self, cookie: str) -> str:
        """What a form must carry that was made for the browser with this cookie."""
        return hmac.new(self._secret, cookie.encode(), "sha256").hexdigest()

    def form_is_ours(self, given: str) -> bool:
        """Whether the form was made by us for this browser."""
        cookie = self.cookie(self.form_cookie)
        return bool(cookie) and hmac.compare_digest(self.form_token(cookie).encode(), given.encode())

    def page(self, template: str, *, status: int | None = None, **values: Any) -> Response:
        """A page with a form of ours. A refusal is 401, unless told otherwise."""
        cookie = self.cookie(self.form_cookie) or secrets.token_urlsafe(32)
        refused = 401 if values.get("refusal") else 200
        response = pages.render(
            self.request, template, status=status or refused, form=self.form_token(cookie), **values
        )
        self.set_cookie(response, self.form_cookie, cookie)
        return response

    def set_cookie(self, response: Response, name: str, value: str) -> None:
        """Sets a cookie for this browser's session, which no script and no other site's form sees."""
        age = int(STEP_TERM.total_seconds()) if name == self.step_cookie else None
        response.set_cookie(name, value, max_age=age, path="/", httponly=True, secure=self.secure, samesite="lax")

    def drop_cookie(self, response: Response, name: str) -> None:
        """The browser forgets it."""
        response.delete_cookie(name, path="/", secure=self.secure, httponly=True, samesite="lax")


async def _here(request: Request) -> Door:
    return Door(request)


Here = Annotated[Door, Depends(_here)]


def sound(form: dict[str, str]) -> bool:
    """Whether a person may have typed these fields: of some length, and without NUL."""
    return all(len(value) <= LONGEST and "\0" not in value for value in form.values())
