"""What is measured of the log at one size: figures by name. What they mean stands in docs/performance.md."""

import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from bisect import bisect_right
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import asyncpg
from tests.benchmarks.log_chain import PRODUCER, Batch, Chain
from tests.benchmarks.log_rig import BUSINESS, PUBLISHED_SIZE, Meter, Rig, Spent, until
from tests.support.parts import settings_of
from tests.support.waiting import running

from dossier_audit import rules
from dossier_audit.waking import woken_by
from dossier_common import outbox
from dossier_common.contracts.retention import HoldPlaced
from dossier_common.ids import new_id
from dossier_common.publisher import Publisher
from dossier_common.worker import opened
from dossier_local import witness
from dossier_local.state import CHECKOUT
from dossier_records.settings import Settings as RecordsSettings

HERE = Path(__file__).parent
BATCHES = {500: 20_000, 50: 10_000, 1: 1_000}
"""Batch size, and how many events in such batches are measured."""
ROWS, PUBLISHED, FOLLOWED = 20_000, 10_240, 10_000
TRICKLED, PER_SECOND = 1_000, 200
PROOFS, PROOF_SECONDS = 2_000, 3.0
_TABLES = ("leaves", "bodies", "producer_heads", "log_runs", "log_tiles", "log_checkpoints", "log_publications")
_BYTES = """
SELECT pg_total_relation_size($1::text::regclass)
  + (SELECT coalesce(sum(pg_total_relation_size(relid)), 0) FROM pg_partition_tree($1::text::regclass))
"""
_INDEXES = """
SELECT b.record, r.first_index + b.seq - r.first_seq AS index FROM bodies b JOIN log_runs r
  ON (r.producer, r.epoch) = (b.producer, b.epoch) AND b.seq >= r.first_seq AND b.seq < r.first_seq + r.count
WHERE b.record = ANY($1)
"""

_RELAYED = """
SELECT NOT EXISTS (SELECT FROM outbox WHERE seq IS NULL) AND (SELECT published_seq = seq FROM outbox_state)
"""

Figures = dict[str, float]


def _rates(name: str, spent: Spent) -> Figures:
    return {
        f"{name}: durable, events/s": spent.events / spent.durable,
        f"{name}: provable, events/s": spent.events / spent.provable,
        f"{name}: µs of our processor an event": spent.ours / spent.events * 1e6,
        f"{name}: µs of PostgreSQL's processor an event": spent.postgres / spent.events * 1e6,
    }


async def ingesting(rig: Rig) -> Figures:
    """Batches of several sizes that one producer signed, from the consumer to a published checkpoint."""
    found: Figures = {}
    for size, events in BATCHES.items():
        found |= _rates(f"ingest, batches of {size}", await rig.ingest(events, size))
    return found


class Twins:
    """The yardstick in PostgreSQL: tables with the same columns and indexes, without triggers and partitions."""

    def __init__(self, rig: Rig) -> None:
        self._rig, self._chain = rig, Chain(rig.cluster.state)
        self._made = False

    async def inserting(self) -> Figures:
        """Rows of leaves and bodies by unnest, in transactions of 500 events, on one connection."""
        if not self._made:
            lines = [f"CREATE TABLE twin_{name} (LIKE {name} INCLUDING ALL);" for name in ("leaves", "bodies")]
            lines += [f"GRANT INSERT ON twin_{name} TO audit_app;" for name in ("leaves", "bodies")]
            self._rig.cluster.postgres.psql("\n".join(lines), "dossier_audit")
            self._made = True
        rows = [_rows(batch) for batch in self._chain.batches(ROWS, 500)]
        connection = await asyncpg.connect(self._rig.cluster.database_url("audit"))
        try:
            meter = Meter(self._rig.cluster)
            for leaves, bodies in rows:
                async with connection.transaction():
                    await connection.execute(_TWIN_LEAVES, *leaves)
                    await connection.execute(_TWIN_BODIES, *bodies)
            spent = meter.spent(ROWS, meter.elapsed())
        finally:
            await connection.close()
        return {
            "yardstick: INSERT of the same rows, events/s": spent.events / spent.durable,
            "yardstick: INSERT, µs of both processors an event": (spent.ours + spent.postgres) / spent.events * 1e6,
        }


_TWIN_LEAVES = """
INSERT INTO twin_leaves (producer, epoch, seq, id, hash, leaf, time, type, ingested_at)
SELECT 'records', 1, seq, id, hash, leaf, time, type, time
FROM unnest($1::bigint[], $2::uuid[], $3::bytea[], $4::bytea[], $5::timestamptz[], $6::text[])
  AS u (seq, id, hash, leaf, time, type)
"""
_TWIN_BODIES = """
INSERT INTO twin_bodies (producer, epoch, time, seq, id, type, outcome, actor, person, client, subject, record, txn,
  salt, body)
SELECT 'records', 1, * FROM unnest($1::timestamptz[], $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::uuid[],
  $7::uuid[], $8::text[], $9::text[], $10::uuid[], $11::text[], $12::bytea[], $13::bytea[])
"""


