"""The state file: what any number of requests, threads and restarts do to it, no two cosignatures contradict."""

import shutil
import sqlite3
import stat
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, rule
from tests.witness.conftest import Bench
from tests.witness.logbook import ORIGIN, WITNESS, Log, LogKey, leaf, request

from dossier_witness.note import Cosigner, Verifier
from dossier_witness.store import Cosigned, StateUnusable, Store
from dossier_witness.witness import Answer, Witness

KEY = LogKey()
LEAVES = tuple(map(leaf, range(24)))
sizes = st.integers(0, len(LEAVES))


class DishonestLog(RuleBasedStateMachine):
    """A log that signs whatever it likes, against a witness that is stopped and started again in between."""

    branches = Bundle("branches")

    @initialize(target=branches)
    def begin(self) -> Log:
        self.folder = Path(tempfile.mkdtemp(prefix="dossier-witness-"))
        self.cosigner = Cosigner(WITNESS, Ed25519PrivateKey.generate())
        Store.create(self.folder / "state.sqlite", self.cosigner.vkey)
        self.store = Store.open(self.folder / "state.sqlite")
        self.now = 1_800_000_000
        self.held: tuple[bytes, ...] = ()
        return Log(KEY, LEAVES)

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)

    @rule(target=branches, log=branches, at=sizes)
    def fork(self, log: Log, at: int) -> Log:
        return log.forked(at)

    @rule(log=branches, old=sizes, size=sizes)
    def submit_with_the_logs_own_proof(self, log: Log, old: int, size: int) -> None:
        proof = log.proof(old, size) if old <= size else []
        self._submitted(log, old, size, proof)

    @rule(log=branches, size=sizes)
    def submit_from_what_is_held(self, log: Log, size: int) -> None:
        old = len(self.held)
        self._submitted(log, old, size, log.proof(old, size) if old <= size else [])

    @rule(log=branches, other=branches, size=sizes)
    def submit_with_the_proof_of_another_branch(self, log: Log, other: Log, size: int) -> None:
        old = len(self.held)
        self._submitted(log, old, size, other.proof(old, size) if old <= size else [])

    @rule(seconds=st.integers(-100, 100))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = Store.open(self.folder / "state.sqlite")

    def _submitted(self, log: Log, old: int, size: int, proof: list[bytes]) -> None:
        witness = Witness(self.cosigner, {ORIGIN: [Verifier.parse(KEY.vkey)]}, self.store, lambda: self.now)
        before = self.store.all()
        answer = witness.add_checkpoint(request(old, proof, log.checkpoint(size)))
        fits = old == len(self.held) <= size and log.leaves[:old] == self.held
        if answer.status == 200:
            assert fits, "a checkpoint was cosigned that contradicts one before"
            self.held = log.leaves[:size]
            assert [each.time for each in before] <= [each.time for each in self.store.all()]
        else:
            assert self.store.all() == before
            assert not (fits and proof == log.proof(old, size)), "an honest continuation was refused"
        if answer.status == 409:
            assert answer.body == f"{len(self.held)}\n"


TestDishonestLog = DishonestLog.TestCase
TestDishonestLog.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def at_once(*jobs: "tuple[Witness, bytes]") -> list[Answer]:
    """The answers to requests that are asked at the same moment from threads of their own."""
    barrier = Barrier(len(jobs))

    def ask(witness: Witness, body: bytes) -> Answer:
        barrier.wait()
        return witness.add_checkpoint(body)

    with ThreadPoolExecutor(len(jobs)) as threads:
        return [each.result() for each in [threads.submit(ask, *job) for job in jobs]]


@pytest.mark.parametrize("files", [1, 2])
def test_of_conflicting_requests_at_once_exactly_one_wins(bench: Bench, tmp_path: Path, files: int) -> None:
    stores = [Store.open(tmp_path / "state.sqlite") for _ in range(files)]
    witnesses = [Witness(bench.cosigner, bench.witness()._logs, store, lambda: bench.now) for store in stores]
    log, held = bench.log, 0
    for size in range(1, 30):
        forks = [log, log.forked(held), Log(bench.key, (*log.leaves[:held], *map(leaf, range(90, 130))))]
        jobs = [(witnesses[index % files], fork.request(held, size)) for index, fork in enumerate(forks * 2)]
        answers = at_once(*jobs)
        won = [index for index, answer in enumerate(answers) if answer.status == 200]
        assert len(won) == 1
        assert {answer.status for answer in answers} == {200, 409}
        log, held = forks[won[0] % 3], size
    for store in stores:
        store.close()


def test_a_state_of_another_writer_is_waited_for(bench: Bench, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "state.sqlite", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(bench.witness().add_checkpoint, bench.log.request(0, 7))
        with pytest.raises(TimeoutError):
            waiting.result(0.1)
        other.execute("COMMIT")
        assert waiting.result(10).status == 200
    other.close()


def test_a_state_is_made_whole_for_its_owner_alone_and_never_over_another(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    Store.create(path, "first")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(StateUnusable, match="exists already"):
        Store.create(path, "second")
    assert list(tmp_path.iterdir()) == [path]
    store = Store.open(path)
    assert store.vkey == "first"
    store.close()


def test_every_commit_waits_for_the_disk(bench: Bench) -> None:
    assert bench.store._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert bench.store._connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_missing_state_is_never_replaced_by_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(StateUnusable, match="is missing"):
        Store.open(tmp_path / "state.sqlite")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"not a database at all", b"SQLite format 3\0" + bytes(4000)])
def test_what_is_not_a_state_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state.sqlite"
    path.write_bytes(content)
    with pytest.raises(StateUnusable):
        Store.open(path)


@pytest.mark.parametrize(
    "damage",
    [
        "PRAGMA user_version = 2",
        "PRAGMA ignore_check_constraints = ON; INSERT INTO cosigned VALUES ('o', 'h', -1, zeroblob(32), 1, 'n')",
        "DROP TABLE identity",
        "DROP TABLE cosigned",
    ],
)
def test_a_state_that_is_not_as_it_was_made_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "state.sqlite"
    Store.create(path, "vkey")
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(damage)
    with pytest.raises(StateUnusable):
        Store.open(path)


def test_a_damaged_state_is_refused(bench: Bench, tmp_path: Path) -> None:
    bench.witness().add_checkpoint(bench.log.request(0, 7))
    bench.store.close()
    path = tmp_path / "state.sqlite"
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(StateUnusable):
        Store.open(path)


def test_what_fails_in_a_transaction_leaves_nothing_behind(bench: Bench) -> None:
    def fail() -> None:
        with bench.store.transaction() as state:
            state.remember(Cosigned(ORIGIN, 1, bytes(32), 1, "note"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert bench.store.all() == []
    assert bench.witness().add_checkpoint(bench.log.request(0, 7)).status == 200
