"""The whole stack in one state folder, from the lock to the last process that ends."""

import asyncio
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from dossier_common.topology import PARTS
from dossier_local import cluster as servers
from dossier_local.cluster import Cluster
from dossier_local.environment import Environment
from dossier_local.postgres import Postgres
from dossier_local.processes import Nursery, Program, clean_up
from dossier_local.state import LauncherError, State, public_port, write_private
from dossier_local.supervisor import Supervisor, programs


@dataclass(frozen=True)
class Stack:
    """A running stack, as the demo organisation and the story see it."""

    state: State
    base_url: str
    ports: dict[str, int]
    supervisor: Supervisor
    say: Callable[[str], None]
    environment: Environment

    @property
    def tls(self) -> bool:
        """As `Elsewhere.tls`: the loopback address needs none."""
        return True

    def ceremony(self, arguments: Sequence[str]) -> bytes:
        """Holds the ceremony with these arguments; what it printed as JSON. Raises LauncherError."""
        done = subprocess.run(
            (sys.executable, "-P", "-m", "dossier_gateway.ceremony", "--json", *arguments),
            env=self.environment.of("gateway"),
            capture_output=True,
            check=False,
        )
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise LauncherError(f"The three officers could not be made: {said[-1] if said else 'no reason given'}")
        return done.stdout

    def write_demo(self, organisation: dict[str, Any]) -> None:
        """Writes `demo.json` (mode 0600): base URL, ports of the parts, and what the organisation brings."""
        content = {"base_url": self.base_url, "ports": self.ports} | organisation
        write_private(self.state.demo_file, json.dumps(content, ensure_ascii=False, indent=2).encode())

    def write_ready(self) -> None:
        """Says to others, in `run/ready.json`, that all parts are ready; it goes when the stack stops."""
        content = {"pid": os.getpid(), "base_url": self.base_url, "ports": self.ports}
        write_private(self.state.ready_file, json.dumps(content).encode())


@asynccontextmanager
async def running(
    state: State,
    say: Callable[[str], None],
    *,
    fresh: bool = False,
    migrate: bool = True,
    parts: Callable[[Cluster], Sequence[Program]] = programs,
) -> AsyncIterator[Stack]:
    """A stack whose processes are all ready; leaving the context stops them all.

    With `fresh` it begins without data. Raises LauncherError.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with state.lock():
        state.ready_file.unlink(missing_ok=True)
        left = clean_up(state, Postgres(state).data)
        if left:
            say(f"Ended what a killed run had left: {', '.join(left)}")
        if fresh:
            forget(state)
        wanted = os.environ.get("DOSSIER_PORT")
        port, remark = public_port(state, int(wanted) if wanted else None)
        if remark:
            say(remark)
        with Nursery(state) as nursery:
            cluster = servers.start(state, gateway_port=port, migrate=migrate)
            supervisor = Supervisor(cluster, parts(cluster), say)
            try:
                supervisor.start(nursery)
                nursery.close()
                await supervisor.until_ready()
                ports = {part: cluster.environment.ports[part] for part in PARTS}
                yield Stack(state, cluster.environment.base_url, ports, supervisor, say, cluster.environment)
            finally:
                state.ready_file.unlink(missing_ok=True)
                await _undisturbed(supervisor.stop(), say)


async def _undisturbed(stopping: Awaitable[None], say: Callable[[str], None]) -> None:
    """Waits for the stop to its end, whatever signal comes meanwhile."""
    task = asyncio.ensure_future(stopping)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            say("Stopping; the processes are being waited for.")


def forget(state: State) -> None:
    """Removes all data of a state folder from which nothing runs; the folder and its lock stay."""
    Postgres(state).wipe()
    for path in state.folder.iterdir():
        if path == state.run:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    state.make()
