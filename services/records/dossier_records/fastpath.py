"""The hot path of reading: an ASGI layer before FastAPI's routing, for `GET /v1/records/{id}` and nothing else.

It parses by hand what the endpoint `read_record` declares, and gives everything that it does not understand at
first sight to that endpoint, so that there is one set of rules and one wording of every fault.
"""

import re
from typing import Final
from urllib.parse import parse_qsl
from uuid import UUID

import orjson
from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from dossier_common.app import answer_problem
from dossier_common.auth import identify
from dossier_common.edge import REQUEST_ID
from dossier_common.identity import Subject
from dossier_common.ids import new_id
from dossier_common.problems import InsufficientScope
from dossier_common.scopes import Scope as Permission
from dossier_common.standing import Standing
from dossier_records import endpoints
from dossier_records.endpoints import KEY_PATTERN, read
from dossier_records.reading import Ask

_PREFIX: Final = "/v1/records/"
_PATH_LENGTH: Final = len(_PREFIX) + 36
_PURPOSE: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_KEY: Final = re.compile(KEY_PATTERN)


class FastRead:
    """ASGI middleware around the application of the records service."""

    def __init__(self, app: ASGIApp, *, owner: FastAPI) -> None:
        self._app, self._owner = app, owner
        self._standing: Standing = owner.state.standing
        self._route = next(each for each in endpoints.api.routes if getattr(each, "name", "") == "read_record")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a reading, or passes the request on."""
        asked = _parse(scope) if scope["type"] == "http" and self._standing.open else None
        if asked is None:
            await self._app(scope, receive, send)
            return
        record, purpose, grant, key = asked
        headers = Headers(scope=scope)
        request_id = headers.get("x-request-id", "")
        if not REQUEST_ID.match(request_id):
            request_id = str(new_id())
        state = self._owner.state
        request = Request({**scope, "app": self._owner, "state": {"request_id": request_id}})
        try:
            subject = await identify(request)
            _ensure_scope(subject)
            body = orjson.dumps(await read(state, Ask(record, subject, purpose, grant, key)))
        except Exception as error:  # noqa: BLE001  # becomes a problem document in the one place for it
            request.scope.update({"path_params": {"record_id": record}, "route": self._route})
            response = await answer_problem(request, error)
            response.headers["X-Request-Id"] = request_id
            await response(scope, receive, send)
            return
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    (b"content-type", b"application/json"),
                    (b"content-length", b"%d" % len(body)),
                    (b"cache-control", b"no-store"),
                    (b"x-request-id", request_id.encode()),
                ],
            }
        )
        await send({"type": "http.response.body", "body": body})


def _ensure_scope(subject: Subject) -> None:
    if Permission.RECORDS_READ not in subject.scopes:
        raise InsufficientScope(Permission.RECORDS_READ)


def _parse(scope: Scope) -> tuple[UUID, str, UUID | None, str | None] | None:
    """Record, purpose, grant and Idempotency-Key of a well-formed reading; None for everything else."""
    path: str = scope["path"]
    if scope["method"] != "GET" or len(path) != _PATH_LENGTH or not path.startswith(_PREFIX):
        return None
    try:
        query = parse_qsl(scope["query_string"].decode("ascii"), keep_blank_values=True, strict_parsing=True)
        values = dict(query)
        purpose = values.pop("purpose", "")
        if len(values) + 1 != len(query) or not _PURPOSE.fullmatch(purpose):
            return None
        grant = _uuid(values.pop("grant")) if "grant" in values else None
        record = _uuid(path[len(_PREFIX) :])
    except ValueError:
        return None
    keys = [value for name, value in scope["headers"] if name == b"idempotency-key"]
    key = keys[0].decode("latin-1") if keys else None
    if values or len(keys) > 1 or (key is not None and not _KEY.fullmatch(key)):
        return None
    return record, purpose, grant, key


def _uuid(text: str) -> UUID:
    if not _UUID.fullmatch(text):
        raise ValueError("left to the endpoint")
    return UUID(text)
