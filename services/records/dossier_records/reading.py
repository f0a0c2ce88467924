"""Reading content: concurrent intents are committed together, each is decided, recorded and decrypted on its own.

While one batch commits, the next requests queue; there is no timer, and a batch has at most 64. Content is
decrypted after the commit of its intent, and never otherwise (invariant 1). One batch works on one connection, and
locks grants in the order of their ids. A batch that the database refuses is tried again singly, so that nobody fails
for a neighbour; one whose connection was lost is not, since it may have been committed. Statements stand here and
not in the repository, because they are one with the batch.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg

from dossier_common import telemetry
from dossier_common.clock import Clock
from dossier_common.contracts.records import AccessRefused, RecordViewed
from dossier_common.database import Database, unreachable
from dossier_common.events import Event, encode
from dossier_common.idempotency import KEEP
from dossier_common.identity import Subject
from dossier_common.ids import new_id
from dossier_common.policy import Action, Policy
from dossier_common.problems import AuditUnavailable, IdempotencyConflict, NotFound, Problem, UpstreamUnavailable
from dossier_records import envelopes, errors, masks, refusals
from dossier_records.envelopes import Sealed
from dossier_records.grants import OWNER, Confirmed, is_fresh
from dossier_records.keyring import KeyDestroyed
from dossier_records.rules import Decision, GrantFacts, RecordFacts, decide
from dossier_records.vault import Vault

MOST: Final = 64

_RECORDS = """
SELECT r.id, r.level, r.unit, r.custodian, r.named, r.purposes, r.version, v.ring, v.key_epoch, v.wrapped_key, v.sealed
FROM records r JOIN record_versions v ON v.record_id = r.id AND v.version = r.version
WHERE r.id = ANY($1::uuid[]) AND r.status IN ('active', 'ended')
"""
_GRANTS = """
SELECT id, action, records, fields, purpose, not_before, until, uses, used, state, holder_account,
       conditions ->> 'zone' AS zone, (SELECT fresh_at FROM cursors WHERE producer = $2) AS fresh_at
