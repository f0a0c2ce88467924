"""Offline proofs, consistency, and what the command says to bad input."""

import json
import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.verifier.conftest import Ran, Run, run_command
from tests.verifier.writer import Key, Log, inclusion, put

from dossier_verify.proofs import Proof

Verify = Callable[..., Ran]


def proof_of(log: Log, index: int, size: int | None = None, *, extra: bytes | None = None) -> bytes:
    size = len(log.entries) if size is None else size
    entry = log.entries[index] if extra is None else extra
    hashes = "".join(b64encode(node).decode() + "\n" for node in inclusion(index, log.hashes(size)))
    start = f"c2sp.org/tlog-proof@v1\nextra {b64encode(entry).decode()}\nindex {index}\n{hashes}\n"
    return start.encode() + log.checkpoint(size)


def event_of(log: Log, index: int) -> dict[str, str]:
    return {"leaf": log.entries[index].decode(), **json.loads(log.bodies[index])}


@pytest.mark.parametrize(
    ("index", "size"), [(0, 1), (0, 868), (867, 868), (300, 301), (255, 256), (256, 257), (5, 600)]
)
def test_an_offline_proof_tells_the_event(index: int, size: int, log: Log, tmp_path: Path, run: Run) -> None:
    put(tmp_path / "a.tlog-proof", proof_of(log, index, size))
    put(tmp_path / "event.json", json.dumps(event_of(log, index) | {"more": 1}).encode())
    words = ["--vkey", log.key.vkey, "--event", tmp_path / "event.json", "--json"]
    ran = run("proof", tmp_path / "a.tlog-proof", *words)
    said = json.loads(log.entries[index])
    assert ran.code == 0, ran.out
    assert {name: ran.told[name] for name in ("id", "type", "time", "producer")} == {
        name: said[name] for name in ("id", "type", "time", "producer")
    }
    assert (ran.told["index"], ran.told["size"], ran.told["body"]) == (index, size, True)


def test_a_proof_is_told_in_words_too(log: Log, tmp_path: Path, run: Run) -> None:
    put(tmp_path / "a.tlog-proof", proof_of(log, 300))
    ran = run("proof", tmp_path / "a.tlog-proof", "--vkey", log.key.vkey)
    assert (ran.code, ran.out.splitlines()[-1]) == (0, "verified")
    assert "index: 300" in ran.out


@pytest.mark.invariant(3)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_byte_of_a_proof_can_change(data: st.DataObject, log: Log, tmp_path: Path) -> None:
    whole = proof_of(log, 300)
    place = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[place] ^= 1 << data.draw(st.integers(0, 7))
    put(tmp_path / "bad.tlog-proof", bytes(changed))
    ran = run_command("proof", tmp_path / "bad.tlog-proof", "--vkey", log.key.vkey, "--json")
    assert ran.code in {1, 2}, ran.out


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"body": '{"data":"other"}'}, "wrong-body"),
        ({"salt": b64encode(bytes(32)).decode()}, "wrong-body"),
        ({"salt": "no base64"}, "wrong-body"),
        ({"leaf": "{}"}, "wrong-body"),
    ],
)
def test_an_event_that_is_not_the_proven_one_is_found(
    change: dict[str, str], kind: str, log: Log, tmp_path: Path, run: Run
) -> None:
    put(tmp_path / "a.tlog-proof", proof_of(log, 300))
    put(tmp_path / "event.json", json.dumps(event_of(log, 300) | change).encode())
    words = ["--vkey", log.key.vkey, "--event", tmp_path / "event.json", "--json"]
    ran = run("proof", tmp_path / "a.tlog-proof", *words)
    assert (ran.code, ran.kinds) == (1, [kind])


def test_a_leaf_of_another_place_is_not_included(log: Log, tmp_path: Path, run: Run) -> None:
    put(tmp_path / "a.tlog-proof", proof_of(log, 300, extra=log.entries[301]))
    ran = run("proof", tmp_path / "a.tlog-proof", "--vkey", log.key.vkey, "--json")
    assert (ran.code, ran.kinds) == (1, ["not-included"])


