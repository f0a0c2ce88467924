"""The Docker Engine that is there, and one deployment by compose on it, made as its README says."""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

from tests.docs.blocks import Block, blocks, missing

from dossier_common.topology import PARTS
from dossier_local import keys, witness
from dossier_local.state import CHECKOUT

PATIENCE: Final = 300.0
PROCESSES: Final = (*PARTS, *(f"{part}-worker" for part in PARTS))
IMAGE: Final = "dossier-under-test"
COPIED: Final = ("libs", "gateway", "services", "deploy", "docs", "Makefile", "pyproject.toml", "requirements.lock")
SHIM: Final = """#!/bin/bash
if [ "$1" = compose ] && ! "{docker}" compose version >/dev/null 2>&1; then shift; exec docker-compose "$@"; fi
exec "{docker}" "$@"
"""
"""`docker` as the README writes it, where compose is a program of its own (1.29)."""


class Step(IntEnum):
    """Blocks of the README, in order."""

    BUILD = 0
    SECRETS = 1
    START = 2
    CEREMONY = 3
    LOOK = 4
    AGAIN = 5
    RENEW = 6
    ROTATE = 7
    OBSERVE = 8


def why_not() -> str | None:
    """Why there is no engine to test with, in one line."""
    if shutil.which("docker") is None:
        return 'these tests need a Docker Engine: `eval "$(.ci/engine up)"` starts one'
    if _ran(("docker", "info"), check=False).returncode:
        return 'these tests need a Docker Engine, and none answers: `eval "$(.ci/engine up)"` starts one'
    if _ran(("docker", "compose", "version"), check=False).returncode and shutil.which("docker-compose") is None:
        return "these tests need docker-compose, or docker with compose"
    return None


def _ran(
    command: Sequence[str], *, check: bool = True, timeout: float = PATIENCE, **options: Any
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, **options)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done


