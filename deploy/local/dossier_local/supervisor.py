"""Keeps the stack running: starts what belongs to it, says what dies, starts it again, stops all in order."""

import asyncio
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import nats.errors

from dossier_cli import streams
from dossier_cli.accounts import OPERATOR
from dossier_common.topology import PARTS
from dossier_local import witness
from dossier_local.cluster import Cluster
from dossier_local.processes import Nursery, Orphans, Process, Program, stop_all
from dossier_local.state import LauncherError

LOOK_EVERY: Final = 0.05
STREAMS_EVERY: Final = 3.0
BURY_EVERY: Final = 5.0
FIRST_WAIT: Final = 0.5
LONGEST_WAIT: Final = 15.0
STEADY_AFTER: Final = 30.0
"""Seconds after which a process counts as steady, so that its next crash is its first again."""
TRIES_AT_START: Final = 4
STOP_ORDER: Final = ("gateway-web", "-web", "-worker", witness.PROGRAM, "nats", "postgres")
"""Endings of names: first nothing new comes in, then work is finished, then the ground goes."""


@dataclass
class Member:
    """One process of the stack, over all its lives."""

    name: str
    spawn: Callable[[], Process]
    program: Program | None = None
    process: Process | None = None
    since: float = 0.0
    crashes: int = 0
    again_at: float | None = None
    ready: bool = False


