"""What an auditor kept: checkpoints, an old tree, witnesses; and logs that were restored."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.verifier.conftest import Ran, Run
from tests.verifier.server import serving
from tests.verifier.writer import ORIGIN, Key, Log, listing, mth, put, sha256

Verify = Callable[..., Ran]


def kept(tmp_path: Path, checkpoint: bytes) -> Path:
    put(tmp_path / "kept.checkpoint", checkpoint)
    return tmp_path / "kept.checkpoint"


def forged_at(log: Log, index: int) -> Log:
    """The log that somebody with the log's key would sign: an event changed, and all chains whole again."""
    forged = Log(log.key)
    forged.entries = list(log.entries)
    forged.entries[index] = forged.entries[index].replace(b"viewed", b"copied")
    forged.rechain()
    return forged


@pytest.mark.parametrize("size", [0, 1, 2, 100, 255, 256, 257, 511, 512, 768, 800, 867, 868])
def test_every_earlier_checkpoint_is_consistent(
    size: int, log: Log, folder: Path, tmp_path: Path, verified: Verify
) -> None:
    ran = verified(folder, "--checkpoint", kept(tmp_path, log.checkpoint(size)))
    assert ran.code == 0
    assert [(one["size"], one["result"]) for one in ran.told["logs"][0]["kept"]] == [(size, "consistent")]


@pytest.mark.invariant(3)
@pytest.mark.parametrize("seed", range(8))
def test_a_tree_signed_anew_is_found_by_a_kept_checkpoint_and_named_by_the_old_tree(
    seed: int, log: Log, folder: Path, tmp_path: Path, verified: Verify
) -> None:
    dice = random.Random(seed)
    index = dice.randrange(1, 868)
    forged = forged_at(log, index)
    new = forged.write(tmp_path / "forged")
    assert verified(new).code == 0
    size = dice.randrange(index + 1, 869)
    ran = verified(new, "--checkpoint", kept(tmp_path, log.checkpoint(size)))
    assert (ran.code, ran.first["kind"], ran.first["size"]) == (1, "forked", size)
    ran = verified(new, "--against", folder)
    assert (ran.first["kind"], ran.first["size"], ran.first["index"]) == ("forked", 868, index)
    before = dice.randrange(0, index + 1)
    assert verified(new, "--checkpoint", kept(tmp_path, log.checkpoint(before))).code == 0


@pytest.mark.invariant(3)
def test_a_log_that_became_smaller_is_rolled_back(log: Log, folder: Path, tmp_path: Path, verified: Verify) -> None:
    shorter = Log(log.key)
    shorter.entries = log.entries[:700]
    ran = verified(shorter.write(tmp_path / "shorter"), "--checkpoint", folder / "checkpoint")
    assert (ran.code, ran.first["kind"], ran.first["size"]) == (1, "rolled-back", 868)


def test_an_altered_entry_is_no_proof_of_a_second_tree(
    log: Log, folder: Path, tmp_path: Path, verified: Verify
) -> None:
    path = folder / "tile/entries/000"
    path.write_bytes(path.read_bytes().replace(b"viewed", b"copied", 1))
    ran = verified(folder, "--checkpoint", kept(tmp_path, log.checkpoint(300)))
    assert ran.kinds == ["altered-entry"]
    assert ran.told["logs"][0]["kept"][0]["result"] == "consistent"


def test_kept_and_served_trees_that_cannot_be_compared_are_told_so(
    log: Log, folder: Path, tmp_path: Path, verified: Verify
) -> None:
    for name in ("tile/entries/000", "tile/0/000"):
        path = folder / name
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    ran = verified(folder, "--checkpoint", kept(tmp_path, log.checkpoint(200)))
    assert ran.code == 1
    assert "forked" not in ran.kinds
    assert ran.told["logs"][0]["kept"][0]["result"] == "unknown"


def test_a_kept_checkpoint_that_the_log_did_not_sign_is_bad_input(
    log: Log, folder: Path, tmp_path: Path, verified: Verify
) -> None:
    other = Log().open()
    assert verified(folder, "--checkpoint", kept(tmp_path, other.checkpoint())).code == 2
    assert verified(folder, "--checkpoint", kept(tmp_path, b"garbage")).code == 2
    assert verified(folder, "--checkpoint", tmp_path / "none").code == 2


def test_the_verified_checkpoint_is_written_where_it_is_to_be_kept(
    log: Log, folder: Path, tmp_path: Path, verified: Verify
) -> None:
    assert verified(folder, "--keep", tmp_path / "new").code == 0
    assert (tmp_path / "new").read_bytes() == log.checkpoint()
    (folder / "tile/0/000").unlink()
    assert verified(folder, "--keep", tmp_path / "never").code == 1
    assert not (tmp_path / "never").exists()


def witnessed(tmp_path: Path, count: int) -> tuple[Log, Path, list[Key]]:
    log = Log().open().fill(300)
    keys = [Key(f"witness.example/{number}", 4) for number in range(3)]
    log.witnesses = keys[:count]
    return log, log.write(tmp_path / "log"), keys


