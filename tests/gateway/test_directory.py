"""Units, accounts, roles, qualifications; the duties that nobody holds together (invariant 4)."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from tests.gateway.world import OFFICERS, ROOT, TestClock, World

from dossier_gateway import ceremony as ceremonies


@pytest.mark.invariant(4)
async def test_the_ceremony_makes_three_officers_of_whom_none_may_do_everything(world: World) -> None:
    policy = world.proxy.own.state.policy
    assert [officer.role for officer in world.made.officers] == list(ceremonies.OFFICERS)
    assert len({officer.person for officer in world.made.officers}) == 3
    scopes = [frozenset(policy.scopes_of([officer.role])) for officer in world.made.officers]
    shared = scopes[0] & scopes[1] | scopes[0] & scopes[2] | scopes[1] & scopes[2]
    assert {str(scope) for scope in shared} == {"incidents:report"}


async def test_the_ceremony_is_held_once(world: World) -> None:
    state = world.proxy.own.state
    with pytest.raises(ceremonies.AlreadyHeld):
        await ceremonies.ceremony(
            state.database,
            state.policy,
            TestClock(),
            root=ceremonies.Root(*ROOT),
            names=[(name, name) for name in OFFICERS.values()],
        )


async def test_what_the_ceremony_did_is_in_the_outbox(world: World) -> None:
    assigned = await world.events("gateway.v1.role.assigned")
    assert [event.data["role"] for event in assigned[:3]] == list(ceremonies.OFFICERS)
    assert all(event.actor is None for event in assigned[:3])
    assert (await world.events("gateway.v1.unit.created"))[0].data["code"] == ROOT[0]


async def change(world: World, as_: str, method: str, path: str, body: Any, version: int) -> httpx.Response:
    """A change of this version of a thing."""
    return await world.call(as_, method, path, json=body, headers={"If-Match": f'"{version}"'})


async def unit(world: World, kind: str, parent: Any, code: str | None = None) -> Any:
    body = {
        "code": code or f"U-{uuid4().hex[:8]}",
        "title": {"zh": "部门", "en": "Unit"},
        "kind": kind,
        "parent": str(parent) if parent else None,
    }
    return await world.call("sysadmin", "POST", "/v1/units", json=body)


async def test_units_make_a_tree_and_each_is_an_event(world: World) -> None:
    company = await unit(world, "company", world.root)
    department = await unit(world, "department", company.json()["id"])
    assert [company.status_code, department.status_code] == [201, 201]
    assert (await unit(world, "company", department.json()["id"])).status_code == 422
    assert (await unit(world, "project", uuid4())).status_code == 422
    assert (await unit(world, "group", None)).status_code == 409
    assert (await unit(world, "project", world.root, ROOT[0])).status_code == 409
    event = (await world.events("gateway.v1.unit.created"))[-1]
    assert event.data["unit"] == department.json()["id"]
    seen = await world.call("auditor", "GET", f"/v1/units/{event.data['unit']}")
    assert seen.json()["parent"] == company.json()["id"]
    page = await world.call("auditor", "GET", "/v1/units?limit=1")
    assert len(page.json()["items"]) == 1
    following = page.headers["link"].split(";")[0].strip("<>")
    assert (await world.call("auditor", "GET", following)).json()["items"] != page.json()["items"]


async def test_the_same_creation_with_the_same_key_is_one(world: World) -> None:
    body = {
        "code": f"U-{uuid4().hex[:8]}",
        "title": {"zh": "x", "en": "x"},
        "kind": "project",
        "parent": str(world.root),
    }
    key = {"Idempotency-Key": uuid4().hex}
    first = await world.call("sysadmin", "POST", "/v1/units", json=body, headers=key)
    second = await world.call("sysadmin", "POST", "/v1/units", json=body, headers=key)
    assert first.json() == second.json()
    assert second.headers["idempotent-replayed"] == "true"


async def test_an_account_is_made_by_one_officer_and_gets_its_role_from_another(world: World) -> None:
    account = await world.person()
    by_maker = await world.call(
        "sysadmin", "POST", f"/v1/accounts/{account['id']}/roles", json={"role": "collector", "unit": str(world.root)}
    )
    assert by_maker.status_code == 403
    assert (await world.assign(account["id"], "collector")).status_code == 201
    created = await world.call(
        "secadmin", "POST", "/v1/accounts", json={"username": "abc", "display_name": "x", "unit": str(world.root)}
    )
    assert created.status_code == 403
    event = (await world.events("gateway.v1.role.assigned"))[-1]
    assert event.data["account"] == account["id"]
    assert event.person == world.made.officers[1].person


@pytest.mark.invariant(4)
async def test_nobody_manages_himself_by_any_of_his_accounts(world: World) -> None:
    me = world.made.officers[1]
    mine = await world.person(person=str(me.person))
    for account in (str(me.account), mine["id"]):
        assert (await world.assign(account, "security_administrator")).json()["type"].endswith("same-person")
        cleared = await change(
            world, "secadmin", "PUT", f"/v1/accounts/{account}/clearance", {"clearance": "secret"}, 1
        )
        assert cleared.json()["type"].endswith("same-person")
    held = (await world.call("sysadmin", "GET", f"/v1/accounts/{me.account}/roles")).json()["items"][0]
    revoked = await world.call("secadmin", "DELETE", f"/v1/accounts/{me.account}/roles/{held['id']}")
    assert revoked.status_code == 403
    admin = world.made.officers[0]
    body = {"qualification": "training_passed", "evidence": "x", "valid_from": "2026-01-01"}
    own = await world.call("sysadmin", "POST", f"/v1/accounts/{admin.account}/qualifications", json=body)
    assert own.status_code == 403
    code = await world.call("sysadmin", "POST", f"/v1/accounts/{admin.account}/enrolment-codes")
    assert code.status_code == 403


async def test_clearance_is_of_the_policy_and_its_change_an_event(world: World) -> None:
    account = await world.person()
    path = f"/v1/accounts/{account['id']}/clearance"
    assert account["clearance"] == "internal"
    body = {"clearance": "secret"}
    assert (await world.call("secadmin", "PUT", path, json=body)).status_code == 428
    cleared = await change(world, "secadmin", "PUT", path, body, account["version"])
    assert cleared.json()["clearance"] == "secret"
    assert (
        await change(world, "secadmin", "PUT", path, {"clearance": "internal"}, account["version"])
    ).status_code == 412
    assert (
        await change(world, "secadmin", "PUT", path, {"clearance": "cosmic"}, account["version"] + 1)
    ).status_code == 422
    event = (await world.events("gateway.v1.clearance.changed"))[-1]
    assert (event.data["clearance_from"], event.data["clearance_to"]) == ("internal", "secret")


@pytest.mark.clause("B2.5.4")
async def test_a_qualification_ends_when_the_policy_says_and_counts_for_the_person(world: World) -> None:
    account = await world.person("collector")
    path = f"/v1/accounts/{account['id']}/qualifications"
    today = datetime.now(UTC).date()
    body = {"qualification": "training_passed", "evidence": "certificate 7", "valid_from": today.isoformat()}
    recorded = await world.call("sysadmin", "POST", path, json=body)
    assert recorded.status_code == 201
    assert recorded.json()["valid_until"] > (today + timedelta(days=360)).isoformat()
    over = body | {
        "qualification": "confidentiality_agreement",
        "valid_from": "2020-01-01",
        "valid_until": "2020-02-01",
    }
    assert (await world.call("sysadmin", "POST", path, json=over)).status_code == 201
    wrong = body | {"valid_until": "2020-01-01"}
    assert (await world.call("sysadmin", "POST", path, json=wrong)).status_code == 422
    assert (await world.call("sysadmin", "POST", path, json=body | {"qualification": "none"})).status_code == 422
    assert (await world.call("sysadmin", "POST", path, json=body | {"valid_from": "9999-12-31"})).status_code == 422
    second = await world.person("collector", person=account["person"])
    me = (await world.call(second["username"], "GET", "/v1/me")).json()
    assert me["qualifications"] == ["training_passed"]
    event = (await world.events("gateway.v1.qualification.recorded"))[-1]
    assert "certificate" not in str(event.data)


@pytest.mark.invariant(7)
async def test_no_event_holds_a_name(world: World) -> None:
    account = await world.person("collector")
    for kind in ("account.created", "role.assigned", "account.enrolled", "enrolment.issued"):
        event = (await world.events(f"gateway.v1.{kind}"))[-1]
        assert account["username"] not in str(event.data)
        assert "某人" not in str(event.data)


async def test_anyone_may_read_the_matrix_of_duties(world: World) -> None:
    clerk = await world.person("records_clerk")
    conflicts = (await world.call(clerk["username"], "GET", "/v1/conflicts")).json()
    assert {each["id"] for each in conflicts["items"]} >= {"accounts-apart", "audit-apart"}
    assert conflicts["per_case"]
    roles = (await world.call(clerk["username"], "GET", "/v1/roles")).json()["items"]
    assert next(role for role in roles if role["id"] == "security_auditor")["officer"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/accounts", {"username": "A B", "display_name": "x", "unit": str(uuid4())}),
        ("POST", "/v1/accounts", {"username": "abc", "display_name": "x", "unit": str(uuid4())}),
        ("POST", "/v1/accounts", {"username": "abc", "display_name": "x", "unit": "x"}),
        ("POST", "/v1/accounts", {"username": "abc", "display_name": "x", "unit": str(uuid4()), "state": "active"}),
        ("POST", "/v1/units", {"code": "x", "title": {"zh": "x"}, "kind": "project", "parent": None}),
        ("POST", "/v1/clients", {"id": "x"}),
    ],
)
async def test_wrong_bodies_are_refused_with_pointers(
    world: World, method: str, path: str, body: dict[str, Any]
) -> None:
    answer = await world.call("sysadmin", method, path, json=body)
    assert answer.status_code == 422
    assert all(fault["pointer"].startswith("/") for fault in answer.json()["errors"])


async def test_a_person_that_does_not_exist_gets_no_further_account(world: World) -> None:
    body = {"username": "further", "display_name": "x", "unit": str(world.root), "person": str(uuid4())}
    assert (await world.call("sysadmin", "POST", "/v1/accounts", json=body)).status_code == 422


async def test_a_new_enrolment_code_voids_the_one_before(world: World) -> None:
    body = {"username": f"lost-{uuid4().hex[:6]}", "display_name": "x", "unit": str(world.root)}
    account = (await world.call("sysadmin", "POST", "/v1/accounts", json=body)).json()
    second = await world.call("sysadmin", "POST", f"/v1/accounts/{account['id']}/enrolment-codes")
    old = await world.http.post("/v1/enrolments", json={"code": account["enrolment_code"], "password": "fine passw0rd"})
    assert old.status_code == 422
    await world.enrol(second.json()["enrolment_code"])
    assert (await world.call("sysadmin", "GET", f"/v1/accounts/{account['id']}")).json()["state"] == "active"
