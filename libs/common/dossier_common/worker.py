"""The composition of a worker process: relay, consumers and jobs of a part, its health and its metrics.

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

import orjson
import uvicorn
import uvloop
from fastapi import FastAPI
from nats.aio.client import Client
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dossier_common import idempotency, inbox, metrics, telemetry
from dossier_common.backlog import Backlog
from dossier_common.broker import BrokerClient, Troubles
from dossier_common.clock import Clock, SystemClock
from dossier_common.database import Database, unreachable
from dossier_common.door import Limits
from dossier_common.handshake import protocol
from dossier_common.heartbeats import Heartbeat
from dossier_common.inbox import Apply, Consumer
from dossier_common.keys import SigningKey, VerifyingKeys
from dossier_common.peers import Peers
from dossier_common.problems import UpstreamUnavailable
from dossier_common.publisher import Publisher
from dossier_common.receipts import Receipt, ReceiptForged
from dossier_common.relay import Confirmation, Relay
from dossier_common.schema import Schema
from dossier_common.scopes import Scope
from dossier_common.settings import PartSettings
from dossier_common.standing import Lacking, Standing, readiness
from dossier_common.topology import FOLLOWS, heartbeat_subject, inbox_prefix, receipt_subject

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Any

    from nats.aio.msg import Msg
    from starlette.requests import Request

Job = Callable[[], Awaitable[None]]
Measure = Callable[["Context"], Awaitable[None]]
LONGEST_BACKOFF = 10.0
LONGEST_WAIT_FOR_PART = 1.0
"""Another part that is away mostly starts at the same time, and everything waits for the first relay."""
HOUSEKEEPING = 600.0
FIRST_CONNECTION = 2.0
WITHOUT_NATS = 0.5
CONNECTING = 10
"""Seconds for one attempt. A server that is busy takes long to check a password; who gives up lets it begin again."""


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
    standing: Standing

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
            listen=self.listen,
            beat=self.beat,
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
            return self._verified(said)
        except ReceiptForged as error:
            raise UpstreamUnavailable("The audit service's receipt cannot be verified.") from error

    async def listen(self, hear: Callable[[Confirmation], None]) -> None:
        """Hands on each receipt for this part that comes by message, verified, until it is cancelled."""
        while not self.nats.is_connected:  # noqa: ASYNC110  # the client has no event for its first connection
            await asyncio.sleep(WITHOUT_NATS)

        async def came(message: "Msg") -> None:
            try:
                hear(self._verified(orjson.loads(message.data)))
            except (ReceiptForged, orjson.JSONDecodeError) as error:
                telemetry.log().warning("receipt-forged", error=type(error).__name__)

        subscription = await self.nats.subscribe(receipt_subject(self.part), cb=came)  # kept over reconnections
        try:
            await asyncio.Event().wait()
        finally:
            if self.nats.is_connected:
                await subscription.unsubscribe()

    async def beat(self, heartbeat: Heartbeat) -> None:
        """Publishes a heartbeat while NATS is there; nobody waits for one that was not. Raises nats.errors.Error."""
        if self.nats.is_connected:
            await self.nats.publish(heartbeat_subject(self.part), heartbeat.payload())

    def _verified(self, said: "Any") -> Confirmation:
        receipt = Receipt.verified(said, self.part, VerifyingKeys(self.settings.common.producer_keys["audit"]))
        return Confirmation(receipt.epoch, receipt.seq, receipt.hash)

    def backlog(self) -> Backlog:
        """What this part's backlog is now; nobody is refused by it here."""
        settings = self.settings
        return Backlog(self.database, self.clock.now, seconds=settings.backlog_seconds, rows=settings.backlog_rows)


def run(
    part: str,
    settings: PartSettings,
    jobs: Callable[[Context], Mapping[str, Job]],
    measure: Measure | None = None,
    lacking: Lacking | None = None,
) -> None:
    """Runs the worker until SIGTERM or SIGINT. `measure` sets the part's own gauges whenever metrics are asked for."""
    telemetry.setup(part)
    metrics.setup(part)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(part, settings, jobs, measure, lacking))


