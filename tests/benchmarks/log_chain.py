"""A producer's chain, made ahead in portions: what is measured is what takes it in, not what makes it."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

from dossier_common.contracts.records import RecordUpdated
from dossier_common.events import encode, instant
from dossier_common.identity import Subject
from dossier_common.ids import new_id
from dossier_common.keys import SigningKey
from dossier_common.leaves import NO_LEAF, Head, Numbered, number
from dossier_local import keys as local_keys
from dossier_local.state import State

BODY_BYTES = 500
PEOPLE, RECORDS = 500, 200_000
TYPE = RecordUpdated.TYPE
PRODUCER = "records"
_EVENT, _RECORD, _ACTOR, _PERSON = (UUID(int=place) for place in range(1, 5))

Batch = tuple[list[Numbered], Head]


class Chain:
    """Changes of 200,000 records by 500 people, each body 500 bytes long, as the records service emits them.

    Records and people are drawn anew for each event, so that the indexes over them are met where they are cold too.
    """

    def __init__(self, state: State) -> None:
        self._key = SigningKey.read(local_keys.signing_key(state, PRODUCER))
        self._seq, self._prev = 0, NO_LEAF
        self._draw = random.Random(7)
        self._records = [str(self._uuid()) for _ in range(RECORDS)]
        self._people = [(str(self._uuid()), str(self._uuid())) for _ in range(PEOPLE)]

    @property
    def last(self) -> int:
        """The number of the newest event."""
        return self._seq

    def _uuid(self) -> UUID:
        return UUID(int=self._draw.getrandbits(128), version=4)

    def batches(self, events: int, size: int) -> Iterator[Batch]:
        """So many events in signed batches; the last one may be smaller."""
        while events > 0:
            yield self._batch(min(size, events))
            events -= size

    def _batch(self, size: int) -> Batch:
        time = instant(datetime.now(UTC))
        template, made = _template(time), list[Numbered]()
        for _ in range(size):
            event_id = new_id()
            account, person = self._draw.choice(self._people)
            named = {"event": event_id, "record": self._draw.choice(self._records), "actor": account, "person": person}
            self._seq += 1
            event = number(PRODUCER, 1, self._seq, self._prev, event_id, time, TYPE, (template % named).encode())
            self._prev = event.hash
            made.append(event)
        return made, Head.sign(self._key, PRODUCER, 1, self._seq, self._prev)


def _template(time: str) -> str:
    """The body of one event with a place for each identifier: to encode each anew would cost more than all the rest."""
    by = Subject("service-desk", frozenset(), account=_ACTOR, person=_PERSON)
    event = RecordUpdated(record=_RECORD, version=1, fields=("",), policy="0" * 8)
    at = datetime.fromisoformat(time)
    short = BODY_BYTES - len(encode(event, _EVENT, at, by))
    body = encode(event.model_copy(update={"fields": ("f" * short,)}), _EVENT, at, by).decode()
    for place, name in ((_EVENT, "event"), (_RECORD, "record"), (_ACTOR, "actor"), (_PERSON, "person")):
        body = body.replace(str(place), f"%({name})s")
    return body
