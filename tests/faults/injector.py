"""The injector: does to the processes, disks, clocks and messages of a stack what a fault does.

Each act returns when it has taken effect, and raises NotInjected when it has not: a fault that did not happen proves
nothing.
"""

import asyncio
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final

import httpx
import nats
import psutil
from tests.faults.stack import Disk, Stack

from dossier_common import topology
from dossier_local.broker import Broker
from dossier_local.processes import started
from dossier_local.state import LauncherError

WEBS: Final = tuple(f"{part}-web" for part in topology.PARTS)
WORKERS: Final = tuple(f"{part}-worker" for part in topology.PARTS)
SERVERS: Final = ("nats", "postgres")
PATIENCE: Final = 20.0


class NotInjected(Exception):
    """The fault has not taken effect."""


async def wait_until(holds: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    """Returns when it holds. Raises NotInjected."""
    try:
        async with asyncio.timeout(seconds):
            while not holds():  # noqa: ASYNC110  # it is seen in files and in /proc
                await asyncio.sleep(0.01)
    except TimeoutError as error:
        raise NotInjected(what) from error


class Injector:
    """All that can be done to one stack."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.folder = stack.folder
        self.disks: dict[str, Disk] = stack.disks
        self._store = stack.state.nats / "jetstream"

    def pid(self, process: str) -> int:
        """Number of the process, or of its last life."""
        return int(json.loads((self._stack.state.run / f"{process}.pid").read_text())["pid"])

    async def whole(self, seconds: float) -> bool:
        """Waits until the stack is whole. False: not in time."""
        try:
            async with asyncio.timeout(seconds):
                while not await self.is_whole():  # noqa: ASYNC110  # it is seen from outside
                    await asyncio.sleep(0.1)
        except TimeoutError:
            return False
        return True

    async def is_whole(self) -> bool:
        """Whether each process runs and is ready, and NATS has its streams."""
        ports = self._ports()
        ready = [ports[name.removesuffix("-web")] for name in (*WEBS, *WORKERS)]
        if not self._all_run():
            return False
        async with httpx.AsyncClient(trust_env=False, verify=False, timeout=2) as http:
            return all([await _ready(http, port) for port in ready])

    def _all_run(self) -> bool:
        run = self._stack.state.run
        streams = [self._store / "$G" / "streams" / topology.stream(part) for part in topology.PUBLISHERS]
        return all(path.is_dir() for path in streams) and all(
            started(self.pid(path.stem)) is not None for path in run.glob("*.pid")
        )

    def _ports(self) -> dict[str, int]:
        found: dict[str, int] = json.loads((self._stack.state.run / "ports.json").read_text())
        return found | {"gateway": self._stack.ports["gateway"]}

    # -- processes

    async def kill(self, *processes: str) -> None:
        """kill -9 of all of these at once."""
        lives = {self.pid(process): process for process in processes}
        born = {pid: started(pid) for pid in lives}
        for pid, process in lives.items():
            if born[pid] is None:
                raise NotInjected(f"{process} does not run")
            os.kill(pid, signal.SIGKILL)
        await wait_until(lambda: all(started(pid) != born[pid] for pid in lives), f"the end of {', '.join(processes)}")

    async def kill_at(self, process: str, point: str, *, passes: int = 0) -> None:
        """The process kills itself with SIGKILL when it reaches the point, after it has passed it so often."""
        pid = self.pid(process)
        born = started(pid)
        self.folder.arm(process, point, passes=passes)
        try:
            await wait_until(lambda: self.folder.fired(process, point), f"{process} reaching {point}")
        finally:
            self.folder.disarm(process, point)
        await wait_until(lambda: started(pid) != born, f"the end of {process}")

    @asynccontextmanager
    async def stopped_at(self, process: str, point: str) -> AsyncIterator[None]:
        """The process stands still at the point for as long as the context lasts."""
        pid = self.pid(process)
        self.folder.arm(process, point, action=signal.SIGSTOP)
        try:
            await wait_until(lambda: self.folder.fired(process, point), f"{process} reaching {point}")
            await wait_until(lambda: _stands(pid), f"{process} standing still")
            yield
        finally:
            self.folder.disarm(process, point)
            os.kill(pid, signal.SIGCONT)

    @asynccontextmanager
    async def stopped(self, process: str) -> AsyncIterator[None]:
        """SIGSTOP of the process with all its children, and SIGCONT at the end of the context."""
        parent = psutil.Process(self.pid(process))
        frozen = [parent, *parent.children(recursive=True)]
        try:
            for each in frozen:
                each.send_signal(signal.SIGSTOP)
            await wait_until(lambda: _stands(parent.pid), f"{process} standing still")
            yield
        finally:
            for each in frozen:
                if each.is_running():
                    each.send_signal(signal.SIGCONT)

    @contextmanager
    def nobody_starts(self) -> Iterator[None]:
        """Within the context nothing is started again: the launcher itself stands still."""
        os.kill(self._stack.launcher, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._stack.launcher, signal.SIGCONT)

    async def mutate(self, mutants: Mapping[str, Sequence[str]]) -> None:
        """Starts these processes again, broken as named; with an empty name list, sound again."""
        for process, names in mutants.items():
            self.folder.set_mutants(process, names)
        await self.kill(*mutants)

    # -- clocks

    @asynccontextmanager
    async def clock(self, part: str, seconds: float) -> AsyncIterator[None]:
        """The clock of both processes of a part is off by so much within the context; both have looked at it."""
        processes = (f"{part}-web", f"{part}-worker")
        try:
            for process in processes:
                self.folder.forget(process, "clock")
                self.folder.set_clock(process, seconds)
            await wait_until(lambda: all(self.folder.fired(each, "clock") for each in processes), "another clock")
            yield
        finally:
            for process in processes:
                self.folder.set_clock(process, 0)

    # -- NATS

    def lose_nats_store(self) -> None:
        """rm -rf of all that JetStream has stored. The server does not run."""
        lost = list(self._store.iterdir())
        if not lost:
            raise NotInjected("the store of NATS is empty")
        for path in lost:
            shutil.rmtree(path)

    def listen(self, process: str) -> Callable[[str], bool]:
        """Tells whether the process has said something since now."""
        log = self._stack.state.logs / f"{process}.log"
        begin = log.stat().st_size
        return lambda words: words.encode() in log.read_bytes()[begin:]

    async def publish_as(self, part: str, messages: list[tuple[str, bytes, str]]) -> None:
        """Publishes these (subject, payload, Nats-Msg-Id) in this order with the rights of a part.

        Each is stored by the stream when this returns. Raises NotInjected for one that it took for a duplicate.
        """
        broker = Broker(self._stack.state, self._ports()["nats"])
        client = await nats.connect(
            broker.url,
            user=part,
            password=broker.password(part),
            inbox_prefix=topology.inbox_prefix(part).encode(),
        )
        try:
            for subject, payload, message_id in messages:
                reply = await client.request(subject, payload, timeout=5, headers={"Nats-Msg-Id": message_id})
                answer = json.loads(reply.data)
                if "error" in answer or answer.get("duplicate"):
                    raise NotInjected(f"the stream did not take the message: {answer}")
        finally:
            await client.close()

    # -- databases

    def back_up(self, part: str) -> None:
        """Keeps a copy of the part's database as it is now; its processes lose their connections for that."""
        name = f"dossier_{part}"
        self._stack.postgres.psql(
            f"DROP DATABASE IF EXISTS {name}_backup;\n"
            f"ALTER DATABASE {name} ALLOW_CONNECTIONS false;\n"
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}';\n"
            f"CREATE DATABASE {name}_backup TEMPLATE {name} STRATEGY file_copy;\n"
            f"ALTER DATABASE {name} ALLOW_CONNECTIONS true;\n"
        )

    def next_segment(self) -> None:
        """Fills a segment of PostgreSQL's log and asks for the next one; does not mind when it cannot.

        A segment that nothing was written to is not left, and a few are kept ready: so they are written to.
        """
        with suppress(LauncherError):
            self._stack.postgres.psql(
                "SELECT pg_logical_emit_message(false, 'fault', repeat('x', 4000000));\nSELECT pg_switch_wal();"
            )

    def grow_table(self) -> None:
        """Asks PostgreSQL to make a table larger, and does not mind when it cannot; nothing of it stays."""
        rows = "SELECT repeat('x', 1000) FROM generate_series(1, 20000)"
        with suppress(LauncherError):
            self._stack.postgres.psql(f"CREATE TABLE larger AS {rows};\nDROP TABLE larger;")

    async def restore(self, part: str) -> None:
        """Puts the copy in the place of the database, while the part's processes do not run."""
        name = f"dossier_{part}"
        with self.nobody_starts():
            await self.kill(f"{part}-web", f"{part}-worker")
            self._stack.postgres.psql(
                f"DROP DATABASE {name} WITH (FORCE);\nALTER DATABASE {name}_backup RENAME TO {name};\n"
            )
            self._stack.postgres.data.with_name("roles.json").unlink()  # so that the roles are applied again
            self._stack.postgres.apply_roles()


async def _ready(http: httpx.AsyncClient, port: int) -> bool:
    try:
        return (await http.get(f"http://127.0.0.1:{port}/readyz")).is_success
    except httpx.TransportError:
        return False


def _stands(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in {"T", "t"}
