"""Leaves: what the log proves of an event without revealing it. Chained per producer, signed per batch.

A leaf is the RFC 8785 encoding of `{id, producer, epoch, seq, prev, time, type, commitment}`; `prev` is the
SHA-256 of the leaf before (hex), `commitment` the SHA-256 of salt and body (hex). Source: ARCHITECTURE.md, "Outbox".
"""

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import orjson

from dossier_common.canonical import canonical
from dossier_common.keys import SigningKey, VerifyingKeys

SALT_BYTES = 32
NO_LEAF = bytes(32)
_DOMAIN = b"dossier-head-v1\n"
_PLAIN_WORD: Final = re.compile(r"[A-Za-z0-9._-]+")
_PLAIN_TIME: Final = re.compile(rb"[0-9TZ:.+-]+")


class ChainBroken(ValueError):
    """A leaf does not follow its predecessor, or a body does not fit its commitment, or a signature does not hold."""


@dataclass(frozen=True, slots=True)
class Head:
    """The last leaf of a batch, signed by its producer."""

    producer: str
    epoch: int
    seq: int
    hash: bytes
    signature: bytes

    @staticmethod
    def message(producer: str, epoch: int, seq: int, leaf_hash: bytes) -> bytes:
        """What is signed: a domain line and canonical JSON."""
        return _DOMAIN + canonical({"producer": producer, "epoch": epoch, "seq": seq, "hash": leaf_hash.hex()})

    @classmethod
    def sign(cls, key: SigningKey, producer: str, epoch: int, seq: int, leaf_hash: bytes) -> "Head":
        """A head with its producer's signature."""
        return cls(producer, epoch, seq, leaf_hash, key.sign(cls.message(producer, epoch, seq, leaf_hash)))

    def verify(self, keys: VerifyingKeys) -> None:
        """Raises ChainBroken."""
        if not keys.holds(self.signature, self.message(self.producer, self.epoch, self.seq, self.hash)):
            raise ChainBroken(f"{self.producer}: the head of {self.epoch}/{self.seq} is not signed by its producer")


@dataclass(frozen=True, slots=True)
class Numbered:
    """An event with its place in the producer's chain."""

    id: UUID
    type: str
    epoch: int
    seq: int
    leaf: bytes
    salt: bytes
    body: bytes

    @property
    def hash(self) -> bytes:
        """SHA-256 of the leaf: `prev` of the next."""
        return hashlib.sha256(self.leaf).digest()


def commitment(salt: bytes, body: bytes) -> bytes:
    """SHA-256 over salt and body; 32 random bytes of salt keep a guess of the body from being checked."""
    return hashlib.sha256(salt + body).digest()


def number(
    producer: str, epoch: int, seq: int, prev: bytes, event_id: UUID, time: str, event_type: str, body: bytes
) -> Numbered:
    """Gives an event its leaf, with a fresh salt."""
    salt = secrets.token_bytes(SALT_BYTES)
    leaf = canonical(
        {
            "id": str(event_id),
            "producer": producer,
            "epoch": epoch,
            "seq": seq,
            "prev": prev.hex(),
            "time": time,
            "type": event_type,
            "commitment": commitment(salt, body).hex(),
        }
    )
    return Numbered(event_id, event_type, epoch, seq, leaf, salt, body)


def verify_chain(producer: str, epoch: int, seq: int, prev: bytes, events: Sequence[Numbered], head: Head) -> None:
    """Holds when `events` follow (epoch, seq, prev) without a gap, fit their leaves, and end in `head`.

    A leaf is exactly the canonical encoding of its members, so that none hides a word in the log. A new epoch starts
    at seq 1 with `prev` of 32 zero bytes. Raises ChainBroken. Does not check the head's signature.
    """
    for event in events:
        seq += 1
        if (event.epoch, event.seq) != (epoch, seq) or not _is_plain_leaf(event, producer, prev):
            _verify_leaf(event, producer, epoch, seq, prev)
        prev = event.hash
    if (head.producer, head.epoch, head.seq, head.hash) != (producer, epoch, seq, prev):
        raise ChainBroken(f"{producer}: the head does not end the batch at {epoch}/{seq}")


def _is_plain_leaf(event: Numbered, producer: str, prev: bytes) -> bool:
    """Whether the leaf is the canonical encoding of what it should say, its words plain ASCII.

    It compares text, which costs a third of reading and encoding JSON: the members stand in order, and each of these
    words is its own encoding. The time alone is known from nowhere but the leaf.
    """
    before = (
        f'{{"commitment":"{commitment(event.salt, event.body).hex()}","epoch":{event.epoch},"id":"{event.id}",'
        f'"prev":"{prev.hex()}","producer":"{producer}","seq":{event.seq},"time":"'
    ).encode()
    after = f'","type":"{event.type}"}}'.encode()
    leaf = event.leaf
    time = leaf[len(before) : -len(after)]
    return (
        leaf == before + time + after
        and _PLAIN_TIME.fullmatch(time) is not None
        and _PLAIN_WORD.fullmatch(event.type) is not None
        and _PLAIN_WORD.fullmatch(producer) is not None
    )


def _verify_leaf(event: Numbered, producer: str, epoch: int, seq: int, prev: bytes) -> None:
    """Raises ChainBroken unless the event stands at this place and its leaf is the encoding of what it should say."""
    said = _members(producer, event.leaf)
    expected = {
        "id": str(event.id),
        "producer": producer,
        "epoch": epoch,
        "seq": seq,
        "prev": prev.hex(),
        "time": str(said.get("time")),
        "type": event.type,
        "commitment": commitment(event.salt, event.body).hex(),
    }
    if (event.epoch, event.seq) != (epoch, seq) or canonical(expected) != event.leaf:
        differing = [name for name, value in expected.items() if said.get(name) != value]
        raise ChainBroken(f"{producer}: the leaf of {epoch}/{seq} has another {differing or 'encoding'}")


def _members(producer: str, leaf: bytes) -> dict[str, Any]:
    try:
        said = orjson.loads(leaf)
    except ValueError as error:
        raise ChainBroken(f"{producer}: a leaf is not JSON") from error
    if not isinstance(said, dict):
        raise ChainBroken(f"{producer}: a leaf is not an object")
    return said
