"""The relay: numbers committed events gaplessly, makes and signs their leaves, and publishes them.

One relay a producer: it writes on the connection that holds the advisory lock, and the unique key on (epoch, seq)
stops one that was frozen and wakes beside its successor. It numbers nothing before the audit service has said how
far it has come: a producer that is behind that was restored, and starts a new epoch; so does one that no longer has
what the audit service would need next. Receipts come by message; it asks for one that was missed. Twice a second it
says how far the chain goes.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Any

import asyncpg
from nats.errors import Error as NatsError

from dossier_common import heartbeats, metrics, telemetry
from dossier_common.clock import Clock, set_within
from dossier_common.database import Database
from dossier_common.events import instant
from dossier_common.heartbeats import Heartbeat
from dossier_common.keys import SigningKey
from dossier_common.leaves import NO_LEAF, Head, Numbered, number
from dossier_common.problems import UpstreamUnavailable

LOCK = 0x0D0551E5
BATCH = 256
IDLE_SECONDS = 1.0
LINGER_SECONDS, LINGER_BUSY_SECONDS, BUSY = 0.01, 0.03, 8
"""After a batch that was not full: the first event goes at once, those behind it gather, longer when there are many."""

RECEIPT_SECONDS = 3.0
"""While events wait for a receipt and none comes by message, it is asked for so often."""
RECEIPT_LINGER_SECONDS = 0.1

Place = tuple[int, int]
"""Epoch and seq."""
Deliver = Callable[[Sequence[Numbered], Head], Awaitable[None]]
Confirmed = Callable[[], Awaitable["Confirmation | None"]]
Listen = Callable[[Callable[["Confirmation"], None]], Coroutine[Any, Any, None]]
Beat = Callable[[Heartbeat], Awaitable[None]]

_UNNUMBERED = "SELECT id, type, time, body FROM outbox WHERE seq IS NULL ORDER BY id LIMIT $1"
_NUMBER = """
UPDATE outbox SET epoch = $1, seq = u.seq, salt = u.salt, leaf = u.leaf
FROM unnest($2::uuid[], $3::bigint[], $4::bytea[], $5::bytea[]) AS u (id, seq, salt, leaf)
WHERE outbox.id = u.id AND outbox.seq IS NULL
"""
_HEAD = "INSERT INTO outbox_heads (epoch, seq, hash, signature) VALUES ($1, $2, $3, $4)"
_MOVE = "UPDATE outbox_state SET seq = $3, hash = $4 WHERE epoch = $1 AND seq = $2"
_READ_STATE = "SELECT epoch, seq, hash, published_seq, receipt_epoch, receipt_seq FROM outbox_state"
_UNPUBLISHED_HEADS = (
    "SELECT epoch, seq, hash, signature FROM outbox_heads WHERE epoch = $1 AND seq > $2 ORDER BY seq LIMIT 1"
)
_EVENTS = (
    "SELECT id, type, epoch, seq, leaf, salt, body FROM outbox WHERE epoch = $1 AND seq > $2 AND seq <= $3 ORDER BY seq"
)
_PUBLISHED = "UPDATE outbox_state SET published_seq = $2 WHERE epoch = $1 AND published_seq < $2"
_RECEIPT = """
UPDATE outbox_state SET receipt_epoch = $1, receipt_seq = $2, receipt_at = $3
WHERE (receipt_epoch, receipt_seq) <= ($1, $2)
"""
_BEAT = """
SELECT epoch, seq, hash, (SELECT time FROM outbox WHERE outbox.seq IS NULL ORDER BY id LIMIT 1) AS oldest
FROM outbox_state
"""
"""In one statement, so that head and what has no number yet are of the same instant."""
_EPOCH = "SELECT epoch FROM outbox_state"
_HEAD_AT = "SELECT hash FROM outbox_heads WHERE epoch = $1 AND seq = $2"
_LEAF_AT = "SELECT sha256(leaf) FROM outbox WHERE epoch = $1 AND seq = $2"
_NEW_EPOCH = "UPDATE outbox_state SET epoch = $1, seq = 0, hash = $2, published_seq = 0"
_TAKE_BACK = "UPDATE outbox SET epoch = NULL, seq = NULL, salt = NULL, leaf = NULL WHERE (epoch, seq) > ($1, $2)"
_TAKE_BACK_HEADS = "DELETE FROM outbox_heads WHERE (epoch, seq) > ($1, $2)"
_LAST_PRUNED = """
SELECT coalesce(o.epoch, s.epoch) AS epoch, coalesce(o.seq - 1, s.seq) AS seq FROM outbox_state s LEFT JOIN (
  SELECT epoch, seq FROM outbox WHERE seq IS NOT NULL ORDER BY epoch, seq LIMIT 1) AS o ON true
