"""The state that the contract test meets: something of everything, in each stage, made through the API alone.

What a call uses up (a task to decide, a hold to lift, a disposal to execute) is there several times.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from tests.contract.prepared import AGREEMENT

from dossier_local.client import Caller, Client, until
from dossier_local.customer_files import as_csv, sheet
from dossier_local.customers import PERSON, Row, rows
from dossier_local.organisation import enrol
from dossier_local.people import ADMINISTRATOR, AUDITOR, SECURITY, SERVICE
from dossier_local.sign_in import person_token

CLERK, OTHER_CLERK, OFFICER = "zhang.li", "wang.qiang", "ma.lin"
EMPLOYEE, HEAD, MANAGER, SUPERVISOR = "li.na", "zhao.jun", "liu.yang", "chen.jing"
COMPLIANCE, WITNESS = "xu.dan", "gao.feng"
PURPOSE = "complaint_handling"
FIELDS = ("name", "sex", "birth_date", "identifier_type", "identifier", "phone", "address", "email")
OPEN_NOWHERE = ("identifier", "phone", "address", "email")
"""Fields whose values nobody sees open without a grant, but the custodian."""
PASSWORD = "correct-horse-7-battery"
SHEET_SEED, ROW_SEED = 71, 72
SHORT_SHEET = 12
"""Seeds and length of the spreadsheet; they differ, so that no customer comes twice."""

Pools = dict[str, list[Any]]


class Seed:
    """Makes the state. Raises LauncherError when anything is answered otherwise than it has to be."""

    def __init__(self, client: Client, demo: Mapping[str, Any]) -> None:
        self._client, self._demo = client, demo
        self._customers = iter([row for row in rows(ROW_SEED, 200) if row["customer_type"] == PERSON])
        self.pools: Pools = {}

    async def make(self) -> Pools:
        """All of it; the pools are lists of ids and of bodies, by name."""
        await asyncio.gather(self._organisation(), self._records())
        await asyncio.gather(self._requests(), self._copies(), self._holds(), self._disposals(), self._edge())
        await self._events()
        return self.pools

    def _as(self, who: str) -> Caller:
        return self._client.as_(who)

    async def _post(self, who: str, path: str, body: Any = None, *, expecting: int = 201) -> Any:
        return (await self._as(who).post(path, body)).expecting(expecting)

    async def _organisation(self) -> None:
        made = [await self._account(number) for number in range(16)]
        coded, kept = made[:8], made[8:]
        self.pools["enrolments"] = [each["enrolment_code"] for each in coded]
        self.pools["accounts"] = [each["id"] for each in kept]
        assignments = [await self._assignment(each["id"]) for each in kept[:6]]
        self.pools["assignments"] = [{"account": each["account"], "id": each["id"]} for each in assignments]
        self.pools["units"] = list(self._demo["units"].values())
        self.pools["clients"] = list(self._demo["clients"])

    async def _account(self, number: int) -> Any:
        name = f"contract-{number}"
        new = {"username": name, "display_name": name, "unit": self._demo["units"][SERVICE]}
        return await self._post(ADMINISTRATOR, "/v1/accounts", new)

    async def _assignment(self, account: str) -> Any:
        new = {"role": "seat_agent", "unit": self._demo["units"][SERVICE]}
        return await self._post(SECURITY, f"/v1/accounts/{account}/roles", new)

    async def _records(self) -> None:
        clerk = self._demo["accounts"][CLERK]
        place = {"plan": self._demo["plan"], "unit": clerk["unit"], "custodian": clerk["person"]}
        self.pools |= {"plans": [place["plan"]], "places": [place]}
        small = sheet(SHEET_SEED, SHORT_SHEET, 4)
        received = await self._as(CLERK).call(
            "POST", "/v1/imports", content=as_csv(small.rows, "utf-8"), headers={"Content-Type": "text/csv"}, **place
        )
        self.pools["imports"] = [received.expecting(202)["id"]]
        self.pools["sheets"] = [as_csv(sheet(seed, 3, 0).rows, "utf-8").decode() for seed in range(80, 84)]
        self.pools["new_records"] = [self._record(place, next(self._customers)) for _ in range(40)]
        customers = [next(self._customers) for _ in range(8)]
        self.pools["phones"] = [each["phone"] for each in customers]
        self.pools["records"] = [await self._registered(place, each) for each in customers]
        vital = next(self._customers)
        self.pools["vital"] = [await self._registered(place, vital, importance="vital")]
        self.pools["vital_phones"] = [vital["phone"]]
        self.pools["plaintext"] = [each[name] for each in (*customers, vital) for name in OPEN_NOWHERE if each[name]]
        ended = [next(self._customers) | {"relationship_ended_on": "2015-06-30"} for _ in range(20)]
        self.pools["ended"] = [await self._registered(place, each) for each in ended]

    def _record(self, place: Mapping[str, str], customer: Row) -> dict[str, Any]:
        ended = customer["relationship_ended_on"]
        return {
            **place,
            "customer_type": "person",
            "importance": "general",
            "source": {"kind": "direct"},
            "opened_on": min("2010-01-05", customer["opened_on"]),
            "fields": {name: customer[name] for name in FIELDS if customer[name]},
        } | ({"relationship_ended_on": ended} if ended else {})

    async def _registered(self, place: Mapping[str, str], customer: Row, **changes: str) -> str:
        made: str = (await self._post(CLERK, "/v1/records", self._record(place, customer) | changes))["id"]
        return made

    async def _edge(self) -> None:
        """What the gateway keeps beside accounts: who leaves, sessions, applications, units, policies."""
        leaving = [await self._account(100 + number) for number in range(10)]
        self.pools["leaving_accounts"] = [each["id"] for each in leaving[2:]]
        self.pools["successors"] = [self._demo["accounts"][OTHER_CLERK]["account"]]
        self.pools["qualifications"] = [await self._qualification(each) for each in self.pools["accounts"][:4]]
        self.pools["sessions"] = await self._sessions(leaving[0])
        self.pools["own_clients"] = [await self._application(number) for number in range(4)]
        self.pools["own_units"] = [await self._unit(number) for number in range(3)]
        policies = (await self._as(SECURITY).get("/v1/policies")).expecting(200)["items"]
        self.pools["policies"] = [each["digest"] for each in policies]
        self.pools["partners"] = [await self._partner(number) for number in range(2)]
        self.pools["partner_qualifications"] = [await self._agreement(each) for each in self.pools["partners"]]
        self.pools["emergencies"] = [await self._emergency(record) for record in self.pools["records"][:2]]
        await self._handover(leaving[1])

    async def _qualification(self, account: str) -> dict[str, str]:
        new = {"qualification": "training_passed", "evidence": "contract", "valid_from": "2026-11-02"}
        made = await self._post(ADMINISTRATOR, f"/v1/accounts/{account}/qualifications", new)
        return {"account": account, "id": made["id"]}

    async def _sessions(self, account: Mapping[str, str]) -> list[dict[str, str]]:
        """Sessions of one person, whose browser forgets them."""
        await enrol(self._client, account["enrolment_code"], PASSWORD)
        for _ in range(4):
            await person_token(self._client.base_url, account["username"], PASSWORD)
        path = f"/v1/accounts/{account['id']}/sessions"
        found = (await self._as(ADMINISTRATOR).get(path)).expecting(200)["items"]
        return [{"account": account["id"], "id": each["id"]} for each in found]

    async def _application(self, number: int) -> str:
        name = f"contract-app-{number}"
        new = {"id": name, "title": name, "grant_types": ["client_credentials"], "scopes": ["records:catalogue"]}
        made = await self._post(ADMINISTRATOR, "/v1/clients", new)
        await self._post(ADMINISTRATOR, f"/v1/clients/{name}/secrets", {"overlap": "PT1H"})
        return str(made["id"])

    async def _unit(self, number: int) -> str:
        title = {"zh": "项目组", "en": "Project"}
        new = {"code": f"contract-{number}", "title": title, "kind": "project", "parent": self._demo["units"][SERVICE]}
        return str((await self._post(ADMINISTRATOR, "/v1/units", new))["id"])

    async def _partner(self, number: int) -> str:
        return str((await self._post(ADMINISTRATOR, "/v1/partners", {"title": f"合作机构{number}"}))["id"])

    async def _agreement(self, partner: str) -> dict[str, str]:
        made = await self._post(ADMINISTRATOR, f"/v1/partners/{partner}/qualifications", AGREEMENT)
        return {"partner": partner, "id": made["id"]}

    async def _emergency(self, record: str) -> str:
        new = {"record": record, "purpose": PURPOSE, "reason": "客户来电报失"}
        return str((await self._post(MANAGER, "/v1/emergency-access", new))["id"])

    async def _handover(self, account: Mapping[str, str]) -> None:
        """Somebody leaves who was custodian of a record; his successor is the clerk."""
        place = self.pools["places"][0] | {"custodian": account["person"]}

        async def register() -> str | None:
            answer = await self._as(CLERK).post("/v1/records", body)
            return None if answer.status == 422 else str(answer.expecting(201)["id"])

        body = self._record(place, next(self._customers))
        record = await until(register, "records knows of who will leave")
        successor = self._demo["accounts"][CLERK]["account"]
        gone = {"kind": "leaving", "reason": "resignation", "successor": successor}
        await self._post(ADMINISTRATOR, f"/v1/accounts/{account['id']}/offboarding", gone)

        async def look() -> str | None:
            found = (await self._as(CLERK).get("/v1/custody-handovers")).expecting(200)["items"]
            return found[0]["id"] if found else None

        self.pools["left_accounts"] = [account["id"]]
        self.pools["handovers"] = [await until(look, "custody is handed over")]
        self.pools["handed_over"] = [record]

    def _wish(self, action: str, number: int) -> dict[str, Any]:
        records = self.pools["records"]
        return {
            "action": action,
            "records": [records[number % len(records)]],
            "purpose": PURPOSE,
            "reason": "核对身份",
            "requester_profile": {"department": "销售部"},
            "fields": ["name", "phone"],
        }

    async def _requests(self) -> None:
        await self._known_to_approvals()
        self.pools["wishes"] = [self._wish("view", number) for number in range(4)]
        self.pools["requests"] = [await self._asked("view", number) for number in range(8)]
        waiting = [await self._asked("view", number) for number in range(8)]
        second = [await self._asked("view", number) for number in range(6)]
        for each in second:
            await self._approved(HEAD, request=each)
        released = [await self._asked("copy", number) for number in range(6)]
        granted = [await self._granted("view", number, HEAD, MANAGER) for number in range(12)]
        self.pools |= {"grants": granted[:4], "returning_grants": granted[4:8], "revoking_grants": granted[8:]}
        tasks = [await self._tasks(who) for who in (HEAD, MANAGER, SUPERVISOR)]
        deciding = {*waiting, *second, *released}
        self.pools["tasks"] = [task["id"] for each in tasks for task in each if task["request"] in deciding]

    async def _known_to_approvals(self) -> None:
        """Records and persons come by events; nothing can be asked for before."""

        async def look() -> bool | None:
            answer = await self._as(EMPLOYEE).post("/v1/requests/preview", self._wish("view", -1))
            return True if answer.status == 200 else None

        await until(look, "approvals knows of the records")

    async def _asked(self, action: str, number: int) -> str:
        made: str = (await self._post(EMPLOYEE, "/v1/requests", self._wish(action, number)))["id"]
        return made

    async def _granted(self, action: str, number: int, *deciders: str) -> dict[str, str]:
        request = await self._asked(action, number)
        decided = [await self._approved(who, request=request) for who in deciders][-1]
        return {"id": decided["grant"], "record": decided["records"][0]}

    async def _tasks(self, who: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self._as(who).get("/v1/tasks", limit=200)).expecting(200)["items"]
        return found

    async def _approved(self, who: str, **of: str) -> Any:
        """Somebody approves what waits for him of this request or disposal."""

        async def look() -> str | None:
            tasks = await self._tasks(who)
            return next((task["id"] for task in tasks if of.items() <= task.items()), None)

        task = await until(look, f"a task waits for {who}")
        verdict = {"verdict": "approve", "comment": "同意"}
        return await self._post(who, f"/v1/tasks/{task}/decision", verdict, expecting=200)

    async def _copies(self) -> None:
        await self._known_to_approvals()
        grants = [await self._granted("copy", number, SUPERVISOR) for number in range(18)]
        self.pools["copy_grants"] = grants[:4]
        issued = [await self._issued(each) for each in grants[4:]]
        self.pools["copies"] = issued[:4]
        for number, state in enumerate(("receipts", "returns", "destructions", "losses")):
            self.pools[f"copy_{state}"] = issued[4 + 2 * number : 6 + 2 * number]

    async def _issued(self, grant: Mapping[str, str]) -> str:
        new = {"grant": grant["id"], "action": "copy"}
        issued: str = (await self._post(EMPLOYEE, f"/v1/records/{grant['record']}/copies", new))["id"]
        return issued

    async def _holds(self) -> None:
        await self._known_to_retention()
        self.pools["holds"] = [await self._held(record) for record in self.pools["records"]]

    async def _held(self, record: str) -> str:
        hold: str = (await self._post(COMPLIANCE, "/v1/holds", {"record": record, "reason": "诉讼保全"}))["id"]
        return hold

    async def _known_to_retention(self) -> None:
        async def look() -> bool | None:
            clocks = {each["record"] async for each in self._as(CLERK).every("/v1/retention/clocks")}
            return True if clocks >= set(self.pools["ended"]) else None

        await until(look, "retention knows of the records")

    async def _disposals(self) -> None:
        await self._known_to_retention()
        self.pools["due"] = self.pools["ended"][:8]
        cases = [await self._proposed(record) for record in self.pools["ended"][8:]]
        self.pools["disposals"] = cases
        for who in (SUPERVISOR, MANAGER):
            for each in cases[2:]:
                await self._approved(who, disposal=each)
        await asyncio.gather(*(self._in_state(each, "approved") for each in cases[2:]))
        self.pools["approved"] = cases[2:6]
        method, seen = {"method": "crypto_shred"}, {"statement": "现场监督，销毁属实"}
        for each in cases[6:]:
            await self._post(OTHER_CLERK, f"/v1/disposals/{each}/execution", method, expecting=200)
        self.pools["executing"] = cases[6:-2]
        for each in cases[-2:]:
            await self._post(WITNESS, f"/v1/disposals/{each}/witness-statement", seen, expecting=200)
        destroyed = [await self._in_state(each, "destroyed") for each in cases[-2:]]
        self.pools["certificates"] = [each["certificate"] for each in destroyed]

    async def _proposed(self, record: str) -> str:
        new = {"record": record, "reason": "保存期限届满"}
        disposal: str = (await self._post(OFFICER, "/v1/disposals", new))["id"]
        return disposal

    async def _in_state(self, disposal: str, state: str) -> Any:
        async def look() -> Any:
            case = (await self._as(CLERK).get(f"/v1/disposals/{disposal}")).expecting(200)
            return case if case["state"] == state else None

        return await until(look, f"a disposal is {state}")

    async def _events(self) -> None:
        events = (await self._as(AUDITOR).get("/v1/audit/events", limit=5)).expecting(200)["items"]
        self.pools["events"] = [each["id"] for each in events]