FROM grants WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE
"""
_REPEATED = """
SELECT u.grant_id, u.key, u.record_id, u.version, u.at FROM grant_uses u
JOIN unnest($1::uuid[], $2::text[]) AS k (grant_id, key) ON u.grant_id = k.grant_id AND u.key = k.key
"""
_INTENTS = """
INSERT INTO outbox (id, type, time, body)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::bytea[])
"""
_USES = """
UPDATE grants SET used = used + u.n FROM unnest($1::uuid[], $2::int[]) AS u (id, n) WHERE grants.id = u.id
"""
_USE_KEYS = """
INSERT INTO grant_uses (grant_id, key, record_id, version, at)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::int[], $5::timestamptz[])
ON CONFLICT (grant_id, key) DO UPDATE SET version = excluded.version, at = excluded.at
"""


@dataclass(frozen=True, slots=True)
class Ask:
    """One reading as asked for; `key` is an Idempotency-Key, whose repetition counts no use.

    `confirmed` is what approvals said when it was asked for the grant.
    """

    record: UUID
    subject: Subject
    purpose: str
    grant: UUID | None
    key: str | None
    confirmed: Confirmed | None = None


@dataclass(frozen=True, slots=True)
class _Use:
    record: UUID
    version: int
    at: datetime


@dataclass(slots=True)
class _Waiting:
    ask: Ask
    answer: asyncio.Future["Allowed"] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass(frozen=True, slots=True)
class Allowed:
    """A reading whose intent is durable."""

    record: UUID
    level: str
    version: int
    decision: Decision
    kept: Sealed
    at: datetime


class UnconfirmedGrant(Exception):
    """The projection does not have this grant (yet), or is stale: whoever reads asks approvals, and tries again."""


class Reader:
    """The group commit of this process. `run` has to run for `read` to answer."""

    def __init__(
        self, database: Database, vault: Vault, policy: Policy, clock: Clock, *, stale_after: timedelta
    ) -> None:
        self._database, self._vault, self._policy, self._clock = database, vault, policy, clock
        self._stale_after = stale_after
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue(4096)
        self._connection: asyncpg.Connection | None = None

    async def read(self, ask: Ask) -> dict[str, Any]:
        """The answer's body, its intent recorded.

        Raises UnconfirmedGrant, NotFound, a refusal, AuditUnavailable; UpstreamUnavailable for a grant whose
        confirmation has become stale meanwhile.
        """
        waiting = _Waiting(ask)
        try:
            self._queue.put_nowait(waiting)
        except asyncio.QueueFull as error:
            raise AuditUnavailable("Too many readings wait for their record.", retry_after=1) from error
        return self._open(ask, await waiting.answer)

    async def run(self) -> None:
        """Commits batches until it is cancelled."""
        try:
            while True:
                batch = [await self._queue.get()]
                while len(batch) < MOST and not self._queue.empty():
                    batch.append(self._queue.get_nowait())
                await self._settle(batch)
        finally:
            await self._disconnect()

    async def _settle(self, batch: list[_Waiting]) -> None:
        try:
            outcomes = await self._commit([waiting.ask for waiting in batch])
        except Exception as error:  # noqa: BLE001  # whatever a batch meets, each of its requests gets an answer
            await self._disconnect()
            if len(batch) > 1 and not unreachable(error):
                for waiting in batch:
                    await self._settle([waiting])
                return
            telemetry.log().warning("read-not-recorded", error=type(error).__name__)
            outcomes = [_unrecorded(error) for _ in batch]
        for waiting, outcome in zip(batch, outcomes, strict=True):
            if waiting.answer.done():
                continue
            if isinstance(outcome, Allowed):
                waiting.answer.set_result(outcome)
            else:
                waiting.answer.set_exception(outcome)

    async def _connect(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._database.connect()
        return self._connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
                await connection.close(timeout=1)

    async def _commit(self, asks: Sequence[Ask]) -> list[Allowed | Exception]:
        connection = await self._connect()
        if any(ask.grant for ask in asks):
            async with connection.transaction():
                return await self._decide_and_record(connection, asks)
        return await self._decide_and_record(connection, asks)

    async def _decide_and_record(
        self, connection: asyncpg.Connection, asks: Sequence[Ask]
    ) -> list[Allowed | Exception]:
        rows = {row["id"]: row for row in await connection.fetch(_RECORDS, [ask.record for ask in asks])}
        wanted = [ask.grant for ask in asks if ask.grant]
        grants = {row["id"]: row for row in await connection.fetch(_GRANTS, wanted, OWNER)} if wanted else {}
        uses = await _repeated(connection, asks)
        batch = _Batch(self._policy, self._clock.now(), rows, grants, uses, stale_after=self._stale_after)
        outcomes = [batch.judge(ask) for ask in asks]
        if batch.events:
            ids = [new_id() for _ in batch.events]
            await connection.execute(
                _INTENTS,
                ids,
                [event.TYPE for event, _ in batch.events],
                [batch.now] * len(ids),
                [encode(event, i, batch.now, by) for i, (event, by) in zip(ids, batch.events, strict=True)],
            )
        if batch.used:
            await connection.execute(_USES, list(batch.used), list(batch.used.values()))
        if batch.new_keys:
            await connection.execute(_USE_KEYS, *batch.use_key_columns())
        return outcomes

    def _open(self, ask: Ask, allowed: Allowed) -> dict[str, Any]:
        decision = allowed.decision
        shown = {*decision.open, *decision.masked}
        try:
            values = self._vault.open(ask.record, allowed.version, allowed.kept, shown)
        except KeyDestroyed as error:
            raise NotFound("There is no such record.") from error
        except envelopes.CannotOpen as error:
            raise errors.DamagedRecord from error
        return {
            "id": str(ask.record),
            "version": allowed.version,
            "level": allowed.level,
            "purpose": ask.purpose,
            "grant": str(ask.grant) if ask.grant else None,
            "policy": self._policy.digest,
            "watermark": _watermark(ask.subject, allowed.at) if decision.watermark else None,
            "fields": shown_fields(self._policy, decision, values, envelopes.names(allowed.kept.sealed)),
        }


class _Batch:
    """Judges the asks of one batch in their order; counts the uses of each grant as it goes."""

    def __init__(
        self,
        policy: Policy,
        now: datetime,
        rows: dict[UUID, asyncpg.Record],
        grants: dict[UUID, asyncpg.Record],
        uses: dict[tuple[UUID, str], _Use],
        *,
        stale_after: timedelta,
    ) -> None:
        self._policy, self.now, self._rows, self._grants = policy, now, rows, grants
        self._uses, self._stale_after = uses, stale_after
        self.events: list[tuple[Event, Subject]] = []
        self.used: dict[UUID, int] = {}
        self.new_keys: list[tuple[UUID, str]] = []

    def use_key_columns(self) -> tuple[list[Any], ...]:
        """The columns of `_USE_KEYS`."""
        uses = [self._uses[each] for each in self.new_keys]
        return (
            [grant for grant, _ in self.new_keys],
            [key for _, key in self.new_keys],
            [use.record for use in uses],
            [use.version for use in uses],
            [use.at for use in uses],
        )

    def judge(self, ask: Ask) -> Allowed | Exception:
        row = self._rows.get(ask.record)
        if row is None:
            return NotFound("There is no such record.")
        if ask.grant is not None and not self._current(ask.grant, ask.confirmed):
            late = UpstreamUnavailable("How the grant stands could not be learnt in time.", retry_after=1)
            return late if ask.confirmed else UnconfirmedGrant()
        try:
            facts = facts_of(row, envelopes.names(row["sealed"]))
        except envelopes.CannotOpen:
            return errors.DamagedRecord()
        earlier = self._uses.get((ask.grant, ask.key)) if ask.grant and ask.key else None
        repeated = (
            earlier is not None
            and (earlier.record, earlier.version) == (ask.record, row["version"])
            and earlier.at > self.now - KEEP
        )
        grant = self._grant(ask, repeated=repeated)
        decision = decide(
            self._policy,
            ask.subject,
            facts,
            Action.VIEW,
            ask.purpose,
            grant,
            self.now,
            grant_named=ask.grant is not None,
        )
        if not decision.allowed:
            return self._refuse(ask, decision, facts)
        if earlier is not None and earlier.record != ask.record:
            return IdempotencyConflict("The key was used for another record.")
        use = self._count(ask, row["version"], repeated=repeated) if ask.grant is not None else None
        event = RecordViewed(
            record=ask.record,
            version=row["version"],
            purpose=ask.purpose,
            open=decision.open,
            masked=decision.masked,
            grant=ask.grant,
            use=use,
            policy=self._policy.digest,
        )
        self.events.append((event, ask.subject))
        kept = Sealed(row["ring"], row["key_epoch"], row["wrapped_key"], row["sealed"])
        return Allowed(ask.record, facts.level, row["version"], decision, kept, self.now)

    def _current(self, grant: UUID, confirmed: Confirmed | None) -> bool:
        """Whether the grant's row, or its absence, is what approvals had a moment ago."""
        if confirmed is not None:
            return is_fresh(confirmed.at, self.now, self._stale_after)
        row = self._grants.get(grant)
        return row is not None and is_fresh(row["fresh_at"], self.now, self._stale_after)

    def _grant(self, ask: Ask, *, repeated: bool) -> GrantFacts | None:
        unknown = ask.confirmed is not None and not ask.confirmed.known
        if ask.grant is None or unknown or ask.grant not in self._grants:
            return None
        row = self._grants[ask.grant]
        return grant_facts(row, row["used"] + self.used.get(ask.grant, 0) - (1 if repeated else 0))

    def _count(self, ask: Ask, version: int, *, repeated: bool) -> int:
        assert ask.grant is not None
        if not repeated:
            self.used[ask.grant] = self.used.get(ask.grant, 0) + 1
            if ask.key is not None:
                self.new_keys.append((ask.grant, ask.key))
                self._uses[ask.grant, ask.key] = _Use(ask.record, version, self.now)
        return int(self._grants[ask.grant]["used"]) + self.used.get(ask.grant, 0)

    def _refuse(self, ask: Ask, decision: Decision, facts: RecordFacts) -> Problem:
        problem = refusals.problem(self._policy, decision, Action.VIEW, facts)
        problem.recorded = True
        event = AccessRefused(operation="read_record", slug=problem.slug, record=ask.record)
        self.events.append((event, ask.subject))
        return problem


