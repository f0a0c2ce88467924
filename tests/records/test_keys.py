import json
import shutil
import subprocess
import sys
from base64 import b64decode, b64encode
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.records.world import World

from dossier_common.ids import new_id
from dossier_common.standing import Status
from dossier_records import envelopes
from dossier_records.envelopes import CannotOpen
from dossier_records.keyring import FileKeyring, IndexKeyMissing, KeyDestroyed, WrongPassphrase
from dossier_records.main import create

algorithms = st.sampled_from(sorted(envelopes.KEY_BYTES))
names = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
values = st.dictionaries(names, st.text(max_size=40), min_size=1, max_size=4)
uuids = st.uuids()
versions = st.integers(1, 2**31 - 1)


# ---- envelopes


@settings(deadline=None)
@given(algorithms, uuids, versions, values)
def test_what_was_sealed_opens_and_shows_no_value(
    algorithm: str, record: UUID, version: int, fields: dict[str, str]
) -> None:
    key = envelopes.new_key(algorithm)
    sealed = envelopes.seal(algorithm, key, record, version, fields)
    assert envelopes.names(sealed) == tuple(fields)
    assert envelopes.unseal(key, record, version, sealed, fields) == fields
    some = list(fields)[:1]
    assert envelopes.unseal(key, record, version, sealed, some) == {name: fields[name] for name in some}
    assert json.loads(sealed)["alg"] == algorithm
    for value in fields.values():
        if len(value.encode()) > 8:
            assert value.encode() not in sealed


@settings(deadline=None)
@given(algorithms, uuids, versions, values, uuids, versions)
def test_what_was_moved_to_another_record_or_version_never_opens(
    algorithm: str, record: UUID, version: int, fields: dict[str, str], other: UUID, later: int
) -> None:
    key = envelopes.new_key(algorithm)
    sealed = envelopes.seal(algorithm, key, record, version, fields)
    for place in {(other, version), (record, later), (other, later)} - {(record, version)}:
        with pytest.raises(CannotOpen):
            envelopes.unseal(key, *place, sealed, fields)
    with pytest.raises(CannotOpen):
        envelopes.unseal(envelopes.new_key(algorithm), record, version, sealed, fields)


@settings(deadline=None)
@given(algorithms, uuids, versions, names, names, st.text(max_size=20))
def test_a_value_moved_to_another_field_never_opens(
    algorithm: str, record: UUID, version: int, name: str, other: str, value: str
) -> None:
    key = envelopes.new_key(algorithm)
    sealed = json.loads(envelopes.seal(algorithm, key, record, version, {name: value}))
    moved = json.dumps({**sealed, "fields": {other: sealed["fields"][name]}}).encode()
    if other == name:
        return
    with pytest.raises(CannotOpen):
        envelopes.unseal(key, record, version, moved, [other])


@settings(deadline=None)
@given(algorithms, uuids, st.text(min_size=1, max_size=20), st.data())
def test_no_changed_bit_and_no_other_algorithm_opens(
    algorithm: str, record: UUID, value: str, data: st.DataObject
) -> None:
    key = envelopes.new_key(algorithm)
    sealed = json.loads(envelopes.seal(algorithm, key, record, 1, {"name": value}))
    raw = bytearray(b64decode(sealed["fields"]["name"]))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    changed = {**sealed, "fields": {"name": b64encode(raw).decode()}}
    cut = {**sealed, "fields": {"name": b64encode(raw[: data.draw(st.integers(0, len(raw) - 1))]).decode()}}
    relabelled = {**sealed, "alg": next(name for name in envelopes.KEY_BYTES if name != algorithm)}
    for wrong in (changed, cut, relabelled, {**sealed, "alg": "none"}):
        with pytest.raises(CannotOpen):
            envelopes.unseal(key, record, 1, json.dumps(wrong).encode(), ["name"])


@given(st.binary(max_size=60))
def test_what_is_no_envelope_says_so(content: bytes) -> None:
    with pytest.raises(CannotOpen):
        envelopes.names(content)
    with pytest.raises(CannotOpen):
        envelopes.unseal(b"0" * 32, UUID(int=1), 1, content, ["name"])


def test_equal_values_are_sealed_differently_and_indexed_alike() -> None:
    key, record = envelopes.new_key("AES-256-GCM"), new_id()
    assert envelopes.seal("AES-256-GCM", key, record, 1, {"a": "x"}) != envelopes.seal(
        "AES-256-GCM", key, record, 1, {"a": "x"}
    )
    assert envelopes.blind(b"k" * 32, "phone", "1") == envelopes.blind(b"k" * 32, "phone", "1")
    assert len({envelopes.blind(k, f, v) for k in (b"k", b"l") for f in ("a", "b") for v in ("1", "2")}) == 8
    assert envelopes.blind(b"k", "a", "b") != envelopes.blind(b"k", "a\0b", "")


# ---- the file key provider


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keyring") / "keys"


@pytest.fixture(scope="module")
def keyring(folder: Path) -> FileKeyring:
    return FileKeyring(folder, b"passphrase")


def ring() -> str:
    return f"secret-{new_id()}"


def test_a_wrapped_key_opens_for_its_own_ring_epoch_and_place_only(keyring: FileKeyring) -> None:
    one, other = ring(), ring()
    for name, epoch in ((one, 1), (one, 2), (other, 1)):
        keyring.create(name, epoch)
    wrapped = keyring.wrap(one, 1, b"data key", b"place")
    assert keyring.unwrap(one, 1, wrapped, b"place") == b"data key"
    for name, epoch, content, place in (
        (one, 2, wrapped, b"place"),
        (other, 1, wrapped, b"place"),
        (one, 1, wrapped, b"elsewhere"),
        (one, 1, wrapped[:-1], b"place"),
        (one, 1, b"", b"place"),
    ):
        with pytest.raises(CannotOpen):
            keyring.unwrap(name, epoch, content, place)