def test_a_proof_of_another_log_or_without_its_witness_is_unsigned(log: Log, tmp_path: Path, run: Run) -> None:
    put(tmp_path / "a.tlog-proof", proof_of(log, 300))
    other, witness = Key(log.key.name), Key("witness.example/w", 4)
    assert run("proof", tmp_path / "a.tlog-proof", "--vkey", other.vkey, "--json").kinds == ["unsigned"]
    words = ["--vkey", log.key.vkey, "--witness", witness.vkey, "--json"]
    assert run("proof", tmp_path / "a.tlog-proof", *words).kinds == ["unsigned"]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"c2sp.org/tlog-proof@v1\n",
        b"c2sp.org/tlog-proof@v1\n\n",
        b"c2sp.org/tlog-proof@v2\nindex 0\n\n",
        b"c2sp.org/tlog-proof@v1\nindex 01\n\n",
        b"c2sp.org/tlog-proof@v1\nindex 0\nAAAA\n\n",
        b"\xff\xfe\n\n",
    ],
)
def test_what_is_no_proof_is_bad_input(text: bytes, log: Log, tmp_path: Path, run: Run) -> None:
    put(tmp_path / "a.tlog-proof", text + log.checkpoint() if text.endswith(b"\n\n") else text)
    assert run("proof", tmp_path / "a.tlog-proof", "--vkey", log.key.vkey).code == 2


def test_the_form_of_a_proof_is_that_of_the_specification(log: Log) -> None:
    proof = Proof.parse(proof_of(log, 73))
    assert (proof.index, proof.extra, list(proof.path)) == (73, log.entries[73], inclusion(73, log.hashes()))
    without = proof_of(log, 73).split(b"\n")
    assert Proof.parse(b"\n".join([without[0], *without[2:]])).extra is None


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 512, 700, 867, 868])
def test_a_log_that_only_grew_is_consistent(size: int, log: Log, folder: Path, tmp_path: Path, run: Run) -> None:
    put(tmp_path / "old", log.checkpoint(size))
    words = ["--vkey", log.key.vkey, "--json"]
    ran = run("consistency", tmp_path / "old", folder, *words)
    assert (ran.code, ran.told["old_size"], ran.told["new_size"]) == (0, size, 868)
    ran = run("consistency", tmp_path / "old", folder / "checkpoint", "--tiles", folder, *words)
    assert ran.code == 0
    needs_tiles = size not in {0, 868}
    assert run("consistency", tmp_path / "old", folder / "checkpoint", *words).code == (2 if needs_tiles else 0)


@pytest.mark.invariant(3)
@pytest.mark.parametrize("size", [1, 255, 256, 257, 512, 700, 868])
def test_a_log_that_did_more_than_grow_is_inconsistent(
    size: int, log: Log, folder: Path, tmp_path: Path, run: Run
) -> None:
    put(tmp_path / "old", log.checkpoint(size, bytes(32)))
    ran = run("consistency", tmp_path / "old", folder, "--vkey", log.key.vkey, "--json")
    assert (ran.code, ran.kinds) == (1, ["forked" if size == 868 else "inconsistent"])
    put(tmp_path / "old", log.checkpoint(size))
    shorter = Log(log.key)
    shorter.entries = log.entries[: size - 1]
    words = [tmp_path / "old", shorter.write(tmp_path / "shorter"), "--vkey", log.key.vkey, "--json"]
    assert run("consistency", *words).kinds == ["rolled-back"]