def _unrecorded(error: Exception) -> Exception:
    """Whatever the database says against it: what is not on record does not happen (invariant 1)."""
    if unreachable(error) or isinstance(error, asyncpg.PostgresError | OSError):
        return AuditUnavailable("The reading could not be recorded.")
    return error


async def _repeated(connection: asyncpg.Connection, asks: Sequence[Ask]) -> dict[tuple[UUID, str], _Use]:
    keyed = [(ask.grant, ask.key) for ask in asks if ask.grant and ask.key]
    if not keyed:
        return {}
    rows = await connection.fetch(_REPEATED, [grant for grant, _ in keyed], [key for _, key in keyed])
    return {(row["grant_id"], row["key"]): _Use(row["record_id"], row["version"], row["at"]) for row in rows}


def facts_of(row: Any, fields: tuple[str, ...]) -> RecordFacts:
    """The facts of a database row, by key or by attribute name."""
    return RecordFacts(
        id=row["id"],
        level=row["level"],
        unit=row["unit"],
        custodian=row["custodian"],
        named=frozenset(row["named"]),
        purposes=frozenset(row["purposes"]),
        fields=fields,
    )


def grant_facts(row: Any, used: int) -> GrantFacts:
    """The facts of a grant of which so many uses are spent."""
    return GrantFacts(
        id=row["id"],
        action=row["action"],
        records=frozenset(row["records"]),
        fields=frozenset(row["fields"]),
        purpose=row["purpose"],
        not_before=row["not_before"],
        until=row["until"],
        uses_left=None if row["uses"] is None else row["uses"] - used,
        active=row["state"] == "active",
        holder_account=row["holder_account"],
        zone=row["zone"],
    )


def shown_fields(
    policy: Policy, decision: Decision, values: dict[str, str], names: Sequence[str]
) -> dict[str, dict[str, str | None]]:
    """The fields as they are answered: open, masked, or absent."""
    shown: dict[str, dict[str, str | None]] = {}
    for name in names:
        if name in decision.open:
            shown[name] = {"state": "open", "value": values[name]}
        elif name in decision.masked:
            shown[name] = {"state": "masked", "value": masks.masked(policy.field(name).mask, values[name])}
        else:
            shown[name] = {"state": "absent", "value": None}
    return shown


def _watermark(subject: Subject, at: datetime) -> str:
    return f"{subject.person or subject.client} {at:%Y-%m-%d %H:%M:%S}Z"
