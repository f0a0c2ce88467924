"""The demo organisation: made by the ceremony and then through the API alone, as an operator would make a real one.

Whatever is there already is left as it is, so that every start ends with the same organisation, also after one that
was interrupted. Passwords are derived from a secret of the state folder.
"""

import asyncio
import base64
import hmac
import json
import os
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from dossier_local.client import Answer, Caller, Client, connected, until
from dossier_local.elsewhere import Elsewhere
from dossier_local.people import ADMINISTRATOR, AUDITOR, GROUP, OFFICERS, PEOPLE, SECURITY, SERVICE, UNITS, Person
from dossier_local.second_factor import Device
from dossier_local.stack import Stack
from dossier_local.state import State, write_private

QUALIFICATIONS: Final = ("confidentiality_agreement", "training_passed")
APPLICATION: Final = "demo-crm"
APPLICATION_SCOPES: Final = ("records:catalogue", "records:register", "retention:read")
PLAN: Final = {
    "title": "客户建档 · Customer intake",
    "purposes": ["service", "contract_performance", "complaint_handling"],
    "fields": [
        *("name", "sex", "birth_date", "identifier_type", "identifier", "phone", "address", "postcode", "email"),
        *("bank_account", "legal_representative", "registered_capital", "business_scope", "contact_person", "remarks"),
    ],
    "customer_types": ["person", "organisation"],
}


async def ensure(stack: Stack | Elsewhere) -> dict[str, Any]:
    """Makes what is missing; what `demo.json` says of accounts, clients, units and plan. Raises LauncherError."""
    officers = _Officers(stack)
    async with connected(stack.base_url, tls=stack.tls) as client:
        for username, _ in OFFICERS.values():
            client.add_person(username, password(stack.state, username), second_factor(stack.state, username))
        root = await officers.ensure(client)
        admin, security = client.as_(ADMINISTRATOR), client.as_(SECURITY)
        units = await _units(admin, root)
        titles = {role["id"]: role["title"] for role in (await admin.get("/v1/roles")).expecting(200)["items"]}
        there = {account["username"]: account async for account in admin.every("/v1/accounts")}
        making = _Making(stack.state, client, admin, security, units, titles)
        told = await asyncio.gather(*(making.person(each, there.get(each.username)) for each in PEOPLE))
        await client.as_(AUDITOR).token()  # whoever needs a second factor enrols it with his first sign-in
        kept = await asyncio.gather(*(making.officer(there[name]) for name, _ in OFFICERS.values()))
        accounts = {account["username"]: account for account in (*told, *kept)}
        return {
            "accounts": accounts,
            "clients": await _clients(stack.state, admin),
            "units": units,
            "plan": await _plan(client.as_("liu.yang"), units[SERVICE]),
        }


def password(state: State, username: str) -> str:
    """The password of a demo account; random for each state folder, and the same at each start."""
    digest = hmac.digest(state.read_secret("demo-passwords").encode(), username.encode(), "sha256")
    return f"{base64.b32encode(digest[:15]).decode().lower()}-{digest[15] % 10}"


def second_factor(state: State, username: str) -> Path:
    """The file that keeps the second factor of a demo account, where it has one."""
    return state.secrets / f"second-factor-{username}.json"


class _Officers:
    """The three officers. Their codes are kept until they have enrolled."""

    def __init__(self, stack: Stack | Elsewhere) -> None:
        self._stack = stack
        self._path = stack.state.secrets / "demo-officers.json"

    async def ensure(self, client: Client) -> str:
        """They are there and have passwords; the root unit."""
        if not self._path.exists():
            write_private(self._path, await asyncio.to_thread(self._hold))
        held: dict[str, Any] = json.loads(self._path.read_text())
        codes = [each for each in held["officers"] if "enrolment_code" in each]
        await asyncio.gather(*(self._enrol(client, each) for each in codes))
        if codes:
            officers = [
                {name: value for name, value in each.items() if name != "enrolment_code"} for each in held["officers"]
            ]
            write_private(self._path, json.dumps(held | {"officers": officers}).encode())
        root: str = held["unit"]
        return root

    async def _enrol(self, client: Client, officer: Mapping[str, str]) -> None:
        await enrol(client, officer["enrolment_code"], password(self._stack.state, officer["username"]), again=True)

    def _hold(self) -> bytes:
        names = [
            word
            for role, (username, name) in OFFICERS.items()
            for word in (f"--{role.replace('_', '-')}", username, f"--{role.replace('_', '-')}-title", name)
        ]
        root = ("--unit-code", GROUP, "--unit-zh", "示例集团", "--unit-en", "Example Group")
        return self._stack.ceremony((*root, *names))


