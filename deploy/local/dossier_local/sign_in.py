"""Signing in without a browser: authorization code with PKCE through the gateway's own sign-in pages (RFC 8252)."""

import asyncio
import base64
import hashlib
import json
import secrets
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx

from dossier_local.second_factor import Device
from dossier_local.state import LauncherError, State

CLIENT: Final = "dossier-cli"
REDIRECT: Final = "http://127.0.0.1/callback"
"""Nothing listens there: the code is taken from the redirect itself."""
TIMEOUT: Final = 30
KEY: Final = "key"
"""Id of the element that shows the secret of a second factor."""
MOST_STEPS: Final = 4
"""Between a password and a session: a code, or an enrolment and its recovery codes."""
EARLY: Final = 30
"""Seconds before its end from which on a token is replaced."""
Trust = ssl.SSLContext | bool
"""By what a gateway with https is verified; True for what the system trusts."""


@dataclass(frozen=True, slots=True)
class Token:
    """An access token, and until when it may be used, on the monotonic clock."""

    access: str
    scopes: frozenset[str]
    until: float

    @property
    def fresh(self) -> bool:
        """Whether it lasts for another call."""
        return time.monotonic() < self.until

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> "Token":
        """From the answer of the token endpoint."""
        until = time.monotonic() + answer["expires_in"] - EARLY
        return cls(answer["access_token"], frozenset(answer["scope"].split()), until)


class _Form(HTMLParser):
    """The first form of a page: where it goes, the fields that it brings, and a key that stands before it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self.key = ""
        self._in_key = self._done = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._in_key = given.get("id") == KEY
        if tag == "form" and self.action is None:
            self.action = given.get("action")
        elif tag == "input" and not self._done and (name := given.get("name")):
            self.fields[name] = given.get("value") or ""

    def handle_endtag(self, tag: str) -> None:
        self._in_key = False
        self._done = self._done or tag == "form"

    def handle_data(self, data: str) -> None:
        if self._in_key:
            self.key += "".join(data.split())


async def person_token(
    base_url: str, username: str, password: str, device: Device | None = None, *, tls: Trust = True
) -> Token:
    """A token for all that the person's roles give. Raises LauncherError when the gateway does not sign him in.

    `device` is the person's authenticator, which enrols where the gateway asks for it.
    """
    if device is None or device.kept.secret is None:
        return await _person_token(base_url, username, password, device, tls)
    async with device.held():
        return await _person_token(base_url, username, password, device, tls)


async def _person_token(base_url: str, username: str, password: str, device: Device | None, tls: Trust) -> Token:
    async with httpx.AsyncClient(
        base_url=base_url,
        timeout=TIMEOUT,
        trust_env=False,
        verify=tls,
        cookies=dict(device.kept.cookies) if device else {},
    ) as browser:
        scopes = (await browser.get("/.well-known/openid-configuration")).raise_for_status().json()["scopes_supported"]
        verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(16)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": CLIENT,
            "redirect_uri": REDIRECT,
            "scope": " ".join(scope for scope in scopes if scope != "openid"),
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        answer = await browser.get(f"/oauth/authorize?{urlencode(asked)}")
        if not answer.is_redirect:
            answer = await _sign_in(browser, answer, username, password, device)
        code = _code(base_url, username, state, answer)
        if device is not None:
            device.remember(_newest(browser.cookies))
        sent = {
            "grant_type": "authorization_code",
            "client_id": CLIENT,
            "redirect_uri": REDIRECT,
            "code": code,
            "code_verifier": verifier,
        }
        return _token(username, await browser.post("/oauth/token", data=sent))


def _newest(cookies: httpx.Cookies) -> dict[str, str]:
    """Each cookie as it is now: what was brought along has no domain, and goes where the gateway has set another."""
    return {each.name: each.value or "" for each in sorted(cookies.jar, key=lambda each: bool(each.domain))}


async def _sign_in(
    browser: httpx.AsyncClient, page: httpx.Response, username: str, password: str, device: Device | None
) -> httpx.Response:
    """What the gateway answers when password and second factor were given, as far as it asks for them."""
    form = _Form(page.text)
    if page.status_code != 200 or form.action is None:
        raise LauncherError(f"{browser.base_url} shows no sign-in page (status {page.status_code}).")
    answer = await browser.post(form.action, data=form.fields | {"username": username, "password": password})
    for _ in range(MOST_STEPS):
        form = _Form(answer.text)
        step = form.fields.get("step")
        if answer.status_code != 200 or form.action is None or step is None:
            break
        if step == "renew":
            raise LauncherError(f"The password of {username} has to be changed: sign in with a browser.")
        if step in {"enrol", "code"}:
            if device is None:
                raise LauncherError(f"{username} signs in with a second factor, and nothing keeps its secret.")
            if step == "enrol":
                device.enrol(form.key)
            form.fields["code"] = await device.code()
        answer = await browser.post(form.action, data=form.fields)
    return answer


def _code(base_url: str, username: str, state: str, answer: httpx.Response) -> str:
    """The code in the redirect, if it answers our request (RFC 6749, 10.12; RFC 9207)."""
    if answer.status_code == 401:
        what = "code" if "step" in _Form(answer.text).fields else "password"
        raise LauncherError(f"The gateway did not sign {username} in: the {what} is wrong, or the account locked.")
    location: str = answer.headers.get("location", "")
    given = parse_qs(urlsplit(location).query)
    if "code" not in given or given.get("state") != [state] or given.get("iss") != [base_url]:
        reason = given.get("error", [f"status {answer.status_code}"])[0]
        raise LauncherError(f"The gateway gave no code for {username}: {reason}.")
    return given["code"][0]


async def client_token(base_url: str, client_id: str, secret: str, *, tls: Trust = True) -> Token:
    """A token of an application, for all scopes that it is registered for. Raises LauncherError."""
    async with httpx.AsyncClient(base_url=base_url, timeout=TIMEOUT, trust_env=False, verify=tls) as http:
        answer = await http.post("/oauth/token", data={"grant_type": "client_credentials"}, auth=(client_id, secret))
    return _token(client_id, answer)


def _token(name: str, answer: httpx.Response) -> Token:
    if answer.status_code != 200:
        raise LauncherError(f"The gateway gave no token for {name}: status {answer.status_code}, {answer.text[:200]}")
    return Token.of(answer.json())


def token(state: State, account: str) -> str:
    """An access token of an account or a client of `demo.json`. Raises LauncherError."""
    state.ready()
    demo = json.loads(state.demo_file.read_text())
    accounts, clients = demo.get("accounts", {}), demo.get("clients", {})
    if account in accounts:
        known = accounts[account]
        device = Device(Path(known["second_factor_file"]))
        getting = person_token(demo["base_url"], account, known["password"], device)
    elif account in clients:
        getting = client_token(demo["base_url"], account, clients[account]["secret"])
    else:
        raise LauncherError(f"There is no demo account {account}. There are: {', '.join([*accounts, *clients])}.")
    return asyncio.run(getting).access
