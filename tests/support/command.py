"""The `dossier` command, called in this process: its exit status and what it said."""

import io
import os
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from unittest.mock import patch

from dossier_cli.main import app
from dossier_common.topology import PARTS
from dossier_local import migrations
from dossier_local.postgres import Postgres


@dataclass(frozen=True)
class Said:
    """What one call of the command came to."""

    status: int
    out: str
    err: str

    def refusal(self) -> str:
        """The one line of a refusal. Fails where the command did not refuse, or said more."""
        assert self.status == 1, self
        lines = self.err.splitlines()
        assert len(lines) == 1, lines
        assert "Traceback" not in self.err
        return lines[0]

    def success(self) -> str:
        """What was printed. Fails where the command did not succeed, or complained."""
        assert (self.status, self.err) == (0, ""), self
        return self.out


def dossier(*arguments: str, **variables: str) -> Said:
    """`dossier ARGUMENTS` with these variables on top of those that are not Dossier's own."""
    return called(arguments, variables)


def called(arguments: tuple[str, ...], variables: Mapping[str, str]) -> Said:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DOSSIER_")}
    out, err = io.StringIO(), io.StringIO()
    status: object = 0
    with (
        patch.dict(os.environ, {**inherited, **variables}, clear=True),
        patch.object(sys, "argv", ["dossier", *arguments]),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            app()
        except SystemExit as ended:
            status = ended.code or 0
    if not isinstance(status, int):  # as the interpreter does at the end
        err.write(f"{status}\n")
        status = 1
    return Said(status, out.getvalue(), err.getvalue())


def variables(postgres: Postgres) -> dict[str, str]:
    """What `dossier roles` and `dossier migrate` find in their environment."""
    found = {
        "DOSSIER_POSTGRES_URL": f"postgresql://postgres@/postgres?host={postgres.sockets}",
        "DOSSIER_POSTGRES_PASSWORD_FILE": str(postgres.state.secrets / "postgres-superuser"),
        "DOSSIER_SECRETS_DIR": str(postgres.state.secrets),
    }
    for part in PARTS:
        found |= migrations.environment(postgres, part)
    return found
