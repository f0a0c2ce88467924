"""Consumers: they follow a producer's chain, verify it, and apply it in order.

The cursor moves in the transaction that applies the events, and the acknowledgement follows the commit, so
that each event is applied exactly once. A gap, a fork or a silence makes the consumer pull from the feed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.client import JetStreamContext
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common import tables, telemetry
from dossier_common.clock import Clock
from dossier_common.database import Database
from dossier_common.events import Envelope, Event
from dossier_common.keys import VerifyingKeys
from dossier_common.leaves import NO_LEAF, ChainBroken, Head, Numbered, verify_chain
from dossier_common.peers import Peers
from dossier_common.problems import UpstreamUnavailable
from dossier_common.scopes import Scope
from dossier_common.topology import stream
from dossier_common.wire import read_message, read_page

FETCH = 256
FETCH_SECONDS = 1.0
SILENCE = 10.0
STALE = 1.0
FIRST_WAIT, LONGEST_WAIT = 0.1, 2.0
LINGER_SECONDS, LINGER_BUSY_SECONDS, BUSY = 0.02, 0.1, 8
"""After a fetch that was not full: a transaction for a handful of events costs more than they do."""
PENDING_LIMIT = 4 * FETCH

E = TypeVar("E", bound=Event)
Handler = Callable[[AsyncSession, Any, Envelope], Awaitable[None]]
Apply = Callable[[AsyncSession, str, Sequence[Numbered], Head], Awaitable[None]]


class Handlers:
    """What a part does at which event: `@handlers.on(RoleAssigned)` above `async def f(session, event, envelope)`.

    Types without a handler pass by. An unexpected error leaves the cursor where it is, and is tried again.
    """

    def __init__(self) -> None:
        self._handlers: dict[str, tuple[type[Event], Handler]] = {}

    def on(self, event_type: type[E]) -> Callable[[Callable[[AsyncSession, E, Envelope], Awaitable[None]]], Handler]:
        """Registers the one handler of an event type."""

        def register(handler: Callable[[AsyncSession, E, Envelope], Awaitable[None]]) -> Handler:
            if event_type.TYPE in self._handlers:
                raise ValueError(f"{event_type.TYPE} has a handler already")
            self._handlers[event_type.TYPE] = (event_type, handler)
            return handler

        return register

    def include(self, other: "Handlers") -> None:
        """Takes in the handlers of another module of the same service. Raises ValueError for a second of one type."""
        if twice := self._handlers.keys() & other._handlers.keys():  # noqa: SLF001  # its own class
            raise ValueError(f"{sorted(twice)} have a handler already")
        self._handlers |= other._handlers  # noqa: SLF001  # its own class

    async def apply(self, session: AsyncSession, _producer: str, events: Sequence[Numbered], _head: Head) -> None:
        """Hands each known event to its handler, in order."""
        for numbered in events:
            known = self._handlers.get(numbered.type)
            if known is not None:
                envelope = Envelope.decode(numbered.body)
                await known[1](session, known[0].model_validate(envelope.data), envelope)


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a producer's chain has been applied."""

    epoch: int = 0
    seq: int = 0
    hash: bytes = NO_LEAF


