"""The checker: what was acknowledged is stored by its part, and stands in the audit log, once.

It reads the databases themselves, with the roles of the services, and trusts no answer of the product. The log is
read in its order, as far as a signed checkpoint is outside: each leaf must be the next of its producer's chain and fit
its body. The product's own checks are not used, they are under test; `dossier-verify` checks tree and signatures.
"""

import asyncio
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg
from tests.faults.client import Acknowledged, Kind
from tests.faults.stack import Stack

from dossier_common.topology import PARTS

_LOGS: Final = """
SELECT l.generation, (SELECT max(size) FROM log_publications p WHERE p.generation = l.generation) AS shown
FROM logs l WHERE l.generation >= $1 ORDER BY l.generation
"""
_LEAVES: Final = """
SELECT r.first_index + (l.seq - r.first_seq) AS index, l.*
FROM log_runs r, LATERAL (
  SELECT l.producer, l.epoch, l.seq, l.id, l.leaf, l.type, b.salt, b.body
  FROM leaves l JOIN bodies b ON (b.time, b.producer, b.epoch, b.seq) = (l.time, l.producer, l.epoch, l.seq)
  WHERE (l.producer, l.epoch) = (r.producer, r.epoch) AND l.seq >= r.first_seq AND l.seq < r.first_seq + r.count
  OFFSET 0
) l
WHERE r.generation = $1 AND r.first_index < $3 AND r.first_index >= (
  SELECT coalesce(max(first_index), 0) FROM log_runs WHERE generation = $1 AND first_index <= $2)
ORDER BY index
"""
_OUTBOX: Final = """
SELECT type, txn, record FROM (
  SELECT type, epoch, seq, convert_from(body, 'UTF8')::jsonb ->> 'txn' AS txn,
    convert_from(body, 'UTF8')::jsonb -> 'data' ->> 'record' AS record
  FROM outbox WHERE (seq IS NULL OR (epoch, seq) > ($1, $2)) AND type = $3) AS events
"""
KINDS: Final = frozenset(map(str, Kind))
FORKED: Final = "audit.v1.producer.forked"
_HOLE: Final = """
SELECT EXISTS (SELECT FROM leaves GROUP BY producer, epoch HAVING max(seq) - min(seq) >= count(*))
"""
_MARKED: Final = """
SELECT published_seq = seq AND NOT EXISTS (SELECT FROM outbox WHERE outbox.seq IS NULL) FROM outbox_state
"""
_PLACE: Final = "SELECT epoch, seq FROM outbox_state"
_RECORDS: Final = "SELECT id::text FROM records"
AWAY: Final = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError)


@dataclass(frozen=True, slots=True)
class Place:
    """How far a chain has been read; `prev` is the hash of the last leaf, in hex."""

    epoch: int = 0
    seq: int = 0
    prev: str = "0" * 64


@dataclass
class Log:
    """What has been read of the log so far."""

    generation: int = 1
    size: int = 0
    """How many leaves of this generation have been read."""
    places: dict[str, Place] = field(default_factory=lambda: defaultdict(Place))
    keys: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """By event type: how often the log has the event of this transaction, or, for registrations, of this record."""
    ids: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    """Where each event id was seen first: producer, epoch and seq."""
    repeated: list[str] = field(default_factory=list)
    """Ids of events that stand twice in one epoch: a fault."""
    again: list[str] = field(default_factory=list)
    """Ids of events that came again in a later epoch, as those of a restored producer may."""
    wrong: list[str] = field(default_factory=list)
    """What is wrong with a chain, in words."""
    alarms: int = 0
    """Events that say that a producer was restored."""

    def add(self, row: Mapping[str, Any]) -> None:
        """Takes in the next leaf of the log."""
        producer, epoch, seq = row["producer"], row["epoch"], row["seq"]
        place = self.places[producer]
        expected = Place(place.epoch, place.seq + 1, place.prev) if epoch == place.epoch else Place(epoch, 1)
        leaf = json.loads(row["leaf"])
        said = (leaf["producer"], leaf["epoch"], leaf["seq"], leaf["prev"], leaf["id"], leaf["type"])
        follows = said == (producer, epoch, seq, expected.prev, str(row["id"]), row["type"])
        if row["index"] != self.size or seq != expected.seq or epoch < place.epoch or not follows:
            self.wrong.append(f"at {row['index']}, {producer} {epoch}/{seq} does not follow {place.epoch}/{place.seq}")
        if leaf["commitment"] != hashlib.sha256(row["salt"] + row["body"]).hexdigest():
            self.wrong.append(f"{producer} {epoch}/{seq} does not fit its body")
        self.places[producer] = Place(epoch, seq, hashlib.sha256(row["leaf"]).hexdigest())
        self.size = row["index"] + 1
        self._note(producer, epoch, leaf, json.loads(row["body"]))

    def _note(self, producer: str, epoch: int, leaf: Mapping[str, Any], body: Mapping[str, Any]) -> None:
        kind = leaf["type"]
        first = self.ids.setdefault(leaf["id"], (producer, epoch, leaf["seq"]))
        if first != (producer, epoch, leaf["seq"]):
            (self.repeated if first[:2] == (producer, epoch) else self.again).append(leaf["id"])
            return
        if kind == FORKED:
            self.alarms += 1
        if kind in KINDS:
            self.keys[kind][body["data"]["record"] if kind == Kind.REGISTERED else body["txn"]] += 1

    def lacks(self, acknowledged: Iterable[Acknowledged]) -> list[Acknowledged]:
        """Those of which the log has no event."""
        return [each for each in acknowledged if not self.keys[each.kind][each.key]]

    def passed_over(self, acknowledged: Sequence[Acknowledged]) -> list[Acknowledged]:
        """Those that are not late but lost: the log has one of the same producer that was asked for after their answer.

        What was acknowledged is committed, so its relay numbers it before anything that begins later.
        """
        newest: dict[str, float] = defaultdict(float)
        for each in acknowledged:
            if self.keys[each.kind][each.key]:
                newest[each.kind.producer] = max(newest[each.kind.producer], each.asked_at)
        return [each for each in self.lacks(acknowledged) if each.answered_at < newest[each.kind.producer]]


