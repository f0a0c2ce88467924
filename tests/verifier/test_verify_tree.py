"""The tree, against RFC 6962's recursive definition and its known roots."""

import hashlib
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.verifier import writer

from dossier_verify import tiles, tree

LEAVES: Final = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS: Final = {
    0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


def leaf_hashes(count: int) -> list[bytes]:
    return [hashlib.sha256(number.to_bytes(4, "big")).digest() for number in range(count)]


def grown(hashes: list[bytes]) -> tree.Frontier:
    frontier = tree.Frontier()
    for at in range(0, len(hashes), 256):
        frontier.grow(b"".join(hashes[at : at + 256]))
    return frontier


@pytest.mark.parametrize("size", ROOTS)
def test_known_roots(size: int) -> None:
    assert grown([tree.leaf_hash(entry) for entry in LEAVES[:size]]).root().hex() == ROOTS[size]


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 511, 512, 513, 4096, 65535, 65536, 65537, 66049])
def test_frontier_makes_the_recursive_root(size: int) -> None:
    hashes = leaf_hashes(size)
    assert grown(hashes).root() == writer.mth(hashes)


@given(st.integers(0, 1500), st.data())
def test_frontier_makes_the_root_of_every_prefix(size: int, data: st.DataObject) -> None:
    hashes = leaf_hashes(size)
    prefix = data.draw(st.integers(0, size))
    whole = prefix - prefix % 256
    assert grown(hashes[:whole]).root(b"".join(hashes[whole:prefix])) == writer.mth(hashes[:prefix])


@given(st.integers(1, 600), st.data())
def test_inclusion_holds_for_its_leaf_alone(size: int, data: st.DataObject) -> None:
    hashes = leaf_hashes(size)
    index = data.draw(st.integers(0, size - 1))
    proof, root = writer.inclusion(index, hashes), writer.mth(hashes)
    assert tree.included(index, size, hashes[index], root, proof)
    other = data.draw(st.integers(0, size - 1).filter(lambda at: at != index)) if size > 1 else size
    assert not tree.included(other, size, hashes[index], root, proof)
    assert not tree.included(index, size, tree.leaf_hash(b"another"), root, proof)
    assert not tree.included(index, size, hashes[index], root, [*proof, bytes(32)])
    if proof:
        assert not tree.included(index, size, hashes[index], root, proof[:-1])


def node_of(hashes: list[bytes]) -> tree.Node:
    return lambda height, index: writer.mth(hashes[index << height : (index + 1) << height])


@given(st.integers(1, 600), st.data())
def test_consistency_proof_is_that_of_the_rfc_and_holds(size: int, data: st.DataObject) -> None:
    hashes = leaf_hashes(size)
    old = data.draw(st.integers(1, size))
    proof = tree.consistency_proof(old, size, node_of(hashes))
    assert proof == writer.consistency(old, hashes)
    assert tree.consistent(old, writer.mth(hashes[:old]), size, writer.mth(hashes), proof)


@given(st.integers(2, 600), st.data())
def test_no_proof_holds_for_another_tree(size: int, data: st.DataObject) -> None:
    hashes = leaf_hashes(size)
    old = data.draw(st.integers(1, size - 1))
    proof = writer.consistency(old, hashes)
    forged = list(hashes)
    forged[data.draw(st.integers(0, old - 1))] = bytes(32)
    assert not tree.consistent(old, writer.mth(forged[:old]), size, writer.mth(hashes), proof)
    assert not tree.consistent(old, writer.mth(hashes[:old]), size, writer.mth(forged), proof)
    at = data.draw(st.integers(0, len(proof) - 1))
    wrong = [*proof[:at], bytes(32), *proof[at + 1 :]]
    assert not tree.consistent(old, writer.mth(hashes[:old]), size, writer.mth(hashes), wrong)
    assert not tree.consistent(old, writer.mth(hashes[:old]), size, writer.mth(hashes), [*proof, bytes(32)])
    assert not tree.consistent(old, writer.mth(hashes[:old]), size, writer.mth(hashes), proof[:-1])


def test_consistency_from_nothing_and_with_itself_needs_no_proof() -> None:
    root = writer.mth(leaf_hashes(5))
    assert tree.consistent(0, tree.EMPTY_ROOT, 5, root, [])
    assert not tree.consistent(0, root, 5, root, [])
    assert tree.consistent(5, root, 5, root, [])
    assert not tree.consistent(5, root, 5, tree.EMPTY_ROOT, [])
    assert not tree.consistent(6, root, 5, root, [])


def test_tiles_of_70000_leaves_are_those_of_the_specification() -> None:
    found = list(tiles.all_tiles(70_000))
    assert [(tile.level, tile.width) for tile in found if tile.width < 256] == [(0, 112), (1, 17), (2, 1)]
    assert sum(tile.level == 0 and tile.width == 256 for tile in found) == 273
    assert sum(tile.level == 1 and tile.width == 256 for tile in found) == 1


def test_tiles_of_256_leaves_are_a_full_one_and_one_hash_above() -> None:
    assert [(tile.path, tile.width) for tile in tiles.all_tiles(256)] == [("tile/0/000", 256), ("tile/1/000.p/1", 1)]


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (tiles.Tile("tile", 3, 1_234_067, 256), "tile/3/x001/x234/067"),
        (tiles.Tile("tile", 0, 273, 112), "tile/0/273.p/112"),
        (tiles.Tile("entries", 0, 999, 256), "tile/entries/999"),
        (tiles.Tile("entries", 0, 1000, 1), "tile/entries/x001/000.p/1"),
        (tiles.Tile("bodies", 0, 0, 5), "bodies/000.p/5"),
    ],
)
def test_paths_are_those_of_the_specification(tile: tiles.Tile, path: str) -> None:
    assert tile.path == path


@settings(max_examples=30)
@given(st.integers(1, 1 << 40))
def test_every_leaf_is_under_exactly_one_tile_of_each_level(size: int) -> None:
    for level in range(tiles.levels(size)):
        count = size >> 8 * level
        last = tiles.hashes(size, level, (count - 1) // 256)
        assert 1 <= last.width <= 256
        assert last.number * 256 + last.width == count
    assert size >> 8 * tiles.levels(size) == 0