class Consumer:
    """Follows one producer until it is cancelled."""

    def __init__(
        self,
        part: str,
        producer: str,
        *,
        database: Database,
        keys: VerifyingKeys,
        peers: Peers,
        nats: Client,
        clock: Clock,
        apply: Apply,
    ) -> None:
        self._part, self._producer = part, producer
        self._database, self._keys, self._peers = database, keys, peers
        self._nats, self._clock, self._apply = nats, clock, apply
        self._unread: Msg | None = None

    async def run(self) -> None:
        """Catches up by the feed, then follows the stream; goes back to the feed whenever the stream is no help."""
        waiting = FIRST_WAIT
        while True:
            try:
                await self.catch_up()
                await self._skip_unread()
                await self._follow(SILENCE)
                waiting = FIRST_WAIT
            except UpstreamUnavailable as error:
                self._report("feed-unavailable", error)
                waiting = await self._follow_without_feed(waiting)
            except (NatsError, ChainBroken, OSError) as error:
                self._report("stream-left", error)
                await asyncio.sleep(waiting)
                waiting = min(waiting * 2, LONGEST_WAIT)

    async def catch_up(self) -> None:
        """Applies all that the producer's feed has now. Raises UpstreamUnavailable, ChainBroken."""
        while await self._pull_page():
            pass

    def _report(self, what: str, error: Exception) -> None:
        telemetry.log().warning(what, producer=self._producer, error=type(error).__name__, detail=str(error)[:200])

    async def _follow_without_feed(self, waiting: float) -> float:
        try:
            await self._follow(waiting)
        except (NatsError, ChainBroken, OSError) as error:
            self._report("stream-left", error)
            await asyncio.sleep(waiting)
        return min(waiting * 2, LONGEST_WAIT)

    async def _skip_unread(self) -> None:
        """What the stream held and could not be applied has come by the feed: it need not be delivered again."""
        if self._unread is not None and self._nats.is_connected:
            await self._unread.ack()
        self._unread = None

    async def _pull_page(self) -> bool:
        cursor = await self._cursor()
        answer = await self._peers.get(
            self._producer, "/internal/v1/feed", Scope.EVENTS_PULL, epoch=cursor.epoch, after=cursor.seq
        )
        if answer.status_code != 200:
            raise UpstreamUnavailable(f"The feed of {self._producer} answers {answer.status_code}.")
        events, head = read_page(answer.content)
        if not events or head is None:
            return False
        await self.take(events, head)
        return True

    async def _cursor(self) -> "Cursor":
        async with self._database.session() as session:
            return await read_cursor(session, self._producer)

    async def _follow(self, silence: float) -> None:
        if not self._nats.is_connected:
            await asyncio.sleep(0.5)
            return
        subscription = await self._nats.jetstream().pull_subscribe_bind(
            durable=self._part, stream=stream(self._producer), inbox_prefix=self._inbox()
        )
        try:
            await self._fetch(subscription, silence)
        finally:
            if self._nats.is_connected:
                await subscription.unsubscribe()

    def _inbox(self) -> bytes:
        return bytes(self._nats._inbox_prefix) + b"."  # noqa: SLF001  # the client has no getter for it

    async def _fetch(self, subscription: JetStreamContext.PullSubscription, silence: float) -> None:
        pending: dict[int, _Message] = {}
        cursor = await self._cursor()
        loop = asyncio.get_running_loop()
        heard = fresh = loop.time()
        while loop.time() - heard < silence:
            messages = await _fetched(subscription)
            if not messages:  # an empty stream is silence too: what it should hold may have been lost with it
                continue
            heard = loop.time()
            self._unread = messages[-1]
            for each in messages:
                event, head = read_message(each.data)
                if (event.epoch, event.seq) > (cursor.epoch, cursor.seq):
                    self._ensure_same_epoch(event, cursor)
                    pending[event.seq] = _Message(each, event, head)
            batch = _whole_batches(pending, cursor)
            if batch:
                last = batch[-1]
                cursor = await self._take([each.event for each in batch], last.head)
                await last.message.ack()
                pending = {seq: each for seq, each in pending.items() if seq > cursor.seq}
                fresh = loop.time()
            elif not pending:  # known already
                await messages[-1].ack()
                if loop.time() - fresh > STALE:  # what is new waits behind what is old
                    await self.catch_up()
                    fresh, cursor = loop.time(), await self._cursor()
            elif cursor.seq + 1 not in pending or len(pending) > PENDING_LIMIT:
                raise ChainBroken(f"{self._producer}: a gap after {cursor.epoch}/{cursor.seq}")
            self._unread = None
            if len(messages) < FETCH:
                await asyncio.sleep(LINGER_SECONDS if len(messages) < BUSY else LINGER_BUSY_SECONDS)

    def _ensure_same_epoch(self, event: Numbered, cursor: "Cursor") -> None:
        """An epoch is left by the feed alone, which first gives all that the old one still has."""
        if event.epoch != max(cursor.epoch, 1):
            raise ChainBroken(f"{self._producer}: epoch {event.epoch} came by the stream after {cursor.epoch}")

    async def take(self, events: Sequence[Numbered], head: Head) -> None:
        """Verifies and applies what is newer than the cursor, and moves the cursor, in one transaction.

        Also the way in for a batch that comes by neither stream nor feed. Raises ChainBroken.
        """
        await self._take(events, head)

    async def _take(self, events: Sequence[Numbered], head: Head) -> "Cursor":
        async with self._database.transaction() as session:
            cursor = await self._locked_cursor(session)
            if (head.epoch, head.seq) <= (cursor.epoch, cursor.seq):
                return cursor
            if head.epoch > cursor.epoch:
                cursor = Cursor(head.epoch)
            newer = [event for event in events if event.epoch == head.epoch and event.seq > cursor.seq]
            head.verify(self._keys)
            verify_chain(self._producer, head.epoch, cursor.seq, cursor.hash, newer, head)
            await self._apply(session, self._producer, newer, head)
            moved = Cursor(head.epoch, head.seq, head.hash)
            await write_cursor(session, self._producer, moved, self._clock)
            return moved

    async def _locked_cursor(self, session: AsyncSession) -> "Cursor":
        """The cursor, made if there is none yet: two that start at once must not both apply the first batch."""
        cursor = await read_cursor(session, self._producer, lock=True)
        if cursor != Cursor():
            return cursor
        values = {"epoch": cursor.epoch, "seq": cursor.seq, "hash": cursor.hash, "applied_at": self._clock.now()}
        await session.execute(insert(tables.cursors).values(producer=self._producer, **values).on_conflict_do_nothing())
        return await read_cursor(session, self._producer, lock=True)


