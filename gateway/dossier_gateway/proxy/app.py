"""The proxy: plain ASGI before FastAPI. Checks the caller, the scope and the rate, and forwards to the part.

It decides on the route's own path, `scope["path"]`, never on an address made from `Host`. What is not in the route
table goes to the gateway's own endpoints, which answer 404 where they have nothing either.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

import orjson
import uuid_utils
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dossier_common import telemetry
from dossier_common.app import PROBLEM_TYPE, as_problem
from dossier_common.problems import (
    InsufficientScope,
    Malformed,
    MethodNotAllowed,
    OutsideZone,
    Problem,
    RateLimited,
    Unauthenticated,
)
from dossier_common.standing import Standing
from dossier_gateway.callers import Caller, Callers
from dossier_gateway.console import documents
from dossier_gateway.kept import Kept
from dossier_gateway.proxy import headers as hygiene
from dossier_gateway.proxy.forward import Forwarder, Gone
from dossier_gateway.proxy.limits import Limiter, Verdict, take
from dossier_gateway.proxy.refusals import Refusals
from dossier_gateway.proxy.routes import Match, RouteTable
from dossier_gateway.proxy.transactions import Transactions
from dossier_gateway.settings import Settings

SIGN_INS: Final = frozenset(
    ("POST", path)
    for path in (
        *("/oauth/authorize", "/console/sign-in", "/console/password", "/console/second-factor", "/enrol"),
        *("/v1/enrolments", "/v1/me/password"),
    )
)
"""Where somebody may try passwords and codes."""
BY_CLIENTS: Final = frozenset({"/oauth/token", "/oauth/introspect", "/oauth/revoke"})
"""Where somebody may try secrets of applications: those that fail are counted as sign-ins are."""
FOR_SCRIPTS: Final = ("/v1/", "/oauth/token", "/oauth/jwks.json", "/.well-known/", "/openapi.json")
"""What scripts of other origins may call, where the settings name such origins: never a page."""
RATE_LIMIT: Final = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")


class Proxy:
    """The ASGI application of the gateway's web process."""

    def __init__(self, own: FastAPI, settings: Settings) -> None:
        self.own, self._settings = own, settings
        self._standing: Standing = own.state.standing
        described = documents.described(settings)
        self._table = RouteTable(described)
        self._own_table = RouteTable({"gateway": own.openapi()})
        self._security = hygiene.security_headers(secure=settings.secure)
        self._persons = Limiter(settings.calls_per_second, settings.calls_at_once)
        self._clients = Limiter(settings.client_calls_per_second, settings.client_calls_at_once)
        self._addresses = Limiter(settings.address_calls_per_second, settings.address_calls_at_once)
        self._sign_ins = Limiter(settings.sign_ins_per_second, settings.sign_ins_at_once)
        self._failures = Limiter(settings.sign_ins_per_second, settings.sign_ins_at_once)
        self._zones: Kept[str, str] = Kept(10_000)
        self._scripts = _for_scripts(self._http, settings.cors_origins)
        self._callers: Callers
        self._transactions: Transactions
        self._forwarder: Forwarder
        self.refusals: Refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the life of the process."""
        if scope["type"] == "http":
            if self._scripts is not None and scope["path"].startswith(FOR_SCRIPTS):
                await self._scripts(scope, receive, hygiene.secured(send, self._security))
            else:
                await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        flushing: list[asyncio.Task[None]] = []

        async def sending(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                self._open()
                flushing.append(asyncio.create_task(self.refusals.run()))
            await send(message)

        async def receiving() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                for task in flushing:
                    task.cancel()
                await asyncio.gather(*flushing, return_exceptions=True)
                with suppress(
                    Exception
                ):  # what the last minute counted; without a database it is lost with the process
                    await self.refusals.flush()
                self._forwarder.close()
            return message

        await self.own(scope, receiving, sending)

    def _open(self) -> None:
        state = self.own.state
        self._callers = state.callers
        self._transactions = Transactions(state.tokens, state.clock)
        self._forwarder = Forwarder(self._settings, self._security)
        self.refusals = Refusals(state.database, state.clock)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = str(uuid_utils.uuid7())  # never the caller's: it stands in events and logs (invariant 7)
        outgoing = _Outgoing(send, request_id)
        try:
            _check(scope)
            if not self._standing.open:  # then its own endpoints answer with health, or with 503
                await self.own(scope, receive, outgoing)
                return
            match = self._table.match(scope["path"])
            if match is None:
                await self._answer_self(scope, receive, outgoing)
            else:
                await self._pass(match, scope, receive, outgoing)
        except Gone:
            return
        except Exception as error:
            if outgoing.started:
                raise
            await self._refuse(error, scope, outgoing)

    async def _pass(self, match: Match, scope: Scope, receive: Receive, outgoing: "_Outgoing") -> None:
        inbound = hygiene.Inbound.read(scope["headers"])
        address = self._address(scope, inbound)
        method = scope["method"]
        token = inbound.bearer()
        if token is None:
            self._take(outgoing, address)
            if method == "OPTIONS":  # a browser's question before a call of another origin
                raise _not_allowed(match)
            raise Unauthenticated("A token is needed.", error="invalid_request")
        caller = await self._callers.resolve(token)
        self._take(outgoing, address, caller)
        if caller.access.service is not None:
            raise Unauthenticated("Parts call one another, not through the gateway.")
        route = match.routes.get(method)
        if route is None:
            raise _not_allowed(match)
        zone = self._zone(address)
        if not caller.within(zone):
            await self._record(caller, match, outgoing, method, OutsideZone.slug)
            raise OutsideZone
        missing = route.missing(caller.subject.scopes)
        if missing is not None:
            await self._record(caller, match, outgoing, method, InsufficientScope.slug, missing)
            raise InsufficientScope(missing)
        call = self._forwarder.outgoing(
            route.part,
            method,
            _target(scope),
            inbound,
            [
                (b"txn-token", self._transactions.token(caller, address, zone, route.part)),
                (b"x-request-id", outgoing.request_id.encode("ascii")),
            ],
        )
        await self._forwarder.forward(call, receive, outgoing)

    async def _answer_self(self, scope: Scope, receive: Receive, outgoing: "_Outgoing") -> None:
        inbound = hygiene.Inbound.read(scope["headers"])
        address = self._address(scope, inbound)
        match = self._own_table.match(scope["path"])
        token = inbound.bearer() if match is not None else None
        caller = None
        if token is not None:
            with suppress(Unauthenticated):  # which the endpoint says better: it may need no token at all
                caller = await self._callers.resolve(token)
        sign_in = (scope["method"], scope["path"]) in SIGN_INS
        self._take(outgoing, address, caller, limiter=self._sign_ins if sign_in else None)
        by_client = scope["path"] in BY_CLIENTS
        if by_client:
            self._ensure_few_failures(outgoing, address)
        if caller is not None and match is not None and not caller.within(self._zone(address)):
            await self._record(caller, match, outgoing, scope["method"], OutsideZone.slug)
            raise OutsideZone
        dropped = {b"txn-token", b"x-request-id"}
        kept = [(name, value) for name, value in scope["headers"] if name not in dropped]
        own = {**scope, "headers": [*kept, (b"x-request-id", outgoing.request_id.encode())]}
        own["state"] = {**scope.get("state", {}), "zone": self._zone(address)}
        await self.own(own, receive, hygiene.secured(outgoing, self._security, without=b"x-request-id"))
        if outgoing.status == 401:
            self.refusals.count(outgoing.status)
            if by_client:
                self._failures.take(address, time.monotonic())

    def _ensure_few_failures(self, outgoing: "_Outgoing", address: str) -> None:
        """Raises RateLimited for an address from which too many clients did not authenticate."""
        now = time.monotonic()
        verdict = self._failures.verdict(self._failures.next(address, now), now)
        if not verdict.allowed:
            outgoing.limits(verdict)
            raise RateLimited(verdict.reset)

    def _take(
        self, outgoing: "_Outgoing", address: str, caller: Caller | None = None, *, limiter: Limiter | None = None
    ) -> None:
        """Counts the call against its address, its client and its person. Raises RateLimited."""
        counted: list[tuple[Limiter, object]] = [(limiter or self._addresses, address)]
        if caller is not None and caller.access.service is None:
            counted.append((self._clients, caller.access.client))
            if caller.access.person is not None:
                counted.append((self._persons, caller.access.person))
        verdict = take(counted, time.monotonic())
        outgoing.limits(verdict)
        if not verdict.allowed:
            raise RateLimited(verdict.reset)

    async def _record(
        self, caller: Caller, match: Match, outgoing: "_Outgoing", method: str, slug: str, scope: str | None = None
    ) -> None:
        """Makes the refusal durable before it is answered. Raises AuditUnavailable."""
        route = match.routes.get(method) or next(iter(match.routes.values()))
        await self.refusals.record(replace(caller.subject, txn=outgoing.request_id), route, match, slug, scope)

    def _address(self, scope: Scope, inbound: hygiene.Inbound) -> str:
        peer = scope["client"][0] if scope.get("client") else ""
        return hygiene.address(peer, inbound.forwarded_for, self._settings.trusted_proxies)

    def _zone(self, address: str) -> str:
        zone = self._zones.get(address)
        if zone is None:
            zone = self._zones[address] = self._settings.zone_of(address)
        return zone

    async def _refuse(self, error: Exception, scope: Scope, outgoing: "_Outgoing") -> None:
        problem = as_problem(error)
        if isinstance(problem, Unauthenticated | RateLimited):
            self.refusals.count(problem.status)
        if type(problem) is Problem:
            telemetry.log().error("unhandled", exc_info=error)
        language = hygiene.first(scope["headers"], b"accept-language") or b""
        document = problem.document(chinese=language.lower().startswith(b"zh"), instance=scope["path"])
        body = orjson.dumps(document, default=str)
        headers = [
            (b"content-type", PROBLEM_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            *((name.lower().encode(), value.encode("latin-1")) for name, value in problem.headers.items()),
            *self._security,
        ]
        await outgoing({"type": "http.response.start", "status": problem.status, "headers": headers})
        await outgoing({"type": "http.response.body", "body": body})


class _Outgoing:
    """The way back to the caller: adds what every answer carries."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self.request_id = request_id
        self.started = False
        self.status = 0
        self._added: list[hygiene.Raw] = [(b"x-request-id", request_id.encode("ascii"))]

    def limits(self, verdict: Verdict) -> None:
        """Adds RateLimit-*, of the tightest limit."""
        self._added += [
            (b"ratelimit-limit", b"%d" % verdict.limit),
            (b"ratelimit-remaining", b"%d" % verdict.remaining),
            (b"ratelimit-reset", b"%d" % verdict.reset),
        ]

    async def __call__(self, message: Message) -> None:
        """Sends."""
        if message["type"] == "http.response.start":
            self.started, self.status = True, message["status"]
            message = {**message, "headers": [*message["headers"], *self._added]}
        await self._send(message)


