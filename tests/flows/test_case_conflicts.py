"""Per-case conflicts, each in its case over the full stack: nobody does both, whichever account he uses (invariant 4).

A person with two accounts holds every office that the cases need, in a company of his own beside the demo's.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dossier_local.client import Answer, Caller, Client, connected, until
from dossier_local.customers import PERSON, rows
from dossier_local.launched import RunningStack
from dossier_local.organisation import PLAN, QUALIFICATIONS, enrol
from dossier_local.people import ADMINISTRATOR, AUDITOR, GROUP, SECURITY
from dossier_local.state import CHECKOUT

PASSWORD = "seven-narrow-bridges-7"
PREFIX, SEED = "conflicts", 416
PURPOSE = "complaint_handling"
SAME = "same-person"
ONE, TWO = "double.one", "double.two"
"""Two accounts of one person."""
_DESK, _COMPANY = ("department_head", "service_manager", "records_clerk"), ("inspector", "compliance_officer")
DOUBLE = dict.fromkeys(_DESK, "desk") | dict.fromkeys(_COMPANY, "company")
OTHERS: Mapping[str, Mapping[str, str]] = {
    "other.clerk": {"records_clerk": "desk"},
    "other.head": {"department_head": "desk"},
    "other.manager": {"service_manager": "desk"},
    "other.supervisor": {"information_supervisor": "desk"},
    "other.inspector": {"inspector": "company"},
    "other.compliance": {"compliance_officer": "company"},
    "other.leader": {"general_manager": "company"},
    "other.leader.too": {"general_manager": "company"},
}

pytestmark = [pytest.mark.invariant(4), pytest.mark.timeout(1500)]


@dataclass
class Cast:
    """The company of these tests, through the gateway alone."""

    client: Client
    folder: Path
    units: dict[str, str] = field(default_factory=dict)
    accounts: dict[str, dict[str, Any]] = field(default_factory=dict)
    place: dict[str, str] = field(default_factory=dict)
    customers: list[dict[str, Any]] = field(default_factory=list)

    def as_(self, name: str) -> Caller:
        """One of the company by his short name, or one of the demo."""
        return self.client.as_(f"{PREFIX}.{name}" if name in self.accounts else name)

    async def post(self, who: str, path: str, body: Any = None, status: int = 200) -> Any:
        return (await self.as_(who).post(path, body)).expecting(status)

    async def make(self, root: str) -> None:
        """Units, people with their offices, and a collection plan."""
        for code, kind, above in (("company", "company", root), ("desk", "department", None)):
            title = {"zh": "职责分离测试", "en": "Duties apart"}
            new = {"code": f"{PREFIX}-{code}", "title": title, "kind": kind, "parent": above or self.units["company"]}
            self.units[code] = (await self.post(ADMINISTRATOR, "/v1/units", new, 201))["id"]
        one = await self.hire(ONE, DOUBLE)
        await self.hire(TWO, DOUBLE, person=one["person"])
        for name, roles in OTHERS.items():
            await self.hire(name, roles)
        plan = await until(self._plan, "the records service learns of the company")
        clerk = self.accounts["other.clerk"]
        self.place = {"plan": plan, "unit": self.units["desk"], "custodian": clerk["person"]}
        self.customers = [dict(row) for row in rows(SEED, 60) if row["customer_type"] == PERSON]

    async def hire(self, name: str, roles: Mapping[str, str], *, person: str | None = None) -> dict[str, Any]:
        """An account that can sign in, cleared and qualified, with these offices."""
        username = f"{PREFIX}.{name}"
        new = {"username": username, "display_name": "某人", "unit": self.units["desk"]}
        made = await self.post(ADMINISTRATOR, "/v1/accounts", new | ({"person": person} if person else {}), 201)
        await enrol(self.client, made["enrolment_code"], PASSWORD)
        account = f"/v1/accounts/{made['id']}"
        shown = (await self.as_(SECURITY).get(account)).expecting(200)
        cleared = await self.as_(SECURITY).put(
            f"{account}/clearance", {"clearance": "top_secret"}, version=shown["version"]
        )
        cleared.expecting(200)
        for role, unit in roles.items():
            await self.post(SECURITY, f"{account}/roles", {"role": role, "unit": self.units[unit]}, 201)
        today = datetime.now(UTC).date().isoformat()
        for qualification in () if person else QUALIFICATIONS:
            new = {"qualification": qualification, "evidence": "test", "valid_from": today}
            await self.post(ADMINISTRATOR, f"{account}/qualifications", new, 201)
        self.client.add_person(username, PASSWORD, self.folder / f"{name}.json")
        self.accounts[name] = made
        found: dict[str, Any] = made
        return found

    async def _plan(self) -> str | None:
        answer = await self.as_("other.manager").post("/v1/collection-plans", PLAN | {"unit": self.units["desk"]})
        if answer.status != 201:
            return None
        made: str = answer.body["id"]
        return made

    async def record(self, *, ended: bool = False) -> str:
        """A record of the desk, known to all parts that these cases need."""
        customer = self.customers.pop()
        names = ("name", "identifier_type", "identifier", "phone")
        new = {
            **self.place,
            "customer_type": "person",
            "importance": "general",
            "source": {"kind": "direct"},
            "opened_on": "2010-01-05",
            "fields": {name: customer[name] for name in names},
        } | ({"relationship_ended_on": "2015-06-30"} if ended else {})
        made: str = (await self.post("other.clerk", "/v1/records", new, 201))["id"]
        return made

    async def asked(self, who: str) -> str:
        """A request to view a record."""
        wish = {
            "action": "view",
            "records": [await self.record()],
            "purpose": PURPOSE,
            "reason": "核对身份",
            "requester_profile": {"department": "客户服务部"},
        }

        async def ask() -> str | None:
            answer = await self.as_(who).post("/v1/requests", wish)
            if answer.status == 422 and answer.slug == "vacant-role":  # the directory travels by events
                return None
            made: str = answer.expecting(201)["id"]
            return made

        return await until(ask, "approvals knows of the company")

    async def task(self, who: str, **of: str) -> str:
        """What waits for somebody in a request or a disposal."""

        async def look() -> str | None:
            tasks = (await self.as_(who).get("/v1/tasks", limit=200)).expecting(200)["items"]
            return next((task["id"] for task in tasks if of.items() <= task.items()), None)

        return await until(look, f"a task waits for {who}")


@pytest.fixture(scope="module")
async def cast(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cast]:
    async with connected(stack.base_url, stack.demo) as client:
        made = Cast(client, tmp_path_factory.mktemp("conflicts"))
        await made.make(stack.demo["units"][GROUP])
        yield made


async def decide(cast: Cast, who: str, task: str) -> Answer:
    return await cast.as_(who).post(f"/v1/tasks/{task}/decision", {"verdict": "approve", "comment": "同意"})


async def begin_request(cast: Cast) -> str:
    return await cast.task("other.head", request=await cast.asked(ONE))


async def begin_second_stage(cast: Cast) -> str:
    """The first stage is decided by both accounts at once: one of them counts."""
    request = await cast.asked("other.clerk")
    first = await cast.task("other.head", request=request)
    answers = await asyncio.gather(*(decide(cast, who, first) for who in (ONE, TWO)))
    assert sorted(answer.status for answer in answers) == [200, 403]
    assert {answer.slug for answer in answers} == {None, SAME}
    return await cast.task("other.manager", request=request)


async def begin_destruction(cast: Cast) -> str:
    """Approved by two others, and executed by both accounts at once: one of them counts."""
    record = await cast.record(ended=True)

    async def propose() -> str | None:
        answer = await cast.as_("other.clerk").post("/v1/disposals", {"record": record, "reason": "保存期限届满"})
        if answer.status == 404:  # retention has not heard of the record yet
            return None
        made: str = answer.expecting(201)["id"]
        return made

    disposal = await until(propose, "retention knows of the record")
    for who in ("other.supervisor", "other.manager"):
        (await decide(cast, who, await cast.task(who, disposal=disposal))).expecting(200)

    async def approved() -> bool | None:
        shown = (await cast.as_("other.clerk").get(f"/v1/disposals/{disposal}")).expecting(200)
        return True if shown["state"] == "approved" else None

    await until(approved, "the disposal is approved")
    path, method = f"/v1/disposals/{disposal}/execution", {"method": "crypto_shred"}
    answers = await asyncio.gather(*(cast.as_(who).post(path, method) for who in (ONE, TWO)))
    assert min(answer.status for answer in answers) == 200
    assert {answer.slug for answer in answers} < {None, SAME, "wrong-state"}
    return disposal


async def witness(cast: Cast, who: str, disposal: str) -> Answer:
    return await cast.as_(who).post(f"/v1/disposals/{disposal}/witness-statement", {"statement": "现场监督，销毁属实"})


async def begin_hold(cast: Cast) -> str:
    record = await cast.record()

    async def place() -> str | None:
        answer = await cast.as_(ONE).post("/v1/holds", {"record": record, "reason": "诉讼保全"})
        if answer.status == 404:  # retention has not heard of the record yet
            return None
        made: str = answer.expecting(201)["id"]
        return made

    return await until(place, "retention knows of the record")


async def release(cast: Cast, who: str, hold: str) -> Answer:
    return await cast.as_(who).post(f"/v1/holds/{hold}/release", {"reason": "诉讼已结案"})


async def take(cast: Cast, who: str, record: str) -> dict[str, Any]:
    """Emergency access."""
    plea = {"record": record, "purpose": PURPOSE, "reason": "客户在现场，无人可审批", "fields": ["phone"]}

    async def use() -> dict[str, Any] | None:
        answer = await cast.as_(who).post("/v1/emergency-access", plea)
        if answer.status == 422 and answer.slug == "vacant-role":  # the directory travels by events
            return None
        made: dict[str, Any] = answer.expecting(201)
        return made

    return await until(use, "approvals knows of the company")


async def begin_emergency(cast: Cast) -> str:
    taken: str = (await take(cast, ONE, await cast.record()))["id"]
    return taken


async def review(cast: Cast, who: str, emergency: str) -> Answer:
    body = {"verdict": "justified", "comment": "已核实"}
    return await cast.as_(who).post(f"/v1/emergency-access/{emergency}/review", body)


@dataclass(frozen=True)
class Case:
    """Somebody has begun it, and neither of his accounts may end it; another person may."""

    conflict: str
    begin: Callable[[Cast], Awaitable[str]]
    end: Callable[[Cast, str, str], Awaitable[Answer]]
    right: str
    slug: str = SAME


CASES = (
    Case("request-and-decide", begin_request, decide, "other.head", "self-approval"),
    Case("decide-twice", begin_second_stage, decide, "other.manager"),
    Case("execute-and-witness", begin_destruction, witness, "other.inspector"),
    Case("place-and-release", begin_hold, release, "other.compliance"),
    Case("use-and-review-emergency", begin_emergency, review, "other.compliance"),
)
POLICIES = "propose-and-approve-policy"
"""Has a test of its own: the packs keep its two scopes apart by a static conflict as well."""


@pytest.mark.parametrize("case", CASES, ids=[case.conflict for case in CASES])
async def test_nobody_ends_what_he_has_begun_by_any_of_his_accounts_and_another_person_does(
    cast: Cast, case: Case
) -> None:
    begun = await case.begin(cast)
    for who in (ONE, TWO):
        answer = await case.end(cast, who, begun)
        assert (answer.status, answer.slug) == (403, case.slug), answer
    answers = await asyncio.gather(*(case.end(cast, who, begun) for who in (ONE, TWO, ONE, TWO)))
    assert {(answer.status, answer.slug) for answer in answers} == {(403, case.slug)}
    (await case.end(cast, case.right, begun)).expecting(200)


async def test_every_per_case_conflict_of_the_policy_has_its_case_here(cast: Cast) -> None:
    conflicts = (await cast.as_(AUDITOR).get("/v1/conflicts")).expecting(200)["per_case"]
    assert {each["id"] for each in conflicts} == {*(case.conflict for case in CASES), POLICIES}


async def test_who_proposes_a_policy_cannot_even_be_given_the_office_that_approves_it(cast: Cast) -> None:
    said = (CHECKOUT / "deploy" / "policies" / "service-desk.yaml").read_text(encoding="utf-8")
    said = said.replace("pack: service-desk", f"pack: {PREFIX}-trial")
    proposer = await cast.hire("proposer.one", {"security_administrator": "company"})
    second = await cast.hire("proposer.two", {}, person=proposer["person"])
    proposed = await cast.post("proposer.one", "/v1/policies", {"text": said}, 201)
    path = f"/v1/policies/{proposed['digest']}/approval"

    async def approve(who: str) -> Answer:
        return await cast.as_(who).post(path, {"verdict": "approve", "comment": "同意"})

    for account in (proposer, second):
        office = {"role": "general_manager", "unit": cast.units["company"]}
        refused = await cast.as_(SECURITY).post(f"/v1/accounts/{account['id']}/roles", office)
        assert (refused.status, refused.slug) == (409, "duty-conflict")
    for who in ("proposer.one", "proposer.two"):
        assert (await approve(who)).slug == "insufficient-scope"
    answers = await asyncio.gather(*(approve(who) for who in ("other.leader", "other.leader.too")))
    assert sorted((answer.status, answer.slug or "") for answer in answers) == [(200, ""), (409, "already-decided")]
    shown = (await cast.as_(AUDITOR).get(f"/v1/policies/{proposed['digest']}")).expecting(200)
    assert shown["state"] == "approved"


async def test_emergency_access_opens_the_record_at_once_to_its_user_alone_and_is_an_alarm(cast: Cast) -> None:
    record = await cast.record()
    taken = await take(cast, ONE, record)
    grant = taken["grant"]["id"]

    async def read(who: str) -> Answer:
        return await cast.as_(who).get(f"/v1/records/{record}", purpose=PURPOSE, grant=grant)

    opened = (await read(ONE)).expecting(200)
    assert opened["fields"]["phone"]["state"] == "open"
    assert opened["fields"]["identifier"]["state"] != "open"
    for who in (TWO, "other.manager"):
        assert (await read(who)).slug == "grant-required", "a grant is not handed on"
    found = {"verdict": "unjustified", "comment": "无紧急情形"}
    after = await cast.post("other.leader", f"/v1/emergency-access/{taken['id']}/review", found)
    assert (after["state"], after["grant"]["state"]) == ("reviewed", "revoked")

    async def closed() -> bool | None:
        return True if (await read(ONE)).slug == "grant-required" else None

    await until(closed, "the records service hears of the end")

    async def alarmed() -> bool | None:
        alarms = (await cast.as_(AUDITOR).get("/v1/audit/alarms", limit=200)).expecting(200)["items"]
        types = {each["type"] for each in alarms if each.get("subject") == record}
        return True if types == {"approvals.v1.emergency.used", "approvals.v1.emergency.unjustified"} else None

    await until(alarmed, "the auditor sees the alarms")