class Checker:
    """Compares, for one stack. Keeps what it has read, so that each run reads what is new."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.log = Log()

    def start_again(self) -> None:
        """Forgets what was read: the audit service's database was restored."""
        self.log = Log()

    async def read_log(self) -> Log:
        """Reads on to the newest checkpoint of which a copy lies outside: what is not under it is not in the log.

        A closed generation is read to its end. Raises one of AWAY when the database does not answer.
        """
        async with self._database("audit") as audit:
            logs = await audit.fetch(_LOGS, self.log.generation)
            for each in logs:
                if each["generation"] > self.log.generation:
                    self.log.generation, self.log.size = each["generation"], 0
                end = (each["shown"] or 0) if each is logs[-1] else 2**62
                begin = self.log.size
                for row in await audit.fetch(_LEAVES, each["generation"], begin, end):
                    if begin <= row["index"] < end:
                        self.log.add(dict(row))
        return self.log

    async def has_hole(self) -> bool:
        """Whether leaves are missing between others of the same producer and epoch."""
        async with self._database("audit") as audit:
            return bool(await audit.fetchval(_HOLE))

    async def places(self) -> dict[str, tuple[int, int]]:
        """How far each part has numbered: what a run stores comes after that."""
        found = {}
        for part in PARTS:
            async with self._database(part) as database:
                row = await database.fetchrow(_PLACE)
                assert row is not None
                found[part] = (row["epoch"], row["seq"])
        return found

    async def has_marked_all(self, part: str) -> bool:
        """Whether the part's relay has numbered all that there is, and says that it has published it."""
        async with self._database(part) as database:
            return bool(await database.fetchval(_MARKED))

    async def not_stored(
        self, acknowledged: Sequence[Acknowledged], since: Mapping[str, tuple[int, int]]
    ) -> list[Acknowledged]:
        """Those that their part's own database does not have: the event in its outbox, the record in its table."""
        absent = []
        for kind in Kind:
            wanted = [each for each in acknowledged if each.kind is kind]
            if wanted:
                stored = await self._stored(kind, since[kind.producer])
                absent += [each for each in wanted if each.key not in stored]
        return absent

    async def _stored(self, kind: Kind, since: tuple[int, int]) -> set[str]:
        async with self._database(kind.producer) as database:
            rows = await database.fetch(_OUTBOX, *since, str(kind))
            if kind is not Kind.REGISTERED:
                return {row["txn"] for row in rows}
            return {row["record"] for row in rows} & await self._catalogue(database)

    async def catalogue(self) -> set[str]:
        """Ids of all records."""
        async with self._database("records") as database:
            return await self._catalogue(database)

    @staticmethod
    async def _catalogue(database: asyncpg.Connection) -> set[str]:
        return {row["id"] for row in await database.fetch(_RECORDS)}

    @asynccontextmanager
    async def _database(self, part: str) -> AsyncIterator[asyncpg.Connection]:
        async with asyncio.timeout(20):
            connection = await asyncpg.connect(self._stack.postgres.url(part, "app", password=True), timeout=5)
        try:
            yield connection
        finally:
            await connection.close(timeout=5)
