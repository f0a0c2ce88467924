"""Runs the migrations of all parts at once, each as `<part>_migrator`."""

import hashlib
import json
import signal
import subprocess
import sys
from enum import StrEnum
from types import TracebackType
from typing import Self

from dossier_cli.home import part_folder
from dossier_common import migrator
from dossier_common.topology import PARTS
from dossier_local.postgres import Postgres
from dossier_local.processes import guard
from dossier_local.state import LauncherError, State, open_private, write_private


class Action(StrEnum):
    """What is done to each database."""

    UPGRADE = "upgrade"
    CHECK = "check"


class Migrations:
    """A process that has imported Alembic by the time that PostgreSQL takes connections.

    Leaving the context ends it. What it prints goes to `log/migrations.log`.
    """

    def __init__(self, state: State, action: Action = Action.UPGRADE) -> None:
        self._state, self._action = state, action
        self._log = state.logs / "migrations.log"
        with open_private(self._log) as log:
            self._popen = subprocess.Popen(
                (*guard(signal.SIGTERM), sys.executable, "-P", "-m", "dossier_local.migrate", action),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._popen.poll() is None:
            self._popen.terminate()
        self._popen.communicate()

    def run(self, postgres: Postgres) -> None:
        """Brings the databases to the newest revision, or checks that the models ask for no other.

        Raises LauncherError that names the log.
        """
        jobs = {part: environment(postgres, part) for part in migrated()}
        self._popen.communicate(json.dumps(jobs).encode())
        if self._popen.returncode != 0:
            last = [line for line in self._log.read_text().splitlines() if line.strip()][-3:]
            raise LauncherError(f"Migrations failed ({self._log}): {' / '.join(last)}")


def environment(postgres: Postgres, part: str) -> dict[str, str]:
    """The variables by which steps that change the schema find the part's database."""
    return {
        migrator.url_variable(part): postgres.url(part, "migrator"),
        migrator.password_variable(part): str(postgres.password_file(part, "migrator")),
    }


def migrated() -> tuple[str, ...]:
    """The parts that keep tables."""
    return tuple(part for part in PARTS if (part_folder(part) / "migrations" / "env.py").is_file())


def upgrade(postgres: Postgres, waiting: Migrations | None) -> None:
    """Migrates what is not at its newest revision; `waiting` comes from `needed` and is used up."""
    if waiting is not None:
        waiting.run(postgres)
        write_private(postgres.migrated_file, json.dumps(_digest()).encode())


def needed(postgres: Postgres) -> bool:
    """Whether the migrations differ from those that this data folder has seen."""
    path = postgres.migrated_file
    return not path.exists() or json.loads(path.read_text()) != _digest()


def _digest() -> str:
    digest = hashlib.sha256()
    for part in migrated():
        for path in sorted((part_folder(part) / "migrations").rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()
