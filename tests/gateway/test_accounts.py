"""Accounts and units as they change: names, homes, disabling, roles with a term, places in the tree."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from tests.gateway.test_directory import change, unit
from tests.gateway.test_offboarding import alone_in_office
from tests.gateway.world import PASSWORD, World
from tests.support import authorization
from tests.support.waiting import eventually

from dossier_common.policy import Policy
from dossier_gateway.directory import holdings
from dossier_gateway.directory.accounts import ensure_offices_kept
from dossier_gateway.errors import LastOfficer


async def seen(world: World, account: dict[str, Any]) -> httpx.Response:
    return await world.call("sysadmin", "GET", f"/v1/accounts/{account['id']}")


async def disable(world: World, account: dict[str, Any], *, as_: str = "sysadmin") -> httpx.Response:
    path = f"/v1/accounts/{account['id']}/disabling"
    return await world.call(as_, "POST", path, json={"reason": "suspicion"})


async def enable(world: World, account: dict[str, Any]) -> httpx.Response:
    return await world.call("sysadmin", "POST", f"/v1/accounts/{account['id']}/enabling")


async def status_of_me(world: World, headers: dict[str, str]) -> int:
    return (await world.http.get("/v1/me", headers=headers)).status_code


async def test_an_account_is_changed_by_its_version(world: World) -> None:
    account = await world.person("collector")
    home = (await unit(world, "department", world.root)).json()["id"]
    path = f"/v1/accounts/{account['id']}"
    before = await seen(world, account)
    assert before.headers["etag"] == '"1"'
    body = {"display_name": "王五", "unit": home}
    assert (await world.call("sysadmin", "PATCH", path, json=body)).status_code == 428
    changed = await change(world, "sysadmin", "PATCH", path, body, 1)
    assert (changed.json()["display_name"], changed.json()["unit"], changed.json()["version"]) == ("王五", home, 2)
    assert (await change(world, "sysadmin", "PATCH", path, body, 1)).status_code == 412
    assert (await change(world, "sysadmin", "PATCH", path, body, 2)).headers["etag"] == '"2"'
    for wrong in ({"unit": str(uuid4())}, {"display_name": None}, {"state": "active"}, {"person": str(uuid4())}):
        assert (await change(world, "sysadmin", "PATCH", path, wrong, 2)).status_code == 422
    event = (await world.events("gateway.v1.account.changed"))[-1]
    assert event.data["changed"] == ["display_name", "unit"]
    assert (event.data["unit_from"], event.data["unit_to"]) == (str(world.root), home)
    assert "王五" not in str(event.data)
    details = (await seen(world, account)).json()
    assert [each["role"] for each in details["roles"]] == ["collector"]
    assert details["qualifications"] == []


@pytest.mark.invariant(4)
async def test_nobody_changes_disables_or_enables_his_own_accounts(world: World) -> None:
    me = world.made.officers[0]
    mine = await world.person(person=str(me.person))
    path = f"/v1/accounts/{mine['id']}"
    assert (
        (await change(world, "sysadmin", "PATCH", path, {"display_name": "x"}, 1))
        .json()["type"]
        .endswith("same-person")
    )
    for act in (disable, enable):
        assert (await act(world, mine)).json()["type"].endswith("same-person")


@pytest.mark.clause("A6.3.5")
async def test_a_disabled_account_is_of_no_use_and_stays_signed_out_when_it_is_enabled_again(world: World) -> None:
    account = await world.person("records_clerk")
    browser = await world.browser()
    issued = await authorization.tokens(browser, account["username"], PASSWORD)
    headers = {"Authorization": f"Bearer {issued['access_token']}"}
    assert (await world.http.get("/v1/me", headers=headers)).status_code == 200
    disabled = await disable(world, account)
    assert (disabled.json()["state"], disabled.json()["version"]) == ("disabled", 2)
    await eventually(lambda: status_of_me(world, headers), 401)
    refresh = {
        "grant_type": "refresh_token",
        "refresh_token": issued["refresh_token"],
        "client_id": authorization.CLIENT,
    }
    assert (await world.http.post("/oauth/token", data=refresh)).status_code == 400
    with pytest.raises(authorization.NotSignedIn):
        await world.token(account["username"], fresh=True)
    assert (await disable(world, account)).status_code == 409
    event = (await world.events("gateway.v1.account.disabled"))[-1]
    assert (event.data["account"], event.data["reason"]) == (account["id"], "suspicion")
    assert (await enable(world, account)).json()["state"] == "active"
    assert (await enable(world, account)).status_code == 409
    assert (await world.events("gateway.v1.account.enabled"))[-1].data["account"] == account["id"]
    assert (await world.http.post("/oauth/token", data=refresh)).status_code == 400
    assert (await authorization.first_page(browser, authorization.Flow())).answer.status_code == 200  # asks who he is
    await eventually(lambda: status_of_me(world, headers), 401)
    await world.token(account["username"], fresh=True)


async def test_an_account_that_never_had_a_password_waits_again_after_it_is_enabled(world: World) -> None:
    body = {"username": f"new-{uuid4().hex[:8]}", "display_name": "x", "unit": str(world.root)}
    account = (await world.call("sysadmin", "POST", "/v1/accounts", json=body)).json()
    assert (await disable(world, account)).status_code == 200
    code = {"code": account["enrolment_code"], "password": PASSWORD}
    assert (await world.http.post("/v1/enrolments", json=code)).status_code == 422
    assert (await enable(world, account)).json()["state"] == "invited"
    assert (await world.http.post("/v1/enrolments", json=code)).status_code == 422


@pytest.mark.clause("A1.5")
async def test_the_last_holder_of_an_office_is_neither_disabled_nor_stripped_of_it(world: World) -> None:
    auditor, security = world.made.officers[2], world.made.officers[1]
    for officer in (auditor, security):
        await alone_in_office(world, officer.role, officer.account)
        answer = await disable(world, {"id": str(officer.account)})
        assert (answer.status_code, answer.json()["type"]) == (409, "urn:dossier:problem:last-officer")
    held = (await world.call("secadmin", "GET", f"/v1/accounts/{auditor.account}/roles")).json()["items"]
    revoked = await world.call("secadmin", "DELETE", f"/v1/accounts/{auditor.account}/roles/{held[0]['id']}")
    assert (revoked.status_code, revoked.json()["roles"]) == (409, ["security_auditor"])


@pytest.mark.clause("A1.5")
async def test_a_holder_whose_term_is_over_does_not_keep_an_office(world: World) -> None:
    auditor, other = world.made.officers[2], await world.person()
    await alone_in_office(world, "security_auditor", auditor.account)
    ends = world.clock.now() + timedelta(minutes=5)
    body = {"role": "security_auditor", "unit": str(world.root), "valid_until": ends.isoformat()}
    path = f"/v1/accounts/{other['id']}/roles"
    assigned = await world.call("secadmin", "POST", path, json=body)
    assert assigned.status_code == 201

    async def vacant() -> list[str]:
        state = world.proxy.own.state
        async with state.database.transaction() as session:
            try:
                await ensure_offices_kept(session, state.policy, auditor.person, [body["role"]], world.clock.now())
            except LastOfficer as error:
                return list(error.members["roles"])
        return []

    assert await vacant() == []
    world.clock.ahead += timedelta(minutes=5)
    assert await vacant() == ["security_auditor"]
    left = await disable(world, {"id": str(auditor.account)})
    assert (left.status_code, left.json()["type"]) == (409, "urn:dossier:problem:last-officer")
    over = await world.call("secadmin", "DELETE", f"{path}/{assigned.json()['id']}")
    assert over.status_code == 404, "what is over is nobody's to take away"
    async with world.proxy.own.state.database.transaction() as session:
        assert await holdings.end_roles(session, world.clock, UUID(other["id"])) == 1


async def test_accounts_are_found_by_unit_state_and_person(world: World) -> None:
    home = (await unit(world, "department", world.root)).json()["id"]
    one = await world.person(unit=home)
    two = await world.person(unit=home, person=one["person"])
    other = await world.person(unit=home)
    assert (await disable(world, other)).status_code == 200

    async def found(query: str) -> set[str]:
        items = (await world.call("secadmin", "GET", f"/v1/accounts?{query}")).json()["items"]
        return {each["id"] for each in items}

    assert await found(f"unit={home}") == {one["id"], two["id"], other["id"]}
    assert await found(f"unit={home}&state=disabled") == {other["id"]}
    assert await found(f"person={one['person']}") == {one["id"], two["id"]}
    assert await found(f"unit={uuid4()}") == set()
    first = await world.call("secadmin", "GET", f"/v1/accounts?unit={home}&limit=2")
    following = first.headers["link"].split(";")[0].strip("<>")
    rest = (await world.call("secadmin", "GET", following)).json()["items"]
    assert {each["id"] for each in (*first.json()["items"], *rest)} == {one["id"], two["id"], other["id"]}
    for query in ("unit=x", "state=asleep", "person=1"):
        assert (await world.call("secadmin", "GET", f"/v1/accounts?{query}")).status_code == 422


@pytest.mark.clause("A4.34")
async def test_a_role_ends_by_itself_at_token_issue_and_for_tokens_that_are_out(world: World) -> None:
    account = await world.person()
    ends = world.clock.now() + timedelta(minutes=5)
    path = f"/v1/accounts/{account['id']}/roles"
    body = {"role": "collector", "unit": str(world.root), "valid_until": ends.isoformat()}
    assigned = await world.call("secadmin", "POST", path, json=body)
    assert assigned.status_code == 201
    assert (await world.call("secadmin", "POST", path, json=body)).status_code == 409
    headers = {"Authorization": f"Bearer {await world.token(account['username'])}"}
    assert [each["role"] for each in (await world.http.get("/v1/me", headers=headers)).json()["roles"]] == ["collector"]
    world.clock.ahead += timedelta(minutes=5)

    async def roles() -> Any:
        return (await world.http.get("/v1/me", headers=headers)).json()["roles"]

    await eventually(roles, [])
    said = (await world.call(account["username"], "GET", "/v1/me")).json()
    assert said["scopes"] == []
    assert (await world.call("secadmin", "GET", path)).json()["items"] == []
    async with world.proxy.own.state.database.transaction() as session:
        assert await holdings.end_roles(session, world.clock) >= 1
    event = (await world.events("gateway.v1.role.revoked"))[-1]
    assert (event.data["assignment"], event.actor) == (assigned.json()["id"], None)
    again = body | {"valid_until": (world.clock.now() + timedelta(hours=1)).isoformat()}
    assert (await world.call("secadmin", "POST", path, json=again)).status_code == 201
    for wrong in (world.clock.now().isoformat(), "2300-01-01T00:00:00Z", "2030-01-01T00:00:00", "soon"):
        past = body | {"valid_until": wrong, "role": "inspector"}
        assert (await world.call("secadmin", "POST", path, json=past)).status_code == 422


@pytest.mark.clause("B2.5.4")
async def test_a_withdrawn_qualification_counts_no_more(world: World) -> None:
    account = await world.person("collector")
    path = f"/v1/accounts/{account['id']}/qualifications"
    body = {"qualification": "training_passed", "evidence": "certificate 7", "valid_from": "2026-01-01"}
    made = (await world.call("sysadmin", "POST", path, json=body)).json()
    assert (await seen(world, account)).json()["qualifications"] == ["training_passed"]
    withdrawal = f"{path}/{made['id']}/withdrawal"
    assert (await world.call("sysadmin", "POST", withdrawal, json={"reason": "because"})).status_code == 422
    withdrawn = await world.call("sysadmin", "POST", withdrawal, json={"reason": "failed_review"})
    assert withdrawn.json()["withdrawn_for"] == "failed_review"
    assert (await world.call("sysadmin", "POST", withdrawal, json={"reason": "mistake"})).status_code == 409
    assert (await seen(world, account)).json()["qualifications"] == []
    other = await world.person()
    stray = f"/v1/accounts/{other['id']}/qualifications/{made['id']}/withdrawal"
    assert (await world.call("sysadmin", "POST", stray, json={"reason": "mistake"})).status_code == 404
    event = (await world.events("gateway.v1.qualification.withdrawn"))[-1]
    assert (event.data["record"], event.data["reason"]) == (made["id"], "failed_review")
    recorded = (await world.events("gateway.v1.qualification.recorded"))[-1]
    assert (recorded.data["record"], recorded.data["valid_from"]) == (made["id"], "2026-01-01")


async def test_a_vetting_of_the_pack_is_recorded_with_its_term(world: World) -> None:
    state = world.proxy.own.state
    kept, account = state.policy, await world.person()
    vetting = {
        "id": "vetting",
        "title": {"zh": "背景审查", "en": "Vetting"},
        "term": "P2Y",
        "required_for": ["audit:*"],
    }
    content = kept.content()
    state.policy = Policy.model_validate(content | {"qualifications": [*content["qualifications"], vetting]})
    body = {"qualification": "vetting", "evidence": "file 9", "valid_from": "2026-01-05", "valid_until": "2099-01-01"}
    try:
        path = f"/v1/accounts/{account['id']}/qualifications"
        recorded = await world.call("sysadmin", "POST", path, json=body)
    finally:
        state.policy = kept
    assert (recorded.status_code, recorded.json()["valid_until"]) == (201, "2028-01-05")


async def test_a_unit_is_renamed_and_moved_with_what_is_below_it(world: World) -> None:
    one, two = [(await unit(world, "company", world.root)).json() for _ in range(2)]
    department = (await unit(world, "department", one["id"])).json()
    project = (await unit(world, "project", department["id"])).json()
    path = f"/v1/units/{department['id']}"
    titled = await change(world, "sysadmin", "PATCH", path, {"title": {"zh": "新", "en": "New"}}, 1)
    assert (titled.json()["title"], titled.headers["etag"]) == ({"zh": "新", "en": "New"}, '"2"')
    assert (await change(world, "sysadmin", "PATCH", path, {"parent": two["id"]}, 1)).status_code == 412
    moved = await change(world, "sysadmin", "PATCH", path, {"parent": two["id"]}, 2)
    assert moved.json()["parent"] == two["id"]
    event = (await world.events("gateway.v1.unit.moved"))[-1]
    assert event.data == {"unit": department["id"], "parent_from": one["id"], "parent_to": two["id"]}
    assert (await world.events("gateway.v1.unit.changed"))[-1].data == {"unit": department["id"]}
    below = (await world.call("auditor", "GET", f"/v1/units/{project['id']}")).json()
    assert below["parent"] == department["id"]


async def test_a_unit_never_stands_under_itself_or_in_a_place_above_its_kind(world: World) -> None:
    company = (await unit(world, "company", world.root)).json()
    outer = (await unit(world, "department", company["id"])).json()
    inner = (await unit(world, "department", outer["id"])).json()
    path = f"/v1/units/{outer['id']}"
    for parent, status in ((inner["id"], 409), (outer["id"], 409), (str(uuid4()), 422)):
        assert (await change(world, "sysadmin", "PATCH", path, {"parent": parent}, 1)).status_code == status
    high = f"/v1/units/{company['id']}"
    assert (await change(world, "sysadmin", "PATCH", high, {"parent": inner["id"]}, 1)).status_code == 422
    root = (await world.call("auditor", "GET", f"/v1/units/{world.root}")).json()
    to_company = {"parent": company["id"]}
    answer = await change(world, "sysadmin", "PATCH", f"/v1/units/{world.root}", to_company, root["version"])
    assert answer.status_code == 409
    assert (await change(world, "sysadmin", "PATCH", path, {"parent": None}, 1)).status_code == 422


async def test_two_moves_at_once_make_no_circle(world: World) -> None:
    company = (await unit(world, "company", world.root)).json()
    one, two = [(await unit(world, "department", company["id"])).json() for _ in range(2)]
    answers = await asyncio.gather(
        change(world, "sysadmin", "PATCH", f"/v1/units/{one['id']}", {"parent": two["id"]}, 1),
        change(world, "sysadmin", "PATCH", f"/v1/units/{two['id']}", {"parent": one["id"]}, 1),
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409]
