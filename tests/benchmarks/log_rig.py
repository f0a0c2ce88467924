"""The audit service's worker with its real pieces, on real servers, and what it is measured by."""

import asyncio
import gc
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx
import psutil
from tests.benchmarks.log_chain import PRODUCER, Batch, Chain
from tests.support.parts import introduce, serving, settings_of
from tests.support.tokens import TestKeys
from tests.support.waiting import running

from dossier_audit import main as audit_main
from dossier_audit.consumers import ingest
from dossier_audit.outside import Outside
from dossier_audit.publication import publish
from dossier_audit.sequencer import Sequencer
from dossier_audit.settings import Settings as AuditSettings
from dossier_audit.worker import own_relay
from dossier_common.inbox import Consumer
from dossier_common.keys import SigningKey
from dossier_common.worker import Context, opened
from dossier_local.cluster import Cluster
from dossier_local.state import CHECKOUT
from dossier_retention.settings import Settings as RetentionSettings

BUSINESS = "retention"
"""The producer whose outbox and relay are real; the chain of PRODUCER is made by hand."""
PORTION = 20_000
"""Events that are made and held at once."""
PUBLISHED_SIZE = "SELECT coalesce(max(size), 0) FROM log_publications"
_PROVABLE = """
SELECT EXISTS (SELECT FROM log_runs r WHERE r.producer = $1 AND r.first_seq <= $2 AND r.first_seq + r.count > $2
  AND r.epoch = (SELECT max(epoch) FROM log_runs WHERE producer = $1)
  AND r.first_index + $2 - r.first_seq < (SELECT max(size) FROM log_publications WHERE generation = r.generation))
"""


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds until all was durable, and until it was provable; processor seconds of this process and of PostgreSQL."""

    events: int
    durable: float
    provable: float
    ours: float
    postgres: float

    def __add__(self, other: "Spent") -> "Spent":
        pairs = zip(self.figures(), other.figures(), strict=True)
        return Spent(self.events + other.events, *(one + another for one, another in pairs))

    def figures(self) -> tuple[float, float, float, float]:
        """All but the number."""
        return self.durable, self.provable, self.ours, self.postgres


async def until(ask: Callable[[], Awaitable[object]], seconds: float) -> None:
    """Asks two hundred times a second, so that waiting is no part of what is measured. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not await ask():  # noqa: ASYNC110  # what is waited for is in other processes
            await asyncio.sleep(0.005)


@dataclass
class Rig:
    """The parts of the audit service that a worker runs, a producer with outbox and relay, and a connection to look."""

    cluster: Cluster
    keys: TestKeys
    worker: Context
    business: Context
    eyes: asyncpg.Connection
    chain: Chain
    key_file: Path

    def consumer(self, producer: str) -> Consumer:
        """The audit service's consumer of a producer."""
        return self.worker.consumer(producer, ingest(self.worker.clock))

    async def size(self) -> int:
        """Leaves that are provable now."""
        return await self.eyes.fetchval(PUBLISHED_SIZE) or 0

    async def until_provable(self, producer: str, seq: int, seconds: float = 60) -> None:
        """Waits until a published checkpoint covers this leaf of the producer's newest epoch."""
        await until(lambda: self.eyes.fetchval(_PROVABLE, producer, seq), seconds)

    async def ingest(self, events: int, size: int) -> Spent:
        """Takes so many made events in, in batches of this size, while the log goes on."""
        spent, consumer = Spent(0, 0, 0, 0, 0), self.consumer(PRODUCER)
        while spent.events < events:
            portion = list(self.chain.batches(min(PORTION, events - spent.events), size))
            gc.collect()
            gc.freeze()  # as a worker does: what the benchmark holds is no work of the service
            spent += await self._take(consumer, portion)
        return spent

    async def _take(self, consumer: Consumer, batches: Sequence[Batch]) -> Spent:
        meter = Meter(self.cluster)
        for each, head in batches:
            await consumer.take(each, head)
        durable = meter.elapsed()
        await self.until_provable(PRODUCER, batches[-1][1].seq)
        return meter.spent(sum(len(each) for each, _ in batches), durable)


class Meter:
    """Time and processor time since it was made."""

    def __init__(self, cluster: Cluster) -> None:
        self._postgres = psutil.Process(cluster.processes["postgres"].pid)
        self._before = self._now()

    def elapsed(self) -> float:
        """Seconds."""
        return time.perf_counter() - self._before[0]

    def spent(self, events: int, durable: float) -> Spent:
        """What was spent on so many events, all provable now."""
        took, ours, postgres = (now - then for now, then in zip(self._now(), self._before, strict=True))
        return Spent(events, durable, took, ours, postgres)

    def _now(self) -> tuple[float, float, float]:
        return time.perf_counter(), time.process_time(), sum(_processor_seconds(self._postgres))


def _processor_seconds(server: psutil.Process) -> Iterator[float]:
    own = server.cpu_times()
    yield own.user + own.system + own.children_user + own.children_system
    for child in server.children():
        try:
            times = child.cpu_times()
        except psutil.NoSuchProcess:
            continue  # it ended meanwhile, and is among its parent's children
        yield times.user + times.system


@asynccontextmanager
async def rigged(cluster: Cluster) -> AsyncIterator[Rig]:
    """A log that runs: sequencer, publication, the audit service's own relay; nobody follows anything yet."""
    keys = TestKeys()
    settings = settings_of(cluster, "audit", AuditSettings)
    key_file = cluster.state.folder / "benchmark-token-key.pem"
    key_file.touch(mode=0o600)
    key_file.write_bytes(keys.signing.pem())
    async with AsyncExitStack() as stack:
        audit = audit_main.create(settings)
        await stack.enter_async_context(serving(audit, keys))
        worker = await stack.enter_async_context(opened("audit", settings))
        business_settings = settings_of(cluster, BUSINESS, RetentionSettings)
        business = await stack.enter_async_context(opened(BUSINESS, business_settings))
        introduce(worker.peers, keys, {})
        introduce(business.peers, keys, {"audit": audit})
        eyes = await asyncpg.connect(cluster.database_url("audit"))
        stack.push_async_callback(eyes.close)
        key = SigningKey.read(settings.log_key_file)
        outside = Outside(settings.checkpoint_dir, [], key, settings.log_address)
        log = Sequencer(worker.database, worker.clock, key, settings.log_address, outside).run()
        published = publish(worker.database, worker.clock, outside)
        await stack.enter_async_context(running(log, published, own_relay(worker).run()))
        yield Rig(cluster, keys, worker, business, eyes, Chain(cluster.state), key_file)


@asynccontextmanager
async def served(rig: Rig, part: str) -> AsyncIterator[str]:
    """The address of a part's web process, which is one of its own."""
    address = f"http://127.0.0.1:{rig.cluster.environment.ports[part]}"
    command = (sys.executable, "-m", "tests.benchmarks.log_server", part, str(rig.key_file))
    environment = os.environ | rig.cluster.environment.of(part)
    process = await asyncio.create_subprocess_exec(*command, cwd=CHECKOUT, env=environment)
    try:
        await _ready(address)
        yield address
    finally:
        process.terminate()
        await process.wait()


async def _ready(address: str) -> None:
    async with asyncio.timeout(30), httpx.AsyncClient(trust_env=False) as client:
        while True:
            try:
                answer = await client.get(f"{address}/readyz")
            except httpx.TransportError:
                await asyncio.sleep(0.1)
                continue
            assert answer.status_code == 200
            return