async def _run(
    part: str,
    settings: PartSettings,
    jobs: Callable[[Context], Mapping[str, Job]],
    measure: Measure | None,
    lacking: Lacking | None,
) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: None)  # the server sees them first, and ends; then all else does
    async with opened(part, settings, lacking=lacking) as context:
        running = [
            asyncio.create_task(job)
            for job in (
                context.standing.run(),
                settings.tls.follow(),
                work(context.standing, {**jobs(context), "housekeeping": lambda: _housekeeping(context)}),
            )
        ]
        gc.freeze()
        await _server(context, measure).serve()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def work(standing: Standing, jobs: Mapping[str, Job]) -> None:
    """Runs the jobs whenever the process may work, and stops them when it may not."""
    while True:
        await standing.opened()
        running = [asyncio.create_task(_forever(name, job), name=name) for name, job in jobs.items()]
        try:
            await standing.closed()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)


@asynccontextmanager
async def opened(
    part: str, settings: PartSettings, clock: Clock | None = None, lacking: Lacking | None = None
) -> "AsyncIterator[Context]":
    """The open resources of a worker; also for tests."""
    clock = clock or SystemClock()
    key = SigningKey.read(settings.signing_key_file)
    database = Database(settings)
    peers = Peers(part, key, settings.common, clock, settings.tls.client)
    standing = Standing(part, lacking=lacking)
    standing.watch(database, Schema.read(part, settings.common.installed))
    try:
        async with _nats(part, settings) as connection:
            yield Context(part, settings, clock, key, database, peers, connection, standing)
    finally:
        await peers.close()
        await database.close()


@asynccontextmanager
async def _nats(part: str, settings: PartSettings) -> "AsyncIterator[Client]":
    """A client that is connected whenever NATS is there: without it events are still numbered, and fed over HTTP."""
    client, troubles = BrokerClient(), Troubles()
    connecting = asyncio.create_task(
        client.connect(
            settings.nats_url,
            user=part,
            password=settings.nats_password,
            inbox_prefix=inbox_prefix(part).encode(),
            max_reconnect_attempts=-1,
            reconnect_time_wait=1,
            allow_reconnect=True,
            connect_timeout=CONNECTING,
            error_cb=troubles.report,
            reconnected_cb=troubles.forget,
            name=part,
            tls=settings.tls.client,
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
        except UpstreamUnavailable as error:  # it is not up yet, or restarts: nothing to look into
            longest = LONGEST_WAIT_FOR_PART
            telemetry.log().warning("job-waits", job=name, detail=str(error))
        except Exception as error:  # noqa: BLE001  # a worker goes on whatever one job meets; the log says it
            telemetry.log().warning("job-failed", job=name, error=type(error).__name__, exc_info=error)
        if loop.time() - started > LONGEST_BACKOFF:
            waiting = 0.2
        waiting = min(waiting, longest)
        await asyncio.sleep(waiting)
        waiting *= 2


async def _housekeeping(context: Context) -> None:
    while True:
        await asyncio.sleep(HOUSEKEEPING)
        await keep_house(context)


async def keep_house(context: Context) -> None:
    """Forgets idempotency keys and handled events whose time is over."""
    async with context.database.transaction() as session:
        await idempotency.forget(session, context.clock.now() - idempotency.KEEP)
        await inbox.forget_handled(session, context.clock.now())


def _server(context: Context, measure: Measure | None) -> uvicorn.Server:
    config = uvicorn.Config(
        observed(context, measure),
        host=context.settings.listen_host,
        port=context.settings.worker_port,
        http=protocol(Limits(per_address=context.settings.connections_per_address), context.settings.tls.server),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
    )
    return uvicorn.Server(config)


def observed(context: Context, measure: Measure | None = None) -> FastAPI:
    """What a worker answers on its own port: `/healthz`, `/readyz`, and `/metrics` as Prometheus text.

    While the database is away, `/metrics` has the counters, the gauges as they were last, and says so.
    """
    backlog = context.backlog()

    async def healthz(_request: "Request") -> JSONResponse:
        return JSONResponse({"status": "ok"})

    async def readyz(_request: "Request") -> JSONResponse:
        return await readiness(context.standing)

    async def show_metrics(_request: "Request") -> Response:
        try:
            await metrics.measure(context.database, context.clock, backlog)
            if measure is not None:
                await measure(context)
        except Exception as error:
            if not unreachable(error):
                raise
            telemetry.log().warning("not-measured", error=type(error).__name__)
        return Response(metrics.exposition(), media_type=metrics.CONTENT_TYPE)

    app = FastAPI(openapi_url=None)
    routes = {"/healthz": healthz, "/readyz": readyz, "/metrics": show_metrics}
    app.router.routes.extend(Route(path, answer) for path, answer in routes.items())
    return app
