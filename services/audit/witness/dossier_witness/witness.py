"""The decision: what is asked of the witness, and what it answers (c2sp.org/tlog-witness, add-checkpoint)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from dossier_witness.note import (
    Checkpoint,
    Cosigner,
    Malformed,
    Verifier,
    decoded_hash,
    encoded,
    signed,
    tree_size,
)
from dossier_witness.store import Cosigned, Fork, Store, Transaction
from dossier_witness.tree import EMPTY_ROOT, begins_with

MAX_PROOF: Final = 63
LONGEST_TOLD: Final = 200
"""Characters of an unknown origin that are logged: anyone can send one."""
Logs = Mapping[str, Sequence[Verifier]]
"""The keys that are trusted for each origin."""


class Alarm(IntEnum):
    """How loud an answer is logged, as the levels of `logging`."""

    NONE = 20
    SUSPICION = 40
    """The log, or someone with its checkpoints, wants something that does not fit: rewound, or a proof that fails."""
    FORK = 50
    """The log signed two checkpoints that cannot both be true."""


@dataclass(frozen=True)
class Answer:
    """What the witness answers, and what its log says of it. `reason` names no more than the request did."""

    status: int
    body: str
    reason: str
    alarm: Alarm = Alarm.NONE
    told: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Submission:
    """A well-formed request: the size that the witness is believed to hold, the proof from there, the checkpoint."""

    old: int
    proof: tuple[bytes, ...]
    checkpoint: Checkpoint

    @classmethod
    def parse(cls, body: bytes) -> "Submission":
        """Raises Malformed."""
        try:
            text = body.decode()
        except UnicodeDecodeError as error:
            raise Malformed("the request is not UTF-8") from error
        head, parting, note = text.partition("\n\n")
        if not parting:
            raise Malformed("the request has no empty line before the checkpoint")
        first, *lines = head.split("\n")
        word, _, old = first.partition(" ")
        if word != "old":
            raise Malformed("the first line is not 'old <size>'")
        if len(lines) > MAX_PROOF:
            raise Malformed(f"the proof has more than {MAX_PROOF} hashes")
        proof = tuple(decoded_hash(line, "a hash of the proof") for line in lines)
        return cls(tree_size(old, "the old size"), proof, Checkpoint.parse(note))


class Witness:
    """Cosigns checkpoints of the logs that it knows, each only when it continues the one before.

    `clock` gives seconds since 1970.
    """

    def __init__(self, cosigner: Cosigner, logs: Logs, store: Store, clock: Callable[[], int]) -> None:
        self._cosigner, self._logs, self._store, self._clock = cosigner, logs, store, clock

    def add_checkpoint(self, body: bytes) -> Answer:
        """The answer to a request; a cosignature in it is durable. Raises sqlite3.Error: then nothing was cosigned."""
        try:
            asked = Submission.parse(body)
        except Malformed as error:
            return _refusal(400, str(error))
        checkpoint = asked.checkpoint
        keys = self._logs.get(checkpoint.origin)
        if keys is None:
            return _refusal(404, "the origin is unknown", {"origin": checkpoint.origin[:LONGEST_TOLD]})
        told = {
            "origin": checkpoint.origin,
            "old": asked.old,
            "size": checkpoint.size,
            "root": encoded(checkpoint.root),
        }
        trusted = [(key, each) for each in checkpoint.signatures for key in keys if key.made(each)]
        if not trusted:
            return _refusal(403, "no signature is by a key that is trusted for the origin", told)
        if not all(key.holds(each, checkpoint.text) for key, each in trusted):
            return _refusal(403, "a signature by a trusted key does not verify", told)
        if asked.old > checkpoint.size:
            return _refusal(400, "the old size is larger than the checkpoint's", told)
        with self._store.transaction() as state:
            return self._decided(state, asked, [each.line for _, each in trusted], told)

    def _decided(
        self, state: Transaction, asked: Submission, lines: Sequence[str], told: Mapping[str, object]
    ) -> Answer:
        checkpoint = asked.checkpoint
        last = state.last(checkpoint.origin)
        now = self._clock()
        refusal = _inconsistent(last, asked, told)
        if refusal is not None:
            if refusal.alarm == Alarm.FORK and last is not None:
                other = signed(checkpoint.text, lines)
                state.keep(Fork(checkpoint.origin, checkpoint.size, checkpoint.root, now, last.note, other))
            return refusal
        # A cosignature says what was the largest tree at its time: so times never go back, whatever the clock does.
        time = max(now, last.time if last else 1)
        line = self._cosigner.cosign(checkpoint.text, time)
        note = signed(checkpoint.text, [*lines, line])
        state.remember(Cosigned(checkpoint.origin, checkpoint.size, checkpoint.root, time, note))
        behind = {"clock_behind": time - now} if time > now else {}
        return Answer(200, f"{line}\n", "cosigned", told={**told, "cosigned_at": time, **behind})


def _inconsistent(last: Cosigned | None, asked: Submission, told: Mapping[str, object]) -> Answer | None:
    """The refusal of a signed checkpoint that does not continue the last one, or nothing."""
    size, root = asked.checkpoint.size, asked.checkpoint.root
    held = {"held_size": last.size, "held_root": encoded(last.root)} if last else {"held_size": 0}
    told = {**told, **held}
    forked = last is not None and size == last.size and root != last.root
    if asked.old != (last.size if last else 0):
        alarm, reason = Alarm.NONE, "the old size is not that of the last cosigned checkpoint"
        if forked:
            alarm, reason = Alarm.FORK, "fork: the log signed another root for the size that was cosigned"
        elif last is not None and size < last.size:
            alarm, reason = Alarm.SUSPICION, "rewound: the checkpoint is smaller than the last cosigned one"
        return Answer(409, f"{last.size if last else 0}\n", reason, alarm, told)
    if forked:
        return _refusal(422, "fork: the log signed another root for the size that was cosigned", told, Alarm.FORK)
    # Before the first checkpoint the empty tree is held, so one of size 0 needs its root, and any other no proof.
    if not begins_with(asked.old, last.root if last else EMPTY_ROOT, size, root, asked.proof):
        return _refusal(422, "the consistency proof does not verify", told, Alarm.SUSPICION)
    return None


def _refusal(status: int, reason: str, told: Mapping[str, object] | None = None, alarm: Alarm = Alarm.NONE) -> Answer:
    return Answer(status, f"{reason}\n", reason, alarm, told or {})