@pytest.mark.parametrize(
    ("signing", "more", "code"),
    [
        (3, [], 0),
        (2, [], 1),
        (2, ["--quorum", 2], 0),
        (1, ["--quorum", 2], 1),
        (0, ["--quorum", 0], 0),
        (3, ["--quorum", 4], 2),
    ],
)
def test_a_quorum_of_the_named_witnesses_is_needed(
    signing: int, more: list[object], code: int, tmp_path: Path, run: Run
) -> None:
    log, folder, keys = witnessed(tmp_path, signing)
    words = [word for key in keys for word in ("--witness", key.vkey)]
    ran = run("log", folder, "--vkey", log.key.vkey, "--json", *words, *more)
    assert ran.code == code
    if code == 1:
        assert ran.kinds == ["unsigned"]
        assert f"witness.example/{signing}" in ran.first["message"]
    if code == 0:
        assert set(ran.told["logs"][0]["cosigned"]) == {key.name for key in keys[:signing]}


def test_a_witness_does_not_count_twice(tmp_path: Path, run: Run) -> None:
    log, folder, keys = witnessed(tmp_path, 1)
    again = Key("witness.example/again", 4, keys[0].private)
    words = ["--witness", keys[0].vkey, "--witness", again.vkey]
    assert run("log", folder, "--vkey", log.key.vkey, *words).code == 2


@dataclass
class Restored:
    """Generation 1 reached 800 leaves, was restored to 500, and generation 2 was opened in its place."""

    old: Log
    closed: Log
    new: Log
    folder: Path


def restored(tmp_path: Path, *, refilled: bool = True, names: tuple[str, int, bytes] | None = None) -> Restored:
    old = Log().open().fill(800)
    closed = Log(old.key)
    closed.entries, closed.bodies = old.entries[:500], old.bodies[:500]
    predecessor = names or (ORIGIN, 800, mth(old.hashes()))
    new = Log(Key(f"{ORIGIN}s/2", 1, old.key.private), generation=2).open(predecessor)
    if refilled:
        for entry, body in zip(old.entries[500:], old.bodies[500:], strict=True):
            new.entries.append(entry)
            new.bodies.append(body)
    new.heads |= {name: head for name, head in old.heads.items() if name != "log"}
    if not refilled:
        for producer in [name for name in new.heads if name != "log"]:
            new.restore(producer)
    new.fill(700)
    folder = closed.write(tmp_path / "restored", bodies=True)
    new.write(folder / "logs/2", bodies=True)
    put(folder / "logs.json", listing((closed, None), (new, predecessor)))
    return Restored(old, closed, new, folder)


def test_the_log_that_replaced_a_restored_one_is_followed(tmp_path: Path, run: Run) -> None:
    log = restored(tmp_path)
    ran = run("log", log.folder, "--vkey", log.old.key.vkey, "--json", "--bodies")
    assert ran.code == 4, ran.out
    assert [(one["generation"], one["size"]) for one in ran.told["logs"]] == [(1, 500), (2, 700)]
    assert ran.told["logs"][1]["predecessor"]["size"] == 800
    assert any(f"{ORIGIN}s/2 follows it" in note for note in ran.told["notes"])


@pytest.mark.parametrize(
    ("size", "code", "result"), [(400, 4, "consistent"), (650, 4, "replaced"), (800, 4, "replaced")]
)
def test_a_kept_checkpoint_of_the_restored_log_is_explained(
    size: int, code: int, result: str, tmp_path: Path, run: Run
) -> None:
    log = restored(tmp_path)
    ran = run(
        "log",
        log.folder,
        "--vkey",
        log.old.key.vkey,
        "--json",
        "--checkpoint",
        kept(tmp_path, log.old.checkpoint(size)),
    )
    assert (ran.code, ran.told["logs"][0]["kept"][0]["result"]) == (code, result)


def test_who_kept_a_checkpoint_of_the_new_generation_knows_of_it(tmp_path: Path, run: Run) -> None:
    log = restored(tmp_path)
    path = kept(tmp_path, log.new.checkpoint(600))
    assert run("log", log.folder, "--vkey", log.old.key.vkey, "--checkpoint", path).code == 0
    assert run("log", log.folder / "logs/2", "--vkey", log.new.key.vkey, "--checkpoint", path).code == 0
    assert run("log", log.folder / "logs/2", "--vkey", log.new.key.vkey).code == 4


