"""Consistency proofs: each right one is accepted, and nothing else, judged by a tree that the test builds itself."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.witness.logbook import consistency, leaf, tree_hash

from dossier_witness.tree import EMPTY_ROOT, begins_with

LEAVES = [leaf(index) for index in range(130)]
RFC_LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
RFC_ROOTS = {
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


@pytest.mark.parametrize("size", RFC_ROOTS)
def test_the_tree_of_this_test_has_the_roots_that_everybody_has(size: int) -> None:
    assert tree_hash(RFC_LEAVES[:size]).hex() == RFC_ROOTS[size]
    assert hashlib.sha256(b"").digest() == EMPTY_ROOT


@pytest.mark.parametrize(("old", "new"), [(1, 2), (1, 3), (1, 8), (2, 3), (2, 8), (3, 8)])
def test_the_trees_of_the_vectors_begin_with_one_another(old: int, new: int) -> None:
    roots = bytes.fromhex(RFC_ROOTS[old]), bytes.fromhex(RFC_ROOTS[new])
    assert begins_with(old, roots[0], new, roots[1], consistency(old, RFC_LEAVES[:new]))


def test_every_pair_of_sizes_up_to_130_has_its_proof_and_no_shorter_or_longer_one() -> None:
    roots = [tree_hash(LEAVES[:size]) for size in range(len(LEAVES) + 1)]
    for new in range(len(LEAVES) + 1):
        for old in range(new + 1):
            proof = consistency(old, LEAVES[:new])
            assert begins_with(old, roots[old], new, roots[new], proof)
            assert not begins_with(old, roots[old], new, roots[new], [*proof, bytes(32)])
            if proof:
                assert not begins_with(old, roots[old], new, roots[new], proof[:-1])
                assert not begins_with(old, roots[old], new, roots[new], proof[1:])
                assert not begins_with(old, roots[old], new, roots[new], [])


sizes = st.tuples(st.integers(1, 129), st.integers(1, 130)).filter(lambda pair: pair[0] < pair[1])


@given(sizes, st.data())
def test_a_proof_with_any_bit_of_it_or_of_a_root_turned_is_refused(pair: tuple[int, int], data: st.DataObject) -> None:
    old, new = pair
    parts = [tree_hash(LEAVES[:old]), tree_hash(LEAVES[:new]), *consistency(old, LEAVES[:new])]
    index = data.draw(st.integers(0, len(parts) - 1))
    bit = data.draw(st.integers(0, 255))
    parts[index] = (int.from_bytes(parts[index], "big") ^ 1 << bit).to_bytes(32, "big")
    assert not begins_with(old, parts[0], new, parts[1], parts[2:])


@given(sizes, st.data())
def test_a_tree_with_any_of_the_old_leaves_changed_is_refused_with_its_own_proof(
    pair: tuple[int, int], data: st.DataObject
) -> None:
    old, new = pair
    changed = list(LEAVES[:new])
    changed[data.draw(st.integers(0, old - 1))] = b"changed"
    assert not begins_with(old, tree_hash(LEAVES[:old]), new, tree_hash(changed), consistency(old, changed))


@given(sizes, sizes)
def test_a_proof_between_other_sizes_is_refused(pair: tuple[int, int], other: tuple[int, int]) -> None:
    (old, new), proof = pair, consistency(other[0], LEAVES[: other[1]])
    same = proof == consistency(old, LEAVES[:new])
    assert begins_with(old, tree_hash(LEAVES[:old]), new, tree_hash(LEAVES[:new]), proof) == same


def test_a_proof_of_another_length_is_refused_even_when_the_roots_are_made_to_fit_it() -> None:
    roots = [tree_hash(LEAVES[:size]) for size in range(9)]
    assert not begins_with(4, roots[4], 16, roots[8], consistency(4, LEAVES[:8])), "the path ends before the root"
    above = bytes(32)
    fitting = [hashlib.sha256(b"\x01" + above + roots[size]).digest() for size in (3, 4)]
    longer = [*consistency(3, LEAVES[:4]), above]
    assert not begins_with(3, fitting[0], 4, fitting[1], longer), "the path goes on above the root"


def test_a_tree_does_not_begin_with_a_larger_one() -> None:
    with pytest.raises(ValueError, match="larger"):
        begins_with(2, EMPTY_ROOT, 1, EMPTY_ROOT, [])


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1), st.lists(st.binary(min_size=32, max_size=32), max_size=63))
def test_proofs_between_trees_of_any_size_end_in_a_verdict(one: int, two: int, proof: list[bytes]) -> None:
    old, new = sorted((one, two))
    believed = begins_with(old, bytes(32), new, bytes(32), proof)
    assert believed == (not proof and old in {0, new}), "nobody knows a tree with the root of 32 zeros"