async def enrol(client: Client, code: str, chosen: str, *, again: bool = False) -> None:
    """A person sets his first password. With `again`, a code that was used by an interrupted start is no fault."""
    answer = await client.anonymously("POST", "/v1/enrolments", {"code": code, "password": chosen})
    answer.expecting(204, *((422,) if again else ()))


async def _units(admin: Caller, root: str) -> dict[str, str]:
    units = {unit["code"]: unit["id"] async for unit in admin.every("/v1/units")} | {GROUP: root}
    for unit in UNITS:
        if unit.code not in units:
            title = {"zh": unit.zh, "en": unit.en}
            new = {"code": unit.code, "title": title, "kind": unit.kind, "parent": units[unit.parent]}
            units[unit.code] = (await admin.post("/v1/units", new)).expecting(201)["id"]
    return units


class _Making:
    """Makes accounts, with what each needs to work."""

    def __init__(
        self,
        state: State,
        client: Client,
        admin: Caller,
        security: Caller,
        units: Mapping[str, str],
        titles: Mapping[str, dict[str, str]],
    ) -> None:
        self._state, self._client, self._admin, self._security = state, client, admin, security
        self._units, self._titles = units, titles

    async def person(self, person: Person, there: dict[str, Any] | None) -> dict[str, Any]:
        """The account of a person: made, enrolled, cleared, with his roles and qualifications."""
        chosen = password(self._state, person.username)
        if there is None:
            new = {"username": person.username, "display_name": person.name, "unit": self._units[person.unit]}
            there = (await self._admin.post("/v1/accounts", new)).expecting(201)
            await enrol(self._client, there["enrolment_code"], chosen)
        elif there["state"] == "invited":
            issued = (await self._admin.post(f"/v1/accounts/{there['id']}/enrolment-codes")).expecting(201)
            await enrol(self._client, issued["enrolment_code"], chosen)
        account = f"/v1/accounts/{there['id']}"
        if there["clearance"] != person.clearance:
            cleared = {"clearance": person.clearance}
            answer = await self._security.put(f"{account}/clearance", cleared, version=there["version"])
            there = answer.expecting(200)
        held = (await self._security.get(f"{account}/roles")).expecting(200)["items"]
        for role, unit in person.roles.items():
            wanted = {"role": role, "unit": self._units[unit or person.unit]}
            if not any(each["role"] == role and each["unit"] == wanted["unit"] for each in held):
                held.append((await self._security.post(f"{account}/roles", wanted)).expecting(201))
        await self._qualify(account)
        self._client.add_person(person.username, chosen, second_factor(self._state, person.username))
        return self._described(there, held)

    async def officer(self, account: dict[str, Any]) -> dict[str, Any]:
        """The account of an officer, as the ceremony made it."""
        held = (await self._security.get(f"/v1/accounts/{account['id']}/roles")).expecting(200)["items"]
        return self._described(account, held)

    async def _qualify(self, account: str) -> None:
        today = datetime.now(UTC).date()
        there = (await self._admin.get(f"{account}/qualifications")).expecting(200)["items"]
        valid = {each["qualification"] for each in there if _covers(each, today)}
        for qualification in QUALIFICATIONS:
            if qualification not in valid:
                new = {"qualification": qualification, "evidence": "demo", "valid_from": today.isoformat()}
                (await self._admin.post(f"{account}/qualifications", new)).expecting(201)

    def _described(self, account: Mapping[str, Any], held: Sequence[Mapping[str, str]]) -> dict[str, Any]:
        roles = [{"role": each["role"], "unit": each["unit"], "title": self._titles[each["role"]]} for each in held]
        return {
            "username": account["username"],
            "password": password(self._state, account["username"]),
            **_second_factor(second_factor(self._state, account["username"])),
            "account": account["id"],
            "person": account["person"],
            "display_name": account["display_name"],
            "unit": account["unit"],
            "clearance": account["clearance"],
            "roles": roles,
        }


