"""A producer's chain made by hand: events signed by its real key, handed to a consumer without a broker between."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from dossier_common.cursors import read_cursor
from dossier_common.events import Event, encode, instant
from dossier_common.identity import Subject
from dossier_common.ids import new_id
from dossier_common.keys import SigningKey
from dossier_common.leaves import NO_LEAF, Head, Numbered, number
from dossier_common.worker import Context
from dossier_local import keys as local_keys
from dossier_local.cluster import Cluster


class Taking(Protocol):
    """Whoever takes a batch: a consumer, or something in front of one."""

    async def take(self, events: Sequence[Numbered], head: Head) -> None: ...


class Chain:
    """Starts a new epoch of the producer, after whatever the consumer has seen of it."""

    def __init__(self, cluster: Cluster, producer: str, epoch: int) -> None:
        self._key = SigningKey.read(local_keys.signing_key(cluster.state, producer))
        self._producer, self._epoch, self._seq, self._prev = producer, epoch, 0, NO_LEAF

    @classmethod
    async def after(cls, cluster: Cluster, context: Context, producer: str) -> "Chain":
        """A chain that the consumers of this part will take."""
        async with context.database.session() as session:
            cursor = await read_cursor(session, producer)
        return cls(cluster, producer, cursor.epoch + 1)

    async def send(self, consumer: Taking, events: Sequence[Event], *, at: datetime, by: Subject | None = None) -> None:
        """Numbers and signs the events, and lets the consumer apply them."""
        numbered = []
        for event in events:
            self._seq += 1
            event_id = new_id()
            body = encode(event, event_id, at, by)
            made = number(self._producer, self._epoch, self._seq, self._prev, event_id, instant(at), event.TYPE, body)
            self._prev = made.hash
            numbered.append(made)
        head = Head.sign(self._key, self._producer, self._epoch, self._seq, self._prev)
        await consumer.take(numbered, head)