class Supervisor:
    """Watches over PostgreSQL, NATS, the processes of all parts, and the witness.

    `say` gets one line for each thing that a person should know. Children are started from the thread of the event
    loop alone: the kernel ends them when the thread that started them does.
    """

    def __init__(self, cluster: Cluster, parts: Sequence[Program], say: Callable[[str], None]) -> None:
        self._cluster, self._say = cluster, say
        self._members = {
            "nats": Member("nats", cluster.broker.spawn, process=cluster.processes["nats"], ready=True),
            "postgres": Member("postgres", cluster.postgres.spawn, process=cluster.processes["postgres"], ready=True),
        }
        for program in parts:
            self._members[program.name] = Member(program.name, _spawner(program, cluster), program)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, nursery: Nursery) -> None:
        """Starts the parts as copies of the nursery, and begins to watch; later lives are started afresh."""
        loop = asyncio.get_running_loop()
        for member in self._members.values():
            member.since = loop.time()
            if member.process is None and member.program is not None:
                member.process = nursery.start(member.program)
        self._tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._keep_streams())]

    async def until_ready(self, seconds: float = 90) -> None:
        """Returns when every process is ready.

        Raises LauncherError, naming the log, for one that ends again and again or is not ready in time.
        """
        try:
            async with asyncio.timeout(seconds):
                while not all(member.ready for member in self._members.values()):
                    for member in self._members.values():
                        if member.crashes >= TRIES_AT_START:
                            raise LauncherError(f"{member.name} does not start: {self._last_words(member)}")
                    await asyncio.sleep(LOOK_EVERY)
        except TimeoutError as error:
            late = [member for member in self._members.values() if not member.ready]
            names = ", ".join(member.name for member in late)
            raise LauncherError(f"Not ready after {seconds:.0f} s: {names}; {self._last_words(late[0])}") from error

    async def until_failure(self) -> None:
        """Runs for as long as watching works. Raises what ended it."""
        await asyncio.gather(*self._tasks)

    def lines(self) -> list[str]:
        """One line for each part: ready or not, where it listens, its processes."""
        ports = self._cluster.environment.ports
        lines = []
        for part in PARTS:
            web, worker = self._members[f"{part}-web"], self._members[f"{part}-worker"]
            word = "ready" if web.ready and worker.ready else "starting"
            address = f"http://127.0.0.1:{ports[part]}"
            lines.append(f"{part:<11}{word:<10}{address:<24}  processes {_pid(web)}, {_pid(worker)}")
        servers = {"postgres": f"socket in {self._cluster.postgres.sockets}", "nats": self._cluster.broker.url}
        if witness.PROGRAM in self._members:
            servers[witness.PROGRAM] = f"http://127.0.0.1:{ports[witness.PROGRAM]}"
        for name, address in servers.items():
            member = self._members[name]
            word = "ready" if member.ready else "starting"
            lines.append(f"{name:<11}{word:<10}{address:<24}  process {_pid(member)}")
        return lines

    async def stop(self) -> None:
        """Stops all, in order: gateway, parts, workers, witness, NATS, PostgreSQL; what does not listen is killed."""
        await _cancelled(self._tasks)
        left = [member for member in self._members.values() if member.process is not None]
        for ending in STOP_ORDER:
            stop_all([member.process for member in left if member.process and member.name.endswith(ending)])
            left = [member for member in left if not member.name.endswith(ending)]

    # -- inside -------------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        checks: dict[str, asyncio.Task[bool]] = {}
        orphans, bury_at = Orphans(), loop.time()
        try:
            while True:
                self._look(checks, loop.time())
                if loop.time() >= bury_at:
                    orphans.bury([member.process.pid for member in self._members.values() if member.process])
                    bury_at = loop.time() + BURY_EVERY
                await asyncio.sleep(LOOK_EVERY)
        finally:
            await _cancelled(list(checks.values()))

    def _look(self, checks: dict[str, asyncio.Task[bool]], now: float) -> None:
        for member in self._members.values():
            if member.again_at is not None:
                if now >= member.again_at:
                    self._start_again(member, now)
            elif member.process is not None and (status := member.process.status()) is not None:
                self._crashed(member, status, now)
            elif not member.ready:
                check = checks.pop(member.name, None) or asyncio.create_task(self._is_ready(member))
                if not check.done():
                    checks[member.name] = check
                elif check.result():
                    self._became_ready(member)

    def _start_again(self, member: Member, now: float) -> None:
        try:
            member.process = member.spawn()
        except OSError as error:  # a full disk takes no log and no number of a process; it will not always be full
            member.again_at = now + LONGEST_WAIT
            self._say(f"{member.name} cannot be started ({error.strerror}); it is tried again in {LONGEST_WAIT:g} s")
        else:
            member.since, member.again_at = now, None

    def _crashed(self, member: Member, status: int, now: float) -> None:
        if now - member.since > STEADY_AFTER:
            member.crashes = 0
        wait = min(FIRST_WAIT * 2**member.crashes, LONGEST_WAIT)
        member.crashes += 1
        member.ready, member.again_at = False, now + wait
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        self._say(f"{member.name} {how}; it is started again in {wait:.1f} s")

    def _became_ready(self, member: Member) -> None:
        member.ready = True
        if member.crashes:
            self._say(f"{member.name} is ready again (process {_pid(member)})")

    async def _is_ready(self, member: Member) -> bool:
        if member.name == "postgres":
            return member.process is not None and self._cluster.postgres.ready(member.process)
        if member.name == "nats":
            return await asyncio.to_thread(self._cluster.broker.ready)
        ports = self._cluster.environment.ports
        if member.name == witness.PROGRAM:
            return await answers(ports[member.name], "/healthz")
        return await answers(ports[member.name.removesuffix("-web")], "/readyz")

    async def _keep_streams(self) -> None:
        """Repeats the operator's step, so that streams that are gone come back: the store may be lost."""
        broker = self._cluster.broker
        connection = None
        try:
            while True:
                await asyncio.sleep(STREAMS_EVERY)
                with suppress(nats.errors.Error, OSError, TimeoutError):
                    if connection is None:
                        connection = await streams.connect(broker.url, broker.password(OPERATOR))
                    if connection.is_connected and (made := await streams.ensure(connection)):
                        self._say(f"made again in NATS: {', '.join((*made.streams, *made.consumers))}")
        finally:
            if connection is not None:
                await connection.close()

    def _last_words(self, member: Member) -> str:
        path = self._cluster.state.logs / f"{member.name}.log"
        lines = (
            [line for line in path.read_text(errors="replace").splitlines() if line.strip()] if path.exists() else []
        )
        return f"{lines[-1][:300] if lines else 'it said nothing'} (see {path})"


def programs(cluster: Cluster) -> Sequence[Program]:
    """Web process and worker of each part, and the witness."""
    environment = cluster.environment
    listed = [witness.program(cluster.state, environment.base_url, environment.ports[witness.PROGRAM])]
    for part in PARTS:
        variables = environment.of(part)
        for kind, module in (("web", "main"), ("worker", "worker")):
            command = (sys.executable, "-P", "-m", f"dossier_{part}.{module}")
            listed.append(Program(f"{part}-{kind}", command, variables, stop_seconds=12))
    return listed


def _spawner(program: Program, cluster: Cluster) -> Callable[[], Process]:
    return lambda: Process(program, cluster.state)


def _pid(member: Member) -> str:
    return str(member.process.pid) if member.process is not None and member.process.status() is None else "-"


async def _cancelled(tasks: Iterable[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def answers(port: int, path: str) -> bool:
    """Whether a GET of this path on this port answers 200 within two seconds."""
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
                await writer.drain()
                status = await reader.readline()
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError):
        return False
    return b" 200 " in status
