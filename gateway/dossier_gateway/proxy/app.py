"""The proxy: plain ASGI before FastAPI. Checks the caller, the scope and the rate, and forwards to the part.

It decides on the route's own path, `scope["path"]`, never on an address made from `Host`. What is not in the route
table goes to the gateway's own endpoints, which answer 404 where they have nothing either.
"""

import asyncio
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus

import orjson
from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send

from dossier_common import telemetry
from dossier_common.app import PROBLEM_TYPE, as_problem
from dossier_common.ids import new_id
from dossier_common.problems import (
    InsufficientScope,
    Malformed,
    MethodNotAllowed,
    Problem,
    RateLimited,
    Unauthenticated,
)
from dossier_gateway.callers import Callers
from dossier_gateway.console import documents
from dossier_gateway.proxy import headers as hygiene
from dossier_gateway.proxy.forward import Forwarder, Gone
from dossier_gateway.proxy.limits import Limiter, Verdict
from dossier_gateway.proxy.refusals import Refusals
from dossier_gateway.proxy.routes import Match, RouteTable
from dossier_gateway.proxy.transactions import Transactions
from dossier_gateway.settings import Settings

SIGN_INS = frozenset({("POST", "/oauth/authorize"), ("POST", "/v1/enrolments")})


class Proxy:
    """The ASGI application of the gateway's web process."""

    def __init__(self, own: FastAPI, settings: Settings) -> None:
        self.own, self._settings = own, settings
        self._table = RouteTable(documents.described(settings))
        self._security = hygiene.security_headers(secure=settings.secure)
        self._calls = Limiter(settings.calls_per_second, settings.calls_at_once)
        self._sign_ins = Limiter(settings.sign_ins_per_second, settings.sign_ins_at_once)
        self._callers: Callers
        self._transactions: Transactions
        self._forwarder: Forwarder
        self.refusals: Refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the life of the process."""
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
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
                await self._forwarder.close()
            return message

        await self.own(scope, receiving, sending)

    def _open(self) -> None:
        state = self.own.state
        self._callers = state.callers
        self._transactions = Transactions(self._settings, state.tokens, state.clock)
        self._forwarder = Forwarder(self._settings, self._security)
        self.refusals = Refusals(state.database, state.clock)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = str(new_id())  # never the caller's: it stands in events and logs (invariant 7)
        outgoing = _Outgoing(send, request_id)
        path: str = scope["path"]
        try:
            _check(scope)
            match = self._table.match(path)
            if match is None:
                await self._answer_self(scope, receive, outgoing, request_id)
            else:
                await self._pass(match, scope, receive, outgoing)
        except Gone:
            return
        except Exception as error:
            if outgoing.started:
                raise
            await self._refuse(error, scope, outgoing)

    async def _pass(self, match: Match, scope: Scope, receive: Receive, outgoing: "_Outgoing") -> None:
        headers: list[hygiene.Raw] = scope["headers"]
        address = self._address(scope)
        token = _bearer(headers)
        if token is None:
            outgoing.limits(self._take(f"address {address}"))
            raise Unauthenticated("A token is needed.", error="invalid_request")
        caller = await self._callers.resolve(token)
        outgoing.limits(self._take(caller.subject.known_as, known=True))
        if caller.access.service is not None:
            raise Unauthenticated("Parts call one another, not through the gateway.")
        route = match.routes.get(scope["method"])
        if route is None:
            raise MethodNotAllowed(headers={"Allow": ", ".join(sorted(match.routes))})
        missing = route.missing(caller.subject.scopes)
        if missing is not None:
            refusal = InsufficientScope(missing)
            by = replace(caller.subject, txn=outgoing.request_id)
            await self.refusals.record(by, route, match, refusal.slug, missing)
            raise refusal
        call = self._forwarder.outgoing(
            route.part,
            route.method,
            _target(scope),
            headers,
            {
                "Txn-Token": self._transactions.token(token, caller, address, route.part),
                "X-Request-Id": outgoing.request_id,
            },
        )
        await self._forwarder.forward(call, receive, outgoing)

    async def _answer_self(self, scope: Scope, receive: Receive, outgoing: "_Outgoing", request_id: str) -> None:
        address = self._address(scope)
        if (scope["method"], scope["path"]) in SIGN_INS:
            outgoing.limits(self._take(f"address {address}", limiter=self._sign_ins))
        else:
            outgoing.limits(self._take(f"address {address}"))
        dropped = {b"txn-token", b"x-request-id"}
        kept = [(name, value) for name, value in scope["headers"] if name not in dropped]
        own = {**scope, "headers": [*kept, (b"x-request-id", request_id.encode())]}
        outgoing.secured(self._security)
        await self.own(own, receive, outgoing)
        if outgoing.status == HTTPStatus.UNAUTHORIZED:
            self.refusals.count(outgoing.status)

    def _take(self, caller: str, *, limiter: Limiter | None = None, known: bool = False) -> "tuple[Limiter, Verdict]":
        limiter = limiter or self._calls
        verdict = limiter.take(caller, time.monotonic())
        if not verdict.allowed:
            raise _Limited(limiter, verdict, known=known)
        return limiter, verdict

    def _address(self, scope: Scope) -> str:
        peer = scope["client"][0] if scope.get("client") else ""
        return hygiene.address(peer, scope["headers"], self._settings.trusted_proxies)

    async def _refuse(self, error: Exception, scope: Scope, outgoing: "_Outgoing") -> None:
        problem = as_problem(error)
        if isinstance(problem, Unauthenticated | RateLimited):
            self.refusals.count(problem.status)
        if type(problem) is Problem:
            telemetry.log().error("unhandled", exc_info=error)
        if isinstance(problem, _Limited):
            outgoing.limits((problem.limiter, problem.verdict))
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


class _Limited(RateLimited):
    def __init__(self, limiter: Limiter, verdict: Verdict, *, known: bool) -> None:
        super().__init__(verdict.reset)
        self.limiter, self.verdict, self.known = limiter, verdict, known


class _Outgoing:
    """The way back to the caller: adds what every answer carries."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self.request_id = request_id
        self.started = False
        self.status = 0
        self._added: list[hygiene.Raw] = [(b"x-request-id", request_id.encode())]
        self._security: list[hygiene.Raw] = []

    def limits(self, taken: tuple[Limiter, Verdict]) -> None:
        """Adds RateLimit-*."""
        limiter, verdict = taken
        self._added += [
            (b"ratelimit-limit", b"%d" % limiter.burst),
            (b"ratelimit-remaining", b"%d" % verdict.remaining),
            (b"ratelimit-reset", b"%d" % verdict.reset),
        ]

    def secured(self, security: list[hygiene.Raw]) -> None:
        """Adds the security headers that the answer lacks."""
        self._security = security

    async def __call__(self, message: Message) -> None:
        """Sends."""
        if message["type"] == "http.response.start":
            self.started, self.status = True, message["status"]
            headers = [each for each in message["headers"] if each[0].lower() != b"x-request-id"]
            if self._security:
                present = {name.lower() for name, _ in headers}
                headers += [each for each in self._security if each[0] not in present]
            message = {**message, "headers": [*headers, *self._added]}
        await self._send(message)


