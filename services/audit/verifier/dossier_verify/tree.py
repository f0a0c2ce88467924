"""The Merkle tree: hashes, a frontier that grows by tiles, inclusion and consistency. Pure; sources: RFC 6962, 9162."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from dossier_verify.tiles import HASH, WIDTH

EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
_sha256 = hashlib.sha256
Node = Callable[[int, int], bytes]
"""The hash of the perfect subtree number i of height h: node(h, i)."""


def leaf_hash(entry: bytes) -> bytes:
    """SHA-256(0x00 ‖ entry)."""
    return _sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 ‖ left ‖ right)."""
    return _sha256(b"\x01" + left + right).digest()


def perfect_root(nodes: bytes) -> bytes:
    """The root over a power of two of hashes, given as one string."""
    while len(nodes) > HASH:
        nodes = b"".join([_sha256(b"\x01" + nodes[at : at + 64]).digest() for at in range(0, len(nodes), 64)])
    return nodes


def fold(peaks: Sequence[bytes]) -> bytes:
    """The root over perfect subtrees that stand from left to right, each larger than the next."""
    if not peaks:
        return EMPTY_ROOT
    root = peaks[-1]
    for peak in reversed(peaks[:-1]):
        root = node_hash(peak, root)
    return root


def peaks(nodes: bytes) -> list[bytes]:
    """The perfect subtrees, largest first, over at most 255 hashes of one level."""
    found, at, width = [], 0, len(nodes) // HASH
    for power in reversed(range(width.bit_length())):
        if width >> power & 1:
            end = at + (HASH << power)
            found.append(perfect_root(nodes[at:end]))
            at = end
    return found


def root_of_edge(edge: Iterable[bytes]) -> bytes:
    """The root of a tree from its right edge: the hashes of each level's partial tile, the highest level first."""
    return fold([peak for nodes in edge for peak in peaks(nodes)])


class Frontier:
    """A tree that grows by tiles of leaf hashes and keeps only its right edge: at most 255 hashes of each level."""

    def __init__(self) -> None:
        self.size = 0
        self._edge: list[bytearray] = []

    def grow(self, leaves: bytes) -> list[tuple[int, int, bytes]]:
        """Adds at most 256 leaf hashes after a multiple of 256; returns the tiles above that became full.

        Each as (level, number, its 256 hashes), from the lowest up.
        """
        assert self.size % WIDTH == 0
        self.size += len(leaves) // HASH
        if len(leaves) < WIDTH * HASH:
            self._level(0)[:] = leaves
            return []
        full: list[tuple[int, int, bytes]] = []
        level, nodes = 1, leaves
        while True:
            edge = self._level(level)
            edge += perfect_root(nodes)
            if len(edge) < WIDTH * HASH:
                return full
            nodes = bytes(edge)
            full.append((level, (self.size >> 8 * (level + 1)) - 1, nodes))
            edge.clear()
            level += 1

    def _level(self, level: int) -> bytearray:
        while len(self._edge) <= level:
            self._edge.append(bytearray())
        return self._edge[level]

    def edge(self) -> list[tuple[int, int, bytes]]:
        """The partial tiles as (level, number, hashes), from the lowest up; none is empty."""
        return [(level, self.size >> 8 * (level + 1), bytes(nodes)) for level, nodes in enumerate(self._edge) if nodes]

    def root(self, tail: bytes = b"") -> bytes:
        """The root, or what it would be with at most 255 leaf hashes more after a multiple of 256."""
        above = [bytes(nodes) for nodes in reversed(self._edge[1:])]
        return root_of_edge([*above, tail or bytes(self._edge[0] if self._edge else b"")])


def range_hash(start: int, end: int, node: Node) -> bytes:
    """MTH(D[start:end]) for a range that occurs in a proof: `start` is a multiple of a power of two ≥ end - start."""
    found = []
    while start < end:
        height = (end - start).bit_length() - 1
        found.append(node(height, start >> height))
        start += 1 << height
    return fold(found)


def consistency_proof(old: int, new: int, node: Node) -> list[bytes]:
    """The hashes that show D[:old] to be a prefix of D[:new], 0 < old ≤ new. Source: RFC 9162, 2.1.4.1."""
    proof: list[bytes] = []
    start, end, whole = 0, new, True
    while old != end:
        split = 1 << ((end - start - 1).bit_length() - 1)
        if old - start <= split:
            proof.append(range_hash(start + split, end, node))
            end = start + split
        else:
            proof.append(range_hash(start, start + split, node))
            start += split
            whole = False
    if not whole:
        proof.append(range_hash(start, end, node))
    return proof[::-1]


def consistent(old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether the proof shows the tree of `old` leaves to be a prefix of that of `new`. Source: RFC 9162, 2.1.4.2."""
    if old == 0:
        return not proof and old_root == EMPTY_ROOT
    if old >= new:
        return old == new and not proof and old_root == new_root
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path:
        return False
    fn, sn = old - 1, new - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]
    for step in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            fr, sr = node_hash(step, fr), node_hash(step, sr)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node_hash(sr, step)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and fr == old_root and sr == new_root


def included(index: int, size: int, leaf: bytes, root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether the proof binds the leaf's hash at `index` to the root of `size` leaves. Source: RFC 9162, 2.1.3.2."""
    if not 0 <= index < size:
        return False
    fn, sn, found = index, size - 1, leaf
    for step in proof:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            found = node_hash(step, found)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            found = node_hash(found, step)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and found == root
