"""The witness as the program that it is, in a process of its own."""

import hashlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from tests.witness.logbook import ORIGIN, WITNESS

COMMAND = (sys.executable, "-P", "-m", "dossier_witness")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


def configure(folder: Path, *vkeys: str, port: int | None = None, file: str = "witness.toml") -> Path:
    """A configuration for these logs, on a port that is free now."""
    lines = [
        f'name = "{WITNESS}"',
        'key_file = "key.pem"',
        'state = "state.sqlite"',
        f'listen = "127.0.0.1:{port or free_port()}"',
    ]
    for vkey in vkeys:
        lines += ["[[logs]]", f'vkey = "{vkey}"']
    path = folder / file
    path.write_text("\n".join(lines) + "\n")
    return path


def command(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run((*COMMAND, *words), capture_output=True, text=True, timeout=60, check=False)


def keygen(config: Path) -> str:
    """The vkey of the new witness."""
    made = command("keygen", "--config", str(config))
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


class Running:
    """A witness that answers."""

    def __init__(self, config: Path) -> None:
        port = next(line for line in config.read_text().splitlines() if "listen" in line).rpartition(":")[2].strip('"')
        self._log = config.with_suffix(".log")
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, verify=False, timeout=20)
        with self._log.open("ab") as log:
            self.process = subprocess.Popen((*COMMAND, "run", "--config", str(config)), stderr=log)

    def until_ready(self, seconds: float = 30) -> None:
        until = time.monotonic() + seconds
        while True:
            assert self.process.poll() is None, self._log.read_text()
            assert time.monotonic() < until, self._log.read_text()
            try:
                if self.http.get("/healthz").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.02)

    def post(self, body: bytes) -> httpx.Response:
        return self.http.post("/add-checkpoint", content=body)

    def shown(self) -> str:
        """The checkpoint that it holds of the log of these tests."""
        return self.http.get(f"/logs/{hashlib.sha256(ORIGIN.encode()).hexdigest()}/checkpoint").text

    def said(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self._log.read_text().splitlines()]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


@contextmanager
def running(config: Path) -> Iterator[Running]:
    witness = Running(config)
    try:
        witness.until_ready()
        yield witness
    finally:
        if witness.process.poll() is None:
            witness.process.send_signal(signal.SIGTERM)
        witness.process.wait(20)
        witness.http.close()
