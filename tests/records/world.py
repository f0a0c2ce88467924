"""An organisation, a collection plan and people for the records service, on its real database."""

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import httpx
from fastapi import FastAPI
from tests.support.tokens import TestKeys, service_token, txn_token

from dossier_common.clock import ManualClock
from dossier_common.contracts.approvals import Conditions, GrantIssued
from dossier_common.contracts.gateway import AccountCreated, UnitCreated
from dossier_common.contracts.retention import DestructionOrdered, HoldPlaced
from dossier_common.events import Event, encode
from dossier_common.ids import new_id
from dossier_common.leaves import Head, Numbered
from dossier_local.customers import Row, Source, person
from dossier_records.consumers import handlers
from dossier_records.imports import work_off
from dossier_records.service import Desk
from dossier_records.settings import Settings
from dossier_records.shredding import Shredder

NOON = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)
PLANNED = (
    "name",
    "sex",
    "birth_date",
    "identifier_type",
    "identifier",
    "phone",
    "address",
    "postcode",
    "email",
    "bank_account",
    "remarks",
    "legal_representative",
)
QUALIFIED = ("confidentiality_agreement", "training_passed")
SCOPES = (
    "records:register",
    "records:catalogue",
    "records:read",
    "records:update",
    "records:import",
    "records:copy",
    "plans:manage",
)


@dataclass(frozen=True)
class Who:
    """An account of one person, with what his token says of him."""

    account: UUID = field(default_factory=new_id)
    person: UUID = field(default_factory=new_id)
    scopes: tuple[str, ...] = SCOPES
    units: tuple[UUID, ...] = ()
    roles: tuple[tuple[str, UUID], ...] = ()
    clearance: str = "top_secret"
    qualifications: tuple[str, ...] = QUALIFIED
    zone: str = "office"


@dataclass
class Asked:
    """What the in-process peer was asked, and which grants it knows."""

    grants: dict[UUID, dict[str, Any]] = field(default_factory=dict)
    paths: list[str] = field(default_factory=list)


