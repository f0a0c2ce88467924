"""The whole verification: a log, the generations that follow it, and what the auditor kept of earlier runs."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

from dossier_verify.blame import ENTRY_KINDS, judge
from dossier_verify.chains import Chains, Producer, named, opening_problem
from dossier_verify.check import Check, leaf_named
from dossier_verify.errors import BadInput, Exit, Missing, Wrong
from dossier_verify.findings import Finding
from dossier_verify.generations import Generation, Predecessor
from dossier_verify.kept import KeptCheckpoint, LogResult, compare, kept_folder, narrowed
from dossier_verify.note import Unsigned
from dossier_verify.source import Folder, Kept, Source, listed
from dossier_verify.trust import Trust, cosigned, signed


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
class Result:
    """All that was found; `exit` is what it comes to."""

    logs: list[LogResult] = field(default_factory=list)
    producers: dict[str, Producer] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def exit(self) -> Exit:
        """0, 1, or 4: something was replaced, and no kept checkpoint of the newest log shows that it is known."""
        if self.findings:
            return Exit.WRONG
        newest = self.logs[-1]
        replaced = any(kept["result"] == "replaced" for log in self.logs for kept in log.kept)
        unknown = newest.generation is not None and newest.generation.number > 1 and not newest.kept
        return Exit.REPLACED if replaced or unknown else Exit.VERIFIED


async def verify(request: Request) -> Result:
    """Reads and judges everything. Raises BadInput, Unreadable, and Wrong where a checkpoint is none or unsigned."""
    raw, generations = await _listing(request.source)
    result, source, here = Result(), request.source, request.source.here()
    trust = request.trust.of_generations([generation.origin for generation in generations[here - 1 :]])
    kept = await _kept(request, trust)
    chains = Chains(continued=here > 1)
    while True:
        log = await _read(request, trust, source, generations[here - 1 : here + 1], chains, kept)
        found = await _judge(log, result.logs[-1] if result.logs else None)
        log.cosigned, unsigned = cosigned(log.checkpoint, trust)
        if here < len(generations):
            result.notes += [finding.message for finding in unsigned]
        else:
            found += unsigned
        result.logs.append(log)
        result.findings += [(await narrowed(one, log, kept)).at(log=log.checkpoint.origin) for one in found]
        if log.outcome.unlisted:
            result.notes.append(f"{log.checkpoint.origin}: {log.outcome.unlisted} findings more are not listed")
        if here >= len(generations):
            break
        here += 1
        result.notes.append(f"{log.checkpoint.origin} is closed; {generations[here - 1].origin} follows it")
        source = source.generation(here)
        chains.next_log()
    found, notes = await compare(kept, result.logs)
    result.findings += found
    result.notes += notes
    result.producers = chains.producers
    for name, producer in sorted(result.producers.items()):
        for epoch in producer.epochs:
            result.notes.append(f"{name} goes on in a new epoch, {epoch['epoch']}, from leaf {epoch['index']}")
    if isinstance(request.source, Kept) and not result.findings:
        _keep(result.logs, raw)
    return result


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


async def _kept(request: Request, trust: Trust) -> list[KeptCheckpoint]:
    """What was kept, once it is clear that the log signed it."""
    kept = list(request.kept)
    for one in kept:
        try:
            one.checkpoint.verify(trust.keys)
        except Unsigned as error:
            raise BadInput(f"{one.name}: {error}") from error
    if request.against is not None:
        kept.append(await kept_folder(request.against, trust))
    return kept


async def _read(
    request: Request,
    trust: Trust,
    source: Source,
    generations: Sequence[Generation],
    chains: Chains,
    kept: Sequence[KeptCheckpoint],
) -> LogResult:
    """One log; `generations` are what the listing says of it and of the next one."""
    checkpoint = await signed(source, trust)
    generation = generations[0] if generations else None
    if generation is not None and generation.origin != checkpoint.origin:
        message = f"{source.name} serves {checkpoint.origin}, and the listing names {generation.origin}"
        raise Wrong("wrong-opening", message)
    sizes = [one.checkpoint.size for one in kept if one.checkpoint.origin == checkpoint.origin]
    sizes += [after.predecessor_size for after in generations[1:] if after.predecessor_size is not None]
    check = Check(source, checkpoint.size, chains, with_bodies=request.with_bodies, pool=request.pool)
    outcome = await check.run([size for size in sizes if size <= checkpoint.size], request.progress)
    return LogResult(source, generation, checkpoint, outcome)


async def _judge(log: LogResult, before: LogResult | None) -> list[Finding]:
    """What is wrong with this log, as the one after `before`; the result learns whom it names as its predecessor."""
    opening = log.outcome.opening
    found = await judge(log.source, log.checkpoint, log.outcome)
    if opening and not any(finding.index == 0 and finding.kind in ENTRY_KINDS for finding in found):
        problem = opening_problem(opening, log.generation.number if log.generation else None)
        if not problem and log.generation is not None:
            problem, log.predecessor = log.generation.opened(opening)
        if not problem and before is not None:
            problem = _does_not_follow(before, log.predecessor)
        if problem:
            found.insert(0, Finding("wrong-opening", problem, index=0, leaf=named(opening)))
    if isinstance(log.source, Kept):
        for path in log.source.changed:
            message = f"{path} is not what {log.source.folder.name} kept of it, and it never changes"
            found.append(Finding("changed-resource", message, path=path))
    return [await leaf_named(log.source, log.checkpoint.size, finding) for finding in found]


def _does_not_follow(before: LogResult, predecessor: Predecessor | None) -> str:
    """Why this is not the successor of the log before; empty when it is."""
    origin = before.checkpoint.origin
    if predecessor is None or predecessor.origin != origin:
        return f"the first leaf does not name {origin} as the log before"
    prefix = before.outcome.prefixes.get(predecessor.size)
    if prefix is not None and prefix != predecessor.root:
        return f"the first leaf names another tree of {predecessor.size} leaves than {origin} has"
    return ""


def _keep(logs: Sequence[LogResult], listing: bytes | None) -> None:
    """Keeps the checkpoints of what was verified; the folder's ones stay when something is wrong."""
    for log in logs:
        assert isinstance(log.source, Kept)
        log.source.close(log.checkpoint.raw, listing)
