"""The gateway as it is in use, on servers of its own, pinned to one core; load and upstream are on another."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psutil
from tests.support.parts import settings_of

from dossier_common.clock import SystemClock
from dossier_common.database import Database
from dossier_common.policy import load_policy
from dossier_gateway import ceremony
from dossier_gateway.settings import Settings
from dossier_local.cluster import Cluster
from dossier_local.state import CHECKOUT, is_free

HERE = Path(__file__).parent
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
PINNED = len(CORES) > 1 and shutil.which("taskset") is not None
NGINX = shutil.which("nginx")
_NGINX_CONF = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder}; keepalive_requests 1000000000;
  upstream part {{ server 127.0.0.1:{upstream}; keepalive 128; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{port};
    location / {{ proxy_pass http://part; proxy_http_version 1.1; proxy_set_header Connection ""; }} }}
}}
"""


def pinned(core: int, command: Sequence[str]) -> list[str]:
    """The command on the first core (0) or the second (1), where there are two."""
    return ["taskset", "-c", str(CORES[core]), *command] if PINNED else list(command)


def free_port() -> int:
    return next(port for port in range(29100, 29999) if is_free(port))


@contextmanager
def program(
    core: int, command: Sequence[str], environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs it on a core; what it complains of is seen."""
    process = subprocess.Popen(pinned(core, command), cwd=CHECKOUT, env=environment)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


async def up(address: str, process: subprocess.Popen[bytes]) -> None:
    """Waits until it answers there. Raises TimeoutError."""
    async with asyncio.timeout(120), httpx.AsyncClient(trust_env=False) as client:
        while True:
            assert process.poll() is None, f"{process.args!r} has ended"
            try:
                await client.get(address)
            except httpx.TransportError:
                await asyncio.sleep(0.1)
            else:
                return


@dataclass(frozen=True)
class Served:
    """A server that is measured."""

    port: int
    pid: int

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def processor(self) -> float:
        """Seconds of processor that it and its children have used."""
        own = psutil.Process(self.pid)
        times = [each.cpu_times() for each in (own, *own.children(recursive=True))]
        return sum(each.user + each.system for each in times)

    def memory(self) -> int:
        """Resident bytes."""
        return int(psutil.Process(self.pid).memory_info().rss)


@dataclass
class Rig:
    """Two replicas of a gateway with its database, and the upstream behind them."""

    cluster: Cluster
    settings: Settings
    database: Database
    unit: UUID
    upstream: Served
    gateway: Served
    other: Served


@asynccontextmanager
async def rigged(cluster: Cluster, folder: Path) -> AsyncIterator[Rig]:
    """After the ceremony; limits of rates are far away."""
    async with AsyncExitStack() as stack:
        upstream = await _python(stack, 1, "upstream")
        peers = folder / "peers.json"
        known = settings_of(cluster, "gateway", Settings)
        peers.write_text(json.dumps(dict.fromkeys(known.common.peers, upstream.address)))
        far = dict.fromkeys(("CALLS", "CLIENT_CALLS", "ADDRESS_CALLS", "SIGN_INS"), str(10**7))
        environment = cluster.environment.of("gateway") | {"DOSSIER_PEERS_FILE": str(peers)}
        for name, limit in far.items():
            environment |= {f"DOSSIER_GATEWAY_{name}_PER_SECOND": limit, f"DOSSIER_GATEWAY_{name}_AT_ONCE": limit}
        database = Database(known)
        stack.push_async_callback(database.close)
        made = await ceremony.ceremony(
            database,
            load_policy(known.common.policy),
            SystemClock(),
            root=ceremony.Root("GROUP", "集团", "Group"),
            names=[(name, name) for name in ("sysadmin", "secadmin", "auditor")],
        )
        replicas = []
        for _ in range(2):
            port = free_port()
            own = environment | {"DOSSIER_GATEWAY_LISTEN_PORT": str(port)}
            process = stack.enter_context(program(0, [sys.executable, "-m", "dossier_gateway.main"], own))
            await up(f"http://127.0.0.1:{port}/readyz", process)
            replicas.append(Served(port, process.pid))
        yield Rig(cluster, known, database, made.unit, upstream, *replicas)


async def _python(stack: AsyncExitStack, core: int, name: str, *more: str) -> Served:
    port = free_port()
    command = [sys.executable, "-m", "tests.benchmarks.edge_programs", name, str(port), *more]
    process = stack.enter_context(program(core, command))
    await up(f"http://127.0.0.1:{port}/v1/records", process)
    return Served(port, process.pid)


async def forwarder(stack: AsyncExitStack, upstream: Served) -> Served:
    """The bare forwarder, on the gateway's core."""
    return await _python(stack, 0, "forwarder", upstream.address)


async def nginx(stack: AsyncExitStack, upstream: Served, folder: Path) -> Served | None:
    """nginx as forwarder on the gateway's core, where it is installed."""
    if NGINX is None:
        return None
    port = free_port()
    conf = folder / "nginx.conf"
    conf.write_text(_NGINX_CONF.format(folder=folder, upstream=upstream.port, port=port))
    process = stack.enter_context(program(0, [NGINX, "-c", str(conf), "-p", str(folder)]))
    await up(f"http://127.0.0.1:{port}/", process)
    return Served(port, process.pid)


async def load(served: Served, requests: Sequence[str], connections: int, seconds: float) -> dict[str, Any]:
    """What `load.py` measured, from the other core, and the µs of processor that each call cost the server."""
    plan = {
        "host": "127.0.0.1",
        "port": served.port,
        "connections": connections,
        "seconds": seconds,
        "requests": list(requests),
    }
    before, begun = served.processor(), time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *pinned(1, [sys.executable, str(HERE / "load.py")]), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    output, _ = await process.communicate(json.dumps(plan).encode())
    found: dict[str, Any] = json.loads(output)
    calls = sum(found["statuses"].values())
    spent = served.processor() - before
    return found | {"cpu_us": spent / max(calls, 1) * 1e6, "calls": calls, "took": time.perf_counter() - begun}


def get(target: str, token: str) -> str:
    """A request as an application makes it."""
    return (
        f"GET {target} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: load/1\r\nAccept: application/json\r\n"
        f"Authorization: Bearer {token}\r\n\r\n"
    )


def post(target: str, body: str, authorization: str) -> str:
    """A form."""
    return (
        f"POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        f"Authorization: {authorization}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    )
