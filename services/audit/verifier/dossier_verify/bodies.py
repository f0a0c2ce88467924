"""Bodies against their commitments: SHA-256(salt ‖ body) is what the leaf says, or the body was erased by law."""

import hashlib
import json
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass, field

from dossier_verify.findings import Finding


@dataclass(slots=True)
class Bodies:
    """What was seen of the bodies: how many fit, and which are erased (index, when, by which order)."""

    whole: int = 0
    erased: list[dict[str, str | int]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def check_bodies(data: bytes, first: int, commitments: Sequence[bytes], found: Bodies) -> None:
    """Adds what the lines of one bundle of bodies say; `commitments` are those of its leaves, empty when unreadable."""
    lines = data.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    for offset, commitment in enumerate(commitments):
        if not commitment:
            continue
        index = first + offset
        problem = _line(lines[offset], commitment, index, found) if offset < len(lines) else "has no line"
        if problem == "has no line":
            found.findings.append(Finding("missing-body", "the bundle of bodies ends before this leaf", index=index))
        elif problem:
            found.findings.append(Finding("wrong-body", problem, index=index))
    if len(lines) > len(commitments):
        message = f"the bundle of bodies has {len(lines)} lines for {len(commitments)} leaves"
        found.findings.append(Finding("wrong-body", message, index=first))


def fits(commitment: str, salt: str, body: str) -> bool:
    """Whether this base64 salt and this body make the commitment (hex)."""
    try:
        salted = b64decode(salt, validate=True) + body.encode()
    except ValueError:
        return False
    return hashlib.sha256(salted).hexdigest() == commitment


def _line(line: bytes, commitment: bytes, index: int, found: Bodies) -> str:
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return "the line of this leaf is no JSON"
    match said:
        case {"erased": {"at": str(at), "order": str(order)}} if len(said) == 1:
            found.erased.append({"index": index, "at": at, "order": order})
        case {"salt": str(salt), "body": str(body)}:
            if not fits(commitment.decode(), salt, body):
                return "salt and body do not make the commitment of the leaf"
            found.whole += 1
        case _:
            return "the line of this leaf holds neither salt and body nor an erasure"
    return ""
