"""Entries: each exactly a canonical leaf, and each producer's leaves a chain without a gap.

A leaf is RFC 8785 JSON, so its spelling is fixed to the byte: one regular expression both checks and parses it. `prev`
is the SHA-256 of the producer's leaf before in the same epoch; a new epoch means that the producer was restored, or
that somebody accepted a gap of what it no longer had.
"""

import hashlib
import re
from binascii import hexlify
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from dossier_verify.findings import Finding

LEAF: Final = re.compile(
    rb'\{"commitment":"([0-9a-f]{64})"'
    rb',"epoch":(0|[1-9][0-9]{0,14})'
    rb',"id":"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"'
    rb',"prev":"([0-9a-f]{64})"'
    rb',"producer":"([a-z]{1,32})"'
    rb',"seq":([1-9][0-9]{0,14})'
    rb',"time":"([0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])'
    rb'T(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]{1,9})?Z)"'
    rb',"type":"([A-Za-z0-9._-]+)"\}'
)
_NAMES: Final = ("commitment", "epoch", "id", "prev", "producer", "seq", "time", "type")
_ZEROS: Final = b"0" * 64
_LOG: Final = b"log"
OPENED: Final = "audit.v1.log.opened"


def members(entry: bytes) -> dict[str, str]:
    """The members of a canonical leaf as text; empty for any other entry."""
    match = LEAF.fullmatch(entry)
    return dict(zip(_NAMES, (part.decode() for part in match.groups()), strict=True)) if match else {}


def named(entry: bytes) -> dict[str, str]:
    """What names a leaf to a person: producer, epoch, seq and id; empty when it cannot be read."""
    said = members(entry)
    return {name: said[name] for name in ("producer", "epoch", "seq", "id") if said}


@dataclass(frozen=True, slots=True)
class Link:
    """A leaf as its chain sees it; `own` is its SHA-256 in hex, as the next leaf's `prev` must be."""

    index: int
    epoch: int
    seq: int
    prev: bytes
    own: bytes


@dataclass(slots=True)
class Scan:
    """What a bundle's entries are, found without knowing what stands before them."""

    first: int
    hashes: bytes = b""
    broken: str = ""
    """Why the bytes after the last hash are no entry; empty when all are entries."""
    firsts: dict[bytes, Link] = field(default_factory=dict)
    lasts: dict[bytes, Link] = field(default_factory=dict)
    counts: Counter[bytes] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    epochs: list[tuple[bytes, int, int]] = field(default_factory=list)
    commitments: list[bytes] = field(default_factory=list)
    """The hex commitment of each entry, empty for one that is no leaf; kept only on demand."""
    opening: bytes = b""


def scan(data: bytes, first: int, *, commitments: bool = False) -> Scan:
    """Hashes and judges the entries of one bundle; `first` is the index of its first leaf.

    The loop is the price of a verification: nothing is made in it that an honest leaf does not need.
    """
    found = Scan(first)
    hashes: list[bytes] = []
    producers: list[bytes] = []
    heads: dict[bytes, tuple[bytes, int, bytes, int]] = {}
    sha256, fullmatch, add, note = hashlib.sha256, LEAF.fullmatch, hashes.append, producers.append
    position, total, index = 0, len(data), first
    while position < total:
        start = position + 2
        position = start + int.from_bytes(data[position:start], "big")
        if position > total or start > total:
            found.broken = f"the bundle ends within entry {index}"
            break
        entry = data[start:position]
        add(sha256(b"\x00" + entry).digest())
        match = fullmatch(entry)
        if match is None:
            found.findings.append(Finding("not-canonical", "the entry is no canonical leaf", index=index))
            if commitments:
                found.commitments.append(b"")
            index += 1
            continue
        commitment, epoch, _, prev, producer, seq, _, _ = match.groups()
        number, own = int(seq), hexlify(sha256(entry).digest())
        head = heads.get(producer)
        if head is None:
            found.firsts[producer] = Link(index, int(epoch), number, prev, own)
        elif head[2] != prev or head[1] + 1 != number or head[0] != epoch:
            before = Link(head[3], int(head[0]), head[1], b"", head[2])
            _join(found, producer, before, Link(index, int(epoch), number, prev, own))
        heads[producer] = (epoch, number, own, index)
        note(producer)
        if commitments:
            found.commitments.append(commitment)
        index += 1
    found.hashes = b"".join(hashes)
    found.counts = Counter(producers)
    found.lasts = {name: Link(at, int(epoch), seq, b"", own) for name, (epoch, seq, own, at) in heads.items()}
    if first == 0 and hashes:
        found.opening = data[2 : 2 + int.from_bytes(data[:2], "big")]
    return found


