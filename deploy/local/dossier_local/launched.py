"""The launcher in a process of its own, seen from outside: for `up --detach`, and for tests of the full stack."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from signal import SIGTERM
from typing import Any, Final

from dossier_local.processes import guard
from dossier_local.state import LauncherError, State, open_private

START_SECONDS: Final = 180
STOP_SECONDS: Final = 120


@dataclass(frozen=True)
class RunningStack:
    """A full stack that runs elsewhere."""

    state: State
    base_url: str
    ports: dict[str, int]
    demo: dict[str, Any]
    """Content of `demo.json`: accounts and clients, when there is a demo organisation."""


def launch(state: State, *, bare: bool, bound: bool) -> "subprocess.Popen[bytes]":
    """Starts `up` in this state folder and returns when all is ready; its output is in `log/launcher.log`.

    When `bound`, it stops when this process ends. Raises LauncherError with what the launcher said.
    """
    state.make()
    log = state.logs / "launcher.log"
    log.unlink(missing_ok=True)
    with open_private(log) as output:
        launcher = subprocess.Popen(
            (
                *(guard(SIGTERM) if bound else ()),
                *(sys.executable, "-P", "-m", "dossier_local", "up"),
                *(("--bare",) if bare else ()),
            ),
            env=os.environ | {"DOSSIER_STATE": str(state.folder)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    until = time.monotonic() + START_SECONDS
    while not state.is_ready(launcher.pid):
        if launcher.poll() is not None or time.monotonic() > until:
            launcher.terminate()
            launcher.wait()
            raise LauncherError(log.read_text().strip() or "The launcher ended without a word.")
        time.sleep(0.05)
    return launcher


@contextmanager
def launched(state: State, *, bare: bool = False) -> Iterator[RunningStack]:
    """A full stack for as long as the context lasts. Raises LauncherError."""
    launcher = launch(state, bare=bare, bound=True)
    try:
        ready = state.ready()
        yield RunningStack(state, ready["base_url"], ready["ports"], json.loads(state.demo_file.read_text()))
    finally:
        launcher.send_signal(SIGTERM)
        launcher.wait(STOP_SECONDS)
