"""What tests of all parts stand on: real servers, with the real roles and permissions."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from signal import SIGTERM
from typing import Any

import pytest

from dossier_local import cluster as servers
from dossier_local.cluster import Cluster, temporary_state
from dossier_local.processes import guard
from dossier_local.state import State


@dataclass(frozen=True)
class RunningStack:
    """A full stack that the launcher runs in a process of its own, as `make up` would."""

    state: State
    base_url: str
    ports: dict[str, int]
    demo: dict[str, Any]
    """Content of `demo.json`: accounts and clients, when there is a demo organisation."""


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in this hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker of xdist runs all tests of the full stack, so that it is started once."""
    for item in items:
        if "stack" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("stack"))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """PostgreSQL and NATS with databases, roles, migrations and streams; no part runs."""
    with servers.temporary() as running:
        yield running


@pytest.fixture(scope="session")
def stack() -> Iterator[RunningStack]:
    """All parts, with the demo organisation; stopped in order at the end."""
    with temporary_state() as state, launched(state) as running:
        yield running


@contextmanager
def launched(state: State) -> Iterator[RunningStack]:
    """`up` in this state folder until the context is left; its output is in `log/launcher.log`."""
    bare = () if find_spec("dossier_local.organisation") else ("--bare",)
    command = (*guard(SIGTERM), sys.executable, "-P", "-m", "dossier_local", "up", *bare)
    log = state.logs / "launcher.log"
    with log.open("wb") as output:
        launcher = subprocess.Popen(
            command,
            env=os.environ | {"DOSSIER_STATE": str(state.folder)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + 120
        while not state.ready_file.exists():
            if launcher.poll() is not None or time.monotonic() > until:
                pytest.fail(f"The stack did not start: {log.read_text()}")
            time.sleep(0.05)
        ready = state.ready()
        yield RunningStack(state, ready["base_url"], ready["ports"], json.loads(state.demo_file.read_text()))
    finally:
        launcher.send_signal(SIGTERM)
        launcher.wait(120)
