"""The operators' page of backup and restore as it stands, on a stack of its own: what it says to remove is removed."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.docs.blocks import blocks, missing, run

from dossier_local.cluster import temporary_state
from dossier_local.postgres import Postgres
from dossier_local.state import CHECKOUT, State

PAGE = CHECKOUT / "docs" / "operators" / "backup.md"
SECONDS = 600


def _launcher(state: State, *command: str) -> None:
    subprocess.run(
        (sys.executable, "-P", "-m", "dossier_local", *command),
        env=os.environ | {"DOSSIER_STATE": str(state.folder)},
        stdin=subprocess.DEVNULL,
        check=True,
    )


@pytest.fixture
def state() -> Iterator[State]:
    """A stack without an organisation; the page stops and starts it."""
    with temporary_state() as made:
        try:
            _launcher(made, "up", "--detach", "--bare")
            yield made
        finally:
            _launcher(made, "down")


@pytest.mark.timeout(2 * SECONDS)
def test_what_was_backed_up_is_there_after_the_loss_of_databases_and_nats(state: State, tmp_path: Path) -> None:
    if not (CHECKOUT / ".venv" / ".installed").exists():
        pytest.skip("the commands need an environment that `make setup` has made")
    Postgres(state).psql("CREATE TABLE kept AS SELECT generate_series(1, 7)", "dossier_records")
    document = blocks(PAGE)
    said = run(document, state.folder, tmp_path, seconds=SECONDS)
    for block, output in zip(document, said, strict=False):
        assert list(missing(block, output)) == [], f"{block.place}:\n{output}"
    assert len(said) == len(document) + 1, f"{document[len(said) - 1].place} failed:\n{said[-1]}"
    assert Postgres(state).psql("SELECT count(*) FROM kept", "dossier_records").strip() == "7"
