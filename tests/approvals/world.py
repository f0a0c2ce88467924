"""An organisation, customer records and people for the approvals service, on its real database."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
from fastapi import FastAPI
from sqlalchemy import select
from tests.support.tokens import TestKeys, txn_token

from dossier_approvals.consumers import handlers
from dossier_common import tables
from dossier_common.clock import ManualClock
from dossier_common.contracts.gateway import AccountCreated, RoleAssigned, UnitCreated
from dossier_common.events import Envelope, Event, encode
from dossier_common.ids import new_id
from dossier_common.leaves import Head, Numbered
from dossier_common.policy import Policy

SCOPES = ("requests:create", "requests:read", "requests:decide", "grants:read")
NOON = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)
REASON = "客户王小明来电投诉, 需核对联系电话 13912345678"


@dataclass(frozen=True)
class Who:
    """An account and its person."""

    account: UUID
    person: UUID


@dataclass(frozen=True)
class People:
    """Who takes part in most stories: a clerk of sales asks, her head and the service manager decide."""

    clerk: Who
    head: Who
    manager: Who
    stranger: Who


@dataclass
class World:
    """What a test arranges, and whom it lets act."""

    app: FastAPI
    keys: TestKeys
    clock: ManualClock
    http: httpx.AsyncClient
    descriptors: dict[UUID, dict[str, Any]]
    asked: list[str]
    """Paths that the approvals service asked of its peers."""
    held: dict[UUID, tuple[tuple[str, UUID], ...]] = field(default_factory=dict)
    """The roles of each account."""
    group: UUID = field(default_factory=new_id)
    company: UUID = field(default_factory=new_id)
    sales: UUID = field(default_factory=new_id)
    service: UUID = field(default_factory=new_id)

    @property
    def policy(self) -> Policy:
        policy: Policy = self.app.state.policy
        return policy

    def with_flows(self, *flows: dict[str, Any]) -> None:
        """From here on the pack has these flows only."""
        self.app.state.policy = Policy.model_validate(self.policy.content() | {"flows": list(flows)})

    async def build(self) -> None:
        """Group, company, and two departments."""
        await self.tell(UnitCreated(unit=self.group, parent=None, kind="group", code="G"))
        await self.tell(UnitCreated(unit=self.company, parent=self.group, kind="company", code="C"))
        for unit in (self.sales, self.service):
            await self.tell(UnitCreated(unit=unit, parent=self.company, kind="department", code="D"))

    async def tell(self, *events: Event) -> None:
        """Lets the consumers of the service apply events, as if they had come from their producers."""
        numbered = [
            Numbered(id=(key := new_id()), type=event.TYPE, epoch=1, seq=1, salt=b"", leaf=b"", body=_body(event, key))
            for event in events
        ]
        head = Head("gateway", 1, 1, b"", b"")
        async with self.app.state.database.transaction() as session:
            await handlers(self.policy, self.clock).apply(session, "gateway", numbered, head)

    async def hire(self, unit: UUID, *roles: tuple[str, UUID], person: UUID | None = None) -> Who:
        """An account in a unit with its roles, of a new person or of one who has another account."""
        who = Who(new_id(), person or new_id())
        await self.tell(AccountCreated(account=who.account, person=who.person, unit=unit, clearance="internal"))
        self.held[who.account] = roles
        for role, of in roles:
            marks = {"account": who.account, "person": who.person}
            await self.tell(RoleAssigned(assignment=new_id(), role=role, unit=of, **marks))
        return who

    def record(self, unit: UUID | None = None, level: str = "secret", status: str = "active") -> UUID:
        """A record that the records service knows."""
        record = new_id()
        unit = unit or self.service
        self.descriptors[record] = {
            "id": str(record),
            "number": "KH-2026-000001",
            "customer_type": "person",
            "level": level,
            "unit": str(unit),
            "status": status,
        }
        return record

    def token(self, who: Who | None, scopes: Sequence[str] = SCOPES) -> str:
        """A Txn-Token for the approvals service."""
        if who is None:
            return txn_token(self.keys, "approvals", scopes, at=self.clock.now())
        roles, at = self.held.get(who.account, ()), self.clock.now()
        return txn_token(self.keys, "approvals", scopes, account=who.account, person=who.person, roles=roles, at=at)

    async def call(
        self,
        who: Who | None,
        method: str,
        path: str,
        body: Any = None,
        *,
        scopes: Sequence[str] = SCOPES,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """A call as the gateway would forward it."""
        sent = {"Txn-Token": self.token(who, scopes), **(headers or {})}
        return await self.http.request(method, path, json=body, headers=sent)

    async def ask(self, who: Who, *records: UUID, **parts: Any) -> httpx.Response:
        """A complete request to view, with the parts that differ; None leaves a part out."""
        return await self.call(who, "POST", "/v1/requests", wish(*records, **parts))

    async def asked_for(self, who: Who, *records: UUID, **parts: Any) -> dict[str, Any]:
        """As `ask`, where it has to succeed."""
        return good(await self.ask(who, *records, **parts), 201)

    async def tasks(self, who: Who) -> list[dict[str, Any]]:
        """What waits for somebody."""
        items: list[dict[str, Any]] = good(await self.call(who, "GET", "/v1/tasks?limit=200"))["items"]
        return items

    async def task(self, who: Who, request: dict[str, Any]) -> dict[str, Any]:
        """The one task in a request that waits for somebody."""
        (task,) = [task for task in await self.tasks(who) if task["request"] == request["id"]]
        return task

    async def decide(
        self, who: Who, task: dict[str, Any], verdict: str = "approve", comment: str = ""
    ) -> httpx.Response:
        """Somebody's verdict on a task, whether it is his or not."""
        body = {"verdict": verdict, "comment": comment}
        return await self.call(who, "POST", f"/v1/tasks/{task['id']}/decision", body)

    async def decided(self, who: Who, request: dict[str, Any], verdict: str = "approve") -> dict[str, Any]:
        """The request after somebody decided the task that waits for him in it."""
        return good(await self.decide(who, await self.task(who, request), verdict))

    async def events(self, request: str | UUID, *types: str) -> list[Envelope]:
        """Events in the outbox that name this request (or disposal, or object), in their order."""
        async with self.app.state.database.session() as session:
            rows = await session.execute(select(tables.outbox.c.body).order_by(tables.outbox.c.id))
            found = [Envelope.decode(row.body) for row in rows if str(request).encode() in row.body]
        return [event for event in found if not types or event.type in types]


def _body(event: Event, key: UUID) -> bytes:
    return encode(event, key, NOON, None)


def wish(*records: UUID, **parts: Any) -> dict[str, Any]:
    """The body of a complete request to view."""
    body = {
        "action": "view",
        "records": [str(record) for record in records],
        "purpose": "complaint_handling",
        "reason": REASON,
        "requester_profile": {"position": "客户经理"},
    } | parts
    return {name: part for name, part in body.items() if part is not None}


def good(answer: httpx.Response, status: int = 200) -> dict[str, Any]:
    """The body of an answer that has to have this status."""
    assert answer.status_code == status, answer.text
    body: dict[str, Any] = answer.json()
    return body


def problem(answer: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    """The problem document of an answer that has to be this problem."""
    assert answer.status_code == status, answer.text
    body: dict[str, Any] = answer.json()
    assert body["type"] == f"urn:dossier:problem:{slug}", body
    return body


def pointers(document: dict[str, Any]) -> set[str]:
    """Where the faults of a problem document point to."""
    return {fault["pointer"] for fault in document["errors"]}
