"""Tree, tiles and proofs against the vectors of RFC 6962's test data and a definition written anew here."""

import hashlib
from base64 import b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dossier_audit.log import proofs, tiles
from dossier_audit.log.tiles import NoSuchTile, Place, numbered, read_level, read_numbered, width_at
from dossier_audit.log.tree import EMPTY_ROOT, HASH, WIDTH, Tile, Tree, leaf_hash

LEAVES = [b"", *(bytes.fromhex(each) for each in ("00", "10", "2021", "3031", "40414243", "5051525354555657"))]
LEAVES.append(bytes.fromhex("606162636465666768696a6b6c6d6e6f"))
ROOTS = {
    0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


def mth(hashes: list[bytes]) -> bytes:
    """RFC 6962, 2.1, as it stands there."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    k = 1
    while k * 2 < len(hashes):
        k *= 2
    return hashlib.sha256(b"\x01" + mth(hashes[:k]) + mth(hashes[k:])).digest()


def included(index: int, size: int, leaf: bytes, proof: list[bytes]) -> bytes:
    """The root that a proof leads to (RFC 9162, 2.1.3.2)."""
    fn, sn, root = index, size - 1, leaf
    for each in proof:
        assert sn > 0
        if fn & 1 or fn == sn:
            root = hashlib.sha256(b"\x01" + each + root).digest()
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            root = hashlib.sha256(b"\x01" + root + each).digest()
        fn, sn = fn >> 1, sn >> 1
    assert sn == 0
    return root


def consistent(old: int, new: int, old_root: bytes, proof: list[bytes]) -> tuple[bytes, bytes]:
    """Both roots that a proof leads to (RFC 9162, 2.1.4.2)."""
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    fn, sn = old - 1, new - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]
    for each in path[1:]:
        assert sn > 0
        if fn & 1 or fn == sn:
            fr = hashlib.sha256(b"\x01" + each + fr).digest()
            sr = hashlib.sha256(b"\x01" + each + sr).digest()
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = hashlib.sha256(b"\x01" + sr + each).digest()
        fn, sn = fn >> 1, sn >> 1
    assert sn == 0
    return fr, sr


def grown(hashes: list[bytes], step: int = 300) -> tuple[Tree, dict[tuple[int, int], bytes]]:
    """A tree, and all of its tiles, the partial ones too."""
    tree, kept = Tree(), dict[tuple[int, int], bytes]()
    for at in range(0, len(hashes), step):
        tree, full = tree.extended(hashes[at : at + step])
        kept |= {(tile.level, tile.index): tile.hashes for tile in full}
    for level, edge in enumerate(tree.edge):
        if edge:
            kept[level, (tree.size >> (8 * level)) // WIDTH] = b"".join(edge)
    return tree, kept


def test_roots_are_those_of_the_standard() -> None:
    for size, root in ROOTS.items():
        assert Tree().extended([leaf_hash(each) for each in LEAVES[:size]])[0].root().hex() == root
    assert EMPTY_ROOT.hex() == ROOTS[0]


HASHES = [leaf_hash(number.to_bytes(4, "big")) for number in range(70_000)]


@pytest.mark.parametrize("size", [1, 255, 256, 257, 511, 512, 513, 1000, 65_535, 65_536, 65_537, 70_000])
def test_the_root_is_the_definitions_however_the_leaves_come(size: int) -> None:
    wanted = mth(HASHES[:size])
    for step in (7, 256, 1000, size):
        assert grown(HASHES[:size], max(step, size // 50))[0].root() == wanted
    assert grown(HASHES[:size], 300)[0].root() == wanted


def test_tiles_of_70000_leaves_are_those_of_the_specification() -> None:
    _, full = Tree().extended(HASHES)
    assert [sum(1 for tile in full if tile.level == level) for level in range(3)] == [273, 1, 0]
    assert [width_at(0, 273, 70_000), width_at(1, 1, 70_000), width_at(2, 0, 70_000)] == [112, 17, 1]
    assert width_at(0, 274, 70_000) == width_at(1, 2, 70_000) == width_at(3, 0, 70_000) == 0
    assert [width_at(0, 0, 256), width_at(0, 1, 256), width_at(1, 0, 256)] == [256, 0, 1]
    assert full[0] == Tile(0, 0, b"".join(HASHES[:256]), mth(HASHES[:256]))
    assert all(len(tile.hashes) == WIDTH * HASH for tile in full)


@given(st.data())
def test_inclusion_proofs_lead_to_the_root(data: st.DataObject) -> None:
    size = data.draw(st.one_of(st.integers(1, 700), st.sampled_from([65_536, 65_537, 69_999])))
    index = data.draw(st.integers(0, size - 1))
    tree, kept = TREES.get(size) or TREES.setdefault(size, grown(HASHES[:size]))
    ranges = proofs.inclusion(index, size)
    for place in proofs.tiles_of(ranges, size):
        assert len(kept[place.level, place.index]) == place.width * HASH
    proof = proofs.evaluated(ranges, kept)
    assert included(index, size, HASHES[index], proof) == tree.root()


@given(st.data())
def test_consistency_proofs_lead_to_both_roots(data: st.DataObject) -> None:
    new = data.draw(st.one_of(st.integers(2, 700), st.sampled_from([65_536, 65_537, 69_999])))
    old = data.draw(st.integers(1, new - 1))
    tree, kept = TREES.get(new) or TREES.setdefault(new, grown(HASHES[:new]))
    proof = proofs.evaluated(proofs.consistency(old, new), kept)
    old_root = grown(HASHES[:old])[0].root()
    assert consistent(old, new, old_root, proof) == (old_root, tree.root())
    assert len(proof) <= 63


TREES: dict[int, tuple[Tree, dict[tuple[int, int], bytes]]] = {}


def test_nothing_proves_a_tree_consistent_with_none_or_itself() -> None:
    assert proofs.consistency(0, 5) == proofs.consistency(5, 5) == []
    with pytest.raises(ValueError, match="larger"):
        proofs.consistency(6, 5)
    with pytest.raises(ValueError, match="no such leaf"):
        proofs.inclusion(5, 5)


@pytest.mark.parametrize(
    ("index", "width", "text"),
    [
        (0, 256, "000"),
        (999, 1, "999.p/1"),
        (1000, 256, "x001/000"),
        (1_234_067, 256, "x001/x234/067"),
        (1_234_067, 112, "x001/x234/067.p/112"),
    ],
)
def test_addresses_are_those_of_the_specification(index: int, width: int, text: str) -> None:
    assert numbered(index, width) == text
    assert read_numbered(text) == (index, width)
    assert Place(3, index, width).path() == f"3/{text}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "00",
        "0000",
        "x001",
        "x000/000",
        "001/000",
        "x001/x000",
        "000.p/0",
        "000.p/256",
        "000.p/01",
        "000.p/",
        "000.p",
        "000.p/1/2",
        "x1/000",
        "-01",
        "０００",
        "x001//000",
        "000.p/999",
        "x001/000/",
        "000.p/1 ",
    ],
)
def test_what_is_no_address_is_no_tile(text: str) -> None:
    with pytest.raises(NoSuchTile):
        read_numbered(text)


@pytest.mark.parametrize("text", ["00", "64", "-1", "", "1a", "６", "063"])
def test_what_is_no_level_is_no_tile(text: str) -> None:
    with pytest.raises(NoSuchTile):
        read_level(text)


def test_levels_are_0_to_63() -> None:
    assert [read_level(str(level)) for level in range(64)] == list(range(64))


def test_a_bundle_holds_each_entry_behind_its_length() -> None:
    assert tiles.bundle([b"", b"abc", b"\0" * 300]) == b"\0\0\0\x03abc\x01\x2c" + b"\0" * 300
    with pytest.raises(OverflowError):
        tiles.bundle([b"\0" * 65_536])


def test_a_proof_file_is_as_the_specification_says() -> None:
    text = proofs.proof_file(7, [b"\1" * 32], "example.com/log\n9\nAA\n\n— x y\n", b"entry")
    lines = text.split("\n")
    assert lines[:3] == ["c2sp.org/tlog-proof@v1", "extra ZW50cnk=", "index 7"]
    assert b64decode(lines[3]) == b"\1" * 32
    assert lines[4:6] == ["", "example.com/log"]