@pytest.mark.invariant(5)
def test_a_destroyed_key_never_opens_again_in_any_process(folder: Path, keyring: FileKeyring) -> None:
    name = ring()
    keyring.create(name, 1)
    other = FileKeyring(folder, b"passphrase")
    wrapped = keyring.wrap(name, 1, b"data key", b"")
    assert other.unwrap(name, 1, wrapped, b"") == b"data key"  # has the key in memory now
    path = folder / f"{name}.1.key"
    with path.open("rb") as held:
        before = held.read()
        keyring.destroy(name, 1)
        held.seek(0)
        assert held.read() != before  # overwritten, not only unlinked
    assert not path.exists()
    keyring.destroy(name, 1)
    for process in (keyring, other, FileKeyring(folder, b"passphrase")):
        assert not process.holds(name, 1)
        with pytest.raises(KeyDestroyed):
            process.unwrap(name, 1, wrapped, b"")
        with pytest.raises(KeyDestroyed):
            process.wrap(name, 1, b"another", b"")
    keyring.create(name, 1)  # a new key under the old name opens nothing of the old
    for process in (keyring, other):
        with pytest.raises(CannotOpen):
            process.unwrap(name, 1, wrapped, b"")


def test_a_key_that_exists_stays_when_it_is_made_again(keyring: FileKeyring) -> None:
    name = ring()
    keyring.create(name, 1)
    wrapped = keyring.wrap(name, 1, b"data key", b"")
    keyring.create(name, 1)
    assert keyring.unwrap(name, 1, wrapped, b"") == b"data key"


PROCESS = """
import sys
from pathlib import Path
from dossier_records.keyring import FileKeyring
keyring = FileKeyring(Path(sys.argv[1]), b"passphrase")
sys.stdin.readline()
index_key = keyring.index_key()
for number in range(40):
    keyring.create(f"shared-{number}", 1)
print(" ".join(keyring.wrap(f"shared-{n}", 1, b"from " + sys.argv[2].encode(), b"").hex() for n in range(40)))
print(index_key.hex())
"""


def test_processes_that_make_the_same_keys_at_once_agree(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(folder), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    said = []
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        said.append(output.splitlines())
    keyring = FileKeyring(folder, b"passphrase")
    for number, (wrapped, index_key) in enumerate(said):
        assert bytes.fromhex(index_key) == keyring.index_key()
        for place, each in enumerate(wrapped.split()):
            assert keyring.unwrap(f"shared-{place}", 1, bytes.fromhex(each), b"") == b"from %d" % number
    assert not list(folder.glob(".*"))


def test_a_wrong_passphrase_is_refused_at_the_start(folder: Path, keyring: FileKeyring) -> None:
    with pytest.raises(WrongPassphrase):
        FileKeyring(folder, b"another")


def test_another_index_key_is_never_made_beside_the_keys_of_rings(tmp_path: Path) -> None:
    keyring = FileKeyring(tmp_path, b"passphrase")
    kept = keyring.index_key()
    keyring.create(ring(), 1)
    assert FileKeyring(tmp_path, b"passphrase").index_key() == kept
    (tmp_path / "index.1.key").unlink()
    with pytest.raises(IndexKeyMissing):
        keyring.index_key()


async def test_with_another_key_ring_records_does_nothing_until_its_own_is_back(world: World, tmp_path: Path) -> None:
    await world.register()
    empty = tmp_path / "empty"
    there = world.settings.model_copy(update={"keyring_dir": empty})
    elsewhere = create(there)
    async with elsewhere.router.lifespan_context(elsewhere):
        standing = elsewhere.state.standing
        assert await standing.look() is Status.KEYS_MISSING
        assert not standing.open
        assert f"{empty} holds a key of none of the" in standing._said[1]
        shutil.copytree(world.settings.keyring_dir, empty, dirs_exist_ok=True)
        assert await standing.look() is Status.KEYS_MISSING
        assert "start it again" in standing._said[1], "it has the keys of the empty folder in memory"
    again = create(there)
    async with again.router.lifespan_context(again):
        assert await again.state.standing.look() is Status.READY
        for path in empty.glob("*-*.1.key"):  # as after destructions, under a database from before them
            path.rename(path.with_name(path.name.replace(".1.key", ".2.key")))
        assert await again.state.standing.look() is Status.READY
        for path in empty.glob("*-*.key"):
            path.unlink()
        assert await again.state.standing.look() is Status.KEYS_MISSING


def test_a_key_file_that_was_swapped_or_changed_is_not_used(folder: Path, keyring: FileKeyring) -> None:
    one, two = ring(), ring()
    for name in (one, two):
        keyring.create(name, 1)
    paths = [folder / f"{name}.1.key" for name in (one, two)]
    paths[1].write_bytes(paths[0].read_bytes())
    with pytest.raises(WrongPassphrase):
        FileKeyring(folder, b"passphrase").wrap(two, 1, b"", b"")


def test_the_folder_and_its_files_are_the_owner_s_alone(folder: Path, keyring: FileKeyring) -> None:
    keyring.create(ring(), 1)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


@pytest.mark.parametrize("name", ["../evil", "a/b", "", ".", "a.b", "a\0b"])
def test_a_ring_s_name_is_no_path(keyring: FileKeyring, name: str) -> None:
    with pytest.raises(ValueError, match="not a ring"):
        keyring.create(name, 1)