def docker(*arguments: str, check: bool = True, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """One command of docker, and what it said."""
    return _ran(("docker", *arguments), check=check, input=stdin)


def until(found: Callable[[], bool], what: str) -> None:
    """Returns as soon as it is found; fails when that takes too long."""
    end = time.monotonic() + PATIENCE
    while not found():
        assert time.monotonic() < end, f"not within {PATIENCE:.0f} s: {what}"
        time.sleep(0.5)


def free_port() -> int:
    """A port of this machine on which nothing listens."""
    with socket.socket() as listener:
        listener.bind(("", 0))
        port: int = listener.getsockname()[1]
        return port


@dataclass
class Deployment:
    """A deployment in a copy of the checkout."""

    folder: Path
    port: int
    project: str
    variables: Mapping[str, str]
    seconds_to_ready: float = 0

    @property
    def compose_folder(self) -> Path:
        return self.folder / "deploy" / "compose"

    @property
    def state(self) -> Path:
        return self.folder / "story"

    @property
    def ca(self) -> Path:
        return self.compose_folder / "certificates" / "ca.pem"

    @property
    def base_url(self) -> str:
        return f"https://localhost:{self.port}"

    def secret(self, name: str) -> Path:
        return self.compose_folder / "secrets" / name

    def environment(self) -> dict[str, str]:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "DOSSIER_"))
        }
        wide = {"COLUMNS": "999"}  # a table whose cells are broken says no name
        return {**inherited, **self.variables, **wide, "PATH": f"{self.folder / 'shim'}:{inherited['PATH']}"}

    def run(self, block: Block, *, seconds: float = 900) -> str:
        """What a block of the README printed, in the folder where its reader is by then. Fails when it failed.

        Raises TimeoutExpired after so many seconds.
        """
        text = block.text.replace("localhost:8443", f"localhost:{self.port}")
        # Codes go to a terminal alone, and there is none here: the one thing that is asked for otherwise.
        text = text.replace("run --rm ceremony", "run --rm -T ceremony --json")
        said = self.type(text, seconds=seconds)
        lacking = list(missing(block, said))
        assert not lacking, f"{block.place} lacks {lacking}:\n{said}"
        return said

    def type(self, text: str, *, seconds: float = 900) -> str:
        """What commands print, in the folder where the README's reader is by then. Fails when one of them failed."""
        where = self.folder / "where"
        script = f'set -eo pipefail\ncd "$(cat "{where}")"\n{text}\npwd >"{where}"\n'
        done = subprocess.run(
            ("bash", "-c", script),
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, f"{text}\nfailed:\n{done.stdout}\n{done.stderr}\n{self.logs()}"
        return done.stdout

    def compose(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return _ran(("docker", "compose", *arguments), check=check, cwd=self.compose_folder, env=self.environment())

    def logs(self) -> str:
        return self.compose("logs", "--no-color", "--tail", "15", check=False).stdout[-12000:]

    def containers(self) -> dict[str, str]:
        """Service → id of its container. (Asking the engine itself is much quicker than asking compose.)"""
        wanted = f"label=com.docker.compose.project={self.project}"
        lines = '{{.Label "com.docker.compose.service"}} {{.ID}}'
        said = docker("ps", "--all", "--filter", wanted, "--format", lines).stdout
        return dict(line.split() for line in said.splitlines())

    def inspected(self) -> dict[str, dict[str, Any]]:
        """Service → what the engine knows of its container."""
        there = self.containers()
        return dict(zip(there, json.loads(docker("inspect", *there.values()).stdout), strict=True))

    def health(self) -> dict[str, str]:
        """Service → `healthy`, another state of its health, or that of its container."""
        states = {service: each["State"] for service, each in self.inspected().items()}
        return {
            service: state["Health"]["Status"] if state["Running"] and "Health" in state else state["Status"]
            for service, state in states.items()
        }

    def until_healthy(self) -> None:
        """All processes of the parts."""

        def healthy() -> bool:
            found = self.health()
            return all(found.get(service) == "healthy" for service in PROCESSES)

        until(healthy, "all processes are healthy")

    def network(self, name: str) -> str:
        return f"{self.project}_{name}"

    def python(self, network: str, program: str, *certificates: str) -> subprocess.CompletedProcess[str]:
        """Runs a program in a container of the image on one of the networks, with the CA and these certificates."""
        files = ["ca.pem", *(f"{name}{kind}" for name in certificates for kind in (".pem", "-key.pem"))]
        mounted = [f"--volume={self.ca.with_name(name)}:/run/{name}:ro" for name in files]
        return docker(
            *("run", "--rm", "--interactive", "--read-only", "--cap-drop=ALL", "--no-healthcheck"),
            *(f"--network={self.network(network)}", *mounted, "--entrypoint=python", IMAGE, "-W", "ignore", "-"),
            stdin=program,
            check=False,
        )


def document() -> list[Block]:
    """The blocks of the README that a reader runs, one for each step."""
    return blocks(CHECKOUT / "deploy" / "compose" / "README.md")


@contextmanager
def witnessing(folder: Path, log_vkey: Path, address: str) -> Iterator[Callable[[], None]]:
    """A witness on this machine, as one elsewhere: gives what starts it once the log's key is there."""
    running: list[subprocess.Popen[bytes]] = []
    port = free_port()
    config = folder / "witness.toml"

    def configured(vkey: str) -> None:
        lines = (f'name = "{witness.NAME}"', 'key_file = "key.pem"', 'state = "state.sqlite"')
        logs = ("", "[[logs]]", f"vkey = {json.dumps(vkey)}", "")
        config.write_text("\n".join((*lines, f'listen = "{address}:{port}"', *logs)))

    configured(keys.vkey("not.yet/known", keys.ED25519, bytes(32)))
    _ran((*witness.COMMAND, "keygen", "--config", str(config)))
    public = keys.public_bytes(folder / "key.pem")
    known = [{"url": f"http://{address}:{port}", "vkey": keys.vkey(witness.NAME, keys.COSIGNATURE, public)}]
    (folder / "witnesses.json").write_text(json.dumps(known))

    def start() -> None:
        configured(log_vkey.read_text().strip())
        with (folder / "witness.log").open("wb") as log:
            command = (*witness.COMMAND, "run", "--config", str(config))
            running.append(subprocess.Popen(command, cwd=folder, stdout=log, stderr=log))

    try:
        yield start
    finally:
        for process in running:
            process.terminate()
            process.wait(PATIENCE)
