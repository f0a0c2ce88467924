"""Nobody alone gets into an officer's account: a code or a reset needs another officer's word (invariant 4, A1.5)."""

from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from tests.gateway.test_authorisations import ask, decide
from tests.gateway.world import PASSWORD, World

CODE, RESET = "enrolments.issue", "second_factor.reset"
WAYS_IN = {CODE: ("POST", "enrolment-codes", 201), RESET: ("DELETE", "second-factor", 204)}
SECURITY, AUDIT = "roles:assign", "audit:read"


async def officer(world: World, role: str) -> dict[str, Any]:
    """A further holder of an office, with a second factor."""
    person = await world.person(role)
    await world.token(person["username"])
    return person


async def go_in(world: World, operation: str, account: str, authorisation: str | None = None) -> httpx.Response:
    """What the system administrator does to get into an account."""
    method, path, _ = WAYS_IN[operation]
    query = f"?authorisation={authorisation}" if authorisation else ""
    return await world.call("sysadmin", method, f"/v1/accounts/{account}/{path}{query}")


def refused(answer: httpx.Response, slug: str) -> dict[str, Any]:
    problem: dict[str, Any] = answer.json()
    assert (answer.status_code, problem["type"]) == (403, f"urn:dossier:problem:{slug}"), answer.text
    return problem


@pytest.mark.invariant(4)
@pytest.mark.clause("A1.5")
@pytest.mark.parametrize("operation", WAYS_IN)
@pytest.mark.parametrize(
    ("role", "deciders", "decider"),
    [
        ("system_administrator", [SECURITY], "secadmin"),
        ("security_auditor", [SECURITY], "secadmin"),
        ("security_administrator", [SECURITY, AUDIT], "secadmin"),
        ("security_administrator", [SECURITY, AUDIT], "auditor"),
    ],
)
async def test_the_account_of_an_officer_opens_by_two_persons_and_neither_is_himself(
    world: World, operation: str, role: str, deciders: list[str], decider: str
) -> None:
    concerned = await officer(world, role)
    needed = refused(await go_in(world, operation, concerned["id"]), "authorisation-required")
    assert (needed["operation"], needed["deciders"]) == (operation, deciders)
    asked = (await ask(world, operation, concerned["id"])).json()
    assert asked["deciders"] == deciders
    assert (await decide(world, asked["id"], as_="sysadmin")).status_code == 403
    others = {"secadmin", "auditor"} if AUDIT in deciders else {"secadmin"}
    for name in {"auditor"} - others:
        assert (await decide(world, asked["id"], as_=name)).status_code == 404
    if role == "security_administrator":
        refused(await decide(world, asked["id"], as_=concerned["username"]), "self-approval")
    assert (await decide(world, asked["id"], as_=decider)).json()["state"] == "approved"
    done = await go_in(world, operation, concerned["id"], asked["id"])
    assert done.status_code == WAYS_IN[operation][2], done.text
    again = await go_in(world, operation, concerned["id"], asked["id"])
    assert again.status_code == (404 if operation == RESET else 403), "of use once"


@pytest.mark.invariant(4)
async def test_all_accounts_of_an_officer_are_guarded_and_those_of_others_are_not(world: World) -> None:
    concerned = await officer(world, "security_auditor")
    further = await world.person(person=concerned["person"])
    refused(await go_in(world, CODE, further["id"]), "authorisation-required")
    other = await world.person("records_clerk")
    assert (await go_in(world, CODE, other["id"])).status_code == 201
    assert (await ask(world, CODE, other["id"])).status_code == 409, "nobody's word is wanted"


async def test_an_office_guards_until_its_term_is_over(world: World) -> None:
    person = await world.person()
    ends = world.clock.now() + timedelta(minutes=5)
    body = {"role": "security_auditor", "unit": str(world.root), "valid_until": ends.isoformat()}
    given = await world.call("secadmin", "POST", f"/v1/accounts/{person['id']}/roles", json=body)
    assert given.status_code == 201
    refused(await go_in(world, CODE, person["id"]), "authorisation-required")
    world.clock.ahead += timedelta(minutes=5)
    assert (await go_in(world, CODE, person["id"])).status_code == 201


@pytest.mark.invariant(4)
async def test_a_code_from_before_the_appointment_is_void(world: World) -> None:
    person = await world.person()
    kept = (await go_in(world, CODE, person["id"])).json()["enrolment_code"]
    assert (await world.assign(person["id"], "security_auditor")).status_code == 201
    used = await world.http.post("/v1/enrolments", json={"code": kept, "password": PASSWORD + "0"})
    assert (used.status_code, used.json()["errors"][0]["code"]) == (422, "unknown")
    await world.token(person["username"])


async def test_the_first_code_of_a_new_officer_holds(world: World) -> None:
    body = {"username": "new-officer", "display_name": "某人", "unit": str(world.root)}
    made = (await world.call("sysadmin", "POST", "/v1/accounts", json=body)).json()
    assert (await world.assign(made["id"], "security_auditor")).status_code == 201
    await world.enrol(made["enrolment_code"])
    await world.token("new-officer")


@pytest.mark.invariant(4)
async def test_nobody_asks_for_a_way_into_his_own_account(world: World) -> None:
    own = world.made.officers[0].account
    for operation in WAYS_IN:
        refused(await ask(world, operation, own), "same-person")


@pytest.mark.invariant(4)
async def test_the_database_holds_that_nobody_decides_about_himself(world: World) -> None:
    concerned = await officer(world, "security_auditor")
    asked = (await ask(world, CODE, concerned["id"])).json()
    decided = "UPDATE authorisations SET state = 'approved', decider_person = concerned_person WHERE id = :id"
    with pytest.raises(IntegrityError, match="concerned"):
        async with world.proxy.own.state.database.transaction() as session:
            await session.execute(text(decided), {"id": asked["id"]})


async def test_what_is_decided_when_he_is_no_officer_any_more_is_not_wanted(world: World) -> None:
    concerned = await officer(world, "security_auditor")
    asked = (await ask(world, CODE, concerned["id"])).json()
    path = f"/v1/accounts/{concerned['id']}/roles"
    (held,) = (await world.call("secadmin", "GET", path)).json()["items"]
    assert (await world.call("secadmin", "DELETE", f"{path}/{held['id']}")).status_code == 204
    assert (await decide(world, asked["id"])).status_code == 409
    assert (await go_in(world, CODE, concerned["id"])).status_code == 201
