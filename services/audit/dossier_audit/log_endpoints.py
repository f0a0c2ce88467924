"""HTTP of the log: C2SP tlog-tiles below `/v1/audit/log` (and `/v1/audit/logs/<n>` for a later one), and proofs."""

from base64 import b64encode
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.responses import PlainTextResponse

from dossier_audit import logbook, rules
from dossier_audit.auth import Auditor, Verifier
from dossier_audit.errors import NotInLog
from dossier_audit.log import notes
from dossier_audit.log.tiles import NoSuchTile, Place, read_level, read_numbered
from dossier_audit.models import Log
from dossier_audit.repository import logs
from dossier_audit.repository.logs import OpenedBody
from dossier_audit.schemas import KnownCheckpoint, LogDescription, Logs, OpeningLeaf
from dossier_common.app import router as make_router
from dossier_common.database import Read, Recorded
from dossier_common.events import instant
from dossier_common.reach import ALL_OBJECTS

IMMUTABLE: Final = "private, max-age=31536000, immutable"
SHORT: Final = "private, max-age=1"
REST: Final[dict[str, Any]] = {"x-dossier-rest": "number"} | ALL_OBJECTS
"""The gateway's route table lets this parameter span segments: `x001/x234/067.p/112`."""
Number = Annotated[str, Path(description="Groups of three digits, all but the last with x; .p/<width>")]

router = make_router(tags=["audit log"])


class Tile(Response):
    """Hashes, or a bundle of entries; it never changes."""

    media_type = "application/octet-stream"


class Lines(Response):
    """One JSON value a line."""

    media_type = "application/jsonl"


@router.get("/v1/audit/logs", openapi_extra=ALL_OBJECTS)
async def list_logs(request: Request, session: Read, _verifier: Verifier) -> Logs:
    """The log, and those before it if the database was ever restored: each names the last checkpoint before it."""
    known = await logs.logs(session)
    return Logs(logs=[await _described(request, session, log, last=log is known[-1]) for log in known])


@router.get("/v1/audit/events/{event_id}/proof", response_class=PlainTextResponse, openapi_extra=ALL_OBJECTS)
async def prove_audit_event(request: Request, session: Recorded, verifier: Verifier, event_id: UUID) -> Response:
    """What proves offline that this event is in the log: a `.tlog-proof` (C2SP), the leaf as its extra data."""
    text = await logbook.prove(session, event_id, verifier, request.app.state.clock)
    headers = {"Content-Disposition": f'attachment; filename="{event_id}.tlog-proof"'}
    return PlainTextResponse(text, headers=headers)


async def _first() -> int:
    return 1


async def _later(generation: Annotated[int, Path(ge=2, le=2**31 - 1)]) -> int:
    return generation


def _serve(routes: APIRouter, prefix: str, suffix: str, which: Callable[..., Awaitable[int]]) -> None:
    """The addresses of one log, or of all later ones."""

    @routes.get(
        f"{prefix}/checkpoint",
        name=f"show_checkpoint{suffix}",
        response_class=PlainTextResponse,
        openapi_extra=ALL_OBJECTS,
    )
    async def show_checkpoint(
        request: Request, session: Read, _verifier: Verifier, generation: Annotated[int, Depends(which)]
    ) -> Response:
        """The newest checkpoint of which a copy lies outside the database, with the witnesses' cosignatures."""
        note = await logbook.checkpoint(session, generation, request.app.state.clock.now())
        return PlainTextResponse(note, headers={"Cache-Control": SHORT})

    @routes.get(
        f"{prefix}/tile/entries/{{number:path}}",
        name=f"show_entries{suffix}",
        response_class=Tile,
        openapi_extra=REST,
    )
    async def show_entries(
        session: Read, _verifier: Verifier, generation: Annotated[int, Depends(which)], number: Number
    ) -> Response:
        """A bundle of entries, each behind its length as a big-endian uint16."""
        found = await logbook.entries(session, generation, *_read(number))
        return Tile(found, headers={"Cache-Control": IMMUTABLE})

    @routes.get(
        f"{prefix}/tile/{{level}}/{{number:path}}", name=f"show_tile{suffix}", response_class=Tile, openapi_extra=REST
    )
    async def show_tile(
        session: Read,
        _verifier: Verifier,
        generation: Annotated[int, Depends(which)],
        level: Annotated[str, Path(description="0 to 63")],
        number: Number,
    ) -> Response:
        """Up to 256 hashes of one level of the tree."""
        try:
            place = Place(read_level(level), *_read(number))
        except NoSuchTile as error:
            raise NotInLog from error
        found = await logbook.tile(session, generation, place)
        return Tile(found, headers={"Cache-Control": IMMUTABLE})

    @routes.get(
        f"{prefix}/bodies/{{number:path}}", name=f"open_bodies{suffix}", response_class=Lines, openapi_extra=REST
    )
    async def open_bodies(
        request: Request,
        session: Recorded,
        auditor: Auditor,
        generation: Annotated[int, Depends(which)],
        number: Number,
    ) -> Response:
        """Salt and body behind each entry of a bundle, or when and by which order it was erased. It is an event."""
        index, width = _read(number)
        clock = request.app.state.clock
        found = await logbook.bodies(session, generation, index, width, auditor, clock)
        return Lines(b"".join(orjson.dumps(_line(each)) + b"\n" for each in found))


_serve(router, rules.LOG_PATH, "", _first)
_serve(router, f"{rules.LOG_PATH}s/{{generation}}", "_of", _later)


def _read(number: str) -> tuple[int, int]:
    try:
        return read_numbered(number)
    except NoSuchTile as error:
        raise NotInLog from error


def _line(opened: OpenedBody) -> dict[str, Any]:
    if opened.salt is None or opened.body is None:
        at = instant(opened.erased_at) if opened.erased_at else None
        return {"erased": {"at": at, "order": opened.order}}
    # What is no UTF-8 was damaged: it is shown all the same, so that the verifier can say which it is.
    return {"salt": b64encode(opened.salt).decode(), "body": opened.body.decode(errors="replace")}


async def _described(request: Request, session: Read, log: Log, *, last: bool) -> LogDescription:
    settings = request.app.state.settings
    leaf, body = await logs.opening(session, log.generation)
    before = None
    if log.predecessor_origin and log.predecessor_root is not None and log.predecessor_size is not None:
        before = KnownCheckpoint(
            origin=log.predecessor_origin, size=log.predecessor_size, root=log.predecessor_root.hex()
        )
    scheme = settings.common.issuer.partition("://")[0]
    return LogDescription(
        generation=log.generation,
        origin=log.origin,
        url=f"{scheme}://{log.origin}",
        vkey=notes.key_of(log.origin, request.app.state.log_key).vkey(),
        opened_at=log.opened_at,
        state="open" if last else "closed",
        predecessor=before,
        opened=OpeningLeaf.of(leaf, body),
    )
