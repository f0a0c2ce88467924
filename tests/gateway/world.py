"""A gateway in the test's process, on the real database, with an upstream that says what it received."""

import asyncio
import json
import socket
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pyotp
import uvicorn
from sqlalchemy import text
from starlette.types import ASGIApp, Receive, Scope, Send
from tests.support import authorization
from tests.support.parts import settings_of

from dossier_common.door import Limits
from dossier_common.events import Envelope
from dossier_common.http1 import http1
from dossier_gateway.ceremony import Ceremony
from dossier_gateway.main import asgi
from dossier_gateway.proxy.app import Proxy
from dossier_gateway.settings import Settings
from dossier_local.cluster import Cluster

PASSWORD = "correct horse battery 9"
PATIENCE = 60
"""Seconds: how long a machine takes is no verdict."""
EARLY = 60
"""Seconds before its end from which on a token is replaced."""
_SECRETS: dict[tuple[str, str], str] = {}
"""Of second factors, by database and account: all worlds on one database have the same people."""
ROOT = ("GROUP", "集团", "Group")
OFFICERS = {"system_administrator": "sysadmin", "security_administrator": "secadmin", "security_auditor": "auditor"}


class TestClock:
    """The system's clock, moved by what a test wants."""

    __test__ = False

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@dataclass
class Received:
    """What the upstream got."""

    method: str
    path: str
    query: str
    headers: list[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        return [value for each, value in self.headers if each == name]


Behaviour = Callable[[Scope, Receive, Send], Any]


@dataclass
class Upstream:
    """Stands for every service."""

    received: list[Received] = field(default_factory=list)
    behaviour: Behaviour | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if self.behaviour is not None:
            await self.behaviour(scope, receive, send)
            return
        body = await read(receive)
        headers = [(name.decode(), value.decode()) for name, value in scope["headers"]]
        query = scope["query_string"].decode()
        self.received.append(Received(scope["method"], scope["raw_path"].decode(), query, headers, body))
        answer = json.dumps({"got": len(body)}).encode()
        own = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(answer)).encode()),
            (b"set-cookie", b"upstream=1"),
            (b"connection", b"x-inner"),
            (b"x-inner", b"secret"),
            (b"x-outer", b"kept"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": own})
        await send({"type": "http.response.body", "body": answer})


async def read(receive: Receive) -> bytes:
    body: bytes = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            return body


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """The signals are the test runner's."""
        yield


@asynccontextmanager
async def listening(
    app: ASGIApp, *, lifespan: str = "off", http: Any = "httptools"
) -> AsyncIterator[tuple[uvicorn.Server, int]]:
    """The application on a socket; without `http`, by uvicorn's own protocol and not ours."""
    port = free_port()
    config = uvicorn.Config(
        app,
        port=port,
        loop="none",
        http=http,
        ws="none",
        lifespan=lifespan,  # type: ignore[arg-type]  # one of the words that uvicorn knows
        log_config=None,
        access_log=False,
        server_header=False,
        forwarded_allow_ips="",
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
        if task.done():
            task.result()
    try:
        yield server, port
    finally:
        server.should_exit = True
        await task


OPERATIONS: dict[str, Any] = {
    "/v1/records": {"get": ("list_records", ["records:catalogue"]), "post": ("register_record", ["records:register"])},
    "/v1/records/search": {"post": ("search_records", ["records:catalogue"])},
    "/v1/records/{record_id}": {"get": ("read_record", ["records:read"])},
    "/v1/records/{record_id}/descriptor": {"get": ("describe_record", ["records:describe"])},
    "/v1/imports": {"post": ("start_import", ["records:import"])},
    "/internal/v1/feed": {"get": ("pull_events", ["events:pull"])},
}


def write_documents(folder: Path) -> None:
    """An OpenAPI file for each service."""

    def operation(name: str, scopes: list[str]) -> dict[str, Any]:
        return {"operationId": name, "security": [{"oauth2": scopes}], "responses": {"200": {"description": "ok"}}}

    paths = {path: {verb: operation(*each) for verb, each in item.items()} for path, item in OPERATIONS.items()}
    for part in ("records", "approvals", "retention", "audit"):
        document = {
            "openapi": "3.1.0",
            "info": {"title": part, "version": "1"},
            "paths": paths if part == "records" else {},
            "components": {"schemas": {}},
        }
        (folder / f"{part}.json").write_text(json.dumps(document))


@dataclass
class World:
    """A running gateway and its three officers."""

    proxy: Proxy
    http: httpx.AsyncClient
    upstream: Upstream
    settings: Settings
    clock: TestClock
    port: int
    made: Ceremony
    _tokens: dict[str, tuple[str, datetime, datetime]] = field(default_factory=dict)
    _serial: int = 0

    @property
    def root(self) -> UUID:
        return self.made.unit

    async def token(self, username: str, password: str = PASSWORD, *, fresh: bool = False) -> str:
        """An access token of a person, by the sign-in page."""
        now = self.clock.now()
        token, since, until = self._tokens.get(username, ("", now, now))
        if fresh or not since <= now < until or await self._revoked(token):
            issued = await authorization.tokens(await self.browser(), username, password)
            token, until = issued["access_token"], now + timedelta(seconds=issued["expires_in"] - EARLY)
            self._tokens[username] = token, now, until
        return token

    async def _revoked(self, token: str) -> bool:
        """Whether a test has ended it since."""
        payload = token.split(".")[1]
        claims = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        query = text("SELECT EXISTS (SELECT FROM revocations WHERE id IN (CAST(:jti AS uuid), CAST(:sid AS uuid)))")
        async with self.proxy.own.state.database.session() as session:
            return bool((await session.execute(query, {name: claims[name] for name in ("jti", "sid")})).scalar_one())

    async def browser(self) -> httpx.AsyncClient:
        """A client with cookies of its own, and authenticators at hand."""
        base_url = self.settings.common.issuer
        return authorization.Browser(self, transport=self.http._transport, base_url=base_url, timeout=PATIENCE)

    def enrol_device(self, username: str, secret: str) -> None:
        """The person's authenticator takes the secret of his second factor."""
        _SECRETS[self.settings.database_url, username] = secret

    async def code(self, username: str) -> str:
        """A one-time code of this person, by the moved clock.

        Tests sign in more often than twice a minute: what was used may be used again (see tests of the second factor).
        """
        async with self.proxy.own.state.database.transaction() as session:
            again = (
                "UPDATE second_factors SET step = 0 WHERE account = (SELECT id FROM accounts WHERE username = :name)"
            )
            await session.execute(text(again), {"name": username})
        return self.next_code(username)

    def next_code(self, username: str) -> str:
        """The code that the person's authenticator shows."""
        return str(pyotp.TOTP(self.secret_of(username)).at(self.clock.now()))

    def secret_of(self, username: str) -> str:
        """What the person's authenticator keeps."""
        return _SECRETS[self.settings.database_url, username]

    async def call(self, as_: str, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {await self.token(as_)}", **more.pop("headers", {})}
        return await self.http.request(method, path, headers=headers, **more)

    async def person(self, *roles: str, person: str | None = None, unit: UUID | None = None) -> dict[str, Any]:
        """An account that has set its password, with these roles; all by the API."""
        self._serial += 1
        username = f"user-{self._serial}"
        body = {"username": username, "display_name": "某人", "unit": str(unit or self.root)}
        if person:
            body["person"] = person
        created = await self.call("sysadmin", "POST", "/v1/accounts", json=body)
        assert created.status_code == 201, created.text
        account: dict[str, Any] = created.json()
        await self.enrol(account["enrolment_code"])
        for role in roles:
            assigned = await self.assign(account["id"], role, unit=unit)
            assert assigned.status_code == 201, assigned.text
        return account

    async def enrol(self, code: str, password: str = PASSWORD) -> None:
        answer = await self.http.post("/v1/enrolments", json={"code": code, "password": password})
        assert answer.status_code == 204, answer.text

    async def assign(self, account: str, role: str, *, unit: UUID | None = None) -> httpx.Response:
        body = {"role": role, "unit": str(unit or self.root)}
        return await self.call("secadmin", "POST", f"/v1/accounts/{account}/roles", json=body)

    async def events(self, kind: str) -> list[Envelope]:
        """The events of one type, oldest first."""
        async with self.proxy.own.state.database.session() as session:
            query = text("SELECT body FROM outbox WHERE type = :type ORDER BY id")
            return [Envelope.decode(row.body) for row in await session.execute(query, {"type": kind})]


def settings_for(cluster: Cluster, folder: Path, upstream_port: int, **more: Any) -> Settings:
    """The launcher's settings, with every service at the upstream."""
    found = settings_of(cluster, "gateway", Settings)
    peers = folder / "peers.json"
    peers.write_text(json.dumps(dict.fromkeys(found.common.peers, f"http://127.0.0.1:{upstream_port}")))
    write_documents(folder)
    common = found.common.model_copy(update={"peers_file": peers, "api_dir": folder})
    common.__dict__.pop("peers", None)
    return found.model_copy(update={"common": common, **more})


@asynccontextmanager
async def gateway(
    settings: Settings, clock: TestClock, limits: Limits | None = None
) -> AsyncIterator[tuple[Proxy, httpx.AsyncClient, int]]:
    """The whole gateway on a socket, as in production, and a client that talks to it under its issuer's name."""
    proxy = asgi(settings, clock=clock)
    async with listening(proxy, lifespan="on", http=http1(limits or settings.limits)) as (_, port):
        transport = _At(port)
        async with httpx.AsyncClient(transport=transport, base_url=settings.common.issuer, timeout=PATIENCE) as http:
            yield proxy, http, port


class _At(httpx.AsyncHTTPTransport):
    """Sends everything to one port: the issuer of the tests has a port that nobody listens on."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_with(port=self._port)
        return await super().handle_async_request(request)
