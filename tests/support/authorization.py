"""The code+PKCE flow in steps, over the gateway's real sign-in pages, so that a test can go wrong at any of them."""

import hashlib
import re
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from html import unescape
from typing import Any, Final, Protocol
from urllib.parse import parse_qs, urlsplit

import httpx

CLIENT: Final = "dossier-cli"
REDIRECT: Final = "http://127.0.0.1:7/callback"
"""Nobody listens there: the redirect is read, not followed."""
_HIDDEN: Final = re.compile(r'<input type="hidden" name="form" value="([^"]*)">')
_ACTION: Final = re.compile(r'<form method="post" action="([^"]*)"')
_STEP: Final = re.compile(r'<input type="hidden" name="step" value="([^"]*)">')
_KEY: Final = re.compile(r'<code id="key"[^>]*>([^<]*)</code>')
MOST_STEPS: Final = 4
"""Between a password and a session: a code, or an enrolment and its recovery codes; and a new password."""


class NotSignedIn(Exception):
    """The gateway did not give what was asked for."""


def challenge(verifier: str) -> str:
    return urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


@dataclass
class Flow:
    """One authorization request of the command line's client, and what it must remember of it."""

    scope: str | None = None
    client: str = CLIENT
    redirect: str = REDIRECT
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48))
    state: str = field(default_factory=lambda: secrets.token_urlsafe(16))

    def request(self) -> dict[str, str]:
        """Parameters of the authorization request."""
        asked = {
            "response_type": "code",
            "client_id": self.client,
            "redirect_uri": self.redirect,
            "state": self.state,
            "code_challenge": challenge(self.verifier),
            "code_challenge_method": "S256",
        }
        return asked | ({"scope": self.scope} if self.scope else {})

    def code(self, location: str, issuer: str) -> str:
        """The code of an answer that is one to this request (RFC 9207). Raises NotSignedIn."""
        answered = {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
        if answered.get("state") != self.state or answered.get("iss") != issuer:
            raise NotSignedIn("The gateway's answer belongs to another sign-in.")
        if "code" not in answered:
            raise NotSignedIn(answered.get("error"))
        return answered["code"]

    def exchange(self, code: str) -> dict[str, str]:
        """Parameters of the token request."""
        return {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect,
            "client_id": self.client,
            "code_verifier": self.verifier,
        }


class Devices(Protocol):
    """The authenticators of people."""

    async def code(self, username: str) -> str:
        """A one-time code that holds now."""

    def enrol_device(self, username: str, secret: str) -> None:
        """Takes the secret that the page shows."""


class Browser(httpx.AsyncClient):
    """A client whose people have their authenticators at hand."""

    def __init__(self, devices: Devices, **more: Any) -> None:
        super().__init__(**more)
        self.devices = devices


@dataclass(frozen=True)
class Page:
    """A page with a form, as a person sees it."""

    answer: httpx.Response

    @property
    def step(self) -> str | None:
        """What it asks for; None for anything but a step between password and session."""
        found = _STEP.search(self.answer.text)
        return found[1] if found else None

    @property
    def key(self) -> str:
        """The secret that it shows. Raises NotSignedIn."""
        found = _KEY.search(self.answer.text)
        if found is None:
            raise NotSignedIn("The page shows no key.")
        return found[1].replace(" ", "")

    async def submit(self, http: httpx.AsyncClient, **fields: str) -> "Page":
        """Sends its first form with these fields. Raises NotSignedIn where there is none."""
        form, action = _HIDDEN.search(self.answer.text), _ACTION.search(self.answer.text)
        if form is None or action is None:
            raise NotSignedIn(f"The gateway shows no sign-in page ({self.answer.status_code}).")
        step = {"step": self.step} if self.step else {}
        return Page(await http.post(unescape(action[1]), data={"form": form[1], **step, **fields}))


async def first_page(http: httpx.AsyncClient, flow: Flow) -> Page:
    """The answer to the authorization request."""
    return Page(await http.get("/oauth/authorize", params=flow.request()))


async def sign_in(http: httpx.AsyncClient, username: str, password: str, flow: Flow) -> str:
    """Where the gateway sends the browser after a sign-in on its pages. Raises NotSignedIn."""
    page = await first_page(http, flow)
    if page.answer.is_redirect:
        return page.answer.headers["location"]
    if page.answer.status_code != 200:
        raise NotSignedIn(f"The gateway shows no sign-in page ({page.answer.status_code}).")
    page = await page.submit(http, username=username, password=password)
    for _ in range(MOST_STEPS):
        if page.answer.status_code != 200 or page.step is None or not isinstance(http, Browser):
            break
        if page.step == "enrol":
            http.devices.enrol_device(username, page.key)
        coded = {"code": await http.devices.code(username)} if page.step in {"enrol", "code"} else {}
        page = await page.submit(http, **coded)
    if not page.answer.is_redirect:
        raise NotSignedIn(f"{username} cannot sign in ({page.answer.status_code}).")
    return page.answer.headers["location"]


async def tokens(http: httpx.AsyncClient, username: str, password: str, *, scope: str | None = None) -> dict[str, Any]:
    """The answer of the token endpoint for a person; without `scope`, all that his roles give. Raises NotSignedIn."""
    metadata = (await http.get("/.well-known/oauth-authorization-server")).json()
    flow = Flow(scope)
    code = flow.code(await sign_in(http, username, password, flow), metadata["issuer"])
    answer = await http.post("/oauth/token", data=flow.exchange(code))
    if answer.status_code != 200:
        raise NotSignedIn(f"The gateway issues no token for {username}: {answer.json().get('error')}.")
    issued: dict[str, Any] = answer.json()
    return issued
