"""The client: four kinds of calls that go on through every fault, and a record of what was acknowledged."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from time import monotonic
from typing import Final
from uuid import uuid4

import httpx
from tests.faults.stack import Stack

from dossier_local.client import Answer, Client
from dossier_local.customers import PERSON, rows
from dossier_local.state import LauncherError

CLERK, AUDITOR, APPLICATION = "zhang.li", "shen.cha", "demo-crm"
FIELDS: Final = ("name", "sex", "birth_date", "identifier_type", "identifier", "phone", "address", "email")
PATIENCE: Final = 12.0
"""Seconds that the client waits for one answer."""
REGISTRARS, READERS = 2, 5
PAUSE: Final = 0.12
AFTER_TROUBLE: Final = 0.25


class Kind(StrEnum):
    """What is called, and which event stands for the acknowledgement."""

    REGISTERED = "records.v1.record.registered"
    """POST of a record, answered 201; repeated under one Idempotency-Key until it is."""
    READ = "records.v1.record.viewed"
    """Content of a record, answered 200."""
    REFUSED = "gateway.v1.access.refused"
    """A reading by an application that may not: refused at the edge, 403, and recorded before it is answered."""
    QUERIED = "audit.v1.events.queried"
    """A query of the log by the auditor, answered 200."""

    @property
    def producer(self) -> str:
        """The part in whose database the acknowledged event must be."""
        return self.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """One answer that promises a record: `key` is the record's id for REGISTERED, else the X-Request-Id.

    Instants are of the monotonic clock of the client.
    """

    kind: Kind
    key: str
    asked_at: float
    answered_at: float


class Rejected(AssertionError):
    """An answer that no fault excuses."""


class Traffic:
    """Calls of all kinds, for as long as they are wanted."""

    def __init__(self, stack: Stack, client: Client, seed: int) -> None:
        self._stack, self._client, self._random = stack, client, random.Random(seed)
        self._customers = _customers(seed)
        self._records: list[str] = []
        self._working: list[asyncio.Task[None]] = []
        self._going = False
        self.acknowledged: list[Acknowledged] = []
        self.troubles: Counter[str] = Counter()
        """What was answered otherwise, by kind and status."""

    def start(self, *, without: Kind | None = None) -> None:
        """Begins to call; `without` leaves one kind out."""
        jobs: dict[Kind, list[Callable[[], Awaitable[None]]]] = {
            Kind.REGISTERED: [self._register] * REGISTRARS,
            Kind.READ: [self._read] * READERS,
            Kind.REFUSED: [self._refused],
            Kind.QUERIED: [self._query],
        }
        self._going = True
        self._working = [
            asyncio.create_task(self._repeat(job)) for kind, each in jobs.items() if kind is not without for job in each
        ]

    async def stop(self) -> None:
        """Returns when no call is under way. Raises what a call should not have met."""
        self._going = False
        working, self._working = self._working, []
        await asyncio.gather(*working)

    def failed(self) -> bool:
        """Whether a call met what it should not have; `stop` raises it."""
        return any(task.done() and task.exception() for task in self._working)

    def forget(self, records: set[str]) -> None:
        """These records are gone, by a restore: they are read no more."""
        self._records = [record for record in self._records if record not in records]

    async def token(self, account: str) -> str:
        """An access token of an account. Raises LauncherError."""
        return (await self._client.as_(account).token()).access

    async def _repeat(self, job: Callable[[], Awaitable[None]]) -> None:
        while self._going:
            await job()
            await asyncio.sleep(PAUSE * self._random.uniform(0.5, 1.5))

    async def _ask(
        self, kind: Kind, account: str, method: str, path: str, expected: int, **given: object
    ) -> Answer | None:
        """An answer with the expected status, or nothing: the trouble is counted, and a token that fails is dropped."""
        caller = self._client.as_(account)
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await caller.call(method, path, **given)  # type: ignore[arg-type]
        except (LauncherError, httpx.HTTPError, TimeoutError) as error:
            await self._trouble(kind, type(error).__name__)
            return None
        if answer.status == expected:
            return answer
        if answer.status in {401, 403}:
            caller.kept = None
        elif answer.status not in {404, 429, 503}:
            raise Rejected(f"{answer}: no fault excuses this")
        await self._trouble(kind, str(answer.status))
        return None

    async def _trouble(self, kind: Kind, what: str) -> None:
        self.troubles[f"{kind.name} {what}"] += 1
        await asyncio.sleep(AFTER_TROUBLE)

    async def _register(self) -> None:
        """Goes on until it is acknowledged: whether an unanswered try was stored, only a repetition tells."""
        body, key = self._body(next(self._customers)), {"Idempotency-Key": str(uuid4())}
        while True:
            asked_at = monotonic()
            answer = await self._ask(Kind.REGISTERED, CLERK, "POST", "/v1/records", 201, body=body, headers=key)
            if answer is not None:
                record = str(answer.body["id"])
                self.acknowledged.append(Acknowledged(Kind.REGISTERED, record, asked_at, monotonic()))
                self._records.append(record)
                return

    def _body(self, customer: dict[str, str]) -> dict[str, object]:
        account = self._stack.demo["accounts"][CLERK]
        return {
            "plan": self._stack.demo["plan"],
            "customer_type": "person",
            "importance": "general",
            "unit": account["unit"],
            "custodian": account["person"],
            "source": {"kind": "direct"},
            "opened_on": "2026-01-05",
            "fields": {name: customer[name] for name in FIELDS if customer.get(name)},
        }

    async def _read(self) -> None:
        if self._records:
            await self._one_call(Kind.READ, CLERK, f"/v1/records/{self._any_record()}", 200, purpose="service")

    async def _refused(self) -> None:
        if self._records:
            path = f"/v1/records/{self._any_record()}"
            await self._one_call(Kind.REFUSED, APPLICATION, path, 403, purpose="service")

    async def _query(self) -> None:
        await self._one_call(Kind.QUERIED, AUDITOR, "/v1/audit/events", 200, limit=1)

    def _any_record(self) -> str:
        return self._random.choice(self._records[-500:])

    async def _one_call(self, kind: Kind, account: str, path: str, expected: int, **query: object) -> None:
        asked_at = monotonic()
        answer = await self._ask(kind, account, "GET", path, expected, **query)
        if answer is not None:
            key = answer.headers["x-request-id"]
            self.acknowledged.append(Acknowledged(kind, key, asked_at, monotonic()))


@asynccontextmanager
async def traffic(stack: Stack, seed: int) -> AsyncIterator[Traffic]:
    """Traffic that has not begun; none is under way when the context is left."""
    limits = httpx.Limits(max_connections=40, max_keepalive_connections=40)
    async with httpx.AsyncClient(base_url=stack.base_url, timeout=PATIENCE, trust_env=False, limits=limits) as http:
        client = Client(stack.base_url, http)
        for username in (CLERK, AUDITOR):
            account = stack.demo["accounts"][username]
            client.add_person(username, account["password"], account["second_factor_file"])
        client.add_client(APPLICATION, stack.demo["clients"][APPLICATION]["secret"])
        made = Traffic(stack, client, seed)
        try:
            yield made
        finally:
            for task in made._working:
                task.cancel()
            await asyncio.gather(*made._working, return_exceptions=True)


def _customers(seed: int) -> Iterator[dict[str, str]]:
    """Persons without end; none has the identifier of another."""
    seen: set[str] = set()
    for batch in count():
        for row in rows(seed=seed * 1000 + batch, count=2000):
            if row["customer_type"] == PERSON and row["identifier"] not in seen:
                seen.add(row["identifier"])
                yield row
