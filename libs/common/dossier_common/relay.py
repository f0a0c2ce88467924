"""The relay: numbers committed events gaplessly, makes and signs their leaves, and publishes them.

One relay a producer: it writes on the connection that holds the advisory lock, and the unique key on (epoch, seq)
stops one that was frozen and wakes beside its successor. It numbers nothing before the audit service has said how
far it has come: a producer that is behind that was restored, and starts a new epoch.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, timedelta

import asyncpg
import orjson
from nats.aio.client import Client
from nats.errors import Error as NatsError

from dossier_common import telemetry
from dossier_common.clock import Clock
from dossier_common.database import Database
from dossier_common.events import instant
from dossier_common.ids import new_id
from dossier_common.keys import SigningKey
from dossier_common.leaves import NO_LEAF, Head, Numbered, number
from dossier_common.problems import UpstreamUnavailable
from dossier_common.wire import message

LOCK = 0x0D0551E5
BATCH = 256
IDLE_SECONDS = 1.0
KNOWN_MESSAGE = 10201

Deliver = Callable[[Sequence[Numbered], Head], Awaitable[None]]
Confirmed = Callable[[], Awaitable["Confirmation | None"]]

_UNNUMBERED = "SELECT id, type, time, body FROM outbox WHERE seq IS NULL ORDER BY id LIMIT $1"
_NUMBER = """
UPDATE outbox SET epoch = $1, seq = u.seq, salt = u.salt, leaf = u.leaf
FROM unnest($2::uuid[], $3::bigint[], $4::bytea[], $5::bytea[]) AS u (id, seq, salt, leaf)
WHERE outbox.id = u.id AND outbox.seq IS NULL
"""
_HEAD = "INSERT INTO outbox_heads (epoch, seq, hash, signature) VALUES ($1, $2, $3, $4)"
_STATE = "UPDATE outbox_state SET epoch = $1, seq = $2, hash = $3"
_READ_STATE = "SELECT epoch, seq, hash, published_seq, receipt_epoch, receipt_seq FROM outbox_state"
_UNPUBLISHED_HEADS = (
    "SELECT epoch, seq, hash, signature FROM outbox_heads WHERE epoch = $1 AND seq > $2 ORDER BY seq LIMIT 1"
)
_EVENTS = (
    "SELECT id, type, epoch, seq, leaf, salt, body FROM outbox WHERE epoch = $1 AND seq > $2 AND seq <= $3 ORDER BY seq"
)
_PUBLISHED = "UPDATE outbox_state SET published_seq = $1"
_RECEIPT = "UPDATE outbox_state SET receipt_epoch = $1, receipt_seq = $2, receipt_at = $3"
_PRUNE = """
WITH gone AS (
  DELETE FROM outbox WHERE (epoch, seq) IN (
    SELECT epoch, seq FROM outbox WHERE epoch = $1 AND seq <= $2 AND time < $3 ORDER BY seq LIMIT 5000)
  RETURNING epoch, seq)
