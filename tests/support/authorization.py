"""The code+PKCE flow step by step, over the gateway's real sign-in page, so that a test can go wrong at any of them."""

import hashlib
import re
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from html import unescape
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import httpx

CLIENT: Final = "dossier-cli"
REDIRECT: Final = "http://127.0.0.1:7/callback"
"""Nobody listens there: the redirect is read, not followed."""
_HIDDEN: Final = re.compile(r'<input type="hidden" name="form" value="([^"]*)">')
_ACTION: Final = re.compile(r'<form method="post" action="([^"]*)"')


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


async def sign_in(http: httpx.AsyncClient, username: str, password: str, flow: Flow) -> str:
    """Where the gateway sends the browser after a sign-in on its page. Raises NotSignedIn."""
    page = await http.get("/oauth/authorize", params=flow.request())
    if page.is_redirect:
        return page.headers["location"]
    form, action = _HIDDEN.search(page.text), _ACTION.search(page.text)
    if page.status_code != 200 or form is None or action is None:
        raise NotSignedIn(f"The gateway shows no sign-in page ({page.status_code}).")
    answer = await http.post(unescape(action[1]), data={"username": username, "password": password, "form": form[1]})
    if not answer.is_redirect:
        raise NotSignedIn(f"{username} cannot sign in ({answer.status_code}).")
    return answer.headers["location"]


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
