"""The application factory: what every web process answers in the same way.

Problem details (RFC 9457), health, request ids, limits on size and time, strict JSON, recorded refusals,
idempotent creation. A part adds its routers and its lifespan.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import orjson
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.params import Form
from fastapi.routing import APIRoute
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute

from dossier_common import feed, outbox, telemetry
from dossier_common.auth import Verifier, declared_scopes
from dossier_common.backlog import Backlog
from dossier_common.clock import Clock, SystemClock
from dossier_common.database import Database, unreachable
from dossier_common.edge import Edge
from dossier_common.events import AccessRefused
from dossier_common.idempotency import Replay
from dossier_common.identity import Subject
from dossier_common.keys import SigningKey
from dossier_common.peers import Peers
from dossier_common.problems import (
    AuditUnavailable,
    EventsPruned,
    Fault,
    InsufficientScope,
    Invalid,
    Malformed,
    MethodNotAllowed,
    NotFound,
    Problem,
    ProblemDocument,
    TooLarge,
    Unavailable,
    UnsupportedMedia,
)
from dossier_common.schema import Schema
from dossier_common.settings import PartSettings
from dossier_common.standing import Lacking, Standing, readiness

DATABASE_ERRORS = (SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError)
PROBLEM_TYPE = "application/problem+json"
JSON_TYPE = re.compile(r"^application/([a-z0-9.-]+\+)?json *(;|$)", re.IGNORECASE)
QUOTING = frozenset({"uuid_parsing", "union_tag_invalid"})
"""Faults whose message would repeat something of what was sent."""
QUALITY = re.compile(r"^q=([01](?:\.[0-9]{0,3})?)$")
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


class _StrictRequest(Request):
    async def json(self) -> Any:
        """The body as JSON (RFC 8259): no lone surrogate, no NUL, bounded depth."""
        if not hasattr(self, "_json"):
            body = await self.body()
            value = orjson.loads(body)
            if b"\\u0000" in body and _has_nul(value):
                raise json.JSONDecodeError("A text holds the character NUL", "", 0)
            self._json = value
        return self._json


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_has_nul(key) or _has_nul(inner) for key, inner in value.items())
    return isinstance(value, list) and any(map(_has_nul, value))


class _Route(APIRoute):
    """A route that reads JSON strictly and keeps the answer of an idempotent request."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()
        needed = frozenset(declared_scopes(self.dependant))
        takes_json = self.body_field is not None and not isinstance(self.body_field.field_info, Form)

        async def handle(request: Request) -> Response:
            request = _StrictRequest(request.scope, request.receive)
            if takes_json and not JSON_TYPE.match(request.headers.get("content-type", "")) and await request.body():
                raise UnsupportedMedia("This operation takes application/json.")
            try:
                response = await handler(request)
            except Replay as replay:
                for scope in needed - replay.subject.scopes:
                    raise InsufficientScope(scope) from None  # the caller has less now than when it was answered
                return replay.response
            claim = getattr(request.state, "idempotency", None)
            if claim is not None:
                await claim.keep(response)
            return response

        return handle


