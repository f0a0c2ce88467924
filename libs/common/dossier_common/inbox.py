"""Consumers: they follow a producer's chain, verify it, and apply it in order.

The cursor moves in the transaction that applies the events, and the acknowledgement follows the commit, so
that each event is applied exactly once. A gap, a fork or a silence makes the consumer pull from the feed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout
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
from dossier_common.wire import event_from_json, head_from_json, read_message

FETCH = 256
FETCH_SECONDS = 1.0
SILENCE = 10.0
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
        """Takes in the handlers of another part of the same service."""
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

    async def run(self) -> None:
        """Catches up by the feed, then follows the stream; goes back to the feed whenever the stream is no help."""
        while True:
            await self._pull()
            try:
                await self._follow()
            except (NatsError, ChainBroken, OSError) as error:
                telemetry.log().warning(
                    "stream-left", producer=self._producer, error=type(error).__name__, detail=str(error)[:200]
                )
                await asyncio.sleep(0.2)

    async def catch_up(self) -> None:
        """Applies all that the producer's feed has now. Raises UpstreamUnavailable, ChainBroken."""
        while await self._pull_page():
            pass

    async def _pull(self) -> None:
        waiting = 0.1
        while True:
            try:
                await self.catch_up()
            except (UpstreamUnavailable, ChainBroken) as error:
                telemetry.log().warning(
                    "feed-unavailable", producer=self._producer, error=type(error).__name__, detail=str(error)[:200]
                )
                await asyncio.sleep(waiting)
                waiting = min(waiting * 2, 5.0)
            else:
                return

    async def _pull_page(self) -> bool:
        async with self._database.session() as session:
            cursor = await read_cursor(session, self._producer)
        answer = await self._peers.get(
            self._producer, "/internal/v1/feed", Scope.EVENTS_PULL, epoch=cursor.epoch, after=cursor.seq
        )
        if answer.status_code != 200:
            raise UpstreamUnavailable(f"The feed of {self._producer} answers {answer.status_code}.")
        page = answer.json()
        if not page["events"]:
            return False
        await self.take([event_from_json(event) for event in page["events"]], head_from_json(page["head"]))
        return True

    async def _follow(self) -> None:
        if not self._nats.is_connected:
            await asyncio.sleep(0.5)
            return
        subscription = await self._nats.jetstream().pull_subscribe_bind(
            durable=self._part, stream=stream(self._producer), inbox_prefix=self._inbox()
        )
        try:
            await self._fetch(subscription)
        finally:
            if self._nats.is_connected:
                await subscription.unsubscribe()

    def _inbox(self) -> bytes:
        return bytes(self._nats._inbox_prefix) + b"."  # noqa: SLF001  # the client has no getter for it

    async def _fetch(self, subscription: JetStreamContext.PullSubscription) -> None:
        pending: list[tuple[Msg, Numbered, Head]] = []
        loop = asyncio.get_running_loop()
        heard = loop.time()
        while loop.time() - heard < SILENCE:
            try:
                messages = await subscription.fetch(FETCH, timeout=FETCH_SECONDS)
            except NatsTimeout:
                continue
            heard = loop.time()
            pending += [(each, *read_message(each.data)) for each in messages]
            while whole := _whole_batches(pending):
                await self.take([event for _, event, _ in pending[:whole]], pending[whole - 1][2])
                await pending[whole - 1][0].ack()
                del pending[:whole]
            if len(pending) > PENDING_LIMIT:
                raise ChainBroken(f"{self._producer}: a batch without its end")

    async def take(self, events: Sequence[Numbered], head: Head) -> None:
        """Verifies and applies what is newer than the cursor, and moves the cursor, in one transaction.

        Also the way in for a batch that comes by neither stream nor feed. Raises ChainBroken.
        """
        async with self._database.transaction() as session:
            cursor = await read_cursor(session, self._producer, lock=True)
            if head.epoch < cursor.epoch or (head.epoch == cursor.epoch and head.seq <= cursor.seq):
                return
            if head.epoch > cursor.epoch:
                cursor = Cursor(head.epoch)
            newer = [event for event in events if event.epoch == head.epoch and event.seq > cursor.seq]
            head.verify(self._keys)
            verify_chain(self._producer, head.epoch, cursor.seq, cursor.hash, newer, head)
            await self._apply(session, self._producer, newer, head)
            await write_cursor(session, self._producer, Cursor(head.epoch, head.seq, head.hash), self._clock)


def _whole_batches(pending: Sequence[tuple[Msg, Numbered, Head]]) -> int:
    """How many of the messages, from the first, are whole batches of one epoch; the next epoch waits for its end."""
    for place in range(len(pending), 0, -1):
        _, event, head = pending[place - 1]
        if event.epoch == pending[0][1].epoch and (event.epoch, event.seq) == (head.epoch, head.seq):
            return place
    return 0


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
