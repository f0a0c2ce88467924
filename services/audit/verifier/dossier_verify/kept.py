"""What the auditor kept of earlier runs, against what the log is now: checkpoints, and a folder with the old tree."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dossier_verify import tiles
from dossier_verify.chains import Link, named, scan
from dossier_verify.check import Outcome, entry
from dossier_verify.errors import BadInput, Missing, Wrong
from dossier_verify.findings import Finding, told
from dossier_verify.generations import Generation, Predecessor
from dossier_verify.note import Checkpoint
from dossier_verify.proofs import Nodes, first_difference, prefix_root
from dossier_verify.source import Folder, Source, fetch
from dossier_verify.tiles import HASH, WIDTH
from dossier_verify.trust import Trust, signed


@dataclass(frozen=True, slots=True)
class KeptCheckpoint:
    """A checkpoint that the auditor kept, the name of its file, and the folder with its tree when there is one."""

    name: str
    checkpoint: Checkpoint
    folder: Folder | None = None


@dataclass(slots=True)
class LogResult:
    """What was found of one log."""

    source: Source
    generation: Generation | None
    checkpoint: Checkpoint
    outcome: Outcome
    cosigned: dict[str, int] = field(default_factory=dict)
    predecessor: Predecessor | None = None
    kept: list[dict[str, Any]] = field(default_factory=list)


async def kept_folder(folder: Folder, trust: Trust) -> KeptCheckpoint:
    """The checkpoint of a folder of an earlier run; raises BadInput when its log did not sign it."""
    try:
        return KeptCheckpoint(folder.name, await signed(folder, Trust(trust.keys)), folder)
    except Wrong as error:
        raise BadInput(str(error)) from error


async def compare(kept: Sequence[KeptCheckpoint], logs: Sequence[LogResult]) -> tuple[list[Finding], list[str]]:
    """What is wrong, and what is to be known, of each kept checkpoint; the logs' results say how each stands.

    Raises BadInput for a checkpoint of a log that was not looked at.
    """
    places = {log.checkpoint.origin: place for place, log in enumerate(logs)}
    found: list[Finding] = []
    notes: list[str] = []
    for one in kept:
        old = one.checkpoint
        if old.origin not in places:
            raise BadInput(f"{one.name} is a checkpoint of {old.origin}, and that log is not looked at here")
        log, after = logs[places[old.origin]], logs[places[old.origin] + 1 :]
        verdict, message = await _verdict(old, log, after[0].predecessor if after else None)
        log.kept.append({"file": one.name, "size": old.size, "result": verdict})
        if verdict in {"forked", "rolled-back"}:
            finding = Finding(verdict, f"{one.name}: {message}", log=old.origin, size=old.size)
            found.append(await _first_different(finding, one.folder, old, log))
        elif verdict in {"replaced", "unknown"}:
            notes.append(f"{one.name}: {message}")
        if verdict == "replaced" and one.folder is not None:
            found += [finding.at(log=old.origin) for finding in await _lost(one.folder, old, log, after)]
    return found, notes


async def _verdict(old: Checkpoint, log: LogResult, after: Predecessor | None) -> tuple[str, str]:
    size = log.checkpoint.size
    if old.size <= size:
        which = "has another root" if old.size == size else f"is no prefix of the log of {size} leaves"
        try:
            same = await _prefix(old.size, log) == old.root
        except Wrong as error:
            return "unknown", f"whether its {old.size} leaves are those of the log cannot be told: {error}"
        return ("consistent", "") if same else ("forked", f"the kept tree of {old.size} leaves {which}")
    if after is None or after.size < old.size:
        return "rolled-back", f"the log has {size} leaves, and had {old.size}"
    if after.size == old.size and after.root != old.root:
        return "forked", f"the log that follows names another tree of {old.size} leaves"
    message = f"{old.size} leaves were there, {size} are; the log that follows was opened in its place and says so"
    return "replaced", message


async def _prefix(size: int, log: LogResult) -> bytes:
    """The root over the first leaves of what the log signed: of its entries, or, are these wrong, of its tiles."""
    if log.outcome.complete and log.outcome.root == log.checkpoint.root:
        return log.outcome.prefixes[size]
    return await prefix_root(log.source, size, log.checkpoint)


async def _first_different(finding: Finding, folder: Folder | None, old: Checkpoint, log: LogResult) -> Finding:
    """The finding with the first leaf that is another one than in the old tree, when that is at hand."""
    size = log.checkpoint.size
    if folder is None:
        return finding
    try:
        index = await first_difference(Nodes(folder, old.size), Nodes(log.source, size), min(old.size, size))
    except Wrong as error:
        return finding.at(message=f"{finding.message}; the first leaf that differs cannot be told: {error}")
    if index is None:
        return finding
    was, now = named(await entry(folder, old.size, index)), named(await entry(log.source, size, index))
    message = f"{finding.message}; leaf {index} is the first that differs: it was {told(was)}, it is {told(now)}"
    return finding.at(message=message, index=index, leaf=now)


async def _lost(folder: Folder, old: Checkpoint, log: LogResult, after: Sequence[LogResult]) -> list[Finding]:
    """Leaves of the old tree that the restored log lacks, and that did not come again in the logs that follow.

    The last leaf of each producer answers for all: the chain to it has been verified.
    """
    lasts: dict[bytes, Link] = {}
    for number in range(log.checkpoint.size // WIDTH, -(-old.size // WIDTH)):
        lasts |= scan(await _bundle(folder, old.size, number), number * WIDTH).lasts
    wanted = {name: await entry(folder, old.size, link.index) for name, link in lasts.items() if name != b"log"}
    for follower in after:
        for number in range(-(-follower.checkpoint.size // WIDTH)):
            data = await _bundle(follower.source, follower.checkpoint.size, number)
            wanted = {name: leaf for name, leaf in wanted.items() if leaf not in data}
            if not wanted:
                return []
    return [
        Finding(
            "missing-event",
            f"{told(named(leaf))}, leaf {lasts[name].index} of {folder.name}, did not come again in the log after",
            leaf=named(leaf),
        )
        for name, leaf in wanted.items()
    ]


async def narrowed(finding: Finding, log: LogResult, kept: Sequence[KeptCheckpoint]) -> Finding:
    """The finding about a range of leaves with the one that is wrong, when an old tree that was kept says which."""
    if finding.index is None or finding.last in {None, finding.index}:
        return finding
    assert finding.last is not None
    for one in kept:
        old = one.checkpoint
        if one.folder is None or old.origin != log.checkpoint.origin:
            continue
        nodes = Nodes(one.folder, old.size)
        for number in range(finding.index // WIDTH, -(-min(finding.last + 1, old.size) // WIDTH)):
            try:
                was = await nodes.tile(0, number)
            except Wrong:
                break
            now = scan(await _bundle(log.source, log.checkpoint.size, number), number * WIDTH).hashes
            for place in range(min(len(was), len(now)) // HASH):
                if was[place * HASH : (place + 1) * HASH] != now[place * HASH : (place + 1) * HASH]:
                    index = number * WIDTH + place
                    message = f"{finding.message}; by {one.folder.name} the first is leaf {index}"
                    return finding.at(index=index, last=None, message=message, leaf={})
    return finding


async def _bundle(source: Source, size: int, number: int) -> bytes:
    try:
        return await fetch(source, tiles.Tile("entries", 0, number, min(WIDTH, size - number * WIDTH)))
    except Missing:
        return b""