def _rows(batch: Batch) -> tuple[Sequence[object], Sequence[object]]:
    events, _ = batch
    now = datetime.now(UTC)
    seqs, ids, types = zip(*((each.seq, each.id, each.type) for each in events), strict=True)
    times = [rules.time_of(each.leaf, now) for each in events]
    found = zip(*(rules.extract(each.body) for each in events), strict=True)
    outcomes, actors, persons, clients, subjects, record, _, txns = found
    bodies = ([each.salt for each in events], [each.body for each in events])
    return (
        (seqs, ids, [each.hash for each in events], [each.leaf for each in events], times, types),
        (times, seqs, ids, types, outcomes, actors, persons, clients, subjects, record, txns, *bodies),
    )


class Publishing:
    """The yardstick in NATS: the same payloads as atomic batches into the producer's stream, which nobody reads."""

    def __init__(self, rig: Rig) -> None:
        self._rig, self._chain = rig, Chain(rig.cluster.state)

    async def publishing(self) -> Figures:
        """Batches as a relay makes them, one after the other."""
        batches = list(self._chain.batches(PUBLISHED, 256))
        async with opened(PRODUCER, settings_of(self._rig.cluster, PRODUCER, RecordsSettings)) as context:
            publisher = Publisher(context.nats, PRODUCER)
            meter = Meter(self._rig.cluster)
            for events, head in batches:
                await publisher.deliver(events, head)
            return {"yardstick: publish into JetStream, events/s": PUBLISHED / meter.elapsed()}


async def _emit(rig: Rig, number: int) -> None:
    async with rig.business.database.transaction() as session:
        events = [HoldPlaced(hold=new_id(), record=new_id()) for _ in range(number)]
        await outbox.add_all(session, events, by=None, at=rig.business.clock.now())


async def _relayed(rig: Rig) -> int:
    """Waits until the relay has numbered and published all; the last number."""
    connection = await asyncpg.connect(rig.cluster.database_url(BUSINESS))
    try:
        await until(lambda: connection.fetchval(_RELAYED), 120)
        return await connection.fetchval("SELECT seq FROM outbox_state") or 0
    finally:
        await connection.close()


async def following_the_stream(rig: Rig) -> Figures:
    """A backlog: what the relay does of it alone, and then what the audit service takes of it from JetStream."""
    await _emit(rig, 1)
    async with running(rig.business.relay().run(), rig.consumer(BUSINESS).run()):
        await rig.until_provable(BUSINESS, await _relayed(rig))  # what lay in the stream is gone
    await _emit(rig, FOLLOWED)
    meter = Meter(rig.cluster)
    async with running(rig.business.relay().run()):
        last = await _relayed(rig)
        relayed = meter.elapsed()
    meter = Meter(rig.cluster)
    async with running(rig.consumer(BUSINESS).run()):
        await rig.until_provable(BUSINESS, last)
        spent = meter.spent(FOLLOWED, meter.elapsed())
    return {
        "relay, outbox to JetStream: events/s": FOLLOWED / relayed,
        "audit, JetStream to provable: events/s": FOLLOWED / spent.provable,
        "audit, JetStream to provable: µs of our processor an event": spent.ours / FOLLOWED * 1e6,
    }


async def following_the_feed(rig: Rig) -> Figures:
    """A backlog that is numbered, taken from the producer's web process; the stream is not asked."""
    await _emit(rig, FOLLOWED)
    async with running(rig.business.relay().run()):
        last = await _relayed(rig)
    meter = Meter(rig.cluster)
    await rig.consumer(BUSINESS).catch_up()
    await rig.until_provable(BUSINESS, last)
    spent = meter.spent(FOLLOWED, meter.elapsed())
    return {
        "audit, feed to provable: events/s": FOLLOWED / spent.provable,
        "audit, feed to provable: µs of our processor an event": spent.ours / FOLLOWED * 1e6,
    }


