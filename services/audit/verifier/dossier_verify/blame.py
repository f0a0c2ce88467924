"""Which of the served things is not the signed one: the entry, the tile, or the whole tree.

A tile is authentic when the tiles above it, as served, bind it to the signed root. What differs from an authentic tile
is altered. When the entries make the signed root themselves, every entry is right and what differs is a tile.
"""

from typing import Final

from dossier_verify import tiles
from dossier_verify.check import Mismatch, Outcome, leaf_named
from dossier_verify.errors import Wrong
from dossier_verify.findings import Finding
from dossier_verify.note import Checkpoint
from dossier_verify.proofs import Nodes
from dossier_verify.source import Source
from dossier_verify.tree import perfect_root

ENTRY_KINDS: Final = {"altered-entry", "missing-entry", "inserted-entry", "malformed-bundle"}
"""An entry is not the signed one: what it says is no finding of its own."""


async def judge(source: Source, checkpoint: Checkpoint, outcome: Outcome) -> list[Finding]:
    """All findings about entries, tiles, root and chains, the first wrong leaf first, each named where it can be."""
    found = list(outcome.tree)
    if outcome.complete and outcome.root == checkpoint.root:
        found += [_altered_tile(mismatch) for mismatch in outcome.mismatches]
    else:
        found += await _blamed(source, checkpoint, outcome)
        if outcome.complete and not any(finding.kind not in {"altered-tile", "missing-tile"} for finding in found):
            message = (
                f"the {checkpoint.size} entries make the root {outcome.root.hex()}, signed is {checkpoint.root.hex()}: "
                "another tree is served than was signed"
            )
            found.append(Finding("wrong-root", message, size=checkpoint.size))
    wrong = [(one.index, one.last or one.index) for one in found if one.index is not None and one.kind in ENTRY_KINDS]
    gone = {one.index for one in found if one.kind == "missing-entry"}
    unreadable = [
        (one.index, one.index) for one in outcome.chains if one.kind == "not-canonical" and one.index is not None
    ]
    damaged = {
        "missing-event": [place for place in outcome.damaged if place[0] not in gone] + unreadable,
        **dict.fromkeys(("broken-chain", "repeated-event"), outcome.damaged + unreadable),
    }
    found += [
        finding
        for finding in [*outcome.chains, *outcome.bodies.findings]
        if not _explained(finding, damaged.get(finding.kind, wrong))
    ]
    found.sort(key=lambda finding: checkpoint.size if finding.index is None else finding.index)
    return [await leaf_named(source, checkpoint.size, finding) for finding in found]


def _explained(finding: Finding, damaged: list[tuple[int, int]]) -> bool:
    """Whether a damage at a leaf, or between it and the one before it in its chain, is why it does not fit."""
    if finding.index is None or finding.kind == "missing-body":
        return False
    since = finding.index if finding.after is None else finding.after
    return any(first <= finding.index and last >= since for first, last in damaged)


async def _blamed(source: Source, checkpoint: Checkpoint, outcome: Outcome) -> list[Finding]:
    nodes, found = Nodes(source, checkpoint.size), []
    for mismatch in sorted(outcome.mismatches, key=lambda one: (one.tile.level, one.tile.number)):
        unit = tiles.WIDTH**mismatch.tile.level
        places = [mismatch.tile.first + place * unit for place in mismatch.differing()]
        fresh = [
            place
            for place in places
            if not any(first < place + unit and last >= place for first, last in outcome.damaged)
        ]
        if not fresh:
            continue
        finding = await _one(nodes, checkpoint, mismatch, fresh[0])
        if finding.kind != "altered-tile":
            last = finding.last if finding.last is not None else finding.index
            assert finding.index is not None
            assert last is not None
            outcome.damaged.append((finding.index, last))
            outcome.damaged += [(place, place + unit - 1) for place in fresh[1:]]
        found.append(finding)
    return found


async def _one(nodes: Nodes, checkpoint: Checkpoint, mismatch: Mismatch, first: int) -> Finding:
    tile = mismatch.tile
    last = first + tiles.WIDTH**tile.level - 1
    if await _is_authentic(nodes, checkpoint, tile):
        if tile.level == 0:
            return _altered_entry(mismatch)
        message = (
            f"the entries of leaves {first} to {last} and their tiles agree, and {tile.path}, which is signed, differs"
        )
        return Finding("altered-entry", message, index=first, last=last, path=tile.path)
    if tile.width == tiles.WIDTH:
        parent = tiles.hashes(checkpoint.size, tile.level + 1, tile.number // tiles.WIDTH)
        if await _is_authentic(nodes, checkpoint, parent):
            if await nodes.above(tile.level, tile.number) == perfect_root(mismatch.made):
                return _altered_tile(mismatch)
            first, last = tile.first, tile.first + tiles.WIDTH ** (tile.level + 1) - 1
            message = f"neither the entries of leaves {first} to {last} nor {tile.path} fit the signed tree"
            return Finding("altered-entry", message, index=first, last=last, path=tile.path)
    message = f"the entry and {tile.path} differ, and the tiles above do not make the signed root either"
    return Finding("altered-entry", message, index=first, last=last, path=tile.path)


async def _is_authentic(nodes: Nodes, checkpoint: Checkpoint, tile: tiles.Tile) -> bool:
    try:
        return await nodes.authentic(tile.level, tile.number, checkpoint.root)
    except Wrong:
        return False


def _altered_tile(mismatch: Mismatch) -> Finding:
    place = mismatch.differing()[0]
    index = mismatch.tile.first + place * tiles.WIDTH**mismatch.tile.level
    message = f"hash {place} of {mismatch.tile.path} is not that of the entries, which are whole"
    return Finding("altered-tile", message, index=index, path=mismatch.tile.path)


def _altered_entry(mismatch: Mismatch) -> Finding:
    """The first entry that is not the signed one, told apart by what the entries after it are."""
    made, served, size = mismatch.made, mismatch.served, tiles.HASH
    place = mismatch.differing()[0]
    index, at = mismatch.tile.first + place, place * size
    following = at + size < len(made)
    if following and made[at:-size] == served[at + size :]:
        return Finding(
            "missing-entry", "the signed entry is left out; the ones after it stand a place early", index=index
        )
    if following and made[at + size :] == served[at:-size]:
        return Finding("inserted-entry", "an entry that was not signed stands before the signed ones", index=index)
    return Finding("altered-entry", "the entry's hash is not the signed one", index=index)
