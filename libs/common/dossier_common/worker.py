"""The composition of a worker process: relay, consumers and jobs of a part, and its health.

A job that fails is said in the log and started again with backoff; nothing else stops for it.
"""

import asyncio
import gc
import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import uvicorn
import uvloop
from fastapi import FastAPI
from nats.aio.client import Client
from starlette.responses import JSONResponse
from starlette.routing import Route

from dossier_common import idempotency, telemetry
from dossier_common.clock import Clock, SystemClock
from dossier_common.database import Database, unreachable
from dossier_common.inbox import Apply, Consumer
from dossier_common.keys import SigningKey, VerifyingKeys
from dossier_common.peers import Peers
from dossier_common.problems import UpstreamUnavailable
from dossier_common.receipts import Receipt, ReceiptForged
from dossier_common.relay import Confirmation, Publisher, Relay
from dossier_common.scopes import Scope
from dossier_common.settings import PartSettings
from dossier_common.topology import FOLLOWS, inbox_prefix

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

Job = Callable[[], Awaitable[None]]
LONGEST_BACKOFF = 10.0
LONGEST_WAIT_FOR_PART = 1.0
"""Another part that is away mostly starts at the same time, and everything waits for the first relay."""
HOUSEKEEPING = 600.0
FIRST_CONNECTION = 2.0


@dataclass(frozen=True)
class Context:
    """What a worker has open."""

    part: str
    settings: PartSettings
    clock: Clock
    key: SigningKey
    database: Database
    peers: Peers
    nats: Client

    def consumer(self, producer: str, apply: Apply) -> Consumer:
        """A consumer of this part."""
        return Consumer(
            self.part,
            producer,
            database=self.database,
            keys=VerifyingKeys(self.settings.common.producer_keys[producer]),
            peers=self.peers,
            nats=self.nats,
            clock=self.clock,
            apply=apply,
        )

    def relay(self) -> Relay:
        """The relay of this part, towards JetStream."""
        return Relay(
            self.part,
            self.database,
            self.key,
            self.clock,
            deliver=Publisher(self.nats, self.part).deliver,
            confirmed=self.confirmed,
            keep=timedelta(days=self.settings.outbox_keep_days),
        )

    async def confirmed(self) -> Confirmation | None:
        """The audit service's last receipt for this part, verified. Raises UpstreamUnavailable."""
        answer = await self.peers.get("audit", f"/internal/v1/receipts/{self.part}", Scope.EVENTS_PULL)
        if answer.status_code != 200:
            raise UpstreamUnavailable(f"The audit service answers {answer.status_code}.")
        said = answer.json()["receipt"]
        if said is None:
            return None
        try:
            receipt = Receipt.verified(said, self.part, VerifyingKeys(self.settings.common.producer_keys["audit"]))
        except ReceiptForged as error:
            raise UpstreamUnavailable("The audit service's receipt cannot be verified.") from error
        return Confirmation(receipt.epoch, receipt.seq, receipt.hash)


def run(part: str, settings: PartSettings, jobs: Callable[[Context], Mapping[str, Job]]) -> None:
    """Runs the worker until SIGTERM or SIGINT."""
    telemetry.setup(part)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(part, settings, jobs))


async def _run(part: str, settings: PartSettings, jobs: Callable[[Context], Mapping[str, Job]]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: None)  # the server sees them first, and ends; then all else does
    async with opened(part, settings) as context:
        running = [
            asyncio.create_task(_forever(name, job), name=name)
            for name, job in {**jobs(context), "housekeeping": lambda: _housekeeping(context)}.items()
        ]
        gc.freeze()
        await _health(context).serve()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


@asynccontextmanager
async def opened(part: str, settings: PartSettings, clock: Clock | None = None) -> "AsyncIterator[Context]":
    """The open resources of a worker; also for tests."""
    clock = clock or SystemClock()
    key = SigningKey.read(settings.signing_key_file)
    database = Database(settings)
    peers = Peers(part, key, settings.common, clock)
    try:
        async with _nats(part, settings) as connection:
            yield Context(part, settings, clock, key, database, peers, connection)
    finally:
        await peers.close()
        await database.close()


@asynccontextmanager
async def _nats(part: str, settings: PartSettings) -> "AsyncIterator[Client]":
    """A client that is connected whenever NATS is there: without it events are still numbered, and fed over HTTP."""

    async def report(error: Exception) -> None:
        telemetry.log().warning("nats", error=type(error).__name__)

    client = Client()
    connecting = asyncio.create_task(
        client.connect(
            settings.nats_url,
            user=part,
            password=settings.nats_password,
            inbox_prefix=inbox_prefix(part).encode(),
            max_reconnect_attempts=-1,
            reconnect_time_wait=1,
            allow_reconnect=True,
            error_cb=report,
            name=part,
        )
    )
    try:
        await asyncio.wait({connecting}, timeout=FIRST_CONNECTION)
        if connecting.done():
            connecting.result()
        yield client
    finally:
        connecting.cancel()
        with suppress(asyncio.CancelledError):
            await connecting
        await client.close()


def follow(context: Context, apply: Apply) -> dict[str, Job]:
    """Consumer jobs for all producers that this part follows."""
    return {f"follow-{producer}": context.consumer(producer, apply).run for producer in FOLLOWS[context.part]}


async def _forever(name: str, job: Job) -> None:
    waiting = 0.2
    loop = asyncio.get_running_loop()
    while True:
        started, longest = loop.time(), LONGEST_BACKOFF
        try:
            await job()
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001  # a worker goes on whatever one job meets; the log says it
            longest = LONGEST_WAIT_FOR_PART if isinstance(error, UpstreamUnavailable) else LONGEST_BACKOFF
            telemetry.log().warning("job-failed", job=name, error=type(error).__name__, exc_info=error)
        if loop.time() - started > LONGEST_BACKOFF:
            waiting = 0.2
        waiting = min(waiting, longest)
        await asyncio.sleep(waiting)
        waiting *= 2


async def _housekeeping(context: Context) -> None:
    while True:
        await asyncio.sleep(HOUSEKEEPING)
        async with context.database.transaction() as session:
            await idempotency.forget(session, context.clock.now() - idempotency.KEEP)


def _health(context: Context) -> uvicorn.Server:
    async def healthz(_request: "Request") -> JSONResponse:
        return JSONResponse({"status": "ok"})

    async def readyz(_request: "Request") -> JSONResponse:
        try:
            await context.database.check()
        except Exception as error:
            if not unreachable(error):
                raise
            return JSONResponse({"status": "database-away"}, 503)
        return JSONResponse({"status": "ready"})

    app = FastAPI(openapi_url=None)
    app.router.routes.extend([Route("/healthz", healthz), Route("/readyz", readyz)])
    config = uvicorn.Config(
        app,
        host=context.settings.listen_host,
        port=context.settings.worker_port,
        log_config=None,
        access_log=False,
        lifespan="off",
    )
    return uvicorn.Server(config)