async def _fetched(subscription: JetStreamContext.PullSubscription) -> list[Msg]:
    """What has come; nothing when there is nothing, whether the server says so or not."""
    try:
        return await subscription.fetch(FETCH, timeout=FETCH_SECONDS)
    except TimeoutError:  # the client raises its own, and the plain one when the time is over before it asks
        return []


@dataclass(frozen=True, slots=True)
class _Message:
    message: Msg
    event: Numbered
    head: Head


def _whole_batches(pending: Mapping[int, _Message], cursor: Cursor) -> list[_Message]:
    """The messages that follow the cursor without a gap, up to the last end of a batch among them."""
    found: list[_Message] = []
    whole = 0
    seq = cursor.seq + 1
    while (each := pending.get(seq)) is not None:
        found.append(each)
        if each.head.seq == seq:
            whole = len(found)
        seq += 1
    return found[:whole]


async def read_cursor(session: AsyncSession, producer: str, *, lock: bool = False) -> Cursor:
    """How far this producer was applied; locks it for a transaction that will move it."""
    table = tables.cursors
    query = select(table.c.epoch, table.c.seq, table.c.hash).where(table.c.producer == producer)
    row = (await session.execute(query.with_for_update() if lock else query)).one_or_none()
    return Cursor(row.epoch, row.seq, row.hash) if row else Cursor()


async def write_cursor(session: AsyncSession, producer: str, cursor: Cursor, clock: Clock) -> None:
    """Moves the cursor."""
    values = {"epoch": cursor.epoch, "seq": cursor.seq, "hash": cursor.hash, "applied_at": clock.now()}
    await session.execute(
        insert(tables.cursors)
        .values(producer=producer, **values)
        .on_conflict_do_update(index_elements=["producer"], set_=values)
    )
