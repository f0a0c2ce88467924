"""Running the verifier as its user does: by its command line, in this process."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.verifier.writer import Log
from typer.testing import CliRunner

from dossier_verify.main import app


@dataclass(frozen=True)
class Ran:
    """What a run of the command came to."""

    code: int
    out: str
    err: str

    @property
    def told(self) -> dict[str, Any]:
        said = json.loads(self.out)
        assert isinstance(said, dict)
        assert said["exit"] == self.code
        return said

    @property
    def kinds(self) -> list[str]:
        return [finding["kind"] for finding in self.told["findings"]]

    @property
    def first(self) -> dict[str, Any]:
        finding = self.told["findings"][0]
        assert isinstance(finding, dict)
        return finding


Run = Callable[..., Ran]


def run_command(*words: object) -> Ran:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return Ran(result.exit_code, result.stdout, result.stderr)


@pytest.fixture
def run() -> Run:
    return run_command


@pytest.fixture(scope="session")
def log() -> Log:
    """A log of three full bundles and a partial one."""
    return Log().open().fill(3 * 256 + 100)


@pytest.fixture
def folder(log: Log, tmp_path: Path) -> Path:
    return log.write(tmp_path / "log", bodies=True)


@pytest.fixture
def verified(run: Run, log: Log) -> Callable[..., Ran]:
    """Runs `log` with the key of the fixture's log, in JSON."""

    def verify(target: object, *more: object) -> Ran:
        return run("log", target, "--vkey", log.key.vkey, "--json", *more)

    return verify
