"""PostgreSQL and NATS alone, with databases, roles, migrations and streams: what parts and their tests stand on."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from dossier_cli import streams
from dossier_cli.accounts import OPERATOR
from dossier_local import migrations
from dossier_local.broker import Broker
from dossier_local.environment import PORTS, Environment
from dossier_local.postgres import Postgres
from dossier_local.processes import Process, clean_up, stop_all
from dossier_local.state import State, internal_ports

PATIENCE = 60.0
"""Seconds for NATS to make its streams on a busy machine."""


@dataclass(frozen=True)
class Cluster:
    """Running PostgreSQL and NATS of one state folder."""

    state: State
    postgres: Postgres
    broker: Broker
    environment: Environment
    processes: dict[str, Process]

    def database_url(self, part: str, role: str = "app", *, scheme: str = "postgresql") -> str:
        """Address of a part's database for its role `app` or `migrator`, with the password: for tests."""
        return self.postgres.url(part, role, scheme=scheme, password=True)

    def make_streams(self) -> streams.Made:
        """The operator's step, from a place without an event loop."""
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, _streams(self.broker)).result()


async def _streams(broker: Broker) -> streams.Made:
    return await streams.run(broker.url, broker.password(OPERATOR), wait=PATIENCE)


def start(state: State, *, gateway_port: int, migrate: bool = True, sync: bool = True) -> Cluster:
    """Starts both servers in a locked state folder, from which nothing runs any more.

    Raises LauncherError; what had been started is then stopped.
    """
    ports = internal_ports(state, PORTS) | {"gateway": gateway_port}
    postgres, broker = Postgres(state), Broker(state, ports["nats"])
    environment = Environment(state, postgres, broker, ports)
    with ExitStack() as undo:
        waiting = None
        if migrate and migrations.needed(postgres):
            waiting = undo.enter_context(migrations.Migrations(state))
        processes: dict[str, Process] = {}
        cluster = Cluster(state, postgres, broker, environment, processes)
        undo.callback(stop, cluster)
        processes["nats"] = broker.start()
        processes["postgres"] = postgres.start(sync=sync)
        with ThreadPoolExecutor(1) as beside:
            made = beside.submit(asyncio.run, _streams(broker))
            postgres.apply_roles()
            migrations.upgrade(postgres, waiting)
            made.result()
        undo.pop_all()
    return cluster


def stop(cluster: Cluster) -> None:
    """Stops NATS, then PostgreSQL."""
    for name in ("nats", "postgres"):
        if name in cluster.processes:
            stop_all([cluster.processes[name]])


@contextmanager
def temporary_state() -> Iterator[State]:
    """A state folder that goes when the context is left, with the data that lie elsewhere."""
    folder = Path(tempfile.mkdtemp(prefix="dossier-"))
    state = State(folder)
    try:
        state.make()
        yield state
    finally:
        clean_up(state, Postgres(state).data)
        Postgres(state).wipe()
        shutil.rmtree(folder)


@contextmanager
def temporary(*, migrate: bool = True) -> Iterator[Cluster]:
    """Both servers in a temporary state folder: for component tests and checks.

    The data of the cluster are not synced when it is made, since it does not outlive a power cut; commits are.
    """
    with temporary_state() as state, state.lock():
        cluster = start(state, gateway_port=1, migrate=migrate, sync=False)
        try:
            yield cluster
        finally:
            stop(cluster)
