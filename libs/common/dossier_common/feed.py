"""The feed: every producer serves its numbered events over HTTP, so that NATS is fast and may be lost.

For other parts only (`events:pull`).
"""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common import tables
from dossier_common.auth import scope
from dossier_common.clock import Clock
from dossier_common.database import Read
from dossier_common.events import instant
from dossier_common.identity import Subject
from dossier_common.leaves import Head, Numbered
from dossier_common.problems import EventsPruned
from dossier_common.scopes import Scope
from dossier_common.wire import event_to_json, head_to_json

router = APIRouter(prefix="/internal/v1", tags=["events"])
Follower = Annotated[Subject, scope(Scope.EVENTS_PULL)]

PAGE = 512


class WireHead(BaseModel):
    """A signed head: hash in hex, signature in base64."""

    producer: str
    epoch: int
    seq: int
    hash: str
    signature: str


class WireEvent(BaseModel):
    """Leaf and body as the text that was hashed, salt in base64."""

    leaf: str
    salt: str
    body: str


class FeedPage(BaseModel):
    """Whole signed batches after a cursor, in order; empty when there is nothing newer.

    `through`: everything that was committed before this instant is numbered, so that nothing of it is missing at the
    end of the feed.
    """

    model_config = ConfigDict(extra="forbid")

    epoch: int
    events: list[WireEvent]
    head: WireHead | None
    through: str


class HeadAnswer(BaseModel):
    """The newest signed head, or none when nothing was numbered yet; `through` as in a page of the feed."""

    head: WireHead | None
    through: str


@router.get("/feed", operation_id="pull_events")
async def pull_events(
    request: Request,
    session: Read,
    _caller: Follower,
    epoch: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
    after: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0,
) -> FeedPage:
    """Events after (epoch, after), up to a signed head. At the end of an epoch the next one follows from its start.

    410 when what comes next was pruned: such a follower needs another way to catch up.
    """
    through = await numbered_through(session, request.app.state.clock)
    found = await page(session, request.app.state.part, epoch, after)
    return FeedPage.model_validate(found | {"through": instant(through)})


@router.get("/head", operation_id="show_head")
async def show_head(request: Request, session: Read, _caller: Follower) -> HeadAnswer:
    """The newest signed head of this producer."""
    through = instant(await numbered_through(session, request.app.state.clock))
    heads = tables.outbox_heads
    row = (
        await session.execute(select(heads).order_by(heads.c.epoch.desc(), heads.c.seq.desc()).limit(1))
    ).one_or_none()
    if row is None:
        return HeadAnswer(head=None, through=through)
    head = Head(request.app.state.part, row.epoch, row.seq, row.hash, row.signature)
    return HeadAnswer(head=WireHead.model_validate(head_to_json(head)), through=through)


async def numbered_through(session: AsyncSession, clock: Clock) -> datetime:
    """Everything that was committed before this instant has its number in what is read after this call.

    It is the time of the first event without a number, or now: ids rise with time, and both are made before the commit,
    so that no other without a number can have been committed earlier.
    """
    now = clock.now()
    outbox = tables.outbox
    first = select(outbox.c.time).where(outbox.c.seq.is_(None)).order_by(outbox.c.id).limit(1)
    oldest = (await session.execute(first)).scalar_one_or_none()
    return now if oldest is None else min(now, oldest)


async def page(session: AsyncSession, producer: str, epoch: int, after: int) -> dict[str, Any]:
    """One page of whole batches; the pages of an epoch end at its last head, then the next epoch begins.

    Raises EventsPruned.
    """
    heads, outbox = tables.outbox_heads, tables.outbox
    newer = heads.c.seq > after
    row = (
        await session.execute(
            select(heads)
            .where(((heads.c.epoch == epoch) & newer) | (heads.c.epoch > epoch))
            .order_by(heads.c.epoch, heads.c.seq)
            .limit(1)
        )
    ).one_or_none()
    if row is None:
        return {"epoch": epoch, "events": [], "head": None}
    if row.epoch > epoch:
        epoch, after = row.epoch, 0
    last = (
        await session.execute(
            select(heads)
            .where(heads.c.epoch == epoch, heads.c.seq > after, heads.c.seq <= max(after + PAGE, row.seq))
            .order_by(heads.c.seq.desc())
            .limit(1)
        )
    ).one()
    rows = await session.execute(
        select(outbox)
        .where(outbox.c.epoch == epoch, outbox.c.seq > after, outbox.c.seq <= last.seq)
        .order_by(outbox.c.seq)
    )
    events = [Numbered(r.id, r.type, r.epoch, r.seq, r.leaf, r.salt, r.body) for r in rows]
    if len(events) != last.seq - after:
        raise await _pruned(session)
    head = Head(producer, last.epoch, last.seq, last.hash, last.signature)
    return {"epoch": epoch, "events": [event_to_json(event) for event in events], "head": head_to_json(head)}


async def _pruned(session: AsyncSession) -> EventsPruned:
    """Names the first event that there is; behind the last head when there is none."""
    outbox, state = tables.outbox, tables.outbox_state
    numbered = select(outbox.c.epoch, outbox.c.seq).where(outbox.c.seq.is_not(None))
    first = (await session.execute(numbered.order_by(outbox.c.epoch, outbox.c.seq).limit(1))).one_or_none()
    if first is None:
        first = (await session.execute(select(state.c.epoch, (state.c.seq + 1).label("seq")))).one()
    oldest = {"epoch": first.epoch, "seq": first.seq}
    return EventsPruned(f"The oldest event here is {first.epoch}/{first.seq}.", oldest=oldest)