async def trickling(rig: Rig) -> Figures:
    """From the commit of a business transaction to a published checkpoint that covers its event, at 200 a second."""
    committed: dict[UUID, float] = {}

    async def all_seen() -> bool:
        return seen[-1][0] == await rig.size()

    async with running(rig.business.relay().run(), rig.consumer(BUSINESS).run()):
        await _emit(rig, 1)
        await rig.until_provable(BUSINESS, await _relayed(rig))
        async with _publications(rig) as seen:
            due = time.perf_counter()
            for _ in range(TRICKLED):
                due += 1 / PER_SECOND
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                record = new_id()
                async with rig.business.database.transaction() as session:
                    event = HoldPlaced(hold=new_id(), record=record)
                    await outbox.add(session, event, by=None, at=rig.business.clock.now())
                committed[record] = time.perf_counter()
            await rig.until_provable(BUSINESS, await _relayed(rig))
            await until(all_seen, 20)
    sizes = [size for size, _ in seen]
    rows = await rig.eyes.fetch(_INDEXES, list(committed))
    assert len(rows) == TRICKLED
    waited = sorted(seen[bisect_right(sizes, row["index"])][1] - committed[row["record"]] for row in rows)
    return {
        "commit to provable, p50 ms": waited[len(waited) // 2] * 1000,
        "commit to provable, p99 ms": waited[int(len(waited) * 0.99)] * 1000,
    }


@asynccontextmanager
async def _publications(rig: Rig) -> AsyncIterator[list[tuple[int, float]]]:
    """Size and moment of each checkpoint that was published meanwhile, as one who listens sees them."""
    seen = [(await rig.size(), time.perf_counter())]

    async def watch() -> None:
        while True:
            await waking.wait(5)
            size = await connection.fetchval(PUBLISHED_SIZE)
            if size > seen[-1][0]:
                seen.append((size, time.perf_counter()))

    connection = await asyncpg.connect(rig.cluster.database_url("audit"))
    try:
        async with woken_by(rig.worker.database, "publications") as waking, running(watch()):
            yield seen
    finally:
        await connection.close()


async def proving(rig: Rig, address: str) -> Figures:
    """Proofs of events that are drawn from the whole log, one and eight requests at once."""
    last = rig.chain.last
    seqs = random.Random(last).sample(range(1, last + 1), min(PROOFS, last))
    rows = await rig.eyes.fetch("SELECT id FROM leaves WHERE producer = $1 AND seq = ANY($2)", PRODUCER, seqs)
    requests = [f"GET /v1/audit/events/{row['id']}/proof HTTP/1.1\r\nHost: localhost\r\n\r\n" for row in rows]
    random.Random(last).shuffle(requests)
    found: Figures = {}
    for connections in (1, 8):
        plan = {
            "host": "127.0.0.1",
            "port": int(address.rsplit(":", 1)[1]),
            "connections": connections,
            "seconds": PROOF_SECONDS,
            "requests": requests,
        }
        output = await _program(sys.executable, str(HERE / "load.py"), given=json.dumps(plan).encode())
        measured = json.loads(output)
        assert set(measured["statuses"]) == {"200"}
        name = f"proofs, {connections} at once"
        found |= {
            f"{name}: requests/s": measured["rps"],
            f"{name}: p50 ms": measured["p50_ms"],
            f"{name}: p99 ms": measured["p99_ms"],
        }
    return found


async def verifying(rig: Rig, address: str) -> Figures:
    """`dossier-verify` over HTTP, on a mirror, and on a mirror with two processes, each from its start to its end."""
    verify = (sys.executable, "-P", "-m", "dossier_verify.main")
    url = f"{address}/v1/audit/log"
    vkey = witness.log_vkey(rig.cluster.state, rig.cluster.environment.base_url)
    found: Figures = {}
    with tempfile.TemporaryDirectory(prefix="dossier-mirror-") as folder:
        for name, arguments in (
            ("mirrored by `download`", ("download", url, folder, "--json")),
            ("verified on a mirror", ("log", folder, "--vkey", vkey, "--json")),
            ("verified on a mirror, 2 processes", ("log", folder, "--vkey", vkey, "--json", "--processes", "2")),
            ("verified over HTTP", ("log", url, "--vkey", vkey, "--json")),
        ):
            begun = time.perf_counter()
            said = json.loads(await _program(*verify, *arguments))
            took = time.perf_counter() - begun
            assert said["exit"] == 0
            found[f"dossier-verify, {name}: leaves/s"] = said["logs"][0]["size"] / took
    return found


async def _program(*command: str, given: bytes | None = None) -> bytes:
    """What a program prints; it ends with 0."""
    pipe = subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, cwd=CHECKOUT, stdin=pipe, stdout=pipe)
    output, _ = await process.communicate(given)
    assert process.returncode == 0, output.decode()
    return output


async def keeping(rig: Rig) -> Figures:
    """Bytes in PostgreSQL, with indexes and what it keeps for itself in pages, over all events of the log."""
    leaves = await rig.eyes.fetchval("SELECT count(*) FROM leaves")
    used = {table: int(await rig.eyes.fetchval(_BYTES, table)) for table in _TABLES}
    of_the_log = sum(size for table, size in used.items() if table.startswith("log_"))
    return {
        "bytes an event: leaves": used["leaves"] / leaves,
        "bytes an event: bodies": used["bodies"] / leaves,
        "bytes an event: log (runs, tiles, checkpoints)": of_the_log / leaves,
        "bytes an event: all": sum(used.values()) / leaves,
    }
