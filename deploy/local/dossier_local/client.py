"""The API through the gateway, as any of the demo accounts: for the demo organisation, the story and tests."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx

from dossier_local.second_factor import Device
from dossier_local.sign_in import TIMEOUT, Token, Trust, client_token, person_token
from dossier_local.state import LauncherError

T = TypeVar("T")
PROBLEM: Final = "urn:dossier:problem:"
LOOK_EVERY: Final = 0.05


@dataclass(frozen=True, slots=True)
class Answer:
    """What the gateway answered, and to what."""

    asked: str
    status: int
    body: Any
    headers: Mapping[str, str]

    @property
    def slug(self) -> str | None:
        """The problem's name in the API, for an answer that is one."""
        kind = self.body.get("type") if isinstance(self.body, dict) else None
        return kind.removeprefix(PROBLEM) if isinstance(kind, str) and kind.startswith(PROBLEM) else None

    @property
    def items(self) -> list[dict[str, Any]]:
        """The items of a list."""
        found: list[dict[str, Any]] = self.body["items"]
        return found

    @property
    def next(self) -> str | None:
        """Address of the next page (RFC 8288)."""
        link = self.headers.get("link", "")
        return link[link.index("<") + 1 : link.index(">")] if 'rel="next"' in link else None

    def __str__(self) -> str:
        if self.status < 400 or not isinstance(self.body, dict):
            return f"{self.asked} answered {self.status}"
        detail = self.body.get("detail") or self.body.get("errors") or self.body.get("title")
        return f"{self.asked} answered {self.status} {self.slug or ''}: {detail}"

    def expecting(self, *statuses: int) -> Any:
        """The body of an answer with one of these statuses. Raises LauncherError, naming call and problem."""
        if self.status not in statuses:
            raise LauncherError(f"{self}.")
        return self.body


@dataclass
class Caller:
    """One account or client that calls; its token is fetched when it is first needed."""

    name: str
    http: httpx.AsyncClient
    sign_in: Callable[[], Awaitable[Token]]
    kept: Token | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def token(self) -> Token:
        """A token that lasts for another call. Raises LauncherError."""
        async with self.lock:
            if self.kept is None or not self.kept.fresh:
                self.kept = await self.sign_in()
            return self.kept

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        **query: Any,
    ) -> Answer:
        """One call; whatever is answered is returned."""
        return await send(self.http, method, path, await self.token(), body, content, headers, query)

    async def get(self, path: str, **query: Any) -> Answer:
        """GET."""
        return await self.call("GET", path, **query)

    async def post(self, path: str, body: Any = None, **query: Any) -> Answer:
        """POST of a JSON body."""
        return await self.call("POST", path, body=body, **query)

    async def put(self, path: str, body: Any, *, version: int) -> Answer:
        """PUT of a JSON body, which holds for this version of the thing."""
        return await self.call("PUT", path, body=body, headers={"If-Match": f'"{version}"'})

    async def every(self, path: str, member: str = "items", **query: Any) -> AsyncIterator[dict[str, Any]]:
        """The items of a list, page after page. Raises LauncherError for anything but 200."""
        page = await self.get(path, limit=200, **query)
        while True:
            for item in page.expecting(200)[member]:
                yield item
            if page.next is None:
                return
            page = await self.get(page.next)


async def send(
    http: httpx.AsyncClient,
    method: str,
    path: str,
    token: Token | None,
    body: Any = None,
    content: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    query: Mapping[str, Any] | None = None,
) -> Answer:
    """One call with this token, or without one."""
    authorization = {"Authorization": f"Bearer {token.access}"} if token else {}
    if body is not None:
        content, headers = json.dumps(body).encode(), {"Content-Type": "application/json", **(headers or {})}
    given = {name: value for name, value in (query or {}).items() if value is not None}
    try:
        answer = await http.request(
            method, path, params=given or None, content=content, headers={**authorization, **(headers or {})}
        )
    except httpx.TransportError as error:
        raise LauncherError(f"{method} {path} was not answered: {type(error).__name__}.") from error
    is_json = "json" in answer.headers.get("content-type", "")
    return Answer(f"{method} {path}", answer.status_code, answer.json() if is_json else answer.text, answer.headers)


class Client:
    """All callers of one gateway."""

    def __init__(self, base_url: str, http: httpx.AsyncClient, *, tls: Trust = True) -> None:
        self.base_url, self._http, self._tls = base_url, http, tls
        self._callers: dict[str, Caller] = {}

    def add_person(self, username: str, password: str, second_factor_file: Path | str) -> Caller:
        """Makes a person known, who signs in with his first call; the file keeps his second factor, if he has one."""
        device = Device(Path(second_factor_file))
        return self._add(username, lambda: person_token(self.base_url, username, password, device, tls=self._tls))

    def add_client(self, client_id: str, secret: str) -> Caller:
        """Makes an application known."""
        return self._add(client_id, lambda: client_token(self.base_url, client_id, secret, tls=self._tls))

    def _add(self, name: str, sign_in: Callable[[], Awaitable[Token]]) -> Caller:
        caller = self._callers[name] = Caller(name, self._http, sign_in)
        return caller

    def as_(self, name: str) -> Caller:
        """The caller of this name."""
        return self._callers[name]

    async def anonymously(self, method: str, path: str, body: Any = None) -> Answer:
        """One call without a token."""
        return await send(self._http, method, path, None, body)


@asynccontextmanager
async def connected(
    base_url: str, demo: Mapping[str, Any] | None = None, *, tls: Trust = True
) -> AsyncIterator[Client]:
    """A client of the gateway there, which knows the accounts and clients of `demo.json`."""
    async with httpx.AsyncClient(
        base_url=base_url, timeout=TIMEOUT, trust_env=False, verify=tls, headers={"Accept-Language": "zh-CN"}
    ) as http:
        client = Client(base_url, http, tls=tls)
        for username, account in (demo or {}).get("accounts", {}).items():
            client.add_person(username, account["password"], account["second_factor_file"])
        for client_id, application in (demo or {}).get("clients", {}).items():
            client.add_client(client_id, application["secret"])
        yield client


async def until(ask: Callable[[], Awaitable[T | None]], what: str, seconds: float = 20) -> T:
    """What `ask` finds, as soon as it finds something: for what travels by events.

    Raises LauncherError, saying what did not happen.
    """
    end = time.monotonic() + seconds
    while (found := await ask()) is None:
        if time.monotonic() > end:
            raise LauncherError(f"Not within {seconds:.0f} s: {what}.")
        await asyncio.sleep(LOOK_EVERY)
    return found
