"""The check of one log: every entry, every tile and the root, in one pass that keeps only the tree's right edge.

Entries are the truth that is hashed upward; served tiles are compared with what the entries make. Where they differ,
`blame.py` says afterwards which of them is not the signed one.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial

from dossier_verify import tiles
from dossier_verify.bodies import Bodies, check_bodies
from dossier_verify.chains import Chains, Scan, named, scan
from dossier_verify.errors import Missing
from dossier_verify.findings import Finding
from dossier_verify.source import Source, fetch
from dossier_verify.tree import EMPTY_ROOT, Frontier

_AHEAD = 16
_MOST_MISSING = 64
_MOST_KEPT = 200
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A served tile that is not what the entries below it make."""

    tile: tiles.Tile
    made: bytes
    served: bytes

    def differing(self) -> list[int]:
        """Which of its hashes differ, by their place in the tile."""
        size = tiles.HASH
        return [
            at // size
            for at in range(0, len(self.made), size)
            if self.made[at : at + size] != self.served[at : at + size]
        ]


@dataclass(slots=True)
class Outcome:
    """What one pass over a log saw. `complete` is false when so much is missing that no root could be made."""

    size: int
    root: bytes = EMPTY_ROOT
    complete: bool = True
    prefixes: dict[int, bytes] = field(default_factory=lambda: {0: EMPTY_ROOT})
    """The root over the first n leaves, for each n that was asked for."""
    mismatches: list[Mismatch] = field(default_factory=list)
    tree: list[Finding] = field(default_factory=list)
    chains: list[Finding] = field(default_factory=list)
    unlisted: int = 0
    """Findings beyond those that are listed."""
    damaged: list[tuple[int, int]] = field(default_factory=list)
    """Ranges of leaves (first, last) whose entries could not be read as they were signed."""
    bodies: Bodies = field(default_factory=Bodies)
    opening: bytes = b""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class _Piece:
    tile: tiles.Tile
    scan: Scan | None
    served: bytes | None
    bodies: bytes | None


