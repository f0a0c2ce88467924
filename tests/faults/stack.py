"""A stack under fault: a launcher of its own, and, where the harness may mount, disks that can be made full."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGTERM
from typing import Any, Final

from tests.faults.folder import Folder

from dossier_local.cluster import temporary_state
from dossier_local.postgres import Postgres
from dossier_local.processes import clean_up, guard
from dossier_local.state import CHECKOUT, LauncherError, State, open_private

START_SECONDS: Final = 180
STOP_SECONDS: Final = 120
TRIES: Final = 50
ROOM: Final = 24 << 30
"""Bytes that a disk of the harness may take: JetStream refuses streams for which there would be no room."""


@dataclass(frozen=True)
class Disk:
    """A tmpfs at the place of a server's data. Nothing of it outlives the harness."""

    place: Path

    def mount(self) -> None:
        _run("mount", "-t", "tmpfs", "-o", f"size={ROOM},mode=700", "tmpfs", str(self.place))

    def unmount(self) -> None:
        _run("umount", "--lazy", str(self.place))

    def fill(self) -> None:
        """Takes the room that is left: what is stored stays, and nothing more can be. Raises OSError.

        A size that is too small by the time it is asked for, since something was stored meanwhile, is refused.
        """
        for _ in range(TRIES):
            room = os.statvfs(self.place)
            used = (room.f_blocks - room.f_bfree) * room.f_frsize
            with suppress(subprocess.CalledProcessError):
                self._resize(max(used, room.f_frsize))
                return
        raise OSError(f"{self.place} cannot be made full")

    def free(self) -> None:
        self._resize(ROOM)

    def _resize(self, size: int) -> None:
        _run("mount", "-o", f"remount,size={size}", str(self.place))


def may_mount() -> str | None:
    """Nothing, or the reason why no disk can be mounted here."""
    if sys.platform != "linux":
        return "disks are made full as tmpfs of Linux"
    if os.geteuid() != 0:
        return "only root may mount a disk that can be made full"
    return None


@dataclass(frozen=True)
class Stack:
    """A running stack, seen from outside."""

    state: State
    postgres: Postgres
    launcher: int
    base_url: str
    ports: dict[str, int]
    demo: dict[str, Any]
    folder: Folder
    disks: dict[str, Disk] = field(default_factory=dict)
    """By the name of the server's process; empty where the harness may not mount."""


@contextmanager
def started() -> Iterator[Stack]:
    """A fresh stack under fault; all of it is gone when the context is left. Raises LauncherError."""
    with temporary_state() as state, ExitStack() as undo:
        disks = _disks(state, undo) if may_mount() is None else {}
        undo.callback(lambda: clean_up(state, Postgres(state).data))
        launcher = _launch(state)
        undo.callback(_stop, launcher)
        ready = state.ready()
        demo = json.loads(state.demo_file.read_text())
        folder = Folder(state.folder / "faults")
        yield Stack(state, Postgres(state), launcher.pid, ready["base_url"], ready["ports"], demo, folder, disks)


def _disks(state: State, undo: ExitStack) -> dict[str, Disk]:
    """Both servers' data on disks of their own: PostgreSQL's is made first, and moved there."""
    with state.lock():
        postgres = Postgres(state)
        postgres.start(sync=False).stop()
    (state.nats / "jetstream").mkdir(mode=0o700)
    disks = {"nats": Disk(state.nats / "jetstream"), "postgres": Disk(postgres.data)}
    made = postgres.data.with_name("made")
    postgres.data.rename(made)
    postgres.data.mkdir()
    for disk in disks.values():
        disk.mount()
        undo.callback(disk.unmount)
    _run("cp", "-a", f"{made}/.", str(postgres.data))
    shutil.rmtree(made)
    return disks


def _launch(state: State) -> "subprocess.Popen[bytes]":
    log = state.logs / "launcher.log"
    path = [str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])]
    with open_private(log) as output:
        launcher = subprocess.Popen(
            (*guard(SIGTERM), sys.executable, "-P", "-m", "tests.faults.launch"),
            env=os.environ | {"DOSSIER_STATE": str(state.folder), "PYTHONPATH": os.pathsep.join(path)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    until = time.monotonic() + START_SECONDS
    while not state.is_ready(launcher.pid):
        if launcher.poll() is not None or time.monotonic() > until:
            _stop(launcher)
            raise LauncherError(log.read_text().strip() or "The launcher ended without a word.")
        time.sleep(0.05)
    return launcher


def _stop(launcher: "subprocess.Popen[bytes]") -> None:
    launcher.send_signal(SIGTERM)
    launcher.wait(STOP_SECONDS)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
