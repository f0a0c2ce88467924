"""A log of 651 leaves with a witness, copies of its database, and an old checkpoint that an auditor kept."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from tests.audit.log_world import World, world
from tests.audit.test_log_outside import asking, replace, shown, witnessed
from tests.gateway.world import listening
from tests.peers import programs
from tests.peers.programs import Fsck, Peers
from tests.tampering.superuser import Superuser, superuser

from dossier_audit.log import notes
from dossier_local import cluster as servers
from dossier_local.cluster import Cluster

KEPT, SIZE = 401, 651
"""What the kept checkpoint promises, and what there is: two full tiles, and 139 leaves at the edge."""
PRISTINE, EARLIER, WHOLE = "pristine", "earlier", "whole"
"""Copies of the database: without a log, with the leaves that the kept checkpoint promises, with all."""
VERIFIER: Final = Path(sys.executable).with_name("dossier-verify")


@dataclass(frozen=True)
class Verdict:
    """How `dossier-verify` ended, and what it said."""

    exit: int
    said: dict[str, Any]

    @property
    def findings(self) -> list[tuple[str, int | None, int | None]]:
        """Kind, first leaf, last leaf of each finding."""
        return [(each["kind"], each.get("index"), each.get("last")) for each in self.said["findings"]]


@dataclass
class Gate:
    """Stands before the audit service as the gateway does; remembers what was answered."""

    app: ASGIApp
    kept: World
    answered: list[tuple[str, int]] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        token = [(name.lower().encode(), value.encode()) for name, value in self.kept.headers().items()]

        async def passed(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.answered.append((scope["path"], message["status"]))
            await send(message)

        await self.app({**scope, "headers": [*scope["headers"], *token]}, receive, passed)

    def failed(self) -> list[tuple[str, int]]:
        """Answers that no damage excuses."""
        return [(path, status) for path, status in self.answered if status >= 500 and status != 503]


@dataclass
class Scene:
    """The log, how it is verified, and how it becomes whole again."""

    kept: World
    gate: Gate
    url: str
    folder: Path
    copy: str
    """The newest checkpoint, as it lies outside."""

    @property
    def vkey(self) -> str:
        return notes.key_of(self.kept.settings.log_address, self.kept.key).vkey()

    @property
    def checkpoint(self) -> Path:
        """What the auditor kept."""
        return self.folder / "kept.checkpoint"

    @property
    def mirror(self) -> Path:
        """The folder of an earlier verification."""
        return self.folder / "mirror"

    def restore(self) -> None:
        """Puts database and copies of checkpoints back as they were."""
        self.empty()
        replace(self.kept.cluster, WHOLE)
        (self.kept.folder / "log-1.checkpoint").write_text(self.copy)

    def empty(self) -> None:
        """Leaves neither a log nor copies of one."""
        replace(self.kept.cluster, PRISTINE)
        for path in self.kept.folder.iterdir():
            path.unlink()
        self.kept.chain = None
        self.gate.answered.clear()

    @contextmanager
    def without_witness(self) -> Iterator[None]:
        """Nobody asks the witness, who would remember the log as it was."""
        witnesses, self.kept.witnesses = self.kept.witnesses, []
        try:
            yield
        finally:
            self.kept.witnesses = witnesses

    async def fsck(self, peers: Peers) -> Fsck:
        """Tessera's verdict, over HTTP."""
        return await asyncio.to_thread(peers.fsck, self.url, self.vkey)

    async def verify(self, *options: object, kept: bool = True) -> Verdict:
        """`dossier-verify log`, over HTTP; with the kept checkpoint, unless it is told to do without."""
        command = [VERIFIER, "log", self.url, "--vkey", self.vkey, "--json"]
        command += ["--checkpoint", self.checkpoint] if kept else []
        process = await asyncio.create_subprocess_exec(
            *map(str, (*command, *options)), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await process.communicate()
        assert process.returncode is not None
        assert err == b"", err.decode()
        return Verdict(process.returncode, json.loads(out))


def copied(cluster: Cluster, name: str) -> None:
    """Copies the audit service's database; whoever is connected to it connects anew."""
    cluster.postgres.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'dossier_audit'")
    cluster.postgres.psql(f"CREATE DATABASE {name} TEMPLATE dossier_audit")


@pytest.fixture(scope="session")
def own_cluster() -> Iterator[Cluster]:
    with servers.temporary() as running_servers:
        copied(running_servers, PRISTINE)
        yield running_servers


@pytest.fixture(scope="session")
def peers() -> Peers:
    return programs.built()


@pytest.fixture(scope="session")
async def whole_scene(own_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    folder, copies = tmp_path_factory.mktemp("auditor"), tmp_path_factory.mktemp("copies")
    async with world(own_cluster, copies) as kept, witnessed(kept, folder):
        gate = Gate(kept.app, kept)
        async with listening(gate) as (_, port):
            await shown(kept, KEPT - 1)
            await asking(kept).once()
            checkpoint = (await kept.get("/v1/audit/log/checkpoint")).text
            copied(own_cluster, EARLIER)
            await shown(kept, SIZE - KEPT)
            await asking(kept).once()
            copy = (copies / "log-1.checkpoint").read_text()
            scene = Scene(kept, gate, f"http://127.0.0.1:{port}/v1/audit/log", folder, copy)
            scene.checkpoint.write_text(checkpoint)
            saved = await scene.verify("--save", scene.mirror)
            assert saved.exit == 0, saved.said
            copied(own_cluster, WHOLE)
            yield scene


@pytest.fixture
def scene(whole_scene: Scene) -> Scene:
    """The log as it was before anybody touched it."""
    whole_scene.restore()
    return whole_scene


@pytest.fixture
async def attacker(scene: Scene) -> AsyncIterator[Superuser]:
    async with superuser(scene.kept.cluster) as found:
        yield found