def _not_allowed(match: Match) -> MethodNotAllowed:
    return MethodNotAllowed(headers={"Allow": ", ".join(sorted(match.routes))})


def _for_scripts(app: ASGIApp, origins: Sequence[str]) -> ASGIApp | None:
    """Lets scripts of these origins call the API with a token, and never with cookies; None without origins."""
    if not origins:
        return None
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "POST", "PUT", "PATCH", "DELETE"),
        allow_headers=("Authorization", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match"),
        expose_headers=("ETag", "Link", "Location", "Retry-After", "X-Request-Id", *RATE_LIMIT),
        allow_credentials=False,
        max_age=600,
    )


def _check(scope: Scope) -> None:
    """Raises Malformed for an address or headers that no caller needs."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope["query_string"]
    if len(raw) + len(query) > hygiene.MAX_ADDRESS:
        raise Malformed("The address is too long.")
    if b"%00" in raw or b"%00" in query or "\0" in scope["path"]:
        raise Malformed("An address holds no NUL.")


def _target(scope: Scope) -> bytes:
    """Path and query as they came. Raises Malformed for bytes that an address cannot have."""
    raw: bytes = scope.get("raw_path") or b""
    query: bytes = scope["query_string"]
    target = raw.partition(b"?")[0] + (b"?" + query if query else b"")
    lowered = target.lower()
    if not target.isascii() or b"%2f" in raw.lower() or b"%5c" in lowered or b"\\" in raw or b"#" in target:
        raise Malformed("The address has characters that stand in no path of ours.")
    return target
