"""The whole verification: a log, the generations that follow it, and the checkpoints that the auditor kept."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from dossier_verify.blame import judge
from dossier_verify.chains import Chains, Producer, named, opening_problem
from dossier_verify.check import Check, Outcome, entry
from dossier_verify.errors import BadInput, Exit, Missing, Wrong
from dossier_verify.findings import Finding
from dossier_verify.generations import Generation, Predecessor
from dossier_verify.given import Trust
from dossier_verify.note import Checkpoint, Malformed, Unsigned, VerifierKey
from dossier_verify.proofs import Nodes, first_difference
from dossier_verify.source import Folder, Kept, Source, checkpoint_of, listed


@dataclass(frozen=True, slots=True)
class KeptCheckpoint:
    """A checkpoint that the auditor kept, and the name of its file."""

    name: str
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be verified, by which keys, against what is already known."""

    source: Source
    trust: Trust
    kept: Sequence[KeptCheckpoint] = ()
    against: Folder | None = None
    with_bodies: bool = False
    pool: Executor | None = None
    progress: Callable[[int, int], None] = lambda _done, _total: None


@dataclass(slots=True)
class LogResult:
    """What was found of one log."""

    source: Source
    generation: Generation | None
    checkpoint: Checkpoint
    cosigned: dict[str, int]
    outcome: Outcome
    predecessor: Predecessor | None = None
    kept: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class Result:
    """All that was found; `exit` is what it comes to."""

    logs: list[LogResult] = field(default_factory=list)
    producers: dict[str, Producer] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    known: bool = False
    """Whether a kept checkpoint is of the newest generation: then the auditor knows of the ones before."""

    @property
    def exit(self) -> Exit:
        """0, 1 or 4."""
        if self.findings:
            return Exit.WRONG
        newest = self.logs[-1].generation
        replaced = any(kept["result"] == "replaced" for log in self.logs for kept in log.kept)
        return Exit.REPLACED if replaced or (newest and newest.number > 1 and not self.known) else Exit.VERIFIED


async def verify(request: Request) -> Result:
    """Reads and judges everything. Raises BadInput, Unreadable, and Wrong where a checkpoint is none or unsigned."""
    raw, generations = await _listing(request.source)
    result, source, here = Result(), request.source, request.source.here()
    chains = Chains(continued=here > 1)
    keys = _all_keys(request.trust.keys, [generation.origin for generation in generations[here - 1 :]])
    kept = list(request.kept)
    if request.against is not None:
        kept.append(await _old(request.against, keys))
    while True:
        generation = generations[here - 1] if here <= len(generations) else None
        log = await _log(request, source, generation, keys, chains, kept, generations[here : here + 1])
        result.logs.append(log)
        await _judge(request, keys, log, result)
        if here >= len(generations):
            break
        here += 1
        result.notes.append(f"{log.checkpoint.origin} is closed; {generations[here - 1].origin} follows it")
        source = source.generation(here)
        chains.next_log()
    result.producers = chains.producers
    await _compare_kept(request, result, kept, keys)
    _tell_epochs(result)
    if isinstance(request.source, Kept):
        _keep(result, raw)
    return result


async def signed(source: Source, trust: Trust) -> Checkpoint:
    """The served checkpoint, signed by its log; raises Wrong, Unreadable."""
    try:
        checkpoint = Checkpoint.parse(await checkpoint_of(source))
        checkpoint.verify(trust.keys, trust.witnesses)
    except Malformed as error:
        raise Wrong("malformed-checkpoint", f"{source.name}: {error}") from error
    except Unsigned as error:
        raise Wrong("unsigned", f"{source.name}: {error}") from error
    return checkpoint


def cosigned(checkpoint: Checkpoint, trust: Trust) -> tuple[dict[str, int], list[Finding]]:
    """When each witness cosigned, and what is wrong when they are too few. Raises Unsigned."""
    times = checkpoint.verify(trust.keys, trust.witnesses)
    if len(times) >= trust.quorum:
        return times, []
    silent = ", ".join(key.name for key in trust.witnesses if key.name not in times)
    message = f"{len(times)} of the named witnesses cosigned the checkpoint, {trust.quorum} must; not {silent}"
    return times, [Finding("unsigned", message, log=checkpoint.origin, size=checkpoint.size)]


