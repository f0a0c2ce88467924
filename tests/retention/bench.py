"""The retention service; records, approvals and gateway speak to it through chains signed by their keys."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import orjson
from sqlalchemy import text
from tests.support.chains import Chain
from tests.support.tokens import TestKeys, txn_token

from dossier_common.clock import ManualClock
from dossier_common.contracts.approvals import Conditions, GrantIssued
from dossier_common.contracts.gateway import UnitCreated
from dossier_common.contracts.records import RecordRegistered, RecordShredded
from dossier_common.events import Event
from dossier_common.ids import new_id
from dossier_common.inbox import Handlers
from dossier_common.worker import Context

NOW = datetime(2026, 11, 22, 8, tzinfo=UTC)
POLICY = "sha256:" + "0" * 64


@dataclass(frozen=True)
class Person:
    """A person with an account and roles, as the gateway would know him."""

    scopes: tuple[str, ...]
    roles: tuple[tuple[str, UUID], ...] = ()
    account: UUID = field(default_factory=new_id)
    person: UUID = field(default_factory=new_id)


@dataclass
class Bench:
    keys: TestKeys
    clock: ManualClock
    http: httpx.AsyncClient
    worker: Context
    handlers: Handlers
    chains: dict[str, Chain]
    unit: UUID = field(default_factory=new_id)
    company: UUID = field(default_factory=new_id)

    def headers(self, who: Person) -> dict[str, str]:
        """The Txn-Token of a person."""
        token = txn_token(
            self.keys,
            "retention",
            who.scopes,
            account=who.account,
            person=who.person,
            roles=who.roles,
            at=self.clock.now(),
        )
        return {"Txn-Token": token}

    def application_token(self, scopes: Sequence[str]) -> str:
        """The Txn-Token of an application that acts for itself."""
        return txn_token(self.keys, "retention", scopes, at=self.clock.now())

    async def get(self, path: str, who: Person, **params: str) -> httpx.Response:
        return await self.http.get(path, params=params, headers=self.headers(who))

    async def post(self, path: str, who: Person, body: Any) -> httpx.Response:
        return await self.http.post(path, json=body, headers=self.headers(who))

    async def hear(self, producer: str, *events: Event) -> None:
        """The producer's events, applied."""
        consumer = self.worker.consumer(producer, self.handlers.apply)
        await self.chains[producer].send(consumer, events, at=self.clock.now())

    async def open_directory(self) -> None:
        """A company with one department."""
        await self.hear(
            "gateway",
            UnitCreated(unit=self.company, parent=None, kind="company", code=str(self.company)),
            UnitCreated(unit=self.unit, parent=self.company, kind="department", code=str(self.unit)),
        )

    async def record(self, *, ended_on: date | None = date(2020, 1, 31)) -> UUID:
        """A record that was registered; past its term unless told otherwise."""
        record = new_id()
        registered = RecordRegistered(
            record=record,
            unit=self.unit,
            custodian=new_id(),
            customer_type="person",
            importance="general",
            level="internal",
            information_class=1,
            plan=new_id(),
            opened_on=date(2015, 3, 1),
            relationship_ended_on=ended_on,
            policy=POLICY,
        )
        await self.hear("records", registered)
        return record

    async def approve(
        self, disposal: UUID, record: UUID, persons: Sequence[UUID], *, term: timedelta = timedelta(days=30)
    ) -> UUID:
        """The grant of approvals, with the persons of the case."""
        grant, now = new_id(), self.clock.now()
        issued = GrantIssued(
            grant=grant,
            request=new_id(),
            action="destroy",
            records=(record,),
            fields=(),
            purpose="disposal",
            not_before=now,
            until=now + term,
            uses=1,
            conditions=Conditions(),
            holder_account=new_id(),
            holder_person=persons[0],
            persons=tuple(persons),
            disposal=disposal,
            policy=POLICY,
        )
        await self.hear("approvals", issued)
        return grant

    def shredded(self, record: UUID, disposal: UUID, *, failed: bool = True, remaining: int = 0) -> RecordShredded:
        """What records says after a destruction."""
        return RecordShredded(
            record=record,
            disposal=disposal,
            ring="internal-0",
            epoch_destroyed=1,
            epoch_current=2,
            rewrapped=3,
            remaining_under_old_epoch=remaining,
            decryption_failed=failed,
            supplement="supplement-2",
        )

    async def emitted(self, event_type: type[Event], **data: Any) -> list[dict[str, Any]]:
        """Data of this service's own events of a type, with these values."""
        async with self.worker.database.session() as session:
            query = text("SELECT body FROM outbox WHERE type = :type ORDER BY id")
            bodies = (await session.execute(query, {"type": event_type.TYPE})).scalars().all()
        said: list[dict[str, Any]] = [orjson.loads(body)["data"] for body in bodies]
        return [each for each in said if all(each.get(name) == str(value) for name, value in data.items())]