DELETE FROM outbox_heads h USING (SELECT max(seq) AS seq FROM gone) g
WHERE h.epoch = $1 AND h.seq < g.seq
"""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """How far the audit service has come with a producer: its last receipt."""

    epoch: int
    seq: int
    hash: bytes


class Relay:
    """Runs until it is cancelled. `deliver` sends one signed batch; it raises when the batch may not have arrived."""

    def __init__(
        self,
        producer: str,
        database: Database,
        key: SigningKey,
        clock: Clock,
        *,
        deliver: Deliver,
        confirmed: Confirmed,
        keep: timedelta = timedelta(days=7),
    ) -> None:
        self._producer, self._database, self._key, self._clock = producer, database, key, clock
        self._deliver, self._confirmed, self._keep = deliver, confirmed, keep
        self._woken = asyncio.Event()

    async def run(self) -> None:
        """Takes the lock, or waits for it; then numbers and delivers. Raises when its connection is lost."""
        connection = await self._database.connect()
        try:
            while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):  # noqa: ASYNC110  # the lock is in another process
                await asyncio.sleep(IDLE_SECONDS)
            await connection.add_listener("outbox", lambda *_: self._woken.set())
            await self._open_epoch(connection)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._number_and_deliver(connection))
        finally:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
                await connection.close(timeout=2)

    async def _open_epoch(self, connection: asyncpg.Connection) -> None:
        confirmed = await self._confirmed()
        state = await connection.fetchrow(_READ_STATE)
        assert state is not None
        if confirmed is None or confirmed.epoch < state["epoch"]:
            return
        same = await connection.fetchval(
            "SELECT leaf FROM outbox WHERE epoch = $1 AND seq = $2", confirmed.epoch, confirmed.seq
        )
        behind = (confirmed.epoch, confirmed.seq) > (state["epoch"], state["seq"])
        forked = confirmed.seq == state["seq"] and confirmed.hash != state["hash"]
        if same is not None and not behind:
            leaf = Numbered(new_id(), "", 0, 0, same, b"", b"")
            forked = forked or leaf.hash != confirmed.hash
        if behind or forked:
            telemetry.log().error(
                "producer-restored", old_epoch=confirmed.epoch, new_epoch=confirmed.epoch + 1, confirmed=confirmed.seq
            )
            await connection.execute(
                "UPDATE outbox_state SET epoch = $1, seq = 0, hash = $2, published_seq = 0",
                confirmed.epoch + 1,
                NO_LEAF,
            )

    async def _number_and_deliver(self, connection: asyncpg.Connection) -> None:
        pruned_at = self._clock.now()
        waiting = 0.05
        while True:
            self._woken.clear()
            numbered = await self._number(connection)
            try:
                delivered = await self._deliver_next(connection)
                waiting = 0.05
            except (NatsError, TimeoutError, OSError, UpstreamUnavailable) as error:
                telemetry.log().warning("not-delivered", error=type(error).__name__)
                delivered = False
                await asyncio.sleep(waiting)
                waiting = min(waiting * 2, 5.0)
            if self._clock.now() - pruned_at > timedelta(minutes=1):
                await self._prune(connection)
                pruned_at = self._clock.now()
            if not numbered and not delivered:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), IDLE_SECONDS)

    async def _number(self, connection: asyncpg.Connection) -> bool:
        rows = await connection.fetch(_UNNUMBERED, BATCH)
        if not rows:
            return False
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
            if done != f"UPDATE {len(batch)}":
                raise RuntimeError("another relay numbers beside this one")
            await connection.execute(_HEAD, epoch, seq, prev, head.signature)
            await connection.execute(_STATE, epoch, seq, prev)
        return True

    async def _deliver_next(self, connection: asyncpg.Connection) -> bool:
        state = await connection.fetchrow(_READ_STATE)
        assert state is not None
        row = await connection.fetchrow(_UNPUBLISHED_HEADS, state["epoch"], state["published_seq"])
        if row is None:
            return False
        head = Head(self._producer, row["epoch"], row["seq"], row["hash"], row["signature"])
        rows = await connection.fetch(_EVENTS, head.epoch, state["published_seq"], head.seq)
        events = [Numbered(r["id"], r["type"], r["epoch"], r["seq"], r["leaf"], r["salt"], r["body"]) for r in rows]
        await self._deliver(events, head)
        await connection.execute(_PUBLISHED, head.seq)
        return True

    async def _prune(self, connection: asyncpg.Connection) -> None:
        confirmed = await self._confirmed()
        if confirmed is None:
            return
        now = self._clock.now()
        await connection.execute(_RECEIPT, confirmed.epoch, confirmed.seq, now)
        await connection.execute(_PRUNE, confirmed.epoch, confirmed.seq, now - self._keep)


class Publisher:
    """Delivers batches to JetStream, as atomic batches (ADR-50 of NATS), each acknowledged after its fsync."""

    def __init__(self, nats: Client, producer: str) -> None:
        self._nats, self._producer = nats, producer

    async def deliver(self, events: Sequence[Numbered], head: Head) -> None:
        """Returns when the stream has stored the batch. Raises NatsError when that is not certain.

        A message that the stream already knows refuses the whole batch: then each is sent singly, and a
        duplicate is acknowledged as such.
        """
        if not self._nats.is_connected:
            raise NatsError("not connected")
        if len(events) == 1:
            await self._publish(events[0], head, {})
            return
        batch = str(new_id())
        for place, event in enumerate(events[:-1], start=1):
            headers = self._headers(event) | {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(place)}
            await self._nats.publish(event.type, message(event, head), headers=headers)
        last = {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(len(events)), "Nats-Batch-Commit": "1"}
        answer = await self._request(events[-1], head, last)
        if answer.get("error", {}).get("err_code") == KNOWN_MESSAGE:
            for event in events:
                await self._publish(event, head, {})
        else:
            self._accepted(answer)

    async def _publish(self, event: Numbered, head: Head, headers: dict[str, str]) -> None:
        self._accepted(await self._request(event, head, headers))

    async def _request(self, event: Numbered, head: Head, headers: dict[str, str]) -> dict[str, dict[str, int]]:
        reply = await self._nats.request(
            event.type, message(event, head), timeout=5, headers=self._headers(event) | headers
        )
        answer: dict[str, dict[str, int]] = orjson.loads(reply.data)
        return answer

    def _headers(self, event: Numbered) -> dict[str, str]:
        return {"Nats-Msg-Id": f"{self._producer}-{event.epoch}-{event.seq}"}

    @staticmethod
    def _accepted(answer: dict[str, dict[str, int]]) -> None:
        if "error" in answer:
            raise NatsError(f"the stream refused: {answer['error']}")
