"""Merkle trees of RFC 6962 as far as a witness needs them: whether one tree begins with another."""

import hashlib
from collections.abc import Sequence
from typing import Final

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
MAX_SIZE: Final = 2**63 - 1
"""Largest size of a tree: 63 hashes suffice for every proof, and every database can hold the number."""


def node(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node (RFC 6962, section 2.1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def begins_with(old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether the proof shows that the tree (new, new_root) has the tree (old, old_root) as its first leaves.

    Needs 0 ≤ old ≤ new. The empty tree begins every tree, and a tree begins itself; both need an empty proof.
    Source: RFC 9162, section 2.1.4.2, which verifies the proofs of RFC 6962, section 2.1.2.
    """
    if not 0 <= old <= new:
        raise ValueError("a tree cannot begin with a larger one")
    if old == new:
        return not proof and old_root == new_root
    if old == 0:
        return not proof
    # A complete subtree is a node of the new tree itself, so proofs leave it out.
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    return bool(path) and _folded(path, old - 1, new - 1) == (old_root, new_root)


def _folded(path: Sequence[bytes], first: int, second: int) -> tuple[bytes, bytes] | None:
    """Both roots that follow from a path, by the numbers of the last leaf in each tree; nothing if it does not fit."""
    while first & 1:
        first, second = first >> 1, second >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if second == 0:
            return None
        if first & 1 or first == second:
            old, new = node(sibling, old), node(sibling, new)
            while first and not first & 1:
                first, second = first >> 1, second >> 1
        else:
            new = node(new, sibling)
        first, second = first >> 1, second >> 1
    return (old, new) if second == 0 else None