"""
"""The place before the oldest event with a number; seq 0 where that is the first of its epoch."""
_OLD = """
SELECT h.epoch, h.seq FROM outbox_heads h, (
  SELECT epoch, seq FROM (
    SELECT epoch, seq, bool_and(time < $3) OVER (ORDER BY epoch, seq) AS old FROM (
      SELECT epoch, seq, time FROM outbox WHERE seq IS NOT NULL AND (epoch, seq) <= ($1, $2)
      ORDER BY epoch, seq LIMIT $4) AS first) AS judged
  WHERE old ORDER BY epoch DESC, seq DESC LIMIT 1) AS last
WHERE (h.epoch, h.seq) <= (last.epoch, last.seq) ORDER BY h.epoch DESC, h.seq DESC LIMIT 1
"""
"""The head up to which all is old: whole batches go, so that a page of the feed never starts within one."""
_PRUNE = "DELETE FROM outbox WHERE seq IS NOT NULL AND (epoch, seq) <= ($1, $2)"
_PRUNE_HEADS = "DELETE FROM outbox_heads WHERE (epoch, seq) < ($1, $2)"
_PRUNE_ROWS = 5000
_PRUNE_EVERY = timedelta(minutes=1)
_LONGEST_WAIT = 5.0


class Diverged(Exception):
    """The audit service has another chain of this producer than its database: another signs, or it was restored."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """How far the audit service has come with a producer: its last receipt."""

    epoch: int
    seq: int
    hash: bytes


class Relay:
    """Runs until it is cancelled. `deliver` sends one signed batch; it raises when the batch may not have arrived.

    `confirmed` asks the audit service; `listen` hands on the receipts that come by message, until it is cancelled;
    `beat` sends a heartbeat. A producer whom nobody follows, and who has its receipts at hand, needs neither of these.
    """

    def __init__(
        self,
        producer: str,
        database: Database,
        key: SigningKey,
        clock: Clock,
        *,
        deliver: Deliver,
        confirmed: Confirmed,
        listen: Listen | None = None,
        beat: Beat | None = None,
        keep: timedelta = timedelta(days=7),
    ) -> None:
        self._producer, self._database, self._key, self._clock = producer, database, key, clock
        self._deliver, self._confirmed, self._keep = deliver, confirmed, keep
        self._listen, self._beat = listen, beat
        self._woken, self._numbered, self._told = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._receipt: Confirmation | None = None
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Takes the lock, or waits for it; then numbers, delivers and prunes. Raises when its connection is lost."""
        connection = await self._database.connect()
        try:
            while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):  # noqa: ASYNC110  # the lock is in another process
                await asyncio.sleep(IDLE_SECONDS)
            await connection.add_listener("outbox", lambda *_: self._woken.set())
            await self._open_epoch(connection)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep_numbering(connection))
                tasks.create_task(self._keep_delivering(connection))
                tasks.create_task(self._keep_confirmed(connection))
                tasks.create_task(self._keep_pruning(connection))
                if self._beat is not None:
                    tasks.create_task(self._keep_beating(connection, self._beat))
                if self._listen is not None:
                    tasks.create_task(self._listen(self._hear))
        finally:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
                await connection.close(timeout=2)

    async def _open_epoch(self, connection: asyncpg.Connection) -> None:
        """A producer that was restored goes on in a new epoch, behind what the audit service has of the old.

        So does one that has pruned what the audit service lacks.
        Where the chains differ, the events since the last receipt are taken back and numbered again: the audit
        service may then have some of them twice, with the same id, but none is missing (invariant 2).
        """
        confirmed = await self._confirmed()
        pruned = await self._lacked(connection, confirmed)
        if pruned is not None:
            await self._number_anew(connection, confirmed, pruned)
            return
        state = await connection.fetchrow(_READ_STATE)
        assert state is not None
        if confirmed is None or not await self._diverged(connection, confirmed):
            return
        forked = (confirmed.epoch, confirmed.seq) <= (state["epoch"], state["seq"])
        log = telemetry.log()
        log.error("producer-restored", epoch=confirmed.epoch + 1, confirmed=confirmed.seq, forked=forked)
        common = (state["epoch"], state["seq"])
        if forked:
            common = (confirmed.epoch, state["receipt_seq"] if state["receipt_epoch"] == confirmed.epoch else 0)
        await open_epoch(connection, confirmed.epoch, common)

    async def _number_anew(self, connection: asyncpg.Connection, confirmed: Confirmation | None, pruned: Place) -> None:
        """All that there still is goes into a new epoch: its chain is whole for one who lacks what was before.

        The audit service takes it up when somebody has accepted the gap there; others have handled it.
        """
        epoch = await connection.fetchval(_EPOCH)
        known = f"{confirmed.epoch}/{confirmed.seq}" if confirmed else "nothing"
        telemetry.log().error("log-lacks-events", epoch=epoch + 1, confirmed=known, pruned=f"{pruned[0]}/{pruned[1]}")
        await open_epoch(connection, epoch, pruned)

    @staticmethod
    async def _lacked(connection: asyncpg.Connection, confirmed: Confirmation | None) -> Place | None:
        """The last place that was pruned, if the audit service has not come so far and what is left begins behind it.

        None where it has, and where what is left begins an epoch.
        """
        row = await connection.fetchrow(_LAST_PRUNED)
        assert row is not None
        pruned = (row["epoch"], row["seq"])
        known = (confirmed.epoch, confirmed.seq) if confirmed else (0, 0)
        return pruned if row["seq"] > 0 and known < pruned else None

    @staticmethod
    async def _diverged(connection: asyncpg.Connection, confirmed: Confirmation) -> bool:
        state = await connection.fetchrow(_READ_STATE)
        assert state is not None
        if confirmed.epoch != state["epoch"] or confirmed.seq > state["seq"]:
            return bool((confirmed.epoch, confirmed.seq) > (state["epoch"], state["seq"]))
        for query in (_HEAD_AT, _LEAF_AT):
            known = await connection.fetchval(query, confirmed.epoch, confirmed.seq)
            if known is not None:
                return bool(known != confirmed.hash)
        return False

    async def _keep_numbering(self, connection: asyncpg.Connection) -> None:
        while True:
            self._woken.clear()
            async with self._turn:
                numbered = await self._number(connection)
            if numbered:
                self._numbered.set()
            if numbered == 0:
                await set_within(self._woken, IDLE_SECONDS)
            elif numbered < BATCH:
                await asyncio.sleep(LINGER_SECONDS if numbered < BUSY else LINGER_BUSY_SECONDS)

    async def _keep_delivering(self, connection: asyncpg.Connection) -> None:
        waiting = 0.05
        while True:
            self._numbered.clear()
            async with self._turn:
                batch = await self._next_batch(connection)
            if batch is None:
                await set_within(self._numbered, IDLE_SECONDS)
                continue
            try:
                await self._deliver(*batch)
            except (NatsError, TimeoutError, OSError, UpstreamUnavailable) as error:
                metrics.NOT_DELIVERED.add(1)
                telemetry.log().warning("not-delivered", error=type(error).__name__, detail=str(error)[:200])
                await asyncio.sleep(waiting)
                waiting = min(waiting * 2, _LONGEST_WAIT)
                continue
            waiting = 0.05
            async with self._turn:
                await connection.execute(_PUBLISHED, batch[1].epoch, batch[1].seq)

    def _hear(self, receipt: Confirmation) -> None:
        """A receipt came by message; of several only the newest counts."""
        self._receipt = receipt
        self._told.set()

    async def _keep_confirmed(self, connection: asyncpg.Connection) -> None:
        """Notes receipts as they come, and asks for one while events wait for it in vain."""
        while True:
            if await set_within(self._told, RECEIPT_SECONDS):
                self._told.clear()
                receipt = self._receipt
            else:
                receipt = await self._asked_for() if await self._waits(connection) else None
            if receipt is not None:
                await self._note(connection, receipt)
            await asyncio.sleep(RECEIPT_LINGER_SECONDS)

    async def _waits(self, connection: asyncpg.Connection) -> bool:
        async with self._turn:
            state = await connection.fetchrow(_READ_STATE)
        assert state is not None
        return bool(state["seq"] and (state["epoch"], state["seq"]) > (state["receipt_epoch"], state["receipt_seq"]))

    async def _asked_for(self) -> Confirmation | None:
        try:
            return await self._confirmed()
        except UpstreamUnavailable as error:
            _report_no_receipt(error)
            return None

    async def _note(self, connection: asyncpg.Connection, confirmed: Confirmation) -> None:
        """Moves the receipt, never back. Raises Diverged for one of another chain: then the next start asks again."""
        async with self._turn:
            if await self._diverged(connection, confirmed):
                raise Diverged(self._producer)
            await connection.execute(_RECEIPT, confirmed.epoch, confirmed.seq, self._clock.now())

    async def _keep_beating(self, connection: asyncpg.Connection, beat: Beat) -> None:
        while True:
            try:
                await beat(await self._heartbeat(connection))
            except (NatsError, OSError) as error:
                telemetry.log().warning("no-heartbeat", error=type(error).__name__)
            await asyncio.sleep(heartbeats.EVERY_SECONDS)

    async def _heartbeat(self, connection: asyncpg.Connection) -> Heartbeat:
        """How far the chain goes now; what has no number yet was committed after the oldest of it was made."""
        async with self._turn:
            now = self._clock.now()
            row = await connection.fetchrow(_BEAT)
        assert row is not None
        at = now if row["oldest"] is None else min(now, row["oldest"])
        return Heartbeat.sign(self._key, self._producer, row["epoch"], row["seq"], row["hash"], at)

    async def _keep_pruning(self, connection: asyncpg.Connection) -> None:
        pruned_at = self._clock.now()
        while True:
            await asyncio.sleep(IDLE_SECONDS)
            if self._clock.now() - pruned_at < _PRUNE_EVERY:
                continue
            pruned_at = self._clock.now()
            try:
                confirmed = await self._confirmed()
            except UpstreamUnavailable as error:
                _report_no_receipt(error)
                continue
            await self._prune(connection, confirmed)

    async def _number(self, connection: asyncpg.Connection) -> int:
        rows = await connection.fetch(_UNNUMBERED, BATCH)
        if not rows:
            return 0
        async with connection.transaction():
            state = await connection.fetchrow(_READ_STATE)
            assert state is not None
            epoch, seq, prev = state["epoch"], state["seq"], state["hash"]
            batch: list[Numbered] = []
            for row in rows:
                seq += 1
                time = instant(row["time"].astimezone(UTC))
                event = number(self._producer, epoch, seq, prev, row["id"], time, row["type"], row["body"])
                prev = event.hash
                batch.append(event)
            head = Head.sign(self._key, self._producer, epoch, seq, prev)
            done = await connection.execute(
                _NUMBER,
                epoch,
                [e.id for e in batch],
                [e.seq for e in batch],
                [e.salt for e in batch],
                [e.leaf for e in batch],
            )
            moved = await connection.execute(_MOVE, epoch, state["seq"], seq, prev)
            if done != f"UPDATE {len(batch)}" or moved != "UPDATE 1":
                raise RuntimeError("another relay numbers beside this one")
            await connection.execute(_HEAD, epoch, seq, prev, head.signature)
        return len(batch)

    async def _next_batch(self, connection: asyncpg.Connection) -> tuple[list[Numbered], Head] | None:
        state = await connection.fetchrow(_READ_STATE)
        assert state is not None
        row = await connection.fetchrow(_UNPUBLISHED_HEADS, state["epoch"], state["published_seq"])
        if row is None:
            return None
        head = Head(self._producer, row["epoch"], row["seq"], row["hash"], row["signature"])
        rows = await connection.fetch(_EVENTS, head.epoch, state["published_seq"], head.seq)
        return [Numbered(r["id"], r["type"], r["epoch"], r["seq"], r["leaf"], r["salt"], r["body"]) for r in rows], head

    async def _prune(self, connection: asyncpg.Connection, confirmed: Confirmation | None) -> None:
        """Deletes what has a receipt and is older than `keep`. Raises Diverged: then the next start asks again."""
        async with self._turn:
            pruned = await self._lacked(connection, confirmed)
        if pruned is not None:
            raise Diverged(self._producer)
        if confirmed is None:
            return
        await self._note(connection, confirmed)
        now = self._clock.now()
        while True:
            async with self._turn, connection.transaction():
                old = await connection.fetchrow(_OLD, confirmed.epoch, confirmed.seq, now - self._keep, _PRUNE_ROWS)
                gone = await connection.execute(_PRUNE, old["epoch"], old["seq"]) if old else "DELETE 0"
                if gone == "DELETE 0" or old is None:
                    return
                await connection.execute(_PRUNE_HEADS, old["epoch"], old["seq"])


def _report_no_receipt(error: UpstreamUnavailable) -> None:
    """Nothing is pruned without a receipt; numbering goes on."""
    telemetry.log().warning("no-receipt", error=type(error).__name__)


async def open_epoch(connection: asyncpg.Connection, after: int, common: Place) -> None:
    """Goes on in the epoch behind `after`: what was numbered behind `common` is taken back, to be numbered anew."""
    async with connection.transaction():
        await connection.execute(_TAKE_BACK, *common)
        await connection.execute(_TAKE_BACK_HEADS, *common)
        await connection.execute(_NEW_EPOCH, after + 1, NO_LEAF)
