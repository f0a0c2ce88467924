"""Consumers: they follow a producer's chain, verify it, and apply it in order.

The cursor moves in the transaction that applies the events, and the acknowledgement follows the commit, so
that each event is applied exactly once. A gap, a fork or a silence makes the consumer pull from the feed. Beside the
cursor stands until when nothing can be missing (`fresh_at`): heartbeats and the end of the feed move it, and a handler
that is slow or fails does not.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar
from uuid import UUID

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common import cursors, metrics, telemetry
from dossier_common.clock import Clock
from dossier_common.cursors import Cursor
from dossier_common.database import Database
from dossier_common.events import Envelope, Event
from dossier_common.heartbeats import Pulse
from dossier_common.keys import VerifyingKeys
from dossier_common.leaves import ChainBroken, Head, Numbered, verify_chain
from dossier_common.peers import Peers
from dossier_common.problems import EventsPruned, UpstreamUnavailable
from dossier_common.pull import BATCH, Pull
from dossier_common.scopes import Scope
from dossier_common.topology import heartbeat_subject, stream
from dossier_common.wire import Page, read_message, read_page

SILENCE = 1.5
"""Seconds without a heartbeat after which the feed is asked."""
BEHIND = 1.0
"""Seconds in which the stream has to bring what a heartbeat spoke of."""
FEED_SECONDS = 1.0
"""Between two questions to the feed, while it is needed."""
FEED_PRUNED_SECONDS = 60.0
TICK = 0.25
FIRST_WAIT, LONGEST_WAIT = 0.1, 2.0
LINGER_SECONDS, LINGER_BUSY_SECONDS, BUSY = 0.02, 0.1, 8
"""After messages that were few: a transaction for a handful of events costs more than they do."""
PENDING_LIMIT = 4 * BATCH
FRESH_STEP = timedelta(seconds=0.75)
"""Freshness is written when it has moved so far: about once a second, since heartbeats come twice."""
HANDLED_KEEP: Final = timedelta(days=14)
"""Longer than any outbox keeps what it may have to number again."""

E = TypeVar("E", bound=Event)
Handler = Callable[[AsyncSession, Any, Envelope], Awaitable[None]]
Apply = Callable[[AsyncSession, str, Sequence[Numbered], Head], Awaitable[None]]


class Handlers:
    """What a part does at which event: `@handlers.on(RoleAssigned)` above `async def f(session, event, envelope)`.

    Types without a handler pass by. An unexpected error leaves the cursor where it is, and is tried again. An event is
    handled once, by its id: a producer that was restored may number it again in a new epoch.
    """

    def __init__(self) -> None:
        self._handlers: dict[str, tuple[type[Event], Handler]] = {}
        self._repeatable: set[str] = set()

    def on(
        self, event_type: type[E], *, repeatable: bool = False
    ) -> Callable[[Callable[[AsyncSession, E, Envelope], Awaitable[None]]], Handler]:
        """Registers the one handler of an event type.

        One that is `repeatable` does no harm when it sees an event again: of a type that comes thousands of times a
        second, it is then not noted which were handled.
        """

        def register(handler: Callable[[AsyncSession, E, Envelope], Awaitable[None]]) -> Handler:
            if event_type.TYPE in self._handlers:
                raise ValueError(f"{event_type.TYPE} has a handler already")
            self._handlers[event_type.TYPE] = (event_type, handler)
            if repeatable:
                self._repeatable.add(event_type.TYPE)
            return handler

        return register

    def also(
        self, event_type: type[E]
    ) -> Callable[[Callable[[AsyncSession, E, Envelope], Awaitable[None]]], Callable[..., Awaitable[None]]]:
        """Registers what follows the handler of an event type that was included: the directory's own, say.

        Where there is none, it is the handler.
        """
        first = self._handlers[event_type.TYPE][1] if event_type.TYPE in self._handlers else None

        def register(
            following: Callable[[AsyncSession, E, Envelope], Awaitable[None]],
        ) -> Callable[..., Awaitable[None]]:
            async def both(session: AsyncSession, event: E, envelope: Envelope) -> None:
                if first is not None:
                    await first(session, event, envelope)
                await following(session, event, envelope)

            self._handlers[event_type.TYPE] = (event_type, both)
            return following

        return register

    def include(self, other: "Handlers") -> None:
        """Takes in the handlers of another module of the same service. Raises ValueError for a second of one type."""
        if twice := self._handlers.keys() & other._handlers.keys():  # noqa: SLF001  # its own class
            raise ValueError(f"{sorted(twice)} have a handler already")
        self._handlers |= other._handlers  # noqa: SLF001  # its own class
        self._repeatable |= other._repeatable  # noqa: SLF001  # its own class

    async def apply(self, session: AsyncSession, producer: str, events: Sequence[Numbered], _head: Head) -> None:
        """Hands each known event that was not handled before to its handler, in order."""
        known = {event.id: event for event in events if event.type in self._handlers}  # in order, each id once
        once = [event_id for event_id, event in known.items() if event.type not in self._repeatable]
        handled = set(once) - await _not_handled(session, producer, once)
        for event_id, numbered in known.items():
            if event_id not in handled:
                event_type, handler = self._handlers[numbered.type]
                envelope = Envelope.decode(numbered.body)
                await handler(session, event_type.model_validate(envelope.data), envelope)


_HANDLED = text("""
INSERT INTO handled_events (producer, id) SELECT :producer, unnest(CAST(:ids AS uuid[]))
ON CONFLICT DO NOTHING RETURNING id
""")


async def _not_handled(session: AsyncSession, producer: str, ids: Sequence[UUID]) -> set[UUID]:
    """Those of the ids that nobody has handled; with this transaction they are."""
    return set((await session.execute(_HANDLED, {"producer": producer, "ids": list(ids)})).scalars()) if ids else set()


_FORGET: Final = text("""
DELETE FROM handled_events h WHERE h.at < :before
  AND EXISTS (SELECT FROM handled_events n WHERE n.producer = h.producer AND n.at > h.at + CAST(:keep AS interval))