class Check:
    """One log of a known size, read once from its first leaf to its last."""

    def __init__(self, source: Source, size: int, chains: Chains, *, with_bodies: bool, pool: Executor | None) -> None:
        self._source, self._size, self._chains = source, size, chains
        self._with_bodies, self._pool = with_bodies, pool
        self._frontier = Frontier()
        self._outcome = Outcome(size)

    async def run(self, prefixes: Iterable[int], progress: Progress) -> Outcome:
        """Reads everything. Raises Unreadable when the source cannot be read; what is wrong stands in the outcome."""
        began, outcome, wanted = time.perf_counter(), self._outcome, deque(sorted(set(prefixes)))
        missing = 0
        async with aclosing(self._pieces()) as pieces:
            async for piece in pieces:
                leaves = self._leaves(piece)
                missing += piece.scan is None
                if leaves is None or missing > _MOST_MISSING:
                    outcome.complete = False
                    break
                await self._grow(leaves, wanted)
                progress(self._frontier.size, self._size)
        if outcome.complete:
            for level, number, nodes in self._frontier.edge():
                if level:
                    await self._compare(tiles.hashes(self._size, level, number), nodes)
            outcome.root = self._frontier.root()
        outcome.seconds = time.perf_counter() - began
        return outcome

    async def _grow(self, leaves: bytes, wanted: deque[int]) -> None:
        """Adds a bundle's leaves to the tree; on the way, the roots of the prefixes that end within it."""
        first = self._frontier.size
        while wanted and wanted[0] < first + len(leaves) // tiles.HASH:
            end = wanted.popleft()
            self._outcome.prefixes[end] = self._frontier.root(leaves[: (end - first) * tiles.HASH])
        for level, number, nodes in self._frontier.grow(leaves):
            await self._compare(tiles.hashes(self._size, level, number), nodes)
        if wanted and wanted[0] == self._frontier.size:
            self._outcome.prefixes[wanted.popleft()] = self._frontier.root()

    async def _pieces(self) -> AsyncGenerator[_Piece]:
        """All bundles in order, with what belongs to them; some are fetched (and scanned, in other processes) ahead."""
        ahead: deque[asyncio.Task[_Piece]] = deque()
        try:
            for tile in tiles.bundles(self._size):
                ahead.append(asyncio.create_task(self._piece(tile)))
                if len(ahead) >= _AHEAD:
                    yield await ahead.popleft()
            while ahead:
                yield await ahead.popleft()
        finally:
            for task in ahead:
                task.cancel()
            await asyncio.gather(*ahead, return_exceptions=True)

    async def _piece(self, bundle: tiles.Tile) -> _Piece:
        entries = await self._optional(bundle) or await self._begun(bundle)
        served = await self._optional(tiles.hashes(self._size, 0, bundle.number))
        texts = (
            await self._optional(tiles.Tile("bodies", 0, bundle.number, bundle.width)) if self._with_bodies else None
        )
        found = None
        if entries is not None:
            work = partial(scan, entries, bundle.first, commitments=self._with_bodies)
            found = await asyncio.get_running_loop().run_in_executor(self._pool, work) if self._pool else work()
        return _Piece(bundle, found, served, texts)

    async def _begun(self, bundle: tiles.Tile) -> bytes | None:
        """Of a bundle that is not served as much as is: a log may still have the partial ones before the first gap."""
        found, least, most = None, 1, bundle.width - 1
        while least <= most:
            width = (least + most) // 2
            part = await self._optional(tiles.Tile("entries", 0, bundle.number, width))
            if part is None:
                most = width - 1
            else:
                found, least = part, width + 1
        return found

    async def _optional(self, tile: tiles.Tile) -> bytes | None:
        try:
            return await fetch(self._source, tile)
        except Missing:
            return None

    def _leaves(self, piece: _Piece) -> bytes | None:
        """The leaf hashes to go on with: the entries', or the tile's in place of what cannot be read."""
        bundle, outcome = piece.tile, self._outcome
        tile = tiles.hashes(self._size, 0, bundle.number)
        served = self._usable(tile, piece.served)
        found = piece.scan
        made, whole = found.hashes if found else b"", bundle.width * tiles.HASH
        if found is None:
            message = f"{bundle.path} is not served: leaves {bundle.first} to {bundle.first + bundle.width - 1}"
            self._lost(bundle, bundle.first, Finding("missing-bundle", message, path=bundle.path))
        else:
            self._chain(found)
            damaged = bool(found.broken) or len(made) != whole
            if damaged:
                count = len(made) // tiles.HASH
                why = found.broken or f"the bundle holds {count} entries, not {bundle.width}"
                kind = (
                    "malformed-bundle" if found.broken else "missing-entry" if len(made) < whole else "inserted-entry"
                )
                place = self._malformed_from(made, served, min(count, bundle.width))
                self._lost(bundle, bundle.first + place, Finding(kind, why, path=bundle.path))
                made = made[: place * tiles.HASH]
            if piece.bodies is not None:
                unread = [b""] * (bundle.width - len(found.commitments))
                check_bodies(piece.bodies, bundle.first, [*found.commitments[: bundle.width], *unread], outcome.bodies)
            elif self._with_bodies and not damaged:
                message = f"the bodies of leaves {bundle.first} to {bundle.first + bundle.width - 1} are not served"
                outcome.bodies.findings.append(Finding("missing-body", message, index=bundle.first))
        if len(made) == whole:
            if served is not None and served != made:
                self._differs(tile, made, served)
            return made
        return None if served is None else made + served[len(made) :]

    @staticmethod
    def _malformed_from(made: bytes, served: bytes | None, count: int) -> int:
        """The first place in a malformed bundle from which its entries are not to be trusted."""
        if served is None:
            return count
        places = range(min(count, len(served) // tiles.HASH))
        size = tiles.HASH
        return next(
            (at for at in places if made[at * size : at * size + size] != served[at * size : at * size + size]),
            len(places),
        )

    def _lost(self, bundle: tiles.Tile, first: int, finding: Finding) -> None:
        last = bundle.first + bundle.width - 1
        self._outcome.damaged.append((min(first, last), last))
        self._add(self._outcome.tree, finding.at(index=min(first, last), last=last))

    def _chain(self, found: Scan) -> None:
        if found.opening and found.first == 0:
            self._outcome.opening = found.opening
        for problem in self._chains.absorb(found):
            self._add(self._outcome.chains, problem)

    def _usable(self, tile: tiles.Tile, served: bytes | None) -> bytes | None:
        if served is None:
            self._add(
                self._outcome.tree,
                Finding("missing-tile", f"{tile.path} is not served", path=tile.path, index=tile.first),
            )
        elif len(served) != tile.width * tiles.HASH:
            message = f"{tile.path} has {len(served)} bytes, not {tile.width * tiles.HASH}"
            self._add(self._outcome.tree, Finding("altered-tile", message, path=tile.path, index=tile.first))
        else:
            return served
        return None

    async def _compare(self, tile: tiles.Tile, made: bytes) -> None:
        served = self._usable(tile, await self._optional(tile))
        if served is not None and served != made:
            self._differs(tile, made, served)

    def _differs(self, tile: tiles.Tile, made: bytes, served: bytes) -> None:
        if len(self._outcome.mismatches) < _MOST_KEPT:
            self._outcome.mismatches.append(Mismatch(tile, made, served))
        else:
            self._outcome.unlisted += 1

    def _add(self, findings: list[Finding], finding: Finding) -> None:
        if len(findings) < _MOST_KEPT:
            findings.append(finding)
        else:
            self._outcome.unlisted += 1


async def entry(source: Source, size: int, index: int) -> bytes:
    """One entry as served; empty when it cannot be read. Raises Unreadable."""
    bundle = tiles.Tile("entries", 0, index // tiles.WIDTH, min(tiles.WIDTH, size - index // tiles.WIDTH * tiles.WIDTH))
    try:
        data = await fetch(source, bundle)
    except Missing:
        return b""
    start = 0
    for _ in range(index % tiles.WIDTH):
        start += 2 + int.from_bytes(data[start : start + 2], "big")
    return data[start + 2 : start + 2 + int.from_bytes(data[start : start + 2], "big")]


async def leaf_named(source: Source, size: int, finding: Finding) -> Finding:
    """The finding with the names that the leaf at its index bears, where it is there and can be read."""
    if finding.index is None or finding.leaf or finding.index >= size or finding.kind == "missing-entry":
        return finding
    return finding.at(leaf=named(await entry(source, size, finding.index)))