def test_a_kept_checkpoint_beyond_what_the_new_generation_names_is_rolled_back(tmp_path: Path, run: Run) -> None:
    old = restored(tmp_path / "first").old
    log = restored(tmp_path, names=(ORIGIN, 700, mth(old.hashes(700))))
    ran = run(
        "log", log.folder, "--vkey", log.old.key.vkey, "--json", "--checkpoint", kept(tmp_path, log.old.checkpoint())
    )
    assert ("rolled-back", 800) in [(one["kind"], one.get("size")) for one in ran.told["findings"]]


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        ((ORIGIN, 800, bytes(32)), "forked"),
        (("other.example/log", 800, bytes(32)), "wrong-opening"),
        ((ORIGIN, 500, bytes(32)), "wrong-opening"),
    ],
)
def test_a_new_generation_that_names_another_tree_is_found(
    names: tuple[str, int, bytes], kind: str, tmp_path: Path, run: Run
) -> None:
    log = restored(tmp_path, names=names)
    ran = run(
        "log", log.folder, "--vkey", log.old.key.vkey, "--json", "--checkpoint", kept(tmp_path, log.old.checkpoint())
    )
    assert (ran.code, kind in ran.kinds) == (1, True), ran.out


def test_events_that_did_not_come_again_are_found_by_the_old_tree(tmp_path: Path, run: Run) -> None:
    log = restored(tmp_path, refilled=False)
    old = log.old.write(tmp_path / "old")
    assert run("log", log.folder, "--vkey", log.old.key.vkey).code == 4
    ran = run("log", log.folder, "--vkey", log.old.key.vkey, "--json", "--against", old)
    assert (ran.code, set(ran.kinds), len(ran.kinds)) == (1, {"missing-event"}, 5)
    whole = restored(tmp_path / "whole")
    old = whole.old.write(tmp_path / "whole/old")
    assert run("log", whole.folder, "--vkey", whole.old.key.vkey, "--against", old).code == 4


def test_the_chains_go_on_from_one_generation_to_the_next(tmp_path: Path, run: Run) -> None:
    log = restored(tmp_path)
    del log.new.entries[1], log.new.bodies[1]
    log.new.write(log.folder / "logs/2")
    ran = run("log", log.folder, "--vkey", log.old.key.vkey, "--json")
    assert (ran.code, ran.first["kind"], ran.first["log"]) == (1, "missing-event", f"{ORIGIN}s/2")


def test_a_new_generation_by_another_key_needs_its_vkey(tmp_path: Path, run: Run) -> None:
    log = restored(tmp_path)
    log.new.key = Key(f"{ORIGIN}s/2")
    log.new.write(log.folder / "logs/2")
    ran = run("log", log.folder, "--vkey", log.old.key.vkey, "--json")
    assert (ran.code, ran.kinds) == (1, ["unsigned"])
    assert run("log", log.folder, "--vkey", log.old.key.vkey, "--vkey", log.new.key.vkey).code == 4


@pytest.mark.parametrize(
    "text", [b"", b"{}", b"[]", b'{"logs":[{}]}', b'{"logs":[{"generation":7,"origin":"x"}]}', b"[" * 99_999]
)
def test_a_listing_that_is_none_is_found(text: bytes, tmp_path: Path, run: Run) -> None:
    log = restored(tmp_path)
    put(log.folder / "logs.json", text)
    assert run("log", log.folder, "--vkey", log.old.key.vkey, "--json").kinds == ["wrong-opening"]


def test_a_listing_with_another_body_of_the_opening_is_found(tmp_path: Path, run: Run) -> None:
    log = restored(tmp_path)
    text = (log.folder / "logs.json").read_bytes()
    put(log.folder / "logs.json", text.replace(b'\\"predecessor_size\\": 800', b'\\"predecessor_size\\": 900'))
    ran = run("log", log.folder, "--vkey", log.old.key.vkey, "--json")
    assert (ran.code, ran.first["kind"], ran.first["log"]) == (1, "wrong-opening", f"{ORIGIN}s/2")


def test_a_listing_cannot_steer_the_terminal(tmp_path: Path, run: Run) -> None:
    log = restored(tmp_path)
    text = (log.folder / "logs.json").read_bytes()
    put(log.folder / "logs.json", text.replace(f'"origin": "{ORIGIN}"'.encode(), b'"origin": "\\u001b[2Jverified"'))
    ran = run("log", log.folder, "--vkey", log.old.key.vkey)
    assert ran.code == 1
    assert "\x1b" not in ran.out + ran.err


def test_generations_are_followed_and_mirrored_over_http(tmp_path: Path, run: Run) -> None:
    log = restored(tmp_path)
    with serving(log.folder) as server:
        assert run("log", server.url, "--vkey", log.old.key.vkey, "--bodies").code == 4
        assert run("log", f"{server.url}s/2", "--vkey", log.new.key.vkey).code == 4
        assert run("download", server.url, tmp_path / "mirror").code == 0
        assert run("log", server.url, "--vkey", log.old.key.vkey, "--save", tmp_path / "saved").code == 4
        assert run("download", f"{server.url}s/2", tmp_path / "second").code == 0
    assert run("log", tmp_path / "second/logs/2", "--vkey", log.new.key.vkey).code == 4
    for folder in (tmp_path / "mirror", tmp_path / "saved"):
        ran = run("log", folder, "--vkey", log.old.key.vkey, "--json")
        assert (ran.code, len(ran.told["logs"])) == (4, 2)
    assert sha256((tmp_path / "mirror/logs/2/checkpoint").read_bytes()) == sha256(log.new.checkpoint())
