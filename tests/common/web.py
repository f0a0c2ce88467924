"""A small part with one endpoint of each kind, on the database of retention."""

import asyncio
from typing import Annotated
from uuid import UUID

from fastapi import FastAPI, Header, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import text
from tests.common.line import ProducerSettings

from dossier_common import outbox
from dossier_common.app import create_app
from dossier_common.app import router as make_router
from dossier_common.auth import Caller, scope
from dossier_common.clock import Clock
from dossier_common.contracts.retention import AccessRefused, HoldPlaced
from dossier_common.database import Read, Write
from dossier_common.identity import Subject
from dossier_common.ids import new_id
from dossier_common.paging import Paged
from dossier_common.preconditions import etag, require_match
from dossier_common.problems import Conflict, Forbidden, Hidden, NotFound
from dossier_common.scopes import Scope

Placer = Annotated[Subject, scope(Scope.HOLDS_PLACE)]


class NewThing(BaseModel):
    model_config = ConfigDict(extra="forbid")

    record: UUID
    name: str = Field(default="", max_length=200)
    number: int = Field(default=0, ge=0, le=2**31 - 1)


class Thing(BaseModel):
    id: UUID
    record: UUID


router = make_router(tags=["things"])


@router.post("/v1/things", status_code=201)
async def create_thing(body: NewThing, request: Request, response: Response, session: Write, by: Placer) -> Thing:
    thing = Thing(id=new_id(), record=body.record)
    event = HoldPlaced(hold=thing.id, record=body.record)
    await outbox.add(session, event, by=by, at=request.app.state.clock.now())
    if body.name == "slow":
        await asyncio.sleep(0.3)
    if body.name == "conflict":
        raise Conflict("Not now.")
    response.headers["Location"] = f"/v1/things/{thing.id}"
    response.headers["ETag"] = etag(1)
    response.headers["X-Colour"] = "red"
    return thing


@router.post("/v1/reports", status_code=201)
async def create_report(session: Write, _by: Caller) -> Response:
    await session.execute(text("SELECT 1"))
    return Response(b"\x89PDF\xff", 201, media_type="application/pdf")


@router.get("/v1/things")
async def list_things(page: Paged, session: Read, _by: Caller) -> dict[str, list[int]]:
    await session.execute(text("SELECT 1"))
    start = page.starts(int) or 0
    items = list(range(start + 1, min(start + page.limit, 120) + 1))
    if items and items[-1] < 120:
        page.more(items[-1])
    return {"items": items}


@router.get("/v1/others")
async def list_others(page: Paged, _by: Caller) -> dict[str, int]:
    return {"limit": page.limit}


@router.put("/v1/things/{thing_id}")
async def change_thing(thing_id: UUID, _by: Caller, if_match: Annotated[str | None, Header()] = None) -> dict[str, str]:
    require_match(if_match, 3)
    return {"id": str(thing_id)}


@router.get("/v1/records/{record_id}")
async def show_record(record_id: UUID, kind: str, _by: Caller) -> None:
    refusal = {"forbidden": Forbidden, "hidden": Hidden, "unknown": NotFound}[kind]
    raise refusal


@router.get("/v1/crash")
async def crash(_by: Caller) -> None:
    raise LookupError("张三 lives at 身份证 110101199003070000")


@router.get("/v1/fallback", response_class=PlainTextResponse)
async def show_database(session: Read) -> str:
    return str((await session.execute(text("SELECT 'here'"))).scalar_one())


@router.get("/v1/late")
async def be_late() -> None:
    await asyncio.sleep(60)


def application(settings: ProducerSettings, clock: Clock | None = None) -> FastAPI:
    """The part."""
    return create_app(
        "retention",
        settings,
        routers=[router],
        refused=AccessRefused,
        clock=clock,
        body_limits={"/v1/reports": 3000},
    )
