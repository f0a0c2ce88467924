"""The leaves' form, and the chains of the producers, in logs that their key signed."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.verifier.conftest import Ran, Run
from tests.verifier.writer import Log, leaf, sha256

from dossier_verify.chains import LEAF, members, scan

Verify = Callable[[Log], Ran]
ZEROS = "0" * 64


@pytest.fixture
def signed(tmp_path: Path, run: Run) -> Verify:
    """Verifies a log that is signed as it stands."""
    return lambda log: run(
        "log", log.write(tmp_path / "log", bodies=True), "--vkey", log.key.vkey, "--json", "--bodies"
    )


def log_of(*leaves: tuple[str, int, int, str]) -> Log:
    log = Log().open()
    for producer, epoch, seq, prev in leaves:
        log.add(leaf(producer, epoch, seq, prev))
    return log


def hash_of(producer: str, epoch: int, seq: int, prev: str = ZEROS) -> str:
    return sha256(leaf(producer, epoch, seq, prev)).hex()


FIRST = ("records", 1, 1, ZEROS)
SECOND = ("records", 1, 2, hash_of(*FIRST))
THIRD = ("records", 1, 3, hash_of(*SECOND))


@pytest.mark.parametrize(
    ("leaves", "kind", "index", "message"),
    [
        ([FIRST, THIRD], "missing-event", 2, "records 1/2 missing before records 1/3"),
        ([FIRST, ("records", 1, 9, ZEROS)], "missing-event", 2, "records 1/2 to 1/8 missing before records 1/9"),
        ([SECOND], "missing-event", 1, "records 1/1 missing before records 1/2"),
        ([("records", 1, 5, ZEROS)], "missing-event", 1, "records 1/1 to 1/4 missing before records 1/5"),
        ([FIRST, ("records", 1, 2, "1" * 64)], "broken-chain", 2, "(index 1)"),
        ([("records", 1, 1, "1" * 64)], "broken-chain", 1, "begins its epoch"),
        ([FIRST, SECOND, FIRST], "repeated-event", 3, "records 1/1 stands after records 1/2"),
        ([FIRST, SECOND, SECOND], "repeated-event", 3, "records 1/2 stands after records 1/2"),
        ([("records", 2, 1, ZEROS), FIRST], "repeated-event", 2, "records 1/1 stands after records 2/1"),
        ([FIRST, ("records", 2, 2, ZEROS)], "missing-event", 2, "records 2/1 missing before records 2/2"),
        ([FIRST, ("log", 2, 1, ZEROS)], "misplaced-opening", 2, "first leaf alone"),
    ],
)
def test_a_broken_chain_is_found(
    leaves: list[tuple[str, int, int, str]], kind: str, index: int, message: str, signed: Verify
) -> None:
    log = log_of(*leaves)
    log.bodies = [log.bodies[0]]
    ran = signed(log)
    finding = next(one for one in ran.told["findings"] if one["kind"] == kind)
    assert (ran.code, finding["index"]) == (1, index)
    assert message in finding["message"]


@pytest.mark.parametrize("place", [255, 256, 257, 300])
@pytest.mark.parametrize("producer", ["records", "gateway"])
def test_a_gap_is_found_within_and_across_bundles(place: int, producer: str, signed: Verify) -> None:
    log = Log().open().fill(place)
    epoch, seq, _ = log.heads[producer]
    log.heads[producer] = (epoch, seq + 1, "ab" * 32)
    while log.heads[producer][1] == seq + 1:
        log.fill(len(log.entries) + 1)
    wrong = len(log.entries) - 1
    ran = signed(log.fill(600))
    assert [(one["kind"], one["index"]) for one in ran.told["findings"]] == [("missing-event", wrong)]


def test_a_restored_producer_is_told_and_is_no_finding(signed: Verify) -> None:
    log = Log().open().fill(300)
    log.restore("records")
    while log.heads["records"][1] == 0:
        log.fill(len(log.entries) + 1)
    index = len(log.entries) - 1
    ran = signed(log.fill(700))
    assert ran.code == 0
    assert ran.told["producers"]["records"]["restored"] == [{"epoch": 2, "index": index}]
    assert f"records goes on in a new epoch, 2, from leaf {index}" in ran.told["notes"]


@pytest.mark.parametrize(
    "entry",
    [
        leaf("records", 1, 1, ZEROS).replace(b'"epoch":1', b'"epoch": 1'),
        leaf("records", 1, 1, ZEROS).replace(b'"epoch":1', b'"epoch":01'),
        leaf("records", 1, 1, ZEROS).replace(b'"epoch":1', b'"epoch":1e0'),
        leaf("records", 1, 1, ZEROS).replace(b'"seq":1', b'"seq":0'),
        leaf("records", 1, 1, ZEROS).replace(b'"seq":1', b'"seq":-1'),
        leaf("records", 1, 1, ZEROS).replace(b'"seq":1', b'"seq":9007199254740993'),
        leaf("records", 1, 1, ZEROS).replace(b'"producer":"records"', b'"producer":"Records"'),
        leaf("records", 1, 1, ZEROS)[:-1] + b',"zip":"x"}',
        leaf("records", 1, 1, ZEROS) + b"\n",
        leaf("records", 1, 1, ZEROS).replace(b"Z", b"+00:00"),
        leaf("records", 1, 1, ZEROS).replace(b"-11-", b"-13-"),
        leaf("records", 1, 1, ZEROS).replace(b"0000", b"000A", 1),
        leaf("records", 1, 1, ZEROS).replace(b".viewed", b".vie\\u0077ed"),
        json.dumps(json.loads(leaf("records", 1, 1, ZEROS))).encode(),
        b"",
        b"\xff" * 500,
    ],
)
def test_an_entry_that_is_no_canonical_leaf_is_found(entry: bytes, signed: Verify) -> None:
    log = Log().open()
    log.add(entry)
    ran = signed(log)
    assert (ran.code, ran.first["kind"], ran.first["index"]) == (1, "not-canonical", 1)


@given(st.binary(max_size=600))
def test_any_bytes_can_be_scanned(data: bytes) -> None:
    found = scan(data, 0, commitments=True)
    assert found.broken or sum(found.counts.values()) + len(found.findings) == len(found.hashes) // 32


@given(
    st.from_regex(r"\A[a-z]{1,32}\Z"),
    st.integers(0, 10**15 - 1),
    st.integers(1, 10**15 - 1),
    st.from_regex(r"\A[A-Za-z0-9._-]{1,80}\Z"),
)
def test_every_canonical_leaf_is_taken_and_read(producer: str, epoch: int, seq: int, event: str) -> None:
    entry = leaf(producer, epoch, seq, ZEROS, event)
    assert LEAF.fullmatch(entry)
    said = members(entry)
    assert (said["producer"], said["epoch"], said["seq"], said["type"]) == (producer, str(epoch), str(seq), event)


@pytest.mark.parametrize(
    "entry",
    [
        leaf("records", 1, 1, ZEROS),
        leaf("log", 1, 1, ZEROS, "audit.v1.log.closed"),
        leaf("log", 1, 2, ZEROS, "audit.v1.log.opened"),
        leaf("log", 1, 1, "1" * 64, "audit.v1.log.opened"),
        leaf("log", 0, 1, ZEROS, "audit.v1.log.opened"),
    ],
)
def test_a_log_that_does_not_begin_with_its_opening_is_found(entry: bytes, signed: Verify) -> None:
    log = Log()
    log.add(entry)
    ran = signed(log)
    assert ("wrong-opening", 0) in [(one["kind"], one.get("index")) for one in ran.told["findings"]]


def test_bodies_are_checked_and_erased_ones_counted(signed: Verify) -> None:
    log = Log().open().fill(400)
    log.bodies[300] = b'{"erased":{"at":"2026-11-22T08:00:00Z","order":"court 7"}}'
    ran = signed(log)
    assert ran.code == 0
    bodies = ran.told["logs"][0]["bodies"]
    assert bodies == {"whole": 399, "erased": [{"index": 300, "at": "2026-11-22T08:00:00Z", "order": "court 7"}]}


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b'{"salt":"AAAA","body":"{}"}', "wrong-body"),
        (b'{"salt":"not base64!","body":"{}"}', "wrong-body"),
        (b'{"salt":"AAAA","body":"\\ud800"}', "wrong-body"),
        (b'{"erased":true}', "wrong-body"),
        (b'{"erased":{"at":"2026-11-22T08:00:00Z"}}', "wrong-body"),
        (b'{"erased":{"at":"now","order":"x"},"body":"y"}', "wrong-body"),
        (b"[" * 100_000, "wrong-body"),
        (b"null", "wrong-body"),
    ],
)
def test_a_body_that_does_not_fit_is_found(line: bytes, kind: str, signed: Verify) -> None:
    log = Log().open().fill(400)
    log.bodies[300] = line
    ran = signed(log)
    assert [(one["kind"], one["index"]) for one in ran.told["findings"]] == [(kind, 300)]


def test_bodies_that_are_not_served_are_found(signed: Verify) -> None:
    log = Log().open().fill(400)
    del log.bodies[390:]
    ran = signed(log)
    assert [(one["kind"], one["index"]) for one in ran.told["findings"]] == [
        ("missing-body", index) for index in range(390, 400)
    ]


def test_bodies_are_not_asked_for_unless_told(tmp_path: Path, run: Run) -> None:
    log = Log().open().fill(400)
    assert run("log", log.write(tmp_path), "--vkey", log.key.vkey).code == 0
    assert run("log", tmp_path, "--vkey", log.key.vkey, "--bodies").code == 1
