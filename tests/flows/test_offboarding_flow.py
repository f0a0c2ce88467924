"""A person is offboarded on a running stack with three replicas of the gateway.

Within two seconds nothing works any more, and what he had is handed over, whole (A4.38, A2.6, A5.3).
"""

import asyncio
import hashlib
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from subprocess import Popen
from typing import Any, cast
from uuid import UUID, uuid4

import httpx
import pytest
from tests.gateway.world import free_port
from tests.support import authorization

from dossier_common.canonical import canonical
from dossier_local import customer_files, environment, organisation
from dossier_local.client import Answer, Client, connected, until
from dossier_local.launched import RunningStack
from dossier_local.people import ADMINISTRATOR, AUDITOR, COMPANY, SECURITY, Person
from dossier_local.supervisor import answers

WITHIN = 2.0
"""Seconds after the act in which every replica refuses everything (issue 4)."""
PATIENCE = 90.0
CLERK, MANAGER = "zhang.li", "liu.yang"


@dataclass
class Worker:
    """Somebody of the unit, with what his sign-ins at the replicas gave him."""

    username: str
    password: str
    account: str
    person: str
    browsers: list[httpx.AsyncClient] = field(default_factory=list)
    tokens: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Office:
    """The running stack, three gateways, a unit of the test's own, and its people."""

    stack: RunningStack
    client: Client
    replicas: list[str]
    unit: str
    making: Any
    opened: AsyncExitStack

    async def hire(self, clearance: str, *roles: str) -> Worker:
        username = f"off.{uuid4().hex[:10]}"
        person = Person(username, "某人", "offboarding", dict.fromkeys(roles), clearance=clearance)
        made = await self.making.person(person, None)
        return Worker(username, made["password"], made["account"], made["person"])

    async def sign_in(self, worker: Worker) -> None:
        """A browser session and tokens at each replica."""
        for base_url in self.replicas:
            browser = httpx.AsyncClient(base_url=base_url, timeout=30, trust_env=False)
            worker.browsers.append(await self.opened.enter_async_context(browser))
            worker.tokens.append(await authorization.tokens(browser, worker.username, worker.password))

    async def custody(self, worker: Worker, seed: int, count: int) -> dict[str, str]:
        """Records that the worker answers for, as he sees them himself, with their levels."""
        content = customer_files.as_csv(customer_files.sheet(seed=seed, count=count, faults=0).rows, "utf-8")
        clerk = self.client.as_(CLERK)

        async def received() -> dict[str, Any] | None:
            answer = await clerk.call(
                "POST",
                "/v1/imports",
                content=content,
                headers={"Content-Type": "text/csv; charset=utf-8"},
                plan=self.stack.demo["plan"],
                unit=self.stack.demo["units"]["customer-service"],
                custodian=worker.person,
            )
            return None if answer.status == 422 else cast("dict[str, Any]", answer.expecting(202))

        started = await until(received, "records learns of the person", PATIENCE)

        async def done() -> bool | None:
            report = (await clerk.get(f"/v1/imports/{started['id']}", limit=1)).expecting(200)
            return True if report["state"] == "done" else None

        await until(done, "the import ends", PATIENCE)
        listed = self.client.as_(worker.username).every("/v1/records")
        return {record["id"]: record["level"] async for record in listed if record["custodian"] == worker.person}

    async def offboard(self, worker: Worker, successor: Worker, **body: str) -> dict[str, Any]:
        told = {"kind": "leaving", "reason": "resignation", "successor": successor.account} | body
        path = f"/v1/accounts/{worker.account}/offboarding"
        done: dict[str, Any] = (await self.client.as_(ADMINISTRATOR).post(path, told)).expecting(201)
        return done


