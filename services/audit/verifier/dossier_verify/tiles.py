"""Tiles: where a tree's hashes and entries stand in the tlog-tiles layout. Source: C2SP tlog-tiles."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

WIDTH: Final = 256
HASH: Final = 32
Kind = Literal["tile", "entries", "bodies"]


@dataclass(frozen=True, slots=True)
class Tile:
    """A resource of the tree: hashes at a level, or the entries or bodies beside the hashes of level 0."""

    kind: Kind
    level: int
    number: int
    width: int

    @property
    def first(self) -> int:
        """Index of the first leaf under it."""
        return self.number << 8 * (self.level + 1)

    @property
    def full(self) -> "Tile":
        """The full tile of the same place, which may stand when a partial one has gone."""
        return Tile(self.kind, self.level, self.number, WIDTH)

    @property
    def path(self) -> str:
        """`tile/<L>/<N>[.p/<W>]`, `tile/entries/<N>[.p/<W>]` or `bodies/<N>[.p/<W>]`, below the log's prefix."""
        start = {"tile": f"tile/{self.level}", "entries": "tile/entries", "bodies": "bodies"}[self.kind]
        partial = "" if self.width == WIDTH else f".p/{self.width}"
        return f"{start}/{_index(self.number)}{partial}"

    @property
    def largest(self) -> int:
        """Bytes beyond which nothing of this kind can be right, or (bodies) is read."""
        return {"tile": WIDTH * HASH, "entries": WIDTH * (2 + 0xFFFF), "bodies": 1 << 26}[self.kind]


def _index(number: int) -> str:
    parts = [f"{number % 1000:03d}"]
    while number := number // 1000:
        parts.append(f"x{number % 1000:03d}")
    return "/".join(reversed(parts))


def hashes(size: int, level: int, number: int) -> Tile:
    """The tile of hashes at this place in a tree of `size` leaves; its width is 0 or less where there is none."""
    return Tile("tile", level, number, min(WIDTH, (size >> 8 * level) - number * WIDTH))


def bundles(size: int, kind: Literal["entries", "bodies"] = "entries") -> Iterator[Tile]:
    """Every bundle of a tree of `size` leaves, in order."""
    for number in range(-(-size // WIDTH)):
        yield Tile(kind, 0, number, min(WIDTH, size - number * WIDTH))


def levels(size: int) -> int:
    """How many levels of tiles a tree of this size has."""
    return -(-size.bit_length() // 8)


def all_tiles(size: int) -> Iterator[Tile]:
    """Every tile of hashes of a tree of `size` leaves, from the leaves up."""
    for level in range(levels(size)):
        for number in range(-(-(size >> 8 * level) // WIDTH)):
            yield hashes(size, level, number)
