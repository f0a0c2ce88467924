"""The Merkle tree (RFC 6962, SHA-256), kept by its right edge alone.

A tree of any size is known by the hashes that are not yet in a full tile: at most 255 a level. Appending gives the
tiles that became full; what it costs does not depend on the size.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

WIDTH: Final = 256
"""Hashes in a full tile: height 8 (C2SP tlog-tiles)."""
HASH: Final = 32
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """SHA-256(0x00 ‖ entry)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 ‖ left ‖ right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def perfect_root(hashes: bytes) -> bytes:
    """Root over a power of two of hashes, one behind the other. Raises ValueError for another number."""
    number, rest = divmod(len(hashes), HASH)
    if rest or not number or number & (number - 1):
        raise ValueError("not a power of two")
    while len(hashes) > HASH:
        pairs = range(0, len(hashes), 2 * HASH)
        hashes = b"".join([hashlib.sha256(b"\x01" + hashes[at : at + 2 * HASH]).digest() for at in pairs])
    return hashes


def peaks(first: int, end: int) -> list[tuple[int, int]]:
    """The perfect subtrees that leaves [first, end) consist of, largest first, as (first, end).

    `first` has to begin a subtree at least as large as the range, as it does for each range of RFC 6962.
    """
    found = []
    while first < end:
        size = 1 << ((end - first).bit_length() - 1)
        found.append((first, first + size))
        first += size
    return found


def folded(roots: Iterable[bytes]) -> bytes:
    """The hash over perfect subtrees from left to right, each larger than the next."""
    *before, root = roots
    for left in reversed(before):
        root = node_hash(left, root)
    return root


@dataclass(frozen=True, slots=True)
class Tile:
    """A full tile: hash `i` is the root of leaves [(index·256+i)·256^level, (index·256+i+1)·256^level)."""

    level: int
    index: int
    hashes: bytes
    root: bytes


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree of `size` leaves; `edge[level]` are the hashes of that level's partial tile, 0 to 255."""

    size: int = 0
    edge: tuple[tuple[bytes, ...], ...] = ()

    def extended(self, leaves: Sequence[bytes]) -> "tuple[Tree, list[Tile]]":
        """The tree with these leaf hashes behind it, and the tiles that this made full, lower levels first."""
        edge: list[tuple[bytes, ...]] = []
        tiles: list[Tile] = []
        level, coming, size = 0, list(leaves), self.size
        while coming or level < len(self.edge):
            known = self.edge[level] if level < len(self.edge) else ()
            hashes = [*known, *coming]
            first = ((size >> (8 * level)) - len(known)) // WIDTH
            full = len(hashes) // WIDTH
            coming = []
            for number in range(full):
                part = b"".join(hashes[number * WIDTH : (number + 1) * WIDTH])
                tile = Tile(level, first + number, part, perfect_root(part))
                tiles.append(tile)
                coming.append(tile.root)
            edge.append(tuple(hashes[full * WIDTH :]))
            level += 1
        return Tree(size + len(leaves), tuple(edge)), tiles

    def root(self) -> bytes:
        """The root over all leaves; SHA-256 of nothing for an empty tree."""
        if self.size == 0:
            return EMPTY_ROOT
        return folded(
            perfect_root(b"".join(hashes[first:end]))
            for hashes in reversed(self.edge)
            for first, end in peaks(0, len(hashes))
        )