def _join(found: Scan, producer: bytes, before: Link | None, link: Link) -> None:
    problem = broken(producer.decode(), before, link)
    if problem:
        found.findings.append(problem)
    elif before is not None and before.epoch != link.epoch:
        found.epochs.append((producer, link.epoch, link.index))


def broken(producer: str, before: Link | None, link: Link) -> Finding | None:
    """What is wrong with `link` as the one after `before` (None: as the producer's first); None when nothing is."""
    place = f"{producer} {link.epoch}/{link.seq}"
    after = -1 if before is None else before.index
    if before is None or link.epoch > before.epoch:
        if link.seq == 1 and link.prev == _ZEROS:
            return None
        if link.seq == 1:
            kind, message = "broken-chain", f"{place} begins its epoch, and `prev` names a leaf before it"
        else:
            gap = f"{producer} {link.epoch}/1" + (f" to {link.epoch}/{link.seq - 1}" if link.seq > 2 else "")
            kind, message = "missing-event", f"{gap} missing before {place}"
    elif link.epoch < before.epoch or link.seq <= before.seq:
        kind, message = "repeated-event", f"{place} stands after {producer} {before.epoch}/{before.seq}"
    elif link.seq > before.seq + 1:
        last = f" to {link.epoch}/{link.seq - 1}" if link.seq > before.seq + 2 else ""
        kind, message = "missing-event", f"{producer} {link.epoch}/{before.seq + 1}{last} missing before {place}"
    elif link.prev != before.own:
        kind, message = (
            "broken-chain",
            f"`prev` of {place} is not the hash of the leaf before it (index {before.index})",
        )
    else:
        return None
    return Finding(kind, message, index=link.index, after=after)


@dataclass(slots=True)
class Producer:
    """What the logs hold of one producer."""

    leaves: int = 0
    epochs: list[dict[str, int]] = field(default_factory=list)
    """Each new epoch after the first: its number and the index of its first leaf."""
    last: Link | None = None


class Chains:
    """The chains of all producers over a log, and over the logs that follow it."""

    def __init__(self, *, continued: bool = False) -> None:
        """`continued`: the log goes on where another stopped that is not looked at, so chains may begin anywhere."""
        self.producers: dict[str, Producer] = {}
        self._continued = continued

    def absorb(self, found: Scan) -> list[Finding]:
        """Joins what the next bundle holds to what stood before; returns what is wrong, by index."""
        joined = Scan(found.first, findings=list(found.findings), epochs=list(found.epochs))
        for producer, link in found.firsts.items():
            if producer == _LOG:
                continue
            state = self.producers.setdefault(producer.decode(), Producer())
            if state.last is not None or not self._continued:
                _join(joined, producer, state.last, link)
        for name, last in found.lasts.items():
            if name == _LOG and last.index != 0:
                joined.findings.append(
                    Finding("misplaced-opening", "a log is opened by its first leaf alone", index=last.index)
                )
            state = self.producers.setdefault(name.decode(), Producer())
            state.last = last
            state.leaves += found.counts[name]
        for producer, epoch, index in joined.epochs:
            if producer != _LOG:
                self.producers[producer.decode()].epochs.append({"epoch": epoch, "index": index})
        return sorted(joined.findings, key=lambda finding: finding.index or 0)

    def next_log(self) -> None:
        """The next bundle is the first of the log that follows: indices begin anew, chains go on."""
        for state in self.producers.values():
            if state.last is not None:
                state.last = Link(-1, state.last.epoch, state.last.seq, state.last.prev, state.last.own)


def opening_problem(entry: bytes, generation: int | None) -> str:
    """Why this is not the leaf that opens a log (of this generation, when known); empty when it is."""
    said = members(entry)
    if not said or said["producer"] != "log" or said["type"] != OPENED:
        return f"the first leaf is not {OPENED} of the producer `log`"
    if said["seq"] != "1" or said["prev"].encode() != _ZEROS or said["epoch"] == "0":
        return "the first leaf does not stand at the beginning of a chain"
    if generation is not None and said["epoch"] != str(generation):
        return f"the first leaf opens generation {said['epoch']}, not {generation}"
    return ""