@dataclass
class World:
    """What a test arranges, whom it lets act, and what it finds in the database."""

    app: FastAPI
    keys: TestKeys
    clock: ManualClock
    http: httpx.AsyncClient
    owner: asyncpg.Connection
    """A connection past all grants and triggers, to look and to damage with."""
    peers: Asked
    settings: Settings
    unit: UUID = field(default_factory=new_id)
    plan: UUID = field(default_factory=new_id)
    source: Source = field(default_factory=lambda: Source(int(new_id()) % 2**32))

    def __post_init__(self) -> None:
        offices = (("records_clerk", self.unit), ("service_manager", self.unit))
        self.custodian = Who(units=(self.unit,), roles=offices)
        self.colleague = Who()

    @property
    def desk(self) -> Desk:
        desk: Desk = self.app.state.desk
        return desk

    # ---- arranging

    async def build(self) -> None:
        """One unit with a custodian, a colleague elsewhere, and an open plan; grants are fresh for ever."""
        await self.seen_through(self.clock.now())
        await self.tell(
            UnitCreated(unit=self.unit, parent=None, kind="company", code="C"),
            *(
                AccountCreated(account=who.account, person=who.person, unit=self.unit, clearance="top_secret")
                for who in (self.custodian, self.colleague)
            ),
        )
        answer = await self.post("/v1/collection-plans", self.custodian, self.plan_body())
        assert answer.status_code == 201, answer.text
        self.plan = UUID(answer.json()["id"])

    async def seen_through(self, at: datetime | None) -> None:
        """Everything that approvals did before this instant has come to the projection."""
        await self.owner.execute("DELETE FROM cursors WHERE producer = 'approvals'")
        await self.owner.execute(
            "INSERT INTO cursors (producer, epoch, seq, hash, applied_at, fresh_at)"
            " VALUES ('approvals', 1, 1, '', $1, $2)",
            self.clock.now(),
            at,
        )

    def plan_body(self, **changes: Any) -> dict[str, Any]:
        return {
            "title": "客户服务",
            "purposes": ["service", "marketing"],
            "fields": list(PLANNED),
            "customer_types": ["person", "organisation"],
            "unit": str(self.unit),
        } | changes

    async def tell(self, *events: Event) -> None:
        """Lets the consumers apply events, as if they had come from their producers."""
        numbered = [
            Numbered(
                id=(key := new_id()), type=event.TYPE, epoch=1, seq=1, salt=b"", leaf=b"", body=self._body(event, key)
            )
            for event in events
        ]
        async with self.app.state.database.transaction() as session:
            await handlers.apply(session, "gateway", numbered, Head("gateway", 1, 1, b"", b""))

    def _body(self, event: Event, key: UUID) -> bytes:
        return encode(event, key, self.clock.now(), None)

    def customer(self, **changes: str | None) -> dict[str, str]:
        """Fields of a person nobody has seen before."""
        made: Row = person(self.source)
        fields = {name: value for name, value in made.items() if name in PLANNED and value}
        merged: dict[str, str | None] = {**fields, **changes}
        return {name: value for name, value in merged.items() if value is not None}

    def body(self, fields: dict[str, str] | None = None, **changes: Any) -> dict[str, Any]:
        return {
            "plan": str(self.plan),
            "customer_type": "person",
            "importance": "general",
            "unit": str(self.unit),
            "custodian": str(self.custodian.person),
            "source": {"kind": "direct"},
            "consent": None,
            "opened_on": "2020-01-02",
            "fields": self.customer() if fields is None else fields,
        } | changes

    async def register(self, fields: dict[str, str] | None = None, **changes: Any) -> UUID:
        """A record of the custodian's, described as the body is changed."""
        answer = await self.post("/v1/records", self.custodian, self.body(fields, **changes))
        assert answer.status_code == 201, answer.text
        return UUID(answer.json()["id"])

    def grant(self, record: UUID, holder: Who, **changes: Any) -> GrantIssued:
        values: dict[str, Any] = {
            "grant": new_id(),
            "request": new_id(),
            "action": "view",
            "records": (record,),
            "fields": ("name", "phone"),
            "purpose": "service",
            "not_before": self.clock.now() - timedelta(hours=1),
            "until": self.clock.now() + timedelta(days=1),
            "uses": 20,
            "conditions": Conditions(),
            "holder_account": holder.account,
            "holder_person": holder.person,
            "persons": (holder.person,),
            "policy": self.desk.policy.digest,
        }
        return GrantIssued.model_validate(values | changes)

    async def granted(self, record: UUID, holder: Who, **changes: Any) -> UUID:
        """A grant that the projection has."""
        grant = self.grant(record, holder, **changes)
        await self.tell(grant)
        return grant.grant

    async def hold(self, record: UUID) -> UUID:
        hold = new_id()
        await self.tell(HoldPlaced(hold=hold, record=record))
        return hold

    async def order(self, record: UUID, disposal: UUID | None = None) -> UUID:
        """Retention orders the destruction."""
        disposal = disposal or new_id()
        await self.tell(
            DestructionOrdered(
                disposal=disposal,
                record=record,
                grant=new_id(),
                method="crypto_shred",
                executor_person=new_id(),
                witness_person=new_id(),
            )
        )
        return disposal

    def shredder(self) -> Shredder:
        return Shredder(self.app.state.database, self.desk, self.settings.supplement_dir)

    async def work_off(self) -> bool:
        """What the worker does with the next import."""
        return await work_off(self.app.state.database, self.desk)

    # ---- acting

    def token(self, who: Who) -> dict[str, str]:
        """The header of a call through the gateway."""
        token = txn_token(
            self.keys,
            "records",
            who.scopes,
            account=who.account,
            person=who.person,
            units=who.units,
            roles=who.roles,
            clearance=who.clearance,
            qualifications=who.qualifications,
            zone=who.zone,
            at=self.clock.now(),
        )
        return {"Txn-Token": token}

    def application(self, *scopes: str) -> dict[str, str]:
        """The header of a call through the gateway by an application that acts for itself."""
        return {"Txn-Token": txn_token(self.keys, "records", scopes, at=self.clock.now())}

    def service(self, client: str, *scopes: str) -> dict[str, str]:
        """The header of a call by another part."""
        return {"Authorization": f"Bearer {service_token(self.keys, 'records', client, scopes, at=self.clock.now())}"}

    async def get(self, path: str, who: Who, **headers: str) -> httpx.Response:
        return await self.http.get(path, headers=self.token(who) | _named(headers))

    async def post(self, path: str, who: Who, body: Any = None, **headers: str) -> httpx.Response:
        return await self.http.post(path, json=body, headers=self.token(who) | _named(headers))

    async def patch(self, record: UUID, who: Who, body: Any, version: str | None) -> httpx.Response:
        match = {} if version is None else {"If-Match": f'"{version}"'}
        return await self.http.patch(f"/v1/records/{record}", json=body, headers=self.token(who) | match)

    async def read(
        self,
        record: UUID,
        who: Who,
        grant: UUID | None = None,
        *,
        purpose: str = "service",
        extra: str = "",
        key: str = "",
    ) -> httpx.Response:
        """A reading; with `extra` it goes past the fast path."""
        query = f"purpose={purpose}" + (f"&grant={grant}" if grant else "") + extra
        headers = {"Idempotency-Key": key} if key else {}
        return await self.http.get(f"/v1/records/{record}?{query}", headers=self.token(who) | headers)

    async def import_(self, content: bytes, media_type: str, who: Who | None = None) -> httpx.Response:
        path = f"/v1/imports?plan={self.plan}&unit={self.unit}&custodian={self.custodian.person}"
        headers = self.token(who or self.custodian) | {"Content-Type": media_type}
        return await self.http.post(path, content=content, headers=headers)

    # ---- looking

    async def events(self, *types: str) -> list[dict[str, Any]]:
        """Bodies of the outbox in the order of their making, of these types (their ends) or of all."""
        rows = await self.owner.fetch("SELECT type, body FROM outbox ORDER BY id")
        return [json.loads(row["body"]) for row in rows if not types or row["type"].endswith(types)]

    async def counted(self) -> Counter[str]:
        """How many events there are of each type."""
        rows = await self.owner.fetch("SELECT type FROM outbox")
        return Counter(row["type"].removeprefix("records.v1.") for row in rows)

    async def forget_events(self) -> None:
        await self.owner.execute("DELETE FROM outbox")

    async def used(self, grant: UUID) -> int:
        return int(await self.owner.fetchval("SELECT used FROM grants WHERE id = $1", grant))


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def slug(answer: httpx.Response) -> str:
    """The problem that was answered."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return str(answer.json()["type"]).removeprefix("urn:dossier:problem:")


def states(answer: httpx.Response, *wanted: str) -> set[str]:
    """The fields of a reading that are in one of these states."""
    assert answer.status_code == 200, answer.text
    return {name for name, shown in answer.json()["fields"].items() if shown["state"] in wanted}


async def one_by_one(calls: Iterable[Callable[[], Awaitable[httpx.Response]]]) -> Sequence[httpx.Response]:
    return [await call() for call in calls]
