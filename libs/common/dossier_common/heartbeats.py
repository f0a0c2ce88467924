"""Heartbeats: a producer says twice a second how far its chain goes, so that its silence means something.

A heartbeat is signed and travels on core NATS; it is no event of the log, and whoever misses one hears the next. It
moves no cursor: followers verify every event as ever. Source: ARCHITECTURE.md, "Events".
"""

from base64 import b64decode, b64encode
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

import orjson

from dossier_common import telemetry
from dossier_common.canonical import canonical
from dossier_common.cursors import Cursor
from dossier_common.events import instant
from dossier_common.keys import SigningKey, VerifyingKeys

EVERY_SECONDS = 0.5
REMEMBERED = 32
_DOMAIN = b"dossier-heartbeat-v1\n"


class HeartbeatForged(ValueError):
    """Not a heartbeat that this producer signed."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The chain of `producer` goes to (epoch, seq), whose leaf has `hash`.

    `at`: everything that the producer had committed before this instant is numbered.
    """

    producer: str
    epoch: int
    seq: int
    hash: bytes
    at: datetime
    signature: bytes

    @classmethod
    def sign(cls, key: SigningKey, producer: str, epoch: int, seq: int, leaf_hash: bytes, at: datetime) -> Self:
        """A heartbeat with its producer's signature."""
        unsigned = cls(producer, epoch, seq, leaf_hash, at, b"")
        return cls(producer, epoch, seq, leaf_hash, at, key.sign(unsigned.message()))

    def message(self) -> bytes:
        """What is signed: a domain line and canonical JSON."""
        return _DOMAIN + canonical(self._said())

    def payload(self) -> bytes:
        """As it travels: hash in hex, signature in base64."""
        return orjson.dumps(self._said() | {"signature": b64encode(self.signature).decode()})

    @classmethod
    def verified(cls, payload: bytes, producer: str, keys: VerifyingKeys) -> Self:
        """The heartbeat that travelled as `payload`. Raises HeartbeatForged, for that of another producer too."""
        try:
            value: Any = orjson.loads(payload)
            epoch, seq = value["epoch"], value["seq"]
            at = datetime.fromisoformat(value["at"])
            signature = b64decode(value["signature"], validate=True)
            if type(epoch) is not int or type(seq) is not int or at.tzinfo is None:
                raise HeartbeatForged("not a heartbeat")
            heartbeat = cls(str(value["producer"]), epoch, seq, bytes.fromhex(value["hash"]), at, signature)
            message = heartbeat.message()
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise HeartbeatForged("not a heartbeat") from error
        if heartbeat.producer != producer or not keys.holds(signature, message):
            raise HeartbeatForged(f"not a heartbeat of {producer}")
        return heartbeat

    def _said(self) -> dict[str, Any]:
        return {
            "producer": self.producer,
            "epoch": self.epoch,
            "seq": self.seq,
            "hash": self.hash.hex(),
            "at": instant(self.at),
        }


class Pulse:
    """What a follower has heard of one producer's heart. Times are those of the event loop, in seconds."""

    def __init__(self, producer: str, keys: VerifyingKeys) -> None:
        self._producer, self._keys = producer, keys
        self._heard: deque[tuple[float, Heartbeat]] = deque(maxlen=REMEMBERED)
        self._forked: tuple[int, int, bytes] | None = None
        self.heard_at = float("-inf")

    def hear(self, payload: bytes, now: float) -> None:
        """Takes in what came; what the producer did not sign is said in the log, and is no heartbeat."""
        try:
            heartbeat = Heartbeat.verified(payload, self._producer, self._keys)
        except HeartbeatForged as error:
            telemetry.log().warning("heartbeat-forged", producer=self._producer, detail=str(error))
            return
        self.heard_at = now
        self._heard.append((now, heartbeat))

    def passed(self, cursor: Cursor) -> datetime | None:
        """The newest instant of a heartbeat that the cursor has reached; each is told once.

        One that has another leaf where the cursor stands is a fork, which makes nothing fresh.
        """
        newest = None
        while self._heard and _reached(self._heard[0][1], cursor):
            _, heartbeat = self._heard.popleft()
            if heartbeat.seq and (heartbeat.epoch, heartbeat.seq) == cursor.place and heartbeat.hash != cursor.hash:
                self._tell_fork(heartbeat)
                newest = None
            else:
                newest = heartbeat.at if newest is None else max(newest, heartbeat.at)
        return newest

    def ahead_since(self) -> float | None:
        """When the oldest heartbeat came that the cursor has not reached; ask after `passed`."""
        return self._heard[0][0] if self._heard else None

    def _tell_fork(self, heartbeat: Heartbeat) -> None:
        place = (heartbeat.epoch, heartbeat.seq, heartbeat.hash)
        if place != self._forked:
            self._forked = place
            telemetry.log().error("producer-forked", producer=self._producer, epoch=heartbeat.epoch, seq=heartbeat.seq)


def _reached(heartbeat: Heartbeat, cursor: Cursor) -> bool:
    """A producer that has numbered nothing yet says 1/0, which is where every follower begins."""
    place = (heartbeat.epoch, heartbeat.seq)
    return place <= cursor.place or place == (1, 0)
