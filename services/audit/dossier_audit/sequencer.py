"""The sequencer: puts ingested leaves into the log, in batches, each with its tiles and a signed checkpoint.

One at a time: it writes on the connection that holds the advisory lock, and the key on the first index of a run stops
one that was frozen and wakes beside its successor. What a checkpoint promises is stored in the transaction that stores
the checkpoint. It signs nothing that contradicts a checkpoint outside: when there is one that this database cannot
explain, the database was restored, and another log is opened whose first leaf names that checkpoint.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import asyncpg

from dossier_audit import rules
from dossier_audit.log import notes
from dossier_audit.log.notes import Checkpoint
from dossier_audit.log.tree import HASH, WIDTH, Tile, Tree, leaf_hash
from dossier_audit.outside import Outside
from dossier_common import relay, telemetry
from dossier_common.clock import Clock
from dossier_common.contracts.audit import LogOpened, LogRestored
from dossier_common.database import Database
from dossier_common.events import Event, encode, instant
from dossier_common.ids import new_id
from dossier_common.keys import SigningKey
from dossier_common.leaves import NO_LEAF, number
from dossier_common.topology import PARTS

LOCK: Final = 0x0D0551E6
MOST: Final = 2048
"""Leaves of one producer in one batch."""
GATHER_SECONDS: Final = 0.05
"""After a batch that was not full: a checkpoint for a handful of leaves costs more than they do."""
IDLE_SECONDS: Final = 1.0
LOG: Final = "log"
"""The producer of each log's first leaf."""

_NEWEST_LOG = "SELECT generation, origin FROM logs ORDER BY generation DESC LIMIT 1"
_NEWEST_CHECKPOINT = "SELECT size, root FROM log_checkpoints WHERE generation = $1 ORDER BY size DESC LIMIT 1"
_ROOT_AT = "SELECT root FROM log_checkpoints WHERE generation = $1 AND size = $2"
_PLACES = """
SELECT p.producer, r.epoch, r.last FROM unnest($1::text[]) AS p (producer), LATERAL (
  SELECT epoch, first_seq + count - 1 AS last FROM log_runs
  WHERE producer = p.producer ORDER BY epoch DESC, first_seq DESC LIMIT 1) AS r
"""
_EDGE_HASHES = """
SELECT substring(hashes FROM (greatest($2::bigint - first_index, 0) * 32 + 1)::int) AS hashes FROM log_runs
WHERE generation = $1 AND first_index + count > $2 AND first_index >= $2 - $3 ORDER BY first_index
"""
_EDGE_ROOTS = "SELECT root FROM log_tiles WHERE generation = $1 AND level = $2 AND index >= $3 ORDER BY index"
_WAITING = """
SELECT w.producer, l.epoch, min(l.seq) AS first, max(l.seq) AS last, array_agg(l.leaf ORDER BY l.seq) AS leaves
FROM unnest($1::text[], $2::int[], $3::bigint[]) AS w (producer, epoch, seq), LATERAL (
  SELECT epoch, seq, leaf FROM leaves
  WHERE producer = w.producer AND (epoch, seq) > (w.epoch, w.seq) ORDER BY epoch, seq LIMIT $4) AS l
GROUP BY w.producer, l.epoch ORDER BY w.producer, l.epoch
"""
"""One row for what waits of an epoch: to make a run of single rows cost as much as to hash them."""
_ADD_RUNS = """
INSERT INTO log_runs (generation, first_index, producer, epoch, first_seq, count, hashes)
SELECT $1, * FROM unnest($2::bigint[], $3::text[], $4::int[], $5::bigint[], $6::int[], $7::bytea[])
"""
_ADD_TILES = """
INSERT INTO log_tiles (generation, level, index, hashes, root)
SELECT $1, * FROM unnest($2::smallint[], $3::bigint[], $4::bytea[], $5::bytea[])
"""
_ADD_CHECKPOINT = "INSERT INTO log_checkpoints (generation, size, root, note, at) VALUES ($1, $2, $3, $4, $5)"
_ADD_LOG = """
INSERT INTO logs (generation, origin, predecessor_origin, predecessor_size, predecessor_root, opened_at)
VALUES ($1, $2, $3, $4, $5, $6)
"""
_ADD_LEAF = """
INSERT INTO leaves (producer, epoch, seq, id, hash, leaf, time, type, ingested_at)
VALUES ($1, $2, 1, $3, $4, $5, $6, $7, $6)
"""
_ADD_BODY = """
INSERT INTO bodies (time, producer, epoch, seq, id, type, outcome, salt, body)
VALUES ($1, $2, $3, 1, $4, $5, 'success', $6, $7)
"""
_ADD_EVENT = "INSERT INTO outbox (id, type, time, body) VALUES ($1, $2, $3, $4)"
_OWN_CHAIN = """
SELECT s.epoch, coalesce(c.seq, 0) AS ingested FROM outbox_state s
LEFT JOIN cursors c ON c.producer = $1 AND c.epoch = s.epoch FOR UPDATE OF s
"""
_ANNOUNCE = "SELECT pg_notify('checkpoints', '')"

