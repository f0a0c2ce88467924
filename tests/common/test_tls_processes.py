"""A part as it is deployed: both of its processes listen with TLS, and take nobody without a certificate."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from tests.support.certificates import Authority
from tests.support.listening import free_port
from tests.support.waiting import eventually

from dossier_local.cluster import Cluster

Running = tuple[Authority, dict[str, int]]


@pytest.fixture(scope="module")
async def part(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """The ports of retention's web and worker, in processes of their own."""
    folder: Path = tmp_path_factory.mktemp("processes")
    authority = Authority(folder)
    for name in ("retention", "gateway"):
        authority.certify(name)
    ports = {"main": free_port(), "worker": free_port()}
    environment = cluster.environment.of("retention") | {
        "DOSSIER_CA_FILE": str(authority.ca),
        "DOSSIER_RETENTION_TLS_CERTIFICATE_FILE": str(authority.certificate("retention")),
        "DOSSIER_RETENTION_TLS_KEY_FILE": str(authority.key("retention")),
        "DOSSIER_RETENTION_TLS_CLIENT_CA_FILE": str(authority.ca),
        "DOSSIER_RETENTION_LISTEN_PORT": str(ports["main"]),
        "DOSSIER_RETENTION_WORKER_PORT": str(ports["worker"]),
    }
    processes = []
    for kind in ports:
        command = (sys.executable, "-P", "-m", f"dossier_retention.{kind}")
        with (folder / f"{kind}.log").open("wb") as log:
            processes.append(await asyncio.create_subprocess_exec(*command, env=environment, stderr=log))
    yield authority, ports
    for process in processes:
        process.terminate()
        assert await process.wait() in {0, -signal.SIGTERM}


@pytest.mark.parametrize("kind", ["main", "worker"])
async def test_both_processes_of_a_part_speak_tls_to_who_has_a_certificate(part: Running, kind: str) -> None:
    authority, ports = part

    async def ready() -> int:
        try:
            return (await http.get("/readyz")).status_code
        except httpx.ConnectError:
            return 0

    base = f"https://127.0.0.1:{ports[kind]}"
    async with httpx.AsyncClient(base_url=base, verify=authority.tls("gateway").client, trust_env=False) as http:
        await eventually(ready, 200, seconds=200)
    async with httpx.AsyncClient(base_url=base, verify=authority.tls().client, trust_env=False) as http:
        with pytest.raises(httpx.TransportError):
            await http.get("/readyz")
    async with httpx.AsyncClient(base_url=base.replace("https", "http"), trust_env=False) as http:
        with pytest.raises(httpx.TransportError):
            await http.get("/readyz")