def _check(scope: Scope) -> None:
    """Raises Malformed for an address or headers that no caller needs."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope["query_string"]
    if len(raw) + len(query) > hygiene.MAX_ADDRESS:
        raise Malformed("The address is too long.")
    if b"%00" in raw or b"%00" in query or "\0" in scope["path"]:
        raise Malformed("An address holds no NUL.")
    if sum(len(name) + len(value) for name, value in scope["headers"]) > hygiene.MAX_HEADERS:
        raise Malformed("The headers are too long.")


def _target(scope: Scope) -> str:
    """Path and query as they came. Raises Malformed for bytes that an address cannot have."""
    raw: bytes = scope.get("raw_path") or b""
    query: bytes = scope["query_string"]
    target = raw.partition(b"?")[0] + (b"?" + query if query else b"")
    lowered = target.lower()
    if not target.isascii() or b"%2f" in raw.lower() or b"%5c" in lowered or b"\\" in raw or b"#" in target:
        raise Malformed("The address has characters that stand in no path of ours.")
    return target.decode("ascii")


def _bearer(headers: Iterable[hygiene.Raw]) -> str | None:
    found = [value for name, value in headers if name == b"authorization"]
    if len(found) != 1:
        return None
    scheme, _, token = found[0].partition(b" ")
    return token.strip().decode("latin-1") if scheme.lower() == b"bearer" and token.strip() else None