""")


async def forget_handled(session: AsyncSession, now: datetime) -> None:
    """Deletes what was handled longer than HANDLED_KEEP before the producer's newest, and so before now.

    While a producer stands still nothing is forgotten: all that it may number again is what it had until then.
    """
    await session.execute(_FORGET, {"before": now - HANDLED_KEEP, "keep": HANDLED_KEEP})


class FeedPruned(Exception):
    """The producer no longer has what comes next: this follower needs another way to catch up."""


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
        self._labels = {"producer": producer}
        self._pulse, self._woken = Pulse(producer, keys), asyncio.Event()
        self._unread: Msg | None = None
        self._fresh_at: datetime | None = None
        self._feed_owed, self._feed_due, self._feed_wait = True, float("-inf"), FIRST_WAIT
        self._moved_at = float("-inf")

    async def run(self) -> None:
        """Catches up by the feed, then follows the stream; asks the feed whenever the stream is no help."""
        waiting, loop = FIRST_WAIT, asyncio.get_running_loop()
        self._feed_owed = True
        while True:
            started = loop.time()
            try:
                if self._nats.is_connected:
                    await self._follow()
                elif started >= self._feed_due:
                    await self._ask_feed()
                else:
                    await asyncio.sleep(TICK)
            except (NatsError, ChainBroken, OSError) as error:
                metrics.STREAM_LEFT.add(1, self._labels)
                self._report("stream-left", error)
                self._feed_owed = True
                waiting = FIRST_WAIT if loop.time() - started > LONGEST_WAIT else min(waiting * 2, LONGEST_WAIT)
                await asyncio.sleep(waiting)

    async def catch_up(self) -> None:
        """Applies all that the producer's feed has now. Raises UpstreamUnavailable, FeedPruned, ChainBroken."""
        while True:
            asked_at = self._clock.now()
            page = await self._page()
            if page.head is None:
                await self._note_fresh(min(asked_at, page.through))
                return
            await self.take(page.events, page.head)

    async def take(self, events: Sequence[Numbered], head: Head) -> None:
        """Verifies and applies what is newer than the cursor, and moves the cursor, in one transaction.

        Also the way in for a batch that comes by neither stream nor feed. Raises ChainBroken.
        """
        await self._take(events, head)

    def _report(self, what: str, error: Exception) -> None:
        telemetry.log().warning(what, producer=self._producer, error=type(error).__name__, detail=str(error)[:200])

    # -- the feed

    async def _ask_feed(self) -> None:
        """Catches up by the feed; when it cannot be had, it is asked again after a while. Raises ChainBroken."""
        loop = asyncio.get_running_loop()
        try:
            await self.catch_up()
        except UpstreamUnavailable as error:
            self._report("feed-unavailable", error)
            self._feed_owed, self._feed_wait = True, min(self._feed_wait * 2, LONGEST_WAIT)
        except FeedPruned as error:
            metrics.FEED_PRUNED.add(1, self._labels)
            telemetry.log().error("feed-pruned", producer=self._producer, detail=str(error))
            self._feed_owed, self._feed_wait = True, FEED_PRUNED_SECONDS
        else:
            await self._skip_unread()
            self._feed_owed, self._feed_wait = False, FIRST_WAIT
            self._feed_due = loop.time() + FEED_SECONDS
            return
        self._feed_due = loop.time() + self._feed_wait

    def _feed_needed(self, now: float) -> bool:
        """Whether something may be missing that the stream does not bring: after an error, a silence, or a lag."""
        if now < self._feed_due:
            return False
        ahead = self._pulse.ahead_since()
        stuck = ahead is not None and now - max(ahead, self._moved_at) > BEHIND
        return self._feed_owed or stuck or now - self._pulse.heard_at > SILENCE

    async def _page(self) -> Page:
        cursor = await self._cursor()
        metrics.FEED_PULLS.add(1, self._labels)
        answer = await self._peers.get(
            self._producer, "/internal/v1/feed", Scope.EVENTS_PULL, epoch=cursor.epoch, after=cursor.seq
        )
        if answer.status_code == EventsPruned.status:
            raise FeedPruned(f"after {cursor.epoch}/{cursor.seq}: {answer.json().get('detail')}")
        if answer.status_code != 200:
            raise UpstreamUnavailable(f"The feed of {self._producer} answers {answer.status_code}.")
        return read_page(answer.content)

    async def _skip_unread(self) -> None:
        """What the stream held and could not be applied has come by the feed: it need not be delivered again."""
        if self._unread is not None and self._nats.is_connected:
            await self._unread.ack()
        self._unread = None

    # -- the stream

    async def _follow(self) -> None:
        """Follows stream and heartbeats. Raises ChainBroken, and NatsError when the stream is no help."""
        async with self._listening(), Pull(self._nats, stream(self._producer), self._part, self._woken) as pull:
            try:
                await self._apply_all(pull)
            finally:
                self._unread = pull.last or self._unread

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()

        async def heard(message: Msg) -> None:
            self._pulse.hear(message.data, loop.time())
            self._woken.set()

        subscription = await self._nats.subscribe(heartbeat_subject(self._producer), cb=heard)
        try:
            yield
        finally:
            if self._nats.is_connected:
                await subscription.unsubscribe()

    async def _apply_all(self, pull: Pull) -> None:
        loop = asyncio.get_running_loop()
        pending: dict[int, _Message] = {}
        cursor = await self._cursor()
        while True:
            if self._feed_needed(loop.time()):
                await self._ask_feed()
                cursor = await self._cursor()
                pending = {seq: each for seq, each in pending.items() if seq > cursor.seq}
            messages = await pull.take(TICK)
            if messages:
                cursor = await self._apply_messages(messages, pending, cursor)
            await self._hear(cursor)
            if messages and len(messages) < BATCH:
                await asyncio.sleep(LINGER_SECONDS if len(messages) < BUSY else LINGER_BUSY_SECONDS)

    async def _apply_messages(self, messages: Sequence[Msg], pending: dict[int, "_Message"], cursor: Cursor) -> Cursor:
        """Applies the whole batches that the messages complete, and then acknowledges them. Raises ChainBroken."""
        for each in messages:
            event, head = read_message(each.data)
            if (event.epoch, event.seq) > cursor.place:
                self._ensure_same_epoch(event, cursor)
                pending[event.seq] = _Message(each, event, head)
        batch = _whole_batches(pending, cursor)
        if batch:
            last = batch[-1]
            cursor = await self._take([each.event for each in batch], last.head)
            await last.message.ack()
            for seq in [seq for seq in pending if seq <= cursor.seq]:
                del pending[seq]
            self._moved_at = asyncio.get_running_loop().time()
        elif not pending:  # known already
            await messages[-1].ack()
        elif cursor.seq + 1 not in pending or len(pending) > PENDING_LIMIT:
            raise ChainBroken(f"{self._producer}: a gap after {cursor.epoch}/{cursor.seq}")
        return cursor

    def _ensure_same_epoch(self, event: Numbered, cursor: Cursor) -> None:
        """An epoch is left by the feed alone, which first gives all that the old one still has."""
        if event.epoch != max(cursor.epoch, 1):
            raise ChainBroken(f"{self._producer}: epoch {event.epoch} came by the stream after {cursor.epoch}")

    # -- cursor and freshness

    async def _cursor(self) -> Cursor:
        async with self._database.session() as session:
            return await cursors.read_cursor(session, self._producer)

    async def _take(self, events: Sequence[Numbered], head: Head) -> Cursor:
        async with self._database.transaction() as session:
            cursor = await cursors.locked_cursor(session, self._producer, self._clock)
            if (head.epoch, head.seq) <= cursor.place:
                return cursor
            if head.epoch > cursor.epoch:
                cursor = Cursor(head.epoch)
            newer = [event for event in events if event.epoch == head.epoch and event.seq > cursor.seq]
            head.verify(self._keys)
            verify_chain(self._producer, head.epoch, cursor.seq, cursor.hash, newer, head)
            await self._apply(session, self._producer, newer, head)
            moved = Cursor(head.epoch, head.seq, head.hash)
            await cursors.write_cursor(session, self._producer, moved, self._clock)
        metrics.APPLIED.add(len(newer), self._labels)
        return moved

    async def _hear(self, cursor: Cursor) -> None:
        """A heartbeat that the cursor has reached: what its producer had committed by then is applied."""
        at = self._pulse.passed(cursor)
        if at is not None:
            await self._note_fresh(min(at, self._clock.now()))

    async def _note_fresh(self, at: datetime) -> None:
        if self._fresh_at is not None and abs(at - self._fresh_at) < FRESH_STEP:
            return
        async with self._database.transaction() as session:
            await cursors.write_fresh(session, self._producer, at, self._clock)
        self._fresh_at = at


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
