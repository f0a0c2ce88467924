"""Proofs: an event's inclusion from a `.tlog-proof` file, and consistency from tiles. Source: C2SP tlog-proof."""

import re
from dataclasses import dataclass

from dossier_verify import tiles
from dossier_verify.errors import Missing, Wrong
from dossier_verify.note import Checkpoint, Malformed, base64_bytes
from dossier_verify.source import Source, fetch
from dossier_verify.tree import EMPTY_ROOT, consistency_proof, consistent, perfect_root, range_hash, root_of_edge

_MAGIC = "c2sp.org/tlog-proof@v1"


@dataclass(frozen=True, slots=True)
class Proof:
    """An offline proof: an entry (`extra`, when there is one), its index, the way to the root, and the checkpoint."""

    extra: bytes | None
    index: int
    path: tuple[bytes, ...]
    checkpoint: Checkpoint

    @classmethod
    def parse(cls, data: bytes) -> "Proof":
        """Raises Malformed."""
        head, empty, note = data.partition(b"\n\n")
        if not empty:
            raise Malformed("the proof has no checkpoint")
        try:
            lines = head.decode("ascii").split("\n")
        except UnicodeDecodeError as error:
            raise Malformed("the proof is not ASCII") from error
        if lines.pop(0) != _MAGIC:
            raise Malformed(f"the first line is not {_MAGIC}")
        extra = base64_bytes(lines.pop(0).removeprefix("extra ")) if lines and lines[0].startswith("extra ") else None
        if not lines or not re.fullmatch(r"index (0|[1-9][0-9]{0,18})", lines[0]):
            raise Malformed("the proof has no index")
        path = tuple(map(base64_bytes, lines[1:]))
        if any(len(node) != tiles.HASH for node in path) or len(path) > 64:
            raise Malformed("the way to the root is no list of at most 64 hashes")
        return cls(extra, int(lines[0][6:]), path, Checkpoint.parse(note))


class Nodes:
    """Hashes of the perfect subtrees of a served tree. They are not trusted: what is made of them is checked."""

    def __init__(self, source: Source, size: int) -> None:
        self._source, self._size = source, size
        self._tiles: dict[tuple[int, int], bytes] = {}

    async def tile(self, level: int, number: int) -> bytes:
        """The hashes of a tile; raises Wrong when it is not served, or not as long as it must be."""
        key = (level, number)
        if key not in self._tiles:
            tile = tiles.hashes(self._size, level, number)
            try:
                data = await fetch(self._source, tile)
            except Missing as error:
                raise Wrong("missing-tile", f"{tile.path} is not served") from error
            if len(data) != tile.width * tiles.HASH:
                raise Wrong("altered-tile", f"{tile.path} has {len(data)} bytes, not {tile.width * tiles.HASH}")
            if len(self._tiles) >= 1024:
                self._tiles.clear()
            self._tiles[key] = data
        return self._tiles[key]

    async def node(self, height: int, index: int) -> bytes:
        """The root over leaves index·2^height to (index + 1)·2^height, from the tile that holds it."""
        level, rest = divmod(height, 8)
        start = index << rest
        hashes = await self.tile(level, start // tiles.WIDTH)
        at = start % tiles.WIDTH * tiles.HASH
        return perfect_root(hashes[at : at + (tiles.HASH << rest)])

    async def edge_root(self) -> bytes:
        """The root that the partial tiles of the right edge make."""
        partial = [level for level in range(tiles.levels(self._size)) if (self._size >> 8 * level) % tiles.WIDTH]
        return root_of_edge([await self.tile(level, self._size >> 8 * (level + 1)) for level in reversed(partial)])

    async def authentic(self, level: int, number: int, root: bytes) -> bool:
        """Whether this tile is bound to the root by the tiles above it, all as served."""
        if tiles.hashes(self._size, level, number).width < tiles.WIDTH:
            return await self.edge_root() == root
        above = await self.above(level, number)
        return above == perfect_root(await self.tile(level, number)) and await self.authentic(
            level + 1, number // tiles.WIDTH, root
        )

    async def above(self, level: int, number: int) -> bytes:
        """The hash that the tile above holds for this full tile."""
        at = number % tiles.WIDTH * tiles.HASH
        return (await self.tile(level + 1, number // tiles.WIDTH))[at : at + tiles.HASH]


async def prefix_root(source: Source, size: int, checkpoint: Checkpoint) -> bytes:
    """The root over the first `size` leaves of the signed tree, from its tiles; `size` is at most the checkpoint's.

    A consistency proof made from the same tiles binds it to the signed root. Raises Wrong when the tiles do not.
    """
    new = checkpoint.size
    nodes = Nodes(source, new)
    if await nodes.edge_root() != checkpoint.root:
        raise Wrong("wrong-root", f"the tiles do not make the signed root of {new} leaves")
    if size in {0, new}:
        return checkpoint.root if size else EMPTY_ROOT
    wanted: dict[tuple[int, int], bytes] = {}

    def ask(height: int, index: int) -> bytes:
        return wanted.setdefault((height, index), b"")

    def answer(height: int, index: int) -> bytes:
        return wanted[height, index]

    range_hash(0, size, ask)
    consistency_proof(size, new, ask)
    for height, index in wanted:
        wanted[height, index] = await nodes.node(height, index)
    root = range_hash(0, size, answer)
    if not consistent(size, root, new, checkpoint.root, consistency_proof(size, new, answer)):
        raise Wrong("altered-tile", f"the tiles that prove the first {size} leaves do not make the signed root")
    return root


async def first_difference(old: Nodes, new: Nodes, leaves: int) -> int | None:
    """The first leaf of the first `leaves` in which two served trees differ; None when there is none."""
    start, end = 0, leaves
    for level in reversed(range(tiles.levels(leaves))):
        unit = 1 << 8 * level
        place = start
        while place + unit <= end:
            index = place >> 8 * level
            if await old.node(8 * level, index) != await new.node(8 * level, index):
                end = place + unit
                break
            place += unit
        start = place
    return start if start < end else None
