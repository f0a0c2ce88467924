"""Leaving and moving as one act: with it nothing that the person had is of use any more (A4.38, A2.6)."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import text
from tests.gateway.test_directory import unit as make_unit
from tests.gateway.world import PASSWORD, World
from tests.support import authorization
from tests.support.waiting import eventually

from dossier_common.policy import Policy

WITHIN = 2.0
"""Seconds in which everybody feels it."""


@dataclass
class Person:
    """Somebody with an account, a signed-in browser, and tokens."""

    account: dict[str, Any]
    browser: httpx.AsyncClient
    tokens: dict[str, Any]

    @property
    def id(self) -> str:
        return str(self.account["id"])


async def signed_in(world: World, *roles: str, **more: Any) -> Person:
    account = await world.person(*roles, **more)
    browser = await world.browser()
    return Person(account, browser, await authorization.tokens(browser, account["username"], PASSWORD))


async def department(world: World) -> str:
    made = await make_unit(world, "department", world.root)
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


async def offboard(world: World, account: str, successor: str, *, as_: str = "sysadmin", **body: Any) -> httpx.Response:
    told = {"kind": "leaving", "reason": "resignation", "successor": successor} | body
    return await world.call(as_, "POST", f"/v1/accounts/{account}/offboarding", json=told)


async def refused(world: World, person: Person) -> None:
    """No token, session or code of the person is of use."""

    async def answers() -> int:
        headers = {"Authorization": f"Bearer {person.tokens['access_token']}"}
        return (await world.http.get("/v1/me", headers=headers)).status_code

    await eventually(answers, 401, WITHIN)
    refresh = {
        "grant_type": "refresh_token",
        "client_id": authorization.CLIENT,
        "refresh_token": person.tokens["refresh_token"],
    }
    again = await world.http.post("/oauth/token", data=refresh)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    page = await person.browser.get("/oauth/authorize", params=authorization.Flow().request())
    assert page.status_code == 200, "the cookie signs nobody in"


def of(events: list[Any], person: str) -> list[Any]:
    return [event for event in events if event.data.get("person") == person]


@pytest.mark.clause("A4.38")
@pytest.mark.clause("A6.2.2.5")
@pytest.mark.clause("A6.3.5")
async def test_who_leaves_loses_all_accounts_roles_sessions_and_tokens_at_once(world: World) -> None:
    home = await department(world)
    one = await signed_in(world, "collector", unit=UUID(home))
    who = one.account["person"]
    two = await signed_in(world, "seat_agent", person=who)
    invited = await world.call(
        "sysadmin",
        "POST",
        "/v1/accounts",
        json={"username": f"u-{uuid4().hex[:8]}", "display_name": "x", "unit": home, "person": who},
    )
    successor = await world.person()
    done = await offboard(world, one.id, successor["id"])
    assert done.status_code == 201, done.text
    act = done.json()
    accounts = sorted([one.id, two.id, invited.json()["id"]])
    assert sorted(act["accounts"]) == accounts
    assert (act["successor_person"], sorted(act["units_left"])) == (
        successor["person"],
        sorted([home, str(world.root)]),
    )
    for each in (one, two):
        await refused(world, each)
        with pytest.raises(authorization.NotSignedIn):
            await authorization.tokens(await world.browser(), each.account["username"], PASSWORD)
    enrolled = await world.http.post(
        "/v1/enrolments", json={"code": invited.json()["enrolment_code"], "password": PASSWORD}
    )
    assert enrolled.status_code == 422
    for account in accounts:
        shown = (await world.call("sysadmin", "GET", f"/v1/accounts/{account}")).json()
        assert (shown["state"], shown["clearance"]) == ("disabled", "internal")
        assert (await world.call("sysadmin", "GET", f"/v1/accounts/{account}/roles")).json()["items"] == []
        assert (await world.call("secadmin", "GET", f"/v1/accounts/{account}/offboarding")).json() == act

    disabled = of(await world.events("gateway.v1.account.disabled"), who)
    assert {(event.data["account"], event.data["reason"]) for event in disabled} == {
        (account, "offboarding") for account in accounts
    }
    revoked = of(await world.events("gateway.v1.role.revoked"), who)
    assert {event.data["role"] for event in revoked} == {"collector", "seat_agent"}
    ended = of(await world.events("gateway.v1.session.ended"), who)
    assert {event.data["account"] for event in ended} == {one.id, two.id}
    families = [
        event for event in await world.events("gateway.v1.tokens.revoked") if event.data["reason"] == "offboarding"
    ]
    assert {one.id, two.id} <= {event.data["account"] for event in families}
    (told,) = of(await world.events("gateway.v1.person.offboarded"), who)
    assert told.data == {
        "offboarding": act["id"],
        "kind": "leaving",
        "person": who,
        "accounts": act["accounts"],
        "units_left": act["units_left"],
        "successor_account": successor["id"],
        "successor_person": successor["person"],
        "successor_clearance": "internal",
    }
    assert told.person == world.made.officers[0].person
    assert "resignation" not in str(told.data)


@pytest.mark.clause("A2.6")
async def test_who_moves_keeps_his_account_and_begins_anew_in_the_other_unit(world: World) -> None:
    here, there = await department(world), await department(world)
    person = await signed_in(world, "collector", unit=UUID(here))
    await world.assign(person.id, "seat_agent", unit=UUID(there))
    version = (await world.call("secadmin", "GET", f"/v1/accounts/{person.id}")).headers["etag"]
    cleared = await world.call(
        "secadmin",
        "PUT",
        f"/v1/accounts/{person.id}/clearance",
        json={"clearance": "secret"},
        headers={"If-Match": version},
    )
    assert cleared.status_code == 200, cleared.text
    successor = await world.person()
    moving = {"kind": "transfer", "reason": "reassignment", "unit": there}
    done = await offboard(world, person.id, successor["id"], **moving)
    assert done.status_code == 201, done.text
    assert (done.json()["units_left"], done.json()["unit"]) == ([here], there)
    await refused(world, person)
    shown = (await world.call("sysadmin", "GET", f"/v1/accounts/{person.id}")).json()
    assert (shown["state"], shown["unit"], shown["clearance"]) == ("active", there, "internal")
    held = (await world.call("sysadmin", "GET", f"/v1/accounts/{person.id}/roles")).json()["items"]
    assert [(each["role"], each["unit"]) for each in held] == [("seat_agent", there)]
    token = await world.token(person.account["username"], fresh=True)
    me = await world.http.get("/v1/me", headers={"Authorization": f"Bearer {token}"})
    assert (me.status_code, me.json()["unit"]) == (200, there)
    (moved,) = of(await world.events("gateway.v1.account.changed"), person.account["person"])
    assert (moved.data["changed"], moved.data["unit_from"], moved.data["unit_to"]) == (["unit"], here, there)
    (lowered,) = of(await world.events("gateway.v1.clearance.changed"), person.account["person"])[1:]
    assert (lowered.data["clearance_from"], lowered.data["clearance_to"]) == ("secret", "internal")
    again = await offboard(world, person.id, successor["id"], **moving)
    assert again.status_code == 409


async def test_it_is_done_once_and_again_only_after_the_person_came_back(world: World) -> None:
    person, successor = await world.person("collector"), await world.person()
    both = await asyncio.gather(*(offboard(world, person["id"], successor["id"]) for _ in range(2)))
    assert sorted(answer.status_code for answer in both) == [201, 409]
    moving = {"kind": "transfer", "reason": "promotion", "unit": await department(world)}
    assert (await offboard(world, person["id"], successor["id"], **moving)).status_code == 409
    enabled = await world.call("sysadmin", "POST", f"/v1/accounts/{person['id']}/enabling")
    assert enabled.status_code == 200, enabled.text
    assert (await offboard(world, person["id"], successor["id"])).status_code == 201
    found = await world.call("sysadmin", "GET", f"/v1/offboardings?person={person['person']}")
    assert len(found.json()["items"]) == 2


async def test_what_is_wrong_with_the_act_is_said_and_nothing_is_done(world: World) -> None:
    person, successor = await world.person("collector"), await world.person()
    second = await world.person(person=person["person"])
    gone = await world.person()
    assert (await offboard(world, gone["id"], successor["id"])).status_code == 201
    invited = await world.call(
        "sysadmin",
        "POST",
        "/v1/accounts",
        json={"username": f"u-{uuid4().hex[:8]}", "display_name": "x", "unit": str(world.root)},
    )
    fine, there = str(successor["id"]), await department(world)
    moving = {"kind": "transfer", "reason": "promotion"}
    for successor_account, body, pointer in (
        (second["id"], {}, "successor"),
        (person["id"], {}, "successor"),
        (gone["id"], {}, "successor"),
        (invited.json()["id"], {}, "successor"),
        (str(uuid4()), {}, "successor"),
        (fine, {"reason": "promotion"}, "reason"),
        (fine, {"unit": there}, "unit"),
        (fine, moving, "unit"),
        (fine, moving | {"unit": str(uuid4())}, "unit"),
        (fine, moving | {"unit": there, "reason": "dismissal"}, "reason"),
        (fine, {"reason": "whim"}, "reason"),
        (fine, {"kind": "vanishing"}, "kind"),
        (fine, {"person": str(uuid4())}, "person"),
    ):
        answer = await offboard(world, person["id"], successor_account, **body)
        assert (answer.status_code, [fault["pointer"] for fault in answer.json()["errors"]]) == (
            422,
            [f"/body/{pointer}"],
        ), body
    assert (await offboard(world, str(uuid4()), fine)).status_code == 404
    assert (await offboard(world, person["id"], fine, as_="secadmin")).status_code == 403
    shown = await world.call("sysadmin", "GET", f"/v1/accounts/{person['id']}")
    assert shown.json()["state"] == "active"
    assert (await world.call("sysadmin", "GET", f"/v1/accounts/{person['id']}/offboarding")).status_code == 404
    assert of(await world.events("gateway.v1.person.offboarded"), person["person"]) == []


async def alone_in_office(world: World, role: str, officer: UUID) -> None:
    """Ends the office of all others: tests of the same world have given it to some."""
    query = text("SELECT account, id FROM assignments WHERE role = :role AND account <> :officer")
    async with world.proxy.own.state.database.session() as session:
        others = (await session.execute(query, {"role": role, "officer": officer})).all()
    for account, assignment in others:
        ended = await world.call("secadmin", "DELETE", f"/v1/accounts/{account}/roles/{assignment}")
        assert ended.status_code == 204, ended.text


@pytest.mark.invariant(4)
async def test_nobody_sees_himself_off_and_the_last_of_an_office_stays(world: World) -> None:
    sysadmin, secadmin = world.made.officers[0], world.made.officers[1]
    successor = await world.person()
    await alone_in_office(world, "security_administrator", secadmin.account)
    himself = await offboard(world, str(sysadmin.account), successor["id"])
    assert (himself.status_code, himself.json()["type"]) == (403, "urn:dossier:problem:same-person")
    last = await offboard(world, str(secadmin.account), successor["id"])
    assert (last.status_code, last.json()["type"]) == (409, "urn:dossier:problem:last-officer")
    assert last.json()["roles"] == ["security_administrator"]
    other = await world.person("security_administrator")
    assert (await offboard(world, other["id"], successor["id"])).status_code == 201, "one is left"


@pytest.fixture
def authorising(world: World) -> Iterator[None]:
    """A policy under which offboarding needs an authorisation."""
    state = world.proxy.own.state
    before: Policy = state.policy
    rule = {
        "id": "offboarding",
        "title": {"zh": "离职", "en": "Leaving"},
        "operation": "accounts.offboard",
        "valid": "P1D",
    }
    state.policy = Policy.model_validate(before.content() | {"maintenance": [rule]})
    yield
    state.policy = before


@pytest.mark.usefixtures("authorising")
async def test_where_the_policy_wants_it_another_person_authorises_it_first(world: World) -> None:
    person, successor = await world.person(), await world.person()
    without = await offboard(world, person["id"], successor["id"])
    assert (without.status_code, without.json()["type"]) == (403, "urn:dossier:problem:authorisation-required")
    asked = await world.call(
        "sysadmin",
        "POST",
        "/v1/authorisations",
        json={"operation": "accounts.offboard", "object": person["id"], "reason": "离职手续 27"},
    )
    assert asked.status_code == 201, asked.text
    authorisation = asked.json()["id"]
    approved = await world.call(
        "secadmin",
        "POST",
        f"/v1/authorisations/{authorisation}/decision",
        json={"verdict": "approve", "comment": "ok"},
    )
    assert approved.status_code == 200, approved.text
    path = f"/v1/accounts/{person['id']}/offboarding?authorisation={authorisation}"
    body = {"kind": "leaving", "reason": "retirement", "successor": successor["id"]}
    assert (await world.call("sysadmin", "POST", path, json=body)).status_code == 201


async def test_acts_are_listed_by_kind_person_and_successor_page_by_page(world: World) -> None:
    successor = await world.person()
    acts = []
    for _ in range(3):
        person = await world.person()
        acts.append((await offboard(world, person["id"], successor["id"])).json())
    address = f"/v1/offboardings?successor={successor['person']}&kind=leaving&limit=2"
    first = await world.call("secadmin", "GET", address)
    following = await world.call("secadmin", "GET", first.links["next"]["url"])
    assert [*first.json()["items"], *following.json()["items"]] == acts[::-1]
    none = await world.call("secadmin", "GET", f"/v1/offboardings?successor={successor['person']}&kind=transfer")
    assert none.json()["items"] == []
    assert (await world.call("auditor", "GET", "/v1/offboardings")).status_code == 403
