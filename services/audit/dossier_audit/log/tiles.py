"""Where a tile stands (C2SP tlog-tiles): coordinates, addresses, widths, bundles of entries."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from dossier_audit.log.tree import WIDTH

_GROUPS: Final = re.compile(r"^(?:x[0-9]{3}/){0,5}[0-9]{3}$")
_LEVEL: Final = re.compile(r"^(?:0|[1-5]?[0-9]|6[0-3])$")
_PARTIAL: Final = re.compile(r"^[1-9][0-9]{0,2}$")
LONGEST_ENTRY: Final = 65535


class NoSuchTile(ValueError):
    """An address at which no tile can be."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A tile at a level, by its index, `width` hashes wide: 1 to 256."""

    level: int
    index: int
    width: int = WIDTH

    def path(self) -> str:
        """Its address below `tile/`."""
        return f"{self.level}/{numbered(self.index, self.width)}"


def numbered(index: int, width: int = WIDTH) -> str:
    """`x001/x234/067`, with `.p/<width>` for a partial one."""
    digits = f"{index:d}"
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    text = "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
    return text if width == WIDTH else f"{text}.p/{width}"


def read_numbered(text: str) -> tuple[int, int]:
    """Index and width of an address. Raises NoSuchTile for one that `numbered` does not give."""
    groups, partial, tail = text.partition(".p/")
    if not _GROUPS.fullmatch(groups) or (partial and not _PARTIAL.fullmatch(tail)):
        raise NoSuchTile(text[:80])
    index, width = int(groups.replace("x", "").replace("/", "")), int(tail) if partial else WIDTH
    if (partial and width >= WIDTH) or numbered(index, width) != text:
        raise NoSuchTile(text[:80])
    return index, width


def read_level(text: str) -> int:
    """A level, 0 to 63 without leading zeros. Raises NoSuchTile."""
    if not _LEVEL.fullmatch(text):
        raise NoSuchTile(text[:80])
    return int(text)


def width_at(level: int, index: int, size: int) -> int:
    """How many hashes this tile has in a tree of `size` leaves; 0 when there is none."""
    hashes = size >> (8 * level)
    return max(0, min(WIDTH, hashes - index * WIDTH))


def bundle(entries: Iterable[bytes]) -> bytes:
    """Entries, each behind its length as a big-endian uint16. Raises OverflowError for one that is too long."""
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)