def test_altered_tiles_are_no_proof_of_inconsistency(log: Log, folder: Path, tmp_path: Path, run: Run) -> None:
    put(tmp_path / "old", log.checkpoint(300))
    for name, kind in (("tile/0/001", "altered-tile"), ("tile/1/000.p/3", "wrong-root")):
        path = folder / name
        data = path.read_bytes()
        path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
        ran = run("consistency", tmp_path / "old", folder, "--vkey", log.key.vkey, "--json")
        assert (ran.code, ran.kinds) == (1, [kind])
        path.write_bytes(data)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["log"],
        ["log", "{folder}"],
        ["log", "{folder}", "--vkey", "nonsense"],
        ["log", "{folder}", "--vkey", "x" * 5000],
        ["log", "{folder}", "--vkey", "{folder}/checkpoint"],
        ["log", "{folder}", "--vkey", "{witness}"],
        ["log", "{folder}", "--vkey", "{vkey}", "--witness", "{vkey}"],
        ["log", "{folder}", "--vkey", "{vkey}", "--quorum", "1"],
        ["log", "{folder}", "--vkey", "{vkey}", "--processes", "0"],
        ["log", "{folder}/tile", "--vkey", "{vkey}"],
        ["log", "{folder}/none", "--vkey", "{vkey}"],
        ["log", "{folder}", "--vkey", "{vkey}", "--against", "{folder}/none"],
        ["log", "{folder}", "--vkey", "{vkey}", "--checkpoint", "{folder}"],
        ["log", "{folder}", "--vkey", "{vkey}", "--keep", "{folder}/checkpoint/below"],
        ["proof", "{folder}/none", "--vkey", "{vkey}"],
        ["proof", "/dev/zero", "--vkey", "{vkey}"],
        ["consistency", "{folder}/checkpoint", "{folder}/none", "--vkey", "{vkey}"],
        ["consistency", "/dev/zero", "{folder}", "--vkey", "{vkey}"],
    ],
)
def test_bad_usage_is_a_sentence_and_exit_code_2(words: list[str], log: Log, folder: Path, run: Run) -> None:
    witness = Key("witness.example/w", 4)
    ran = run(*[word.format(folder=folder, vkey=log.key.vkey, witness=witness.vkey) for word in words])
    assert ran.code == 2
    assert (ran.err + ran.out).strip()


def test_a_vkey_can_stand_in_a_file(log: Log, folder: Path, tmp_path: Path, run: Run) -> None:
    put(tmp_path / "vkey", f"{log.key.vkey}\n".encode())
    assert run("log", folder, "--vkey", tmp_path / "vkey").code == 0


def test_the_report_in_words_ends_in_the_verdict(log: Log, folder: Path, run: Run) -> None:
    ran = run("log", folder, "--vkey", log.key.vkey, "--bodies")
    assert ran.out.splitlines()[-1] == "verified"
    assert "bodies: 868 fit their commitments, 0 erased by law" in ran.out
    (folder / "tile/entries/001").unlink()
    ran = run("log", folder, "--vkey", log.key.vkey)
    assert ran.out.splitlines()[-1].startswith("WRONG: 1 finding")
    assert "missing-bundle at leaf 256 to 511" in ran.out


def test_json_holds_what_was_found(log: Log, folder: Path, verified: Verify) -> None:
    told = verified(folder).told
    assert (told["verdict"], told["exit"], told["first_wrong_leaf"], told["findings"]) == ("verified", 0, None, [])
    assert told["logs"][0]["origin"] == log.origin
    assert told["logs"][0]["checkpoint"].encode() == log.checkpoint()
    assert told["producers"]["records"] == {
        "leaves": log.heads["records"][1],
        "epoch": 1,
        "seq": log.heads["records"][1],
        "restored": [],
    }


def test_other_processes_find_the_same(log: Log, folder: Path, verified: Verify) -> None:
    path = folder / "tile/entries/001"
    path.write_bytes(path.read_bytes().replace(b"viewed", b"copied", 1))
    one, two = verified(folder).told, verified(folder, "--processes", 2).told
    assert (one["findings"], one["producers"]) == (two["findings"], two["producers"])


def test_a_size_that_nobody_could_serve_ends(log: Log, folder: Path, verified: Verify) -> None:
    (folder / "checkpoint").write_bytes(log.checkpoint(1 << 61, bytes(32)))
    ran = verified(folder)
    assert (ran.code, ran.first["index"]) == (1, 768)


def test_the_installed_command_needs_nothing_of_ours(log: Log, folder: Path) -> None:
    """A fresh interpreter without our packages but this one verifies, and its exit code is the verdict's."""
    own = Path(__file__).parents[2] / "services/audit/verifier"
    script = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.startswith('dossier_') and not name.startswith('dossier_verify'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "from dossier_verify.main import app\n"
        "app()\n"
    )
    words = [sys.executable, "-c", script, "log", str(folder), "--vkey", log.key.vkey]
    environment = {**os.environ, "PYTHONPATH": str(own)}
    assert subprocess.run(words, capture_output=True, env=environment, check=False).returncode == 0
    (folder / "tile/0/001").unlink()
    assert subprocess.run(words, capture_output=True, env=environment, check=False).returncode == 1