Place = tuple[int, int]
"""Epoch and seq of a producer's newest leaf in the log."""


class LogDamaged(Exception):
    """What the database holds of the log is not what its own newest checkpoint says: nothing is signed over it."""


class LeavesMissing(Exception):
    """A producer's leaves do not go on where the log has come to: rows are gone that were ingested."""


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive leaves of one producer, as they are appended."""

    producer: str
    epoch: int
    first_seq: int
    leaves: list[bytes]


@dataclass(frozen=True, slots=True)
class State:
    """A log as far as it is durable."""

    generation: int
    origin: str
    tree: Tree
    places: dict[str, Place]


class Sequencer:
    """Runs until it is cancelled. `address` is the origin of the first log."""

    def __init__(self, database: Database, clock: Clock, key: SigningKey, address: str, outside: Outside) -> None:
        self._database, self._clock, self._key, self._outside = database, clock, key, outside
        self._address = address
        self._woken = asyncio.Event()

    async def run(self) -> None:
        """Takes the lock, or waits for it; then appends. Raises LogDamaged, LeavesMissing, and at a lost connection."""
        connection = await self._database.connect()
        try:
            while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):  # noqa: ASYNC110  # the lock is in another process
                await asyncio.sleep(IDLE_SECONDS)
            await connection.add_listener("receipts", lambda *_: self._woken.set())
            state = await self._opened(connection)
            while True:
                self._woken.clear()
                if not self._outside.explained and await self._lost(connection, state):
                    state = await self._opened(connection)
                runs = await self._waiting(connection, state)
                if runs:
                    state = await self._append(connection, state, runs)
                appended = sum(len(run.leaves) for run in runs)
                if appended == 0:
                    await self._wait(IDLE_SECONDS)
                elif appended < MOST:
                    await asyncio.sleep(GATHER_SECONDS)
        finally:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
                await connection.close(timeout=2)

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):  # not by wait_for: before Python 3.12 it loses a cancellation that meets the event
            async with asyncio.timeout(seconds):
                await self._woken.wait()

    async def _opened(self, connection: asyncpg.Connection) -> State:
        """The log to append to; opens the first, or another when this database cannot explain what is outside."""
        row = await connection.fetchrow(_NEWEST_LOG)
        await self._outside.gather(row["generation"] if row else 1)
        if row is None:
            return await self._open(connection, self._outside.generation + 1, self._outside.newest())
        state = await self._loaded(connection, row["generation"], row["origin"])
        lost = await self._lost(connection, state)
        if lost is None:
            return state
        return await self._open(connection, max(state.generation, self._outside.generation) + 1, lost)

    async def _lost(self, connection: asyncpg.Connection, state: State) -> Checkpoint | None:
        """The newest checkpoint outside that is none of this database's; None when it has them all."""
        for known in self._outside.unexplained():
            generation, checkpoint = known
            if generation >= state.generation:
                root = await connection.fetchval(_ROOT_AT, generation, checkpoint.size)
                if root != checkpoint.root:
                    return checkpoint
            self._outside.explain(known)
        return None

    async def _loaded(self, connection: asyncpg.Connection, generation: int, origin: str) -> State:
        """The state behind the newest checkpoint, computed from rows. Raises LogDamaged when they do not fit it."""
        newest = await connection.fetchrow(_NEWEST_CHECKPOINT, generation)
        if newest is None:
            raise LogDamaged(f"log {generation} has no checkpoint")
        size: int = newest["size"]
        first = size // WIDTH * WIDTH
        rows = await connection.fetch(_EDGE_HASHES, generation, first, MOST)
        hashes = b"".join(row["hashes"] for row in rows)
        edge = [tuple(hashes[at : at + HASH] for at in range(0, len(hashes), HASH))]
        level = 0
        while size >> (8 * (level + 1)):
            above = size >> (8 * (level + 1))
            rows = await connection.fetch(_EDGE_ROOTS, generation, level, above // WIDTH * WIDTH)
            edge.append(tuple(row["root"] for row in rows))
            level += 1
        tree = Tree(size, tuple(edge))
        widths = [(size >> (8 * at)) % WIDTH for at in range(len(edge))]
        if [len(each) for each in edge] != widths or tree.root() != newest["root"]:
            raise LogDamaged(f"log {generation}: what is stored at its edge is not what was signed at size {size}")
        rows = await connection.fetch(_PLACES, [*PARTS, LOG])
        return State(generation, origin, tree, {row["producer"]: (row["epoch"], row["last"]) for row in rows})

    async def _waiting(self, connection: asyncpg.Connection, state: State) -> list[Run]:
        places = [state.places.get(producer, (0, 0)) for producer in PARTS]
        epochs, seqs = [epoch for epoch, _ in places], [seq for _, seq in places]
        rows = await connection.fetch(_WAITING, list(PARTS), epochs, seqs, MOST)
        ends = dict(state.places)
        runs: list[Run] = []
        for row in rows:
            run = Run(row["producer"], row["epoch"], row["first"], row["leaves"])
            epoch, seq = ends.get(run.producer, (0, 0))
            ends[run.producer] = (run.epoch, row["last"])
            follows = run.first_seq == (seq + 1 if run.epoch == epoch else 1)
            if not follows or row["last"] - run.first_seq + 1 != len(run.leaves):
                name, until = run.producer, row["last"]
                raise LeavesMissing(
                    f"{name}: {len(run.leaves)} leaves from {run.epoch}/{run.first_seq} to {until} follow {epoch}/{seq}"
                )
            runs.append(run)
        return runs

    async def _append(self, connection: asyncpg.Connection, state: State, runs: Sequence[Run]) -> State:
        async with connection.transaction():
            state = await self._write(connection, state, runs)
        await connection.execute(_ANNOUNCE)
        return state

    async def _write(self, connection: asyncpg.Connection, state: State, runs: Sequence[Run]) -> State:
        """Runs, tiles and checkpoint, in the transaction that is open."""
        hashes = [[leaf_hash(leaf) for leaf in run.leaves] for run in runs]
        tree, tiles = state.tree.extended([each for run in hashes for each in run])
        at, firsts = state.tree.size, list[int]()
        for run in runs:
            firsts.append(at)
            at += len(run.leaves)
        await connection.execute(
            _ADD_RUNS,
            state.generation,
            firsts,
            [run.producer for run in runs],
            [run.epoch for run in runs],
            [run.first_seq for run in runs],
            [len(run.leaves) for run in runs],
            [b"".join(run) for run in hashes],
        )
        if tiles:
            await self._add_tiles(connection, state.generation, tiles)
        checkpoint = Checkpoint(state.origin, tree.size, tree.root())
        note = notes.sign(checkpoint.text(), state.origin, self._key)
        now = self._clock.now()
        await connection.execute(_ADD_CHECKPOINT, state.generation, tree.size, checkpoint.root, note, now)
        ends = {run.producer: (run.epoch, run.first_seq + len(run.leaves) - 1) for run in runs}
        return State(state.generation, state.origin, tree, state.places | ends)

    @staticmethod
    async def _add_tiles(connection: asyncpg.Connection, generation: int, tiles: Sequence[Tile]) -> None:
        await connection.execute(
            _ADD_TILES,
            generation,
            [tile.level for tile in tiles],
            [tile.index for tile in tiles],
            [tile.hashes for tile in tiles],
            [tile.root for tile in tiles],
        )

    async def _open(self, connection: asyncpg.Connection, generation: int, before: Checkpoint | None) -> State:
        """A new log, in one transaction: its row, its first leaf, its first checkpoint; with a predecessor an alarm.

        The audit service's own chain was restored with the database, so that it too goes on in a new epoch.
        """
        origin = rules.origin(self._address, generation)
        said = LogOpened(
            generation=generation,
            predecessor_origin=before.origin if before else None,
            predecessor_size=before.size if before else None,
            predecessor_root=before.root.hex() if before else None,
        )
        now = self._clock.now()
        event_id = new_id()
        body = encode(said, event_id, now, None)
        leaf = number(LOG, generation, 1, NO_LEAF, event_id, instant(now), said.TYPE, body)
        async with connection.transaction():
            known = (before.origin, before.size, before.root) if before else (None, None, None)
            await connection.execute(_ADD_LOG, generation, origin, *known, now)
            await connection.execute(_ADD_LEAF, LOG, generation, event_id, leaf.hash, leaf.leaf, now, said.TYPE)
            await connection.execute(_ADD_BODY, now, LOG, generation, event_id, said.TYPE, leaf.salt, leaf.body)
            rows = await connection.fetch(_PLACES, [*PARTS, LOG])
            places = {row["producer"]: (row["epoch"], row["last"]) for row in rows}
            state = await self._write(
                connection, State(generation, origin, Tree(), places), [Run(LOG, generation, 1, [leaf.leaf])]
            )
            if before is not None:
                await self._raise_alarm(connection, generation, before)
        await connection.execute(_ANNOUNCE)
        return state

    async def _raise_alarm(self, connection: asyncpg.Connection, generation: int, before: Checkpoint) -> None:
        telemetry.log().error("log-restored", generation=generation, origin=before.origin, size=before.size)
        own = await connection.fetchrow(_OWN_CHAIN, "audit")
        assert own is not None
        await relay.open_epoch(connection, own["epoch"], (own["epoch"], own["ingested"]))
        alarm: Event = LogRestored(
            generation=generation, origin=before.origin, size=before.size, root=before.root.hex()
        )
        alarm_id, now = new_id(), self._clock.now()
        await connection.execute(_ADD_EVENT, alarm_id, alarm.TYPE, now, encode(alarm, alarm_id, now, None))
