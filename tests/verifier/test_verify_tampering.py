"""Every kind of tampering, at any place, is found and named rightly."""

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.verifier.conftest import Ran, Run, run_command
from tests.verifier.writer import Log, path_of, put, sha256

Verify = Callable[..., Ran]
SIZE = 3 * 256 + 100


def bundle_path(log: Log, number: int, kind: str = "tile/entries") -> str:
    width = min(256, len(log.entries) - number * 256)
    return f"{kind}/{path_of(number)}" + ("" if width == 256 else f".p/{width}")


def encoded(entries: list[bytes]) -> bytes:
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def bundle(log: Log, number: int) -> list[bytes]:
    return log.entries[number * 256 : number * 256 + 256]


def flip(path: Path, place: int, bits: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= bits
    path.write_bytes(data)


def alter_a_byte(log: Log, folder: Path, index: int, dice: random.Random) -> None:
    number, place = divmod(index, 256)
    at = len(encoded(bundle(log, number)[:place])) + 2 + dice.randrange(len(log.entries[index]))
    flip(folder / bundle_path(log, number), at, 1 << dice.randrange(8))


def alter_to_a_canonical_leaf(log: Log, folder: Path, index: int, dice: random.Random) -> None:
    entries = bundle(log, index // 256)
    entries[index % 256] = entries[index % 256].replace(b'"time":"2026', b'"time":"%04d' % dice.randrange(2027, 9999))
    put(folder / bundle_path(log, index // 256), encoded(entries))


def leave_out(log: Log, folder: Path, index: int, _: random.Random) -> None:
    entries = bundle(log, index // 256)
    del entries[index % 256]
    put(folder / bundle_path(log, index // 256), encoded(entries))


def insert(log: Log, folder: Path, index: int, _: random.Random) -> None:
    entries = bundle(log, index // 256)
    entries.insert(index % 256, entries[index % 256].replace(b'"seq":', b'"seq":9'))
    put(folder / bundle_path(log, index // 256), encoded(entries))


def replace_by_inserting(log: Log, folder: Path, index: int, _: random.Random) -> None:
    entries = bundle(log, index // 256)
    entries.insert(index % 256, entries[index % 256].replace(b'"seq":', b'"seq":9'))
    put(folder / bundle_path(log, index // 256), encoded(entries[:-1]))


def cut_bundle(log: Log, folder: Path, index: int, dice: random.Random) -> None:
    number, place = divmod(index, 256)
    at = len(encoded(bundle(log, number)[:place]))
    path = folder / bundle_path(log, number)
    path.write_bytes(path.read_bytes()[: at + dice.choice([1, 2, 50])])


def remove_bundle(log: Log, folder: Path, index: int, _: random.Random) -> None:
    (folder / bundle_path(log, index // 256)).unlink()


def alter_leaf_tile(log: Log, folder: Path, index: int, dice: random.Random) -> None:
    number, place = divmod(index, 256)
    flip(folder / bundle_path(log, number, "tile/0"), place * 32 + dice.randrange(32), 1 << dice.randrange(8))


def shorten_leaf_tile(log: Log, folder: Path, index: int, _: random.Random) -> None:
    path = folder / bundle_path(log, index // 256, "tile/0")
    path.write_bytes(path.read_bytes()[:-1])


def remove_leaf_tile(log: Log, folder: Path, index: int, _: random.Random) -> None:
    (folder / bundle_path(log, index // 256, "tile/0")).unlink()


def alter_upper_tile(_: Log, folder: Path, index: int, dice: random.Random) -> None:
    flip(folder / "tile/1/000.p/3", index // 256 * 32 + dice.randrange(32), 1 << dice.randrange(8))


def remove_upper_tile(_: Log, folder: Path, __: int, ___: random.Random) -> None:
    (folder / "tile/1/000.p/3").unlink()


def alter_entry_and_its_tile(log: Log, folder: Path, index: int, dice: random.Random) -> None:
    alter_to_a_canonical_leaf(log, folder, index, dice)
    entry = (folder / bundle_path(log, index // 256)).read_bytes()
    start = len(encoded(bundle(log, index // 256)[: index % 256])) + 2
    path = folder / bundle_path(log, index // 256, "tile/0")
    data = bytearray(path.read_bytes())
    data[index % 256 * 32 : index % 256 * 32 + 32] = sha256(b"\x00" + entry[start : start + len(log.entries[index])])
    path.write_bytes(data)


def alter_entry_and_another_hash_of_its_tile(log: Log, folder: Path, index: int, dice: random.Random) -> None:
    alter_to_a_canonical_leaf(log, folder, index, dice)
    alter_leaf_tile(log, folder, index ^ 1, dice)


Index = Callable[[int], int]


@dataclass(frozen=True)
class Row:
    """A tampering, the kind that must be found first, and the leaf that must be named for the leaf it was done to."""

    tamper: Callable[[Log, Path, int, random.Random], None]
    kinds: set[str]
    index: Index
    last: Index | None = None
    whole: bool = False
    """Only in full bundles, whose hash stands in the tile above."""


def itself(index: int) -> int:
    return index


def start(index: int) -> int:
    return index // 256 * 256


def end(index: int) -> int:
    return min(start(index) + 255, SIZE - 1)


TABLE = [
    Row(alter_a_byte, {"altered-entry"}, itself),
    Row(alter_to_a_canonical_leaf, {"altered-entry"}, itself),
    Row(leave_out, {"missing-entry"}, itself, end),
    Row(insert, {"inserted-entry"}, itself, end),
    Row(replace_by_inserting, {"inserted-entry", "altered-entry"}, itself),
    Row(cut_bundle, {"malformed-bundle", "missing-entry"}, itself, end),
    Row(remove_bundle, {"missing-bundle"}, start, end),
    Row(alter_leaf_tile, {"altered-tile"}, itself),
    Row(shorten_leaf_tile, {"altered-tile"}, start),
    Row(remove_leaf_tile, {"missing-tile"}, start),
    Row(alter_upper_tile, {"altered-tile"}, start, whole=True),
    Row(remove_upper_tile, {"missing-tile"}, lambda _: 0),
    Row(alter_entry_and_its_tile, {"altered-entry"}, start, end, whole=True),
    Row(alter_entry_and_another_hash_of_its_tile, {"altered-entry"}, start, end, whole=True),
]


@pytest.mark.invariant(3)
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.tamper.__name__)
def test_tampering_is_found_and_named(row: Row, seed: int, log: Log, folder: Path, verified: Verify) -> None:
    dice = random.Random(f"{row.tamper.__name__}/{seed}")
    index = dice.randrange(768) if row.whole else dice.choice([0, 255, 256, 767, 768, SIZE - 1, dice.randrange(SIZE)])
    row.tamper(log, folder, index, dice)
    ran = verified(folder)
    assert ran.code == 1
    first = ran.first
    assert (first["kind"] in row.kinds, first["index"]) == (True, row.index(index)), ran.out
    assert first.get("last", first["index"]) == (row.last or row.index)(index)
    assert ran.told["first_wrong_leaf"] == row.index(index)
    assert len(ran.told["findings"]) <= 2, ran.out


def test_an_altered_entry_is_named_by_what_it_claims(log: Log, folder: Path, verified: Verify) -> None:
    alter_to_a_canonical_leaf(log, folder, 300, random.Random(1))
    said = __import__("json").loads(log.entries[300])
    assert verified(folder).first["leaf"] == {
        "producer": said["producer"],
        "epoch": "1",
        "seq": str(said["seq"]),
        "id": said["id"],
    }


def test_a_missing_entry_is_named_by_its_place_in_its_chain(log: Log, folder: Path, verified: Verify) -> None:
    leave_out(log, folder, 300, random.Random(1))
    said = __import__("json").loads(log.entries[300])
    place = f"{said['producer']} 1/{said['seq']} missing before"
    assert any(place in finding["message"] for finding in verified(folder).told["findings"])


def test_two_altered_entries_are_both_found(log: Log, folder: Path, verified: Verify) -> None:
    for index in (10, 500):
        alter_to_a_canonical_leaf(log, folder, index, random.Random(index))
    findings = verified(folder).told["findings"]
    assert [(finding["kind"], finding["index"]) for finding in findings] == [
        ("altered-entry", 10),
        ("altered-entry", 500),
    ]


def test_an_altered_entry_and_an_altered_tile_are_told_apart(log: Log, folder: Path, verified: Verify) -> None:
    alter_to_a_canonical_leaf(log, folder, 10, random.Random(1))
    alter_leaf_tile(log, folder, 500, random.Random(1))
    findings = verified(folder).told["findings"]
    assert [(one["kind"], one["index"]) for one in findings] == [("altered-entry", 10), ("altered-tile", 500)]


@pytest.mark.invariant(3)
def test_a_tree_other_than_the_signed_one_is_told_by_its_size(log: Log, folder: Path, verified: Verify) -> None:
    (folder / "checkpoint").write_bytes(log.checkpoint(root=sha256(b"another")))
    assert (verified(folder).first["kind"], verified(folder).first["size"]) == ("wrong-root", SIZE)


def test_a_checkpoint_by_another_key_is_not_taken(log: Log, folder: Path, verified: Verify) -> None:
    other = Log(generation=1).open()
    (folder / "checkpoint").write_bytes(other.checkpoint(SIZE, root=bytes(32)))
    assert verified(folder).kinds == ["unsigned"]


@pytest.mark.parametrize("change", [b"\n", b"", b"\xff", b"0\n"])
def test_a_checkpoint_that_is_none_is_told(log: Log, folder: Path, verified: Verify, change: bytes) -> None:
    (folder / "checkpoint").write_bytes(change + log.checkpoint()[3:] if change != b"" else b"")
    ran = verified(folder)
    assert (ran.code, ran.kinds[0] in {"malformed-checkpoint", "unsigned"}) == (1, True)


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 511, 512])
def test_every_single_entry_of_a_small_log_is_defended(size: int, tmp_path: Path, run: Run) -> None:
    log = Log().open().fill(size)
    log.write(tmp_path)
    for index in random.Random(size).sample(range(size), min(size, 12)):
        path = tmp_path / bundle_path(log, index // 256)
        kept = path.read_bytes()
        alter_a_byte(log, tmp_path, index, random.Random(index))
        ran = run("log", tmp_path, "--vkey", log.key.vkey, "--json")
        assert (ran.code, ran.first["kind"], ran.first["index"]) == (1, "altered-entry", index)
        path.write_bytes(kept)
    assert run("log", tmp_path, "--vkey", log.key.vkey).code == 0


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 65_535, 65_536, 65_537, 66_000])
def test_a_whole_log_of_any_size_is_verified(size: int, tmp_path: Path, run: Run) -> None:
    log = Log().open().fill(size) if size else Log()
    ran = run("log", log.write(tmp_path), "--vkey", log.key.vkey, "--json")
    assert (ran.code, ran.told["logs"][0]["size"]) == (0, size), ran.out
    assert sum(producer["leaves"] for producer in ran.told["producers"].values()) == size


def test_an_upper_level_that_lies_with_all_below_it_is_found(tmp_path: Path, run: Run) -> None:
    """Entry, leaf tile and level 1 agree with one another; level 2, bound to the signature, does not."""
    log = Log().open().fill(65_536 + 300)
    log.write(tmp_path / "good")
    forged = Log(log.key)
    forged.entries = list(log.entries)
    forged.entries[1000] = forged.entries[1000].replace(b"viewed", b"copied")
    forged.write(tmp_path / "forged")
    for path in ("tile/2/000.p/1", "checkpoint"):
        shutil.copy(tmp_path / "good" / path, tmp_path / "forged" / path)
    ran = run("log", tmp_path / "forged", "--vkey", log.key.vkey, "--json")
    assert (ran.first["kind"], ran.first["index"], ran.first["last"]) == ("altered-entry", 0, 65_535)
    ran = run("log", tmp_path / "forged", "--vkey", log.key.vkey, "--json", "--against", tmp_path / "good")
    assert (ran.first["kind"], ran.first["index"]) == ("altered-entry", 1000)


def test_garbage_in_every_file_ends_in_a_finding_and_no_traceback(log: Log, tmp_path: Path) -> None:
    dice = random.Random(7)
    good = log.write(tmp_path / "good", bodies=True)
    paths = [path.relative_to(good) for path in good.rglob("*") if path.is_file()]
    for number, path in enumerate(paths):
        for kind in range(4):
            bad = tmp_path / f"bad-{number}-{kind}"
            shutil.copytree(good, bad)
            whole = (good / path).read_bytes()
            (bad / path).write_bytes([b"", dice.randbytes(len(whole)), whole + b"\x00", dice.randbytes(1 << 18)][kind])
            ran = run_command("log", bad, "--vkey", log.key.vkey, "--json", "--bodies")
            assert ran.code == 1, (path, kind, ran.out)
            assert ran.kinds
            shutil.rmtree(bad)