async def _listing(source: Source) -> tuple[bytes | None, list[Generation]]:
    try:
        raw = await source.listing()
        generations = [Generation.parse(log) for log in listed(raw)]
    except Missing:
        return None, []
    except ValueError as error:
        raise Wrong("wrong-opening", f"{source.name}: the listing of logs cannot be read: {error}") from error
    if source.here() > len(generations):
        raise Wrong("wrong-opening", f"{source.name}: the listing of logs does not name this one")
    return raw, generations


def _all_keys(given: Sequence[VerifierKey], origins: Sequence[str]) -> list[VerifierKey]:
    """The keys for each generation: those that the auditor named, else those of the one before under its name."""
    keys = list(given)
    for before, origin in pairwise(origins):
        if not any(key.name == origin for key in given):
            keys += [key.renamed(origin) for key in keys if key.name == before]
    return keys


async def _old(folder: Folder, keys: Sequence[VerifierKey]) -> KeptCheckpoint:
    try:
        return KeptCheckpoint(folder.name, await signed(folder, Trust(keys, (), 0)))
    except Wrong as error:
        raise BadInput(str(error)) from error


async def _log(
    request: Request,
    source: Source,
    generation: Generation | None,
    keys: Sequence[VerifierKey],
    chains: Chains,
    kept: Sequence[KeptCheckpoint],
    following: Sequence[Generation],
) -> LogResult:
    checkpoint = await signed(source, replace(request.trust, keys=keys))
    if generation is not None and generation.origin != checkpoint.origin:
        message = f"{source.name} serves {checkpoint.origin}, and the listing names {generation.origin}"
        raise Wrong("wrong-opening", message)
    sizes = [one.checkpoint.size for one in kept if one.checkpoint.origin == checkpoint.origin]
    sizes += [next_one.predecessor_size for next_one in following if next_one.predecessor_size is not None]
    check = Check(source, checkpoint.size, chains, with_bodies=request.with_bodies, pool=request.pool)
    outcome = await check.run([size for size in sizes if size <= checkpoint.size], request.progress)
    return LogResult(source, generation, checkpoint, {}, outcome)


async def _judge(request: Request, keys: Sequence[VerifierKey], log: LogResult, result: Result) -> None:
    """Adds what is wrong with this log to the result, and reads whom it names as its predecessor."""
    checkpoint, outcome, origin = log.checkpoint, log.outcome, log.checkpoint.origin
    log.cosigned, found = cosigned(checkpoint, replace(request.trust, keys=keys))
    found += await judge(log.source, checkpoint, outcome)
    first_is_wrong = any(finding.index == 0 for finding in found)
    if checkpoint.size and outcome.opening and not first_is_wrong:
        number = log.generation.number if log.generation else None
        problem = opening_problem(outcome.opening, number)
        if not problem and log.generation is not None:
            problem, log.predecessor = log.generation.opened(outcome.opening)
        before = next((one for one in reversed(result.logs) if one is not log), None)
        if not problem and before is not None:
            problem = _does_not_follow(before, log.predecessor)
        if problem:
            found.append(Finding("wrong-opening", problem, index=0, leaf=named(outcome.opening)))
    if isinstance(log.source, Kept):
        for path in log.source.changed:
            message = f"{path} is not what {log.source.folder.name} kept of it, and it never changes"
            found.append(Finding("changed-resource", message, path=path))
    if outcome.unlisted:
        result.notes.append(f"{origin}: {outcome.unlisted} findings more are not listed")
    result.findings += [finding.at(log=origin) for finding in found]


def _does_not_follow(before: LogResult, named_one: Predecessor | None) -> str:
    """Why this is not the successor of the log before; empty when it is."""
    old = before.checkpoint
    if named_one is None or named_one.origin != old.origin:
        return f"the first leaf does not name {old.origin} as the log before"
    prefix = before.outcome.prefixes.get(named_one.size)
    if prefix is not None and prefix != named_one.root:
        return f"the first leaf names another tree of {named_one.size} leaves than {old.origin} has"
    return ""