@contextmanager
def replica(stack: RunningStack) -> Iterator[str]:
    """One more web process of the gateway, on the same database."""
    port = free_port()
    variables = environment.of_running(stack.state).of("gateway") | {"DOSSIER_GATEWAY_LISTEN_PORT": str(port)}
    process = Popen(
        [sys.executable, "-P", "-m", "dossier_gateway.main"],
        env=variables,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
async def office(stack: RunningStack) -> AsyncIterator[Office]:
    async with AsyncExitStack() as opened:
        others = [opened.enter_context(replica(stack)) for _ in range(2)]
        for base_url in others:

            async def ready(port: int = int(base_url.rsplit(":", 1)[1])) -> bool | None:
                return await answers(port, "/readyz") or None

            await until(ready, f"{base_url} is ready", PATIENCE)
        client = await opened.enter_async_context(connected(stack.base_url, stack.demo))
        admin = client.as_(ADMINISTRATOR)
        new = {
            "code": f"off-{uuid4().hex[:8]}",
            "title": {"zh": "离职测试部", "en": "Department of leavers"},
            "kind": "department",
            "parent": stack.demo["units"][COMPANY],
        }
        unit = (await admin.post("/v1/units", new)).expecting(201)["id"]
        roles = (await admin.get("/v1/roles")).expecting(200)["items"]
        titles = {role["id"]: role["title"] for role in roles}
        units = {"offboarding": unit}
        making = organisation._Making(stack.state, client, admin, client.as_(SECURITY), units, titles)
        yield Office(stack, client, [stack.base_url, *others], unit, making, opened)


async def refused_everywhere(office: Office, worker: Worker, since: float, record: str, grant: str) -> float:
    """When the last of his tokens was taken by any replica; fails for one that is taken too late."""
    last = since

    async def die(base_url: str, access: str, path: str) -> None:
        nonlocal last
        headers = {"Authorization": f"Bearer {access}"}
        async with httpx.AsyncClient(base_url=base_url, timeout=30, trust_env=False) as http:
            while True:
                sent = time.monotonic()
                answer = await http.get(path, headers=headers)
                if answer.status_code == 401:
                    return
                assert sent - since < WITHIN, f"{base_url}{path} answered {answer.status_code}"
                last = max(last, sent)

    read = f"/v1/records/{record}?purpose=complaint_handling&grant={grant}"
    await asyncio.gather(
        *(
            die(base_url, tokens["access_token"], path)
            for base_url in office.replicas
            for tokens in worker.tokens
            for path in ("/v1/me", "/v1/records?limit=1", read)
        )
    )
    return last - since


async def nothing_else_works(office: Office, worker: Worker) -> None:
    """Refresh tokens and cookies, at each replica."""
    for browser, tokens in zip(worker.browsers, worker.tokens, strict=True):
        page = await browser.get("/oauth/authorize", params=authorization.Flow().request())
        assert page.status_code == 200, "the cookie signs nobody in"
        refresh = {
            "grant_type": "refresh_token",
            "client_id": authorization.CLIENT,
            "refresh_token": tokens["refresh_token"],
        }
        for base_url in office.replicas:
            async with httpx.AsyncClient(base_url=base_url, timeout=30, trust_env=False) as http:
                answer = await http.post("/oauth/token", data=refresh)
                assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


async def listed(office: Office, handover: str, successor: Worker) -> list[dict[str, Any]]:
    """The closed list, as the successor sees it, and has signed for it."""
    caller = office.client.as_(successor.username)
    path = f"/v1/custody-handovers/{handover}"

    async def complete() -> dict[str, Any] | None:
        answer = await caller.get(path)
        return answer.body if answer.status == 200 and answer.body["state"] == "complete" else None

    closed = await until(complete, "the handover is complete", PATIENCE)
    items = [item async for item in caller.every(f"{path}/items")]
    lines = [{name: item[name] for name in item if name != "vacant"} for item in items]
    digest = hashlib.sha256(b"".join(canonical(line) + b"\n" for line in lines)).hexdigest()
    assert (closed["digest"], closed["handed_over"] + closed["unassigned"]) == (digest, len(items))
    signed = (await caller.post(f"{path}/receipt", {"digest": digest})).expecting(200)
    assert signed["state"] == "receipted"
    return items


async def in_the_log(office: Office, kind: str, count: int, handover: str) -> list[dict[str, Any]]:
    """Events of this type that name the act, as the auditor finds them."""
    auditor = office.client.as_(AUDITOR)

    async def found() -> list[dict[str, Any]] | None:
        events = [each async for each in auditor.every("/v1/audit/events", type=kind)]
        mine = [each for each in events if handover in {each["data"].get("handover"), each["data"].get("offboarding")}]
        return mine if len(mine) >= count else None

    mine = await until(found, f"{count} events {kind}", PATIENCE)
    assert len(mine) == count
    return mine


async def asked(office: Office, worker: Worker, record: str) -> str:
    """The id of his request to view a record."""
    wish = {
        "action": "view",
        "records": [record],
        "purpose": "complaint_handling",
        "reason": "客户投诉",
        "requester_profile": {"department": "离职测试部", "office": "客户开发专员"},
    }

    async def created() -> Answer | None:
        answer = await office.client.as_(worker.username).post("/v1/requests", wish)
        return None if answer.status in {422, 503} else answer

    answer = await until(created, "approvals learns of the people", PATIENCE)
    made: str = answer.expecting(201)["id"]
    return made


async def decide(office: Office, name: str, request: str) -> dict[str, Any]:
    """Approves what waits for somebody in a request."""
    caller = office.client.as_(name)
    tasks = [task async for task in caller.every("/v1/tasks")]
    (task,) = [task for task in tasks if task["request"] == request]
    body = {"verdict": "approve", "comment": ""}
    decided: dict[str, Any] = (await caller.post(f"/v1/tasks/{task['id']}/decision", body)).expecting(200)
    return decided


@pytest.mark.clause("A4.38")
@pytest.mark.clause("A5.3")
@pytest.mark.clause("A6.2.2.5")
@pytest.mark.clause("A6.3.5")
async def test_of_a_leaver_nothing_works_within_two_seconds_and_all_he_had_is_handed_over(office: Office) -> None:
    leaver = await office.hire("confidential", "department_head", "collector")
    head = await office.hire("secret", "department_head")
    clerk = await office.hire("secret", "collector")
    successor = await office.hire("secret", "collector")
    had = await office.custody(leaver, seed=4038, count=30)
    assert len(had) == 30
    others = await office.custody(head, seed=4040, count=10)
    record = next(each for each, level in others.items() if level == "secret")
    granted = await asked(office, leaver, record)
    await decide(office, head.username, granted)
    grant = (await decide(office, MANAGER, granted))["grant"]
    pending, waiting = await asked(office, leaver, record), await asked(office, clerk, record)
    assert waiting in {task["request"] async for task in office.client.as_(leaver.username).every("/v1/tasks")}
    await office.sign_in(leaver)
    reading = {"purpose": "complaint_handling", "grant": grant}
    (await office.client.as_(leaver.username).get(f"/v1/records/{record}", **reading)).expecting(200)

    act = await office.offboard(leaver, successor)
    took = await refused_everywhere(office, leaver, time.monotonic(), record, grant)
    print(f"\nthe last replica took a token {took:.2f} s after the act")
    await nothing_else_works(office, leaver)
    for base_url in office.replicas:
        async with httpx.AsyncClient(base_url=base_url, timeout=30, trust_env=False) as browser:
            with pytest.raises(authorization.NotSignedIn):
                await authorization.tokens(browser, leaver.username, leaver.password)

    other_head = office.client.as_(head.username)

    async def withdrawn() -> bool | None:
        shown = (await other_head.get(f"/v1/requests/{pending}")).expecting(200)
        return True if shown["state"] == "withdrawn" else None

    await until(withdrawn, "his request is withdrawn", PATIENCE)
    assert (await other_head.get(f"/v1/grants/{grant}")).expecting(200)["state"] == "revoked"
    assert (await decide(office, head.username, waiting))["state"] == "open", "the other head decides in his place"

    items = await listed(office, act["id"], successor)
    assert {item["record"]: item["level"] for item in items} == had
    given = {each for each, level in had.items() if level in {"internal", "secret"}}
    assert {item["record"] for item in items if item["state"] == "handed_over"} == given
    assert 0 < len(given) < len(had), "he is not cleared for all"
    now = office.client.as_(successor.username).every("/v1/records")
    assert {each["id"] async for each in now if each["custodian"] == successor.person} == given

    await in_the_log(office, "records.v1.custody.handed-over", len(given), act["id"])
    await in_the_log(office, "records.v1.custody.vacated", len(had) - len(given), act["id"])
    await in_the_log(office, "gateway.v1.person.offboarded", 1, act["id"])
    (receipted,) = await in_the_log(office, "records.v1.custody.receipted", 1, act["id"])
    assert receipted["person"] == successor.person
    activity = await office.client.as_(AUDITOR).get("/v1/audit/activity", person=leaver.person)
    report = activity.expecting(200)
    assert record in {each["record"] for each in report["records"]}
    assert {"records.v1.record.viewed", "approvals.v1.request.created"} <= {each["type"] for each in report["counts"]}


@pytest.mark.clause("A2.6")
async def test_who_moves_begins_anew_and_his_custody_stays_in_the_unit(office: Office) -> None:
    mover = await office.hire("confidential", "collector")
    successor = await office.hire("confidential", "collector")
    had = await office.custody(mover, seed=4039, count=5)
    assert len(had) == 5
    await office.sign_in(mover)
    there = office.stack.demo["units"]["sales"]
    act = await office.offboard(mover, successor, kind="transfer", reason="reassignment", unit=there)
    await refused_everywhere(office, mover, time.monotonic(), next(iter(had)), str(UUID(int=0)))
    await nothing_else_works(office, mover)
    async with httpx.AsyncClient(base_url=office.replicas[2], timeout=30, trust_env=False) as browser:
        tokens = await authorization.tokens(browser, mover.username, mover.password)
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        me = (await browser.get("/v1/me", headers=headers)).json()
    assert (me["unit"], me["roles"], me["clearance"], me["scopes"]) == (there, [], "internal", [])
    assert {item["record"]: item["level"] for item in await listed(office, act["id"], successor)} == had
    await in_the_log(office, "records.v1.custody.handed-over", 5, act["id"])
