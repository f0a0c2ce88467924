"""A stack that runs elsewhere, behind TLS: the demo organisation and the story see it as they see one of the launcher.

In its folder the operator has put what he alone has: `ceremony.json`, which `dossier ceremony --json` printed for the
officers of the demo, and `witnesses.json`, the witnesses that the audit part was told.
"""

import json
import shlex
import ssl
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from dossier_local.people import OFFICERS
from dossier_local.state import LauncherError, State, write_private

CEREMONY: Final = "ceremony.json"
WITNESSES: Final = "witnesses.json"
PSQL: Final = ("-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1")


@dataclass(frozen=True)
class Elsewhere:
    """A gateway, whose certificate `ca` verifies, and the folder of what is known of it here.

    `psql` is how its database is reached: a command to which psql's arguments are added.
    """

    state: State
    base_url: str
    ca: Path
    psql: str
    say: Callable[[str], None]

    @cached_property
    def tls(self) -> ssl.SSLContext:
        """What verifies the gateway. Raises LauncherError for a file without certificates."""
        try:
            return ssl.create_default_context(cafile=self.ca)
        except (OSError, ssl.SSLError) as error:
            raise LauncherError(f"{self.ca} has no certificates to verify the gateway by.") from error

    def prepare(self) -> None:
        """The folder has what is needed. Raises LauncherError, which names what is not there."""
        self.state.make()
        for name in (CEREMONY, WITNESSES):
            if not (self.state.folder / name).is_file():
                raise LauncherError(f"{self.state.folder} has no {name}: see `story --help`.")
        if not shlex.split(self.psql):
            raise LauncherError("--psql names no command.")

    def ceremony(self, _arguments: Sequence[str]) -> bytes:
        """What the operator's ceremony printed. Raises LauncherError where it was held for other officers."""
        path = self.state.folder / CEREMONY
        content = path.read_bytes()
        try:
            held = {each["role"]: each["username"] for each in json.loads(content)["officers"]}
        except (ValueError, LookupError, TypeError) as error:
            raise LauncherError(f"{path} is not what `dossier ceremony --json` prints.") from error
        wanted = {role: username for role, (username, _) in OFFICERS.items()}
        if held != wanted:
            raise LauncherError(f"{path}: the story is told with the officers {', '.join(wanted.values())}.")
        return content

    def sql(self, script: str, database: str, role: str) -> str:
        """Runs a script there as this role, and returns what it printed. Raises LauncherError with psql's words."""
        command = (*shlex.split(self.psql), *PSQL, "--username", role, "--dbname", database)
        try:
            done = subprocess.run(command, input=script, text=True, capture_output=True, check=False)
        except OSError as error:
            raise LauncherError(f"{command[0]} cannot be run: {error.strerror}.") from error
        if done.returncode != 0:
            raise LauncherError(f"The database refused a step of the story: {done.stderr.strip()}")
        return done.stdout

    def write_demo(self, organisation: dict[str, Any]) -> None:
        """Writes `demo.json` (mode 0600): base URL, and what the organisation brings."""
        content = {"base_url": self.base_url} | organisation
        write_private(self.state.demo_file, json.dumps(content, ensure_ascii=False, indent=2).encode())
