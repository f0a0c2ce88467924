"""What the commands `proof`, `consistency` and `download` do; `log` is verify.py."""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from dossier_verify import tiles
from dossier_verify.bodies import fits
from dossier_verify.chains import members
from dossier_verify.errors import BadInput, Missing, Wrong
from dossier_verify.findings import Finding
from dossier_verify.note import Checkpoint, Malformed, Unsigned, instant
from dossier_verify.proofs import Proof, prefix_root
from dossier_verify.source import Folder, Kept, Source, checkpoint_of, fetch, listed
from dossier_verify.tree import EMPTY_ROOT, included, leaf_hash
from dossier_verify.trust import Trust, cosigned
from dossier_verify.web import IN_FLIGHT


def prove(data: bytes, event: bytes | None, trust: Trust) -> tuple[dict[str, Any], list[Finding]]:
    """What an offline proof shows of an event, and what is wrong with it. Raises BadInput for what is no proof."""
    try:
        proof = Proof.parse(data)
    except Malformed as error:
        raise BadInput(f"no .tlog-proof: {error}") from error
    opened = _event(event) if event is not None else None
    leaf = proof.extra if proof.extra is not None else opened and opened["leaf"].encode()
    if not leaf:
        raise BadInput("the proof carries no leaf (`extra`): give the event with --event")
    checkpoint = proof.checkpoint
    times, found = _signatures(checkpoint, trust)
    said = members(leaf)
    if not said:
        found.append(Finding("not-canonical", "the leaf of the proof is no canonical leaf", index=proof.index))
    if not included(proof.index, checkpoint.size, leaf_hash(leaf), checkpoint.root, proof.path):
        message = f"the hashes do not lead from this leaf at {proof.index} to the root of {checkpoint.size} leaves"
        found.append(Finding("not-included", message, index=proof.index))
    if opened is not None and opened["leaf"].encode() != leaf:
        found.append(Finding("wrong-body", "the event is another than that of the proof", index=proof.index))
    elif opened is not None and said and not fits(said["commitment"], opened["salt"], opened["body"]):
        found.append(Finding("wrong-body", "salt and body do not make the commitment of the leaf", index=proof.index))
    told = {
        **{name: said.get(name) for name in ("id", "type", "time", "producer", "epoch", "seq")},
        "index": proof.index,
        "size": checkpoint.size,
        "origin": checkpoint.origin,
        "cosigned": {name: instant(when) for name, when in times.items()},
        "body": opened is not None,
    }
    return told, [finding.at(log=checkpoint.origin) for finding in found]


def _event(data: bytes) -> dict[str, str]:
    try:
        said = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadInput("the event is no JSON") from error
    match said:
        case {"leaf": str(leaf), "salt": str(salt), "body": str(body)} if leaf.isascii():
            return {"leaf": leaf, "salt": salt, "body": body}
        case _:
            raise BadInput("the event has no leaf, salt and body: it is the answer of GET /v1/audit/events/{id}")


def _signatures(checkpoint: Checkpoint, trust: Trust) -> tuple[dict[str, int], list[Finding]]:
    try:
        return cosigned(checkpoint, trust)
    except Unsigned as error:
        return {}, [Finding("unsigned", str(error), size=checkpoint.size)]


async def compare(old: Checkpoint, new: Checkpoint, source: Source | None, trust: Trust) -> list[Finding]:
    """What is wrong between two checkpoints of one log; nothing when the old tree is a prefix of the new one.

    `source` gives the tiles of the new tree. Raises BadInput where they are needed and not given, Wrong, Unreadable.
    """
    if old.origin != new.origin:
        raise BadInput(f"checkpoints of two logs: {old.origin} and {new.origin}")
    try:
        old.verify(trust.keys)
    except Unsigned as error:
        raise BadInput(f"the old checkpoint: {error}") from error
    _, found = _signatures(new, trust)
    if found:
        return found
    if new.size < old.size:
        message = f"the log has {new.size} leaves, and had {old.size}"
        return [Finding("rolled-back", message, log=new.origin, size=old.size)]
    if old.size in {0, new.size}:
        same = old.root == (new.root if old.size else EMPTY_ROOT)
    elif source is None:
        raise BadInput(
            "checkpoints of two sizes are compared by the tiles of the log: name its URL or folder (--tiles)"
        )
    else:
        same = await prefix_root(source, old.size, new) == old.root
    if same:
        return []
    message = f"the tree of {old.size} leaves is no prefix of that of {new.size}"
    return [Finding("forked" if old.size == new.size else "inconsistent", message, log=new.origin, size=old.size)]


async def download(
    source: Source, root: Path, *, with_bodies: bool, progress: Callable[[int, int], None]
) -> list[tuple[str, int]]:
    """Mirrors a log and the generations after it; returns origin and size of each. What is there is not fetched twice.

    Nothing is verified but that no log became smaller. Raises Wrong, Unreadable, BadInput.
    """
    kept = Kept(source, Folder(root).generation(source.here()), reuse=True)
    try:
        raw = await source.listing()
        count = len(listed(raw))
    except Missing:
        raw, count = None, 0
    except ValueError as error:
        raise Wrong("wrong-opening", f"the listing of logs cannot be read: {error}") from error
    done = []
    for number in range(source.here(), max(count, source.here()) + 1):
        log = kept if number == source.here() else kept.generation(number)
        checkpoint = await _next_checkpoint(log)
        await _mirror(log, checkpoint.size, with_bodies=with_bodies, progress=progress)
        log.close(checkpoint.raw, raw)
        done.append((checkpoint.origin, checkpoint.size))
    return done


async def _next_checkpoint(log: Kept) -> Checkpoint:
    """The served checkpoint, when it can follow the one in the folder."""
    try:
        new = Checkpoint.parse(await checkpoint_of(log))
    except Malformed as error:
        raise Wrong("malformed-checkpoint", f"{log.name}: {error}") from error
    try:
        old = Checkpoint.parse(await checkpoint_of(log.folder)) if (log.folder.root / "checkpoint").is_file() else None
    except Malformed as error:
        raise BadInput(f"{log.folder.name}: the checkpoint there: {error}") from error
    if old is None:
        return new
    if old.origin != new.origin:
        raise BadInput(f"{log.folder.name} holds {old.origin}, and {log.name} is {new.origin}")
    if new.size < old.size:
        raise Wrong("rolled-back", f"{log.name} has {new.size} leaves, the folder {old.size}; nothing was overwritten")
    if new.size == old.size and new.root != old.root:
        raise Wrong(
            "forked", f"{log.name} has another root of {new.size} leaves than the folder; nothing was overwritten"
        )
    return new


async def _mirror(log: Kept, size: int, *, with_bodies: bool, progress: Callable[[int, int], None]) -> None:
    wanted: Iterator[tiles.Tile] = chain(tiles.bundles(size), tiles.all_tiles(size))
    if with_bodies:
        wanted = chain(wanted, tiles.bundles(size, "bodies"))
    bundles = -(-size // tiles.WIDTH)
    total = (1 + with_bodies) * bundles + sum(
        -(-(size >> 8 * level) // tiles.WIDTH) for level in range(tiles.levels(size))
    )
    done = 0
    while some := list(islice(wanted, 8 * IN_FLIGHT)):
        await _all(log, some)
        done += len(some)
        progress(done, total)


async def _all(log: Kept, some: Sequence[tiles.Tile]) -> None:
    tasks = [asyncio.ensure_future(fetch(log, tile)) for tile in some]
    try:
        await asyncio.gather(*tasks)
    except Missing as error:
        raise Wrong("missing-tile", f"{error} is not served") from error
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
