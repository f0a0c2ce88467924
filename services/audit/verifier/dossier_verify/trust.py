"""Whose signatures count, and whether a checkpoint carries them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from dossier_verify.errors import Wrong
from dossier_verify.findings import Finding
from dossier_verify.note import Checkpoint, Malformed, Unsigned, VerifierKey
from dossier_verify.source import Source, checkpoint_of


@dataclass(frozen=True, slots=True)
class Trust:
    """The log's keys, the witnesses, and how many of these must have cosigned."""

    keys: Sequence[VerifierKey]
    witnesses: Sequence[VerifierKey] = ()
    quorum: int = 0

    def of_generations(self, origins: Sequence[str]) -> "Trust":
        """With the keys of each next log: those that the auditor named, else those of the log before under its name."""
        keys = list(self.keys)
        for before, origin in pairwise(origins):
            if not any(key.name == origin for key in self.keys):
                keys += [key.renamed(origin) for key in keys if key.name == before]
        return replace(self, keys=keys)


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
    """When each witness cosigned (POSIX seconds), and what is wrong when they are too few. Raises Unsigned."""
    times = checkpoint.verify(trust.keys, trust.witnesses)
    if len(times) >= trust.quorum:
        return times, []
    silent = ", ".join(key.name for key in trust.witnesses if key.name not in times)
    message = f"{len(times)} of the named witnesses cosigned the checkpoint, {trust.quorum} must; not {silent}"
    return times, [Finding("unsigned", message, log=checkpoint.origin, size=checkpoint.size)]