def _second_factor(path: Path) -> dict[str, str]:
    """What `demo.json` says of it: the file, and the secret for an authenticator of one's own."""
    secret = Device(path).kept.secret
    return {"second_factor_file": str(path)} | ({"totp_secret": secret} if secret else {})


def _covers(qualification: Mapping[str, Any], day: date) -> bool:
    last = qualification["valid_until"]
    return qualification["valid_from"] <= day.isoformat() and (last is None or last >= day.isoformat())


async def _clients(state: State, admin: Caller) -> dict[str, Any]:
    """The demo application. One whose secret was lost when a start was interrupted gets a successor."""
    path = state.secrets / "demo-client.json"
    if not path.exists():
        taken = {client["id"] async for client in admin.every("/v1/clients")}
        name = next(n for n in (APPLICATION, *(f"{APPLICATION}-{at}" for at in range(2, 100))) if n not in taken)
        new = {
            "id": name,
            "title": "客户关系管理系统(演示) · CRM (demo)",
            "grant_types": ["client_credentials"],
            "scopes": list(APPLICATION_SCOPES),
        }
        made = (await admin.post("/v1/clients", new)).expecting(201)
        write_private(path, json.dumps(made).encode())
    made = json.loads(path.read_text())
    return {made["id"]: {"secret": made["secret"], "scopes": made["scopes"]}}


async def _plan(manager: Caller, unit: str) -> str:
    async for plan in manager.every("/v1/collection-plans"):
        if (plan["title"], plan["unit"]) == (PLAN["title"], unit):
            found: str = plan["id"]
            return found

    async def create() -> str | None:
        answer = await manager.post("/v1/collection-plans", PLAN | {"unit": unit})
        if _unit_unknown(answer):
            return None
        made: str = answer.expecting(201)["id"]
        return made

    return await until(create, "the records service learns of the organisation")


def _unit_unknown(answer: Answer) -> bool:
    return answer.status == 422 and [each["pointer"] for each in answer.body.get("errors", [])] == ["/unit"]


# ---- what the person at the terminal sees


def show(stack: Stack, told: Mapping[str, Any]) -> None:
    """Prints the demo accounts by role, and three calls to try."""
    Console(highlight=False).print(_table(told))
    stack.say(f"Passwords, secrets and ids: {stack.state.demo_file}")
    stack.say("Try:")
    for line in curl_lines(stack.state, stack.base_url, named="DOSSIER_STATE" in os.environ):
        stack.say(f"  {line}")


def _table(told: Mapping[str, Any]) -> Table:
    units = {told["units"][unit.code]: unit.zh for unit in UNITS} | {told["units"][GROUP]: "示例集团"}
    table = Table("Account", "Name", "Unit", "Role", box=None, pad_edge=False)
    for account in told["accounts"].values():
        for held in account["roles"]:
            role = f"{held['title']['zh']} {held['role']}"
            table.add_row(account["username"], account["display_name"], units[held["unit"]], role)
    for client_id, client in told["clients"].items():
        table.add_row(client_id, "", "", f"应用程序 application: {' '.join(client['scopes'])}")
    return table


def curl_lines(state: State, base_url: str, *, named: bool) -> list[str]:
    """Calls that work as they stand in a shell in the checkout: one's own rights, the log, and a refusal.

    With `named` they name the state folder, which is another than the checkout's.
    """
    chosen = f"DOSSIER_STATE={shlex.quote(str(state.folder))} " if named else ""

    def line(account: str, path: str) -> str:
        return f"""curl -sS -H "Authorization: Bearer $({chosen}make -s token AS={account})" '{base_url}{path}'"""

    return [
        line("li.na", "/v1/me"),
        line(AUDITOR, "/v1/audit/events?limit=3"),
        line(ADMINISTRATOR, "/v1/records"),
    ]
