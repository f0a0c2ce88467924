"""The state folder: what outlives a run, and the lock that lets one launcher at a time use it."""

import fcntl
import json
import os
import secrets
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import SystemRandom
from typing import Any, BinaryIO, Final

CHECKOUT: Final = Path(__file__).resolve().parents[3]
DEFAULT_PORT: Final = 8000
INTERNAL_PORTS: Final = range(20000, 32000)
"""Below the range from which systems take the ports of outgoing connections."""


class LauncherError(Exception):
    """Something that the person at the terminal has to know or mend; its text is one sentence for them."""


class State:
    """A state folder (`.dossier/`, or DOSSIER_STATE) and the places in it.

    Only the folder of PostgreSQL belongs to another user when the launcher runs as root; that user must pass through
    the state folder, and can list nothing in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.secrets = self.folder / "secrets"
        self.logs = self.folder / "log"
        self.run = self.folder / "run"
        self.nats = self.folder / "nats"
        self.keyring = self.folder / "keyring"
        self.supplements = self.folder / "supplements"
        self.checkpoints = self.folder / "checkpoints"
        self.witness = self.folder / "witness"
        self.auditor = self.folder / "auditor"
        """What the auditor of the story keeps; made by the demo alone."""
        self.temporary = self.folder / "tmp"
        self.postgres = self.folder / "postgres"
        self.demo_file = self.folder / "demo.json"
        self.ready_file = self.run / "ready.json"

    @classmethod
    def chosen(cls) -> "State":
        """The folder that DOSSIER_STATE names, or `.dossier/` of this checkout."""
        named = os.environ.get("DOSSIER_STATE")
        return cls(Path(named) if named else CHECKOUT / ".dossier")

    def make(self) -> None:
        """Creates the folders. Raises LauncherError where that is not allowed."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
            for folder in (
                self.secrets,
                self.logs,
                self.run,
                self.nats,
                self.keyring,
                self.supplements,
                self.checkpoints,
                self.witness,
                self.temporary,
            ):
                folder.mkdir(exist_ok=True)
                folder.chmod(0o700)
        except OSError as error:
            raise LauncherError(f"The state folder {self.folder} cannot be used: {error.strerror}.") from error

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the folder for this process alone. Raises LauncherError when another launcher has it."""
        self.make()
        path = self.run / "lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise LauncherError(self._taken()) from error
            os.ftruncate(descriptor, 0)
            os.write(descriptor, str(os.getpid()).encode())
            yield
            os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)

    def holder(self) -> int | None:
        """Process of the launcher that holds the folder now, or nothing."""
        path = self.run / "lock"
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = path.read_text()
            return int(text) if text else None
        finally:
            os.close(descriptor)
        return None

    def _taken(self) -> str:
        ready = self._ready()
        where = f" at {ready['base_url']}" if ready else ""
        return (
            f"Dossier already runs from {self.folder} (process {self.holder()}){where}: stop it with Ctrl-C there, or "
            "choose another folder with DOSSIER_STATE."
        )

    def ready(self) -> dict[str, Any]:
        """What the running launcher wrote when all parts were ready. Raises LauncherError when it is not there."""
        content = self._ready()
        if content is None:
            raise LauncherError(f"Nothing is ready in {self.folder}: `make up` starts it.")
        return content

    def is_ready(self, launcher: int) -> bool:
        """Whether this launcher has said that all parts are ready."""
        content = self._ready()
        return content is not None and content["pid"] == launcher

    def _ready(self) -> dict[str, Any] | None:
        try:
            content: dict[str, Any] = json.loads(self.ready_file.read_text())
        except FileNotFoundError:
            return None
        # A killed launcher leaves its file behind.
        return content if content["pid"] == self.holder() else None

    def secret(self, name: str, make: Callable[[], bytes] = lambda: secrets.token_urlsafe(32).encode()) -> Path:
        """The file of this secret, mode 0600, made when first asked for."""
        path = self.secrets / name
        if not path.exists():
            write_private(path, make())
        return path

    def read_secret(self, name: str) -> str:
        """The secret itself, made when first asked for."""
        return self.secret(name).read_text().strip()


def open_private(path: Path) -> BinaryIO:
    """A file of mode 0600, opened to append: logs."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "ab")


def write_private(path: Path, content: bytes) -> None:
    """Writes a file of mode 0600, whole or not at all."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def is_free(port: int) -> bool:
    """Whether nobody listens on this port of the loopback address."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as caller:
        # Some systems let a specific address be bound beside a listener on all of them.
        caller.settimeout(1)
        return caller.connect_ex(("127.0.0.1", port)) != 0


_RESERVED: dict[int, int] = {}


def reserve(port: int) -> bool:
    """Takes the port for this process among all launchers of this machine: a free port is not yet one's own.

    The reservation is a lock on a file in the folder for temporary files; it ends with the process.
    """
    if port in _RESERVED:
        return True
    path = Path(tempfile.gettempdir()) / f"dossier-port-{port}"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    _RESERVED[port] = descriptor
    return True


def public_port(state: State, wanted: int | None) -> tuple[int, str | None]:
    """The gateway's port, and what has to be said about it.

    The first start takes the wanted port (8000) or the next free one, and the folder keeps it, since the issuer and the
    redirect addresses depend on it. When the kept one is busy, this run alone steps over it.
    """
    path = state.folder / "port"
    kept = int(path.read_text()) if path.exists() else None
    first = wanted or kept or DEFAULT_PORT
    port = next((port for port in range(first, min(first + 200, 65536)) if is_free(port) and reserve(port)), None)
    if port is None:
        raise LauncherError(f"No port from {first} on is free; choose one with DOSSIER_PORT.")
    if kept is None or (wanted is not None and wanted != kept and port == wanted):
        path.write_text(f"{port}\n")
    if port != first:
        since = "" if kept is None else f" (this run only: the issuer stays bound to port {kept} in this folder)"
        return port, f"Port {first} is busy, so the gateway listens on {port}{since}."
    if kept is not None and port != kept:
        return port, f"The port changes from {kept} to {port}; sign-ins and tokens of the old address end."
    return port, None


def internal_ports(state: State, names: tuple[str, ...]) -> dict[str, int]:
    """A free port for each name: those of the last run where they are still free."""
    path = state.run / "ports.json"
    kept: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}
    ports: dict[str, int] = {}
    for name in names:
        port = kept.get(name)
        while port is None or port in ports.values() or not is_free(port):
            port = SystemRandom().choice(INTERNAL_PORTS)
        ports[name] = port
    write_private(path, json.dumps(ports).encode())
    return ports
