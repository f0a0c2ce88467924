"""Inclusion and consistency proofs (RFC 6962, 2.1), computed from tiles, and the `.tlog-proof` file.

A proof is a list of ranges of leaves whose hashes it holds. Which tiles they need is asked first, so that all can be
read at once.
"""

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from dossier_audit.log.tiles import Place, width_at
from dossier_audit.log.tree import HASH, WIDTH, folded, peaks, perfect_root

HEADER: Final = "c2sp.org/tlog-proof@v1"
Range = tuple[int, int]
"""Leaves [first, end)."""


def inclusion(index: int, size: int) -> list[Range]:
    """What proves leaf `index` in a tree of `size` leaves, from the leaf to the root. Raises ValueError."""
    if not 0 <= index < size:
        raise ValueError("no such leaf")
    first, end = 0, size
    found: list[Range] = []
    while end - first > 1:
        middle = first + _split(end - first)
        if index < middle:
            found.append((middle, end))
            end = middle
        else:
            found.append((first, middle))
            first = middle
    return found[::-1]


def consistency(old: int, new: int) -> list[Range]:
    """What proves that a tree of `new` leaves begins with one of `old`. Raises ValueError when `old` is larger.

    Empty for `old` = 0 and for `old` = `new` (C2SP tlog-witness).
    """
    if not 0 <= old <= new:
        raise ValueError("the old tree is larger")
    if old in {0, new}:
        return []
    first, end = 0, new
    found: list[Range] = []
    whole = True
    while old != end:
        middle = first + _split(end - first)
        if old <= middle:
            found.append((middle, end))
            end = middle
        else:
            found.append((first, middle))
            first, whole = middle, False
    if not whole:
        found.append((first, end))
    return found[::-1]


def tiles_of(ranges: Iterable[Range], size: int) -> set[Place]:
    """The tiles of a tree of `size` leaves that these ranges are computed from."""
    found = set()
    for first, end in ranges:
        for peak in peaks(first, end):
            level, index, _, _ = _within(*peak)
            found.add(Place(level, index, width_at(level, index, size)))
    return found


def evaluated(ranges: Sequence[Range], tiles: Mapping[tuple[int, int], bytes]) -> list[bytes]:
    """The hashes of the ranges. `tiles` maps (level, index) to the tile's hashes. Raises KeyError for a missing one."""
    return [folded(_perfect(peak, tiles) for peak in peaks(*each)) for each in ranges]


def proof_file(index: int, hashes: Iterable[bytes], checkpoint: str, extra: bytes) -> str:
    """A `.tlog-proof`: verifiable offline by whoever has the keys. `extra` is here the entry itself."""
    lines = [HEADER, f"extra {b64encode(extra).decode()}", f"index {index}"]
    lines += [b64encode(each).decode() for each in hashes]
    return "\n".join([*lines, "", checkpoint])


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << ((size - 1).bit_length() - 1)


def _within(first: int, end: int) -> tuple[int, int, int, int]:
    """Where a perfect subtree stands: level and index of its tile, and the hashes in it."""
    height = (end - first).bit_length() - 1
    level = height // 8
    start, stop = first >> (8 * level), end >> (8 * level)
    index = start // WIDTH
    return level, index, start - index * WIDTH, stop - index * WIDTH


def _perfect(peak: Range, tiles: Mapping[tuple[int, int], bytes]) -> bytes:
    level, index, start, stop = _within(*peak)
    return perfect_root(tiles[level, index][start * HASH : stop * HASH])
