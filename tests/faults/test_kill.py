"""kill -9 of each process in turn, while a client registers records: what was acknowledged is there, once."""

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
import pytest
from tests.conftest import RunningStack

from dossier_common.topology import PARTS
from dossier_local.client import Caller, Client, connected, until
from dossier_local.customers import PERSON, rows
from dossier_local.state import LauncherError

PROCESSES = [*(f"{part}-{kind}" for part in PARTS for kind in ("web", "worker")), "nats", "postgres"]
CLERK, AUDITOR = "zhang.li", "shen.cha"
FIELDS = ("name", "sex", "birth_date", "identifier_type", "identifier", "phone", "address", "email")
BETWEEN_SECONDS = 1.5


@dataclass
class Clerk:
    """Registers customers one by one, and remembers what was acknowledged."""

    caller: Caller
    demo: dict[str, Any]
    customers: Iterator[dict[str, str]]
    acknowledged: list[str] = field(default_factory=list)
    tries: int = 0

    async def work(self) -> None:
        for customer in self.customers:
            self.acknowledged.append(await self._register(customer))

    async def _register(self, customer: dict[str, str]) -> str:
        account = self.demo["accounts"][CLERK]
        body = {
            "plan": self.demo["plan"],
            "customer_type": "person",
            "importance": "general",
            "unit": account["unit"],
            "custodian": account["person"],
            "source": {"kind": "direct"},
            "opened_on": "2026-01-05",
            "fields": {name: customer[name] for name in FIELDS if customer.get(name)},
        }
        key = {"Idempotency-Key": str(uuid4())}
        while True:
            self.tries += 1
            with suppress(LauncherError, httpx.HTTPError):
                answer = await self.caller.call("POST", "/v1/records", body=body, headers=key)
                if answer.status == 201:
                    return str(answer.body["id"])
                assert answer.status == 503, f"{answer}: only a problem of the moment may be answered"
            await asyncio.sleep(0.1)


def _kill(stack: RunningStack, name: str) -> int:
    pid = int(json.loads((stack.state.run / f"{name}.pid").read_text())["pid"])
    os.kill(pid, signal.SIGKILL)
    return pid


async def _registered(client: Client) -> Counter[str]:
    events = client.as_(AUDITOR).every("/v1/audit/events", type="records.v1.record.registered")
    return Counter([str(event["subject"]) async for event in events])


@pytest.mark.invariant(2)
@pytest.mark.timeout(400)
async def test_what_was_acknowledged_survives_the_killing_of_each_process(stack: RunningStack) -> None:
    customers = (row for row in rows(seed=4711, count=4000) if row["customer_type"] == PERSON)
    async with connected(stack.base_url, stack.demo) as client:
        clerks = [Clerk(client.as_(CLERK), stack.demo, customers) for _ in range(2)]
        working = [asyncio.create_task(clerk.work()) for clerk in clerks]
        for name in PROCESSES:
            before = sum(len(clerk.acknowledged) for clerk in clerks)
            pid = _kill(stack, name)
            await asyncio.sleep(BETWEEN_SECONDS)

            async def back(name: str = name, pid: int = pid, before: int = before) -> bool | None:
                running = json.loads((stack.state.run / f"{name}.pid").read_text())["pid"] != pid
                assert not any(task.done() for task in working), [task for task in working if task.done()]
                return (running and sum(len(clerk.acknowledged) for clerk in clerks) > before) or None

            await until(back, f"{name} being back, and records being registered", 60)
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)
        acknowledged = [record for clerk in clerks for record in clerk.acknowledged]
        assert len(acknowledged) == len(set(acknowledged)) > 50

        async def all_there() -> Counter[str] | None:
            with suppress(LauncherError):
                found = await _registered(client)
                return found if all(found[record] for record in acknowledged) else None
            return None

        events = await until(all_there, "the events of all acknowledged records in the log", 60)
        assert {events[record] for record in acknowledged} == {1}
        catalogue = {str(record["id"]) async for record in client.as_(CLERK).every("/v1/records")}
        assert set(acknowledged) <= catalogue
        assert set(events) == catalogue, "a record without its event, or an event without its record"
        print(f"{len(acknowledged)} acknowledged in {sum(clerk.tries for clerk in clerks)} tries")
