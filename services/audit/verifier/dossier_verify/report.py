"""What was found, as text for people and as one JSON object for programs."""

from collections.abc import Sequence
from typing import Any

from dossier_verify.errors import Exit
from dossier_verify.findings import MEANINGS, Finding, told
from dossier_verify.kept import LogResult
from dossier_verify.note import instant
from dossier_verify.verify import Result

VERDICTS = {
    Exit.VERIFIED: "verified",
    Exit.WRONG: "wrong",
    Exit.BAD_INPUT: "bad-input",
    Exit.UNREADABLE: "unreadable",
    Exit.REPLACED: "replaced",
}


def as_json(result: Result) -> dict[str, Any]:
    """Everything that was found; `first_wrong_leaf` is null when no finding names a leaf."""
    return {
        "verdict": VERDICTS[result.exit],
        "exit": int(result.exit),
        "logs": [_log(log) for log in result.logs],
        "producers": {
            name: {
                "leaves": producer.leaves,
                "epoch": producer.last.epoch if producer.last else None,
                "seq": producer.last.seq if producer.last else None,
                "restored": producer.epochs,
            }
            for name, producer in sorted(result.producers.items())
        },
        "first_wrong_leaf": next((one.index for one in result.findings if one.index is not None), None),
        "findings": [finding.told() for finding in result.findings],
        "notes": result.notes,
    }


def ended(code: Exit, message: str, kind: str = "") -> dict[str, Any]:
    """What is told in JSON when a command stopped early."""
    findings = [{"kind": kind, "message": message}] if kind else []
    return {"verdict": VERDICTS[code], "exit": int(code), "error": message, "findings": findings}


def _log(log: LogResult) -> dict[str, Any]:
    bodies, outcome = log.outcome.bodies, log.outcome
    return {
        "url": log.source.name,
        "origin": log.checkpoint.origin,
        "generation": log.generation.number if log.generation else None,
        "size": log.checkpoint.size,
        "root": log.checkpoint.root.hex(),
        "checkpoint": log.checkpoint.raw.decode(),
        "cosigned": {name: instant(when) for name, when in log.cosigned.items()},
        "kept": log.kept,
        "predecessor": log.predecessor
        and {
            "origin": log.predecessor.origin,
            "size": log.predecessor.size,
            "root": log.predecessor.root.hex(),
        },
        "bodies": {"whole": bodies.whole, "erased": bodies.erased},
        "seconds": round(outcome.seconds, 3),
    }


def as_text(result: Result, *, bodies: bool) -> list[str]:
    """Lines: what was looked at, what is to be known, what is wrong, and last the verdict."""
    lines: list[str] = []
    for log in result.logs:
        seconds = max(log.outcome.seconds, 0.001)
        lines.append(f"{log.checkpoint.origin}: {log.checkpoint.size} leaves, root {log.checkpoint.root.hex()}")
        lines.append(f"  read in {seconds:.1f} s ({log.checkpoint.size / seconds:,.0f} leaves/s)")
        lines += [f"  cosigned by {name} at {instant(when)}" for name, when in sorted(log.cosigned.items())]
        lines += [f"  kept checkpoint {kept['file']} of {kept['size']} leaves: {kept['result']}" for kept in log.kept]
        if bodies:
            found = log.outcome.bodies
            lines.append(f"  bodies: {found.whole} fit their commitments, {len(found.erased)} erased by law")
    lines += [f"  {name}: {producer.leaves} events" for name, producer in sorted(result.producers.items())]
    lines += [f"note: {note}" for note in result.notes]
    lines += explained(result.findings)
    count = len(result.findings)
    lines.append(
        {
            Exit.VERIFIED: "verified",
            Exit.REPLACED: "verified; but it replaces a restored log: ask for the incident (exit code 4)",
        }.get(result.exit, f"WRONG: {count} finding{'s' if count > 1 else ''}, the first wrong leaf named first")
    )
    return lines


def explained(findings: Sequence[Finding]) -> list[str]:
    """A line for each finding, then what the kinds that occur mean."""
    kinds = dict.fromkeys(finding.kind for finding in findings)
    return [*map(_line, findings), *(f"  ({kind}: {MEANINGS[kind]})" for kind in kinds)]


def _line(finding: Finding) -> str:
    place = ""
    if finding.index is not None:
        last = f" to {finding.last}" if finding.last not in {None, finding.index} else ""
        place = f" at leaf {finding.index}{last}" + (f", {told(finding.leaf)}" if finding.leaf else "")
    elif finding.size is not None:
        place = f" at size {finding.size}"
    return f"{finding.kind}{place}: {finding.message}"