async def _compare_kept(
    request: Request, result: Result, kept: Sequence[KeptCheckpoint], keys: Sequence[VerifierKey]
) -> None:
    logs = {log.checkpoint.origin: place for place, log in enumerate(result.logs)}
    for one in kept:
        old = one.checkpoint
        if old.origin not in logs:
            raise BadInput(f"{one.name} is a checkpoint of {old.origin}, and that log is not looked at here")
        try:
            old.verify(keys)
        except Unsigned as error:
            raise BadInput(f"{one.name}: {error}") from error
        place = logs[old.origin]
        log = result.logs[place]
        after = result.logs[place + 1].predecessor if place + 1 < len(result.logs) else None
        verdict, message = _verdict(old, log, after)
        log.kept.append({"file": one.name, "size": old.size, "result": verdict})
        result.known = result.known or place == len(result.logs) - 1
        if verdict == "forked":
            result.findings.append(await _forked(request, keys, log, one, message))
        elif verdict == "rolled-back":
            result.findings.append(Finding("rolled-back", f"{one.name}: {message}", log=old.origin, size=old.size))
        elif verdict == "replaced":
            result.notes.append(f"{one.name}: {message}")


def _verdict(old: Checkpoint, log: LogResult, after: Predecessor | None) -> tuple[str, str]:
    size = log.checkpoint.size
    if old.size <= size:
        prefix = log.outcome.prefixes.get(old.size)
        if prefix is None:
            return "unknown", ""
        if prefix == old.root:
            return "consistent", ""
        which = "has another root" if old.size == size else f"is no prefix of the log of {size} leaves"
        return "forked", f"the kept tree of {old.size} leaves {which}"
    if after is None or after.size < old.size:
        return "rolled-back", f"the log has {size} leaves, and had {old.size}"
    if after.size == old.size and after.root != old.root:
        return "forked", f"the log that follows names another tree of {old.size} leaves"
    return (
        "replaced",
        f"{old.size} leaves were there, {size} are; the log that follows was opened in its place and says so",
    )


async def _forked(
    request: Request, keys: Sequence[VerifierKey], log: LogResult, one: KeptCheckpoint, message: str
) -> Finding:
    finding = Finding("forked", f"{one.name}: {message}", log=log.checkpoint.origin, size=one.checkpoint.size)
    if request.against is None:
        return finding
    old = (await _old(request.against, keys)).checkpoint
    if old.origin != log.checkpoint.origin:
        return finding
    leaves = min(old.size, log.checkpoint.size)
    try:
        index = await first_difference(Nodes(request.against, old.size), Nodes(log.source, log.checkpoint.size), leaves)
    except Wrong as error:
        return finding.at(message=f"{finding.message}; the first leaf that differs cannot be told: {error}")
    if index is None:
        return finding
    was = named(await entry(request.against, old.size, index))
    now = named(await entry(log.source, log.checkpoint.size, index))
    return finding.at(
        message=f"{finding.message}; the first leaf that differs is {index}: it was {told(was)}, it is {told(now)}",
        index=index,
        leaf=now,
    )


def told(leaf: dict[str, str]) -> str:
    """A leaf's names as words."""
    return "{producer} {epoch}/{seq} ({id})".format(**leaf) if leaf else "unreadable"


def _tell_epochs(result: Result) -> None:
    for name, producer in sorted(result.producers.items()):
        for epoch in producer.epochs:
            where = f"leaf {epoch['index']}"
            result.notes.append(f"{name} was restored: its epoch {epoch['epoch']} begins at {where}")


def _keep(result: Result, listing: bytes | None) -> None:
    """Keeps the checkpoints of what was verified; the folder's ones stay when something is wrong."""
    if not result.findings:
        for log in result.logs:
            assert isinstance(log.source, Kept)
            log.source.close(log.checkpoint.raw, listing)