def router(*, tags: list[str]) -> APIRouter:
    """A router for a part's endpoints; use this in place of APIRouter."""
    return APIRouter(tags=list(tags), route_class=_Route)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries of the problems that an operation may answer with."""
    content = {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}}
    return {status: {"description": "Problem", "model": ProblemDocument, "content": content} for status in statuses}


ALWAYS = (400, 401, 403, 404, 405, 409, 412, 413, 415, 422, 428, 429, 503)


def create_app(
    part: str,
    settings: PartSettings | None,
    *,
    routers: Sequence[APIRouter],
    refused: type[AccessRefused],
    lifespan: Lifespan | None = None,
    clock: Clock | None = None,
    body_limits: dict[str, int] | None = None,
    lacking: Lacking | None = None,
) -> FastAPI:
    """The web application of one part.

    Without settings it can only be asked for its OpenAPI document. The lifespan opens `app.state.database`,
    `signing_key`, `peers`, `verifier`, `backlog` and `clock` before it runs the part's own.
    """
    app = FastAPI(
        title=f"Dossier: {part}",
        version="1",
        lifespan=_lifespan(part, settings, lifespan, clock or SystemClock()) if settings else None,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        responses=responses(*ALWAYS),
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.refused = refused
    app.state.standing = standing = Standing(part, lacking=lacking)
    for each in routers:
        app.include_router(each)
    app.include_router(feed.router, responses=responses(EventsPruned.status))
    for error in (Problem, HTTPException, RequestValidationError, *DATABASE_ERRORS):
        app.add_exception_handler(error, answer_problem)
    app.router.routes.extend(_health())
    limit = settings.max_body if settings else 1 << 20
    app.add_middleware(Edge, standing=standing, limit=limit, limits=body_limits or {}, answer=answer_problem)
    return app


def _lifespan(part: str, settings: PartSettings, inner: Lifespan | None, clock: Clock) -> Lifespan:
    @asynccontextmanager
    async def run(app: FastAPI) -> AsyncIterator[None]:
        key = SigningKey.read(settings.signing_key_file)
        app.state.part, app.state.settings, app.state.clock, app.state.signing_key = part, settings, clock, key
        app.state.idempotency_secret, app.state.cursor_secret = key.derive("idempotency"), key.derive("cursors")
        app.state.database = Database(settings)
        app.state.standing.watch(app.state.database, Schema.read(part, settings.common.installed))
        app.state.peers = Peers(part, key, settings.common, clock, settings.tls.client)
        app.state.verifier = Verifier(settings.common.issuer, part, app.state.peers.keys, clock)
        app.state.backlog = Backlog(
            app.state.database, clock.now, seconds=settings.backlog_seconds, rows=settings.backlog_rows
        )
        await app.state.standing.look()
        beside = [
            asyncio.create_task(job)
            for job in (app.state.standing.run(), app.state.backlog.run(), settings.tls.follow())
        ]
        try:
            if inner is None:
                yield
            else:
                async with inner(app):
                    yield
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            await app.state.peers.close()
            await app.state.database.close()

    return run


def _health() -> list[BaseRoute]:
    health = APIRouter()

    @health.get("/healthz", include_in_schema=False)
    async def healthz() -> dict[str, str]:
        """The process runs."""
        return {"status": "ok"}

    @health.get("/readyz", include_in_schema=False)
    async def readyz(request: Request) -> JSONResponse:
        """Whether the part may work, by its own database; peers do not matter."""
        return await readiness(request.app.state.standing)

    return list(health.routes)


async def answer_problem(request: Request, error: Exception) -> Response:
    """The one place where problems become answers; the refusal of a known caller is recorded before it is sent."""
    problem = as_problem(error)
    subject: Subject | None = getattr(request.state, "subject", None)
    if problem.refusal and not problem.recorded and subject is not None:
        try:
            await record_refusal(request, problem, subject)
        except Exception as failure:  # noqa: BLE001  # whatever kept it from being recorded, the answer is the same
            if not unreachable(failure):
                telemetry.log().error("refusal-not-recorded", route=_operation(request), exc_info=failure)
            problem = AuditUnavailable("The refusal could not be recorded.")
    if problem.status >= 500 and not isinstance(problem, Unavailable):
        telemetry.log().error("unhandled", route=_operation(request), exc_info=error)
    chinese = _reads_chinese(request.headers.get("accept-language", ""))
    document = problem.document(chinese=chinese, instance=request.scope.get("path"))
    headers = problem.headers | {"Cache-Control": "no-store"}
    return Response(orjson.dumps(document, default=str), problem.status, headers, media_type=PROBLEM_TYPE)


def _reads_chinese(accepted: str) -> bool:
    """Whether Chinese is preferred to English (RFC 9110, 12.5.4); what cannot be read prefers nothing."""
    best = {"zh": 0.0, "en": 0.0}
    for each in accepted.split(",")[:20]:
        tag, _, weight = each.strip().lower().partition(";")
        language = tag.strip().split("-")[0]
        found = QUALITY.match(weight.strip())
        if language in best and (found or not weight):
            best[language] = max(best[language], float(found[1]) if found else 1.0)
    return best["zh"] > best["en"]


def as_problem(error: Exception) -> Problem:
    """The problem that an exception stands for; what a 5xx knows stays inside."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, RequestValidationError):
        faults = [_fault(each) for each in error.errors()]
        if any(fault.code == "json_invalid" for fault in faults):
            return Malformed("The body is not JSON as RFC 8259 says, without NUL and lone surrogates.")
        return Invalid(errors=faults)
    if isinstance(error, HTTPException):
        known = {each.status: each for each in (NotFound, MethodNotAllowed, TooLarge, UnsupportedMedia)}
        problem = known.get(error.status_code, Malformed)(None)
        problem.headers.update(error.headers or {})
        return problem
    if unreachable(error):
        return Unavailable("The part's database does not answer now; repeat with the same Idempotency-Key.")
    return Problem()


def _fault(error: dict[str, Any]) -> Fault:
    place = [str(step).replace("~", "~0").replace("/", "~1") for step in error["loc"]]
    detail = error["msg"] if error["type"] not in QUOTING else "The value is not of the kind that is needed."
    return Fault(pointer="/" + "/".join(place), code=error["type"], detail=detail)


def _operation(request: Request) -> str:
    route = request.scope.get("route")
    return getattr(route, "name", None) or request.method


async def record_refusal(request: Request, problem: Problem, subject: Subject) -> None:
    """Makes the refusal of a known caller durable, in a transaction of its own, before it is answered."""
    identifiers: dict[str, UUID] = {}
    for name, value in request.path_params.items():
        try:
            identifiers["record" if name == "record_id" else "object"] = UUID(str(value))
        except ValueError:
            continue
    refused: type[AccessRefused] = request.app.state.refused
    event = refused(operation=_operation(request), slug=problem.slug, scope=problem.members.get("scope"), **identifiers)
    async with request.app.state.database.transaction() as session:
        await outbox.add(session, event, by=subject, at=request.app.state.clock.now())
