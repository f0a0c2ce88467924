"""Maintenance operations that the policy wants another person's word for: asked for, decided, used once."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from tests.gateway.world import World

from dossier_common.policy import Operation, Policy

REASON = "王工密码丢失, 需代为处理"


def derived(policy: Policy, *operations: Operation) -> Policy:
    """The pack, where these operations need an authorisation of an hour."""
    rules = [
        {"id": each.replace(".", "-"), "title": {"zh": "维护", "en": "Care"}, "operation": each, "valid": "PT1H"}
        for each in operations
    ]
    return Policy.model_validate(policy.content() | {"maintenance": rules})


@pytest.fixture
def strict(world: World) -> Iterator[None]:
    """Every operation needs an authorisation."""
    state = world.proxy.own.state
    kept = state.policy
    state.policy = derived(kept, *Operation)
    yield
    state.policy = kept
    world._tokens.clear()


async def ask(
    world: World, operation: str, object_: Any = None, *, as_: str = "sysadmin", reason: str = REASON
) -> httpx.Response:
    body = {"operation": operation, "reason": reason} | ({"object": str(object_)} if object_ else {})
    return await world.call(as_, "POST", "/v1/authorisations", json=body)


async def decide(
    world: World, authorisation: str, verdict: str = "approve", *, as_: str = "secadmin"
) -> httpx.Response:
    path = f"/v1/authorisations/{authorisation}/decision"
    return await world.call(as_, "POST", path, json={"verdict": verdict, "comment": "同意"})


async def approved(world: World, operation: str, object_: Any = None) -> str:
    """An approved authorisation of the system administrator."""
    asked = await ask(world, operation, object_)
    assert asked.status_code == 201, asked.text
    assert (await decide(world, asked.json()["id"])).json()["state"] == "approved"
    found: str = asked.json()["id"]
    return found


def new_account(world: World) -> dict[str, str]:
    return {"username": f"auth-{uuid4().hex[:10]}", "display_name": "x", "unit": str(world.root)}


async def create(world: World, authorisation: str | None) -> httpx.Response:
    query = f"?authorisation={authorisation}" if authorisation else ""
    return await world.call("sysadmin", "POST", f"/v1/accounts{query}", json=new_account(world))


def required(answer: httpx.Response, operation: str) -> dict[str, Any]:
    """The refusal of an operation that has no authorisation of use."""
    assert answer.status_code == 403, answer.text
    problem: dict[str, Any] = answer.json()
    assert problem["type"] == "urn:dossier:problem:authorisation-required"
    assert (problem["operation"], problem["authorised_by"]) == (operation, "roles:assign")
    assert problem["ask"] == "POST /v1/authorisations"
    return problem


@pytest.mark.usefixtures("strict")
async def test_an_operation_is_done_after_another_persons_word_and_once(world: World) -> None:
    required(await create(world, None), "accounts.create")
    asked = (await ask(world, "accounts.create")).json()
    assert (asked["state"], asked["reason"], asked["object"]) == ("pending", REASON, None)
    assert "pending" in required(await create(world, asked["id"]), "accounts.create")["detail"]
    decided = (await decide(world, asked["id"])).json()
    assert (decided["state"], decided["comment"]) == ("approved", "同意")
    assert (await create(world, asked["id"])).status_code == 201
    assert "used" in required(await create(world, asked["id"]), "accounts.create")["detail"]
    seen = (await world.call("sysadmin", "GET", f"/v1/authorisations/{asked['id']}")).json()
    assert seen["used_at"] is not None
    told = [(await world.events(f"gateway.v1.authorisation.{kind}"))[-1] for kind in ("requested", "decided", "used")]
    assert {event.data["authorisation"] for event in told} == {asked["id"]}
    assert "密码" not in "".join(str(event.data) for event in told)
    assert told[1].data["requester_person"] == str(world.made.officers[0].person)
    assert told[1].person == world.made.officers[1].person


@pytest.mark.clause("A4.34")
@pytest.mark.clause("A4.39")
@pytest.mark.usefixtures("strict")
async def test_each_operation_asks_for_its_own_authorisation_on_its_own_object(world: World) -> None:
    account = (await create(world, await approved(world, "accounts.create"))).json()
    unit = (await world.call("auditor", "GET", f"/v1/units/{world.root}")).json()
    client = f"care-{uuid4().hex[:8]}"
    registration = {"id": client, "title": "x", "grant_types": ["client_credentials"], "scopes": []}
    department = {
        "code": f"U-{uuid4().hex[:8]}",
        "title": {"zh": "x", "en": "x"},
        "kind": "project",
        "parent": str(world.root),
    }
    renamed = {"title": {"zh": unit["title"]["zh"], "en": f"Group {uuid4().hex[:6]}"}}
    acts: list[tuple[str, Any, str, str, Any]] = [
        ("enrolments.issue", account["id"], "POST", f"/v1/accounts/{account['id']}/enrolment-codes", None),
        ("accounts.disable", account["id"], "POST", f"/v1/accounts/{account['id']}/disabling", {"reason": "absence"}),
        ("accounts.enable", account["id"], "POST", f"/v1/accounts/{account['id']}/enabling", None),
        ("units.change", world.root, "POST", "/v1/units", department),
        ("units.change", world.root, "PATCH", f"/v1/units/{world.root}", renamed),
        ("clients.register", client, "POST", "/v1/clients", registration),
        ("clients.change", client, "PATCH", f"/v1/clients/{client}", {"title": "y"}),
        ("clients.change", client, "POST", f"/v1/clients/{client}/secrets", {}),
        ("clients.enable", client, "POST", f"/v1/clients/{client}/enabling", None),
    ]
    for operation, object_, method, path, body in acts:
        if operation == "clients.enable":
            closed = await world.call("sysadmin", "POST", f"/v1/clients/{client}/disabling", json={"reason": "absence"})
            assert closed.status_code == 200  # what takes away needs nobody's word
        more: dict[str, Any] = {"headers": {"If-Match": "*"}} | ({"json": body} if body is not None else {})
        required(await world.call("sysadmin", method, path, **more), operation)
        done = await world.call(
            "sysadmin", method, f"{path}?authorisation={await approved(world, operation, object_)}", **more
        )
        assert done.status_code in {200, 201}, (operation, done.text)


@pytest.mark.usefixtures("strict")
async def test_an_authorisation_is_for_one_person_one_operation_one_object_and_an_hour(world: World) -> None:
    one, two = [await create(world, await approved(world, "accounts.create")) for _ in range(2)]
    path = f"/v1/accounts/{one.json()['id']}/disabling?authorisation="
    body = {"reason": "absence"}
    for wrong in (
        await approved(world, "accounts.disable", two.json()["id"]),
        await approved(world, "accounts.enable", one.json()["id"]),
        str(uuid4()),
    ):
        required(await world.call("sysadmin", "POST", path + wrong, json=body), "accounts.disable")
    right = await approved(world, "accounts.disable", one.json()["id"])
    world.clock.ahead += timedelta(hours=1)
    world._tokens.clear()
    late = required(await world.call("sysadmin", "POST", path + right, json=body), "accounts.disable")
    assert "over" in late["detail"]
    world.clock.ahead *= 0
    world._tokens.clear()
    state = world.proxy.own.state
    async with state.database.transaction() as session:  # as if another administrator named it
        await session.execute(
            text("UPDATE authorisations SET requester_account = :other WHERE id = :id"),
            {"other": world.made.officers[2].account, "id": right},
        )
    required(await world.call("sysadmin", "POST", path + right, json=body), "accounts.disable")


@pytest.mark.usefixtures("strict")
async def test_two_uses_at_once_are_one(world: World) -> None:
    authorisation = await approved(world, "accounts.create")
    answers = await asyncio.gather(*(create(world, authorisation) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 403, 403, 403]


@pytest.mark.usefixtures("strict")
async def test_an_act_that_fails_has_used_nothing(world: World) -> None:
    authorisation = await approved(world, "accounts.create")
    taken = new_account(world) | {"username": "sysadmin"}
    answer = await world.call("sysadmin", "POST", f"/v1/accounts?authorisation={authorisation}", json=taken)
    assert answer.status_code == 409
    assert (await create(world, authorisation)).status_code == 201


@pytest.mark.invariant(4)
@pytest.mark.usefixtures("strict")
async def test_who_asks_does_not_decide_by_any_account_and_nobody_without_the_scope_does(world: World) -> None:
    asked = (await ask(world, "accounts.create")).json()
    state = world.proxy.own.state
    assert (await decide(world, asked["id"], as_="sysadmin")).status_code == 403
    assert (await decide(world, asked["id"], as_="auditor")).status_code == 404
    async with state.database.transaction() as session:  # as if the second administrator were the same person
        await session.execute(
            text("UPDATE authorisations SET requester_person = :person WHERE id = :id"),
            {"person": world.made.officers[1].person, "id": asked["id"]},
        )
    own = await decide(world, asked["id"])
    assert (own.status_code, own.json()["type"]) == (403, "urn:dossier:problem:self-approval")
    with pytest.raises(IntegrityError, match="persons"):  # and the database says so too
        async with state.database.transaction() as session:
            await session.execute(
                text("UPDATE authorisations SET state = 'approved', decider_person = requester_person WHERE id = :id"),
                {"id": asked["id"]},
            )


@pytest.mark.usefixtures("strict")
async def test_a_refused_one_stays_refused_and_is_of_no_use(world: World) -> None:
    asked = (await ask(world, "accounts.create")).json()
    assert (await decide(world, asked["id"], "reject")).json()["state"] == "refused"
    assert (await decide(world, asked["id"])).status_code == 409
    assert "refused" in required(await create(world, asked["id"]), "accounts.create")["detail"]


@pytest.mark.usefixtures("strict")
async def test_authorisations_are_seen_by_who_asked_and_who_decides(world: World) -> None:
    asked = (await ask(world, "accounts.create")).json()
    path = f"/v1/authorisations/{asked['id']}"
    for officer, status in (("sysadmin", 200), ("secadmin", 200), ("auditor", 404)):
        assert (await world.call(officer, "GET", path)).status_code == status
        listed = (await world.call(officer, "GET", "/v1/authorisations?state=pending&limit=1")).json()["items"]
        assert [each["id"] for each in listed] == ([asked["id"]] if status == 200 else [])


@pytest.mark.usefixtures("strict")
async def test_wrong_requests_are_refused(world: World) -> None:
    assert (await ask(world, "accounts.create", as_="auditor")).status_code == 403
    assert (await ask(world, "accounts.create", "x")).status_code == 422
    for operation in ("accounts.disable", "units.change", "clients.change"):
        for object_ in (None, uuid4(), "no such"):
            answer = await ask(world, operation, object_)
            assert answer.status_code == 422, (operation, object_)
            assert [each["pointer"] for each in answer.json()["errors"]] == ["/body/object"]
    assert (await ask(world, "make.coffee")).status_code == 422
    assert (await ask(world, "accounts.create", reason=" ")).status_code == 422
    assert (await decide(world, str(uuid4()))).status_code == 404


async def test_without_a_rule_in_the_policy_nothing_is_asked_for(world: World) -> None:
    assert (await ask(world, "accounts.create")).status_code == 409
    assert (await create(world, None)).status_code == 201
    assert (await create(world, str(uuid4()))).status_code == 201


@pytest.mark.invariant(7)
@pytest.mark.usefixtures("strict")
async def test_reasons_are_sealed_at_rest(world: World) -> None:
    asked = (await ask(world, "accounts.create")).json()
    async with world.proxy.own.state.database.session() as session:
        row = (
            await session.execute(text("SELECT reason FROM authorisations WHERE id = :id"), {"id": asked["id"]})
        ).one()
    assert "密码".encode() not in bytes(row.reason)
