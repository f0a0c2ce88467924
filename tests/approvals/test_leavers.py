"""A person left or moved: grants, requests and tasks follow, and what is vacant is said and filled (A4.38, A2.6)."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import delete, select, update
from sqlalchemy.exc import ProgrammingError
from tests.approvals.test_decisions import HEAD, MANAGER, flow, states
from tests.approvals.test_grants import granted, shown
from tests.approvals.world import People, Who, World, good, problem

from dossier_approvals.models import Candidate
from dossier_approvals.worker import enforce_time_limits
from dossier_common import directory
from dossier_common.contracts.gateway import PersonOffboarded, RoleRevoked
from dossier_common.ids import new_id


async def leave(world: World, who: Who, *, end: tuple[UUID, ...] | None = None, kind: str = "leaving") -> None:
    """What the gateway tells when somebody leaves, or moves and loses his roles in these units; told twice."""
    held = directory.assignments
    async with world.app.state.database.session() as session:
        roles = (await session.execute(select(held).where(held.c.person == who.person))).all()
    ended = [
        RoleRevoked(assignment=each.id, account=each.account, person=each.person, role=each.role, unit=each.unit)
        for each in roles
        if end is None or each.unit in end
    ]
    gone = PersonOffboarded(
        offboarding=new_id(),
        kind=kind,
        person=who.person,
        accounts=(who.account,),
        units_left=tuple({each.unit for each in ended}),
        successor_account=new_id(),
        successor_person=new_id(),
        successor_clearance="internal",
    )
    await world.tell(*ended, gone)
    await world.tell(gone)


async def seen(world: World, who: Who, request: dict[str, Any]) -> dict[str, Any]:
    return good(await world.call(who, "GET", f"/v1/requests/{request['id']}"))


async def told(world: World, request: dict[str, Any], *kinds: str) -> list[dict[str, Any]]:
    return [event.data for event in await world.events(request["id"], *(f"approvals.v1.{kind}" for kind in kinds))]


@pytest.mark.clause("A4.38")
async def test_grants_of_a_leaver_end_and_each_is_an_event(world: World, people: People) -> None:
    grants = [await granted(world, people) for _ in range(2)]
    used = await granted(world, people)
    good(await world.call(people.clerk, "POST", f"/v1/grants/{used['id']}/return"))
    await leave(world, people.clerk)
    for grant in grants:
        assert (await shown(world, people.clerk, grant["id"]))["state"] == "revoked"
        (event,) = await world.events(grant["id"], "approvals.v1.grant.revoked")
        assert event.data == {"grant": grant["id"], "reason": "offboarding"}
    assert (await shown(world, people.clerk, used["id"]))["state"] == "returned"
    assert await world.events(used["id"], "approvals.v1.grant.revoked") == []


@pytest.mark.clause("A4.38")
async def test_open_requests_of_a_leaver_are_withdrawn_and_nobody_has_to_decide_them(
    world: World, people: People
) -> None:
    request = await world.asked_for(people.clerk, world.record())
    ended = await world.asked_for(people.clerk, world.record())
    await world.decided(people.head, ended, "reject")
    await leave(world, people.clerk)
    assert (await seen(world, people.head, request))["state"] == "withdrawn"
    assert await told(world, request, "request.withdrawn") == [{"request": request["id"], "reason": "offboarding"}]
    assert await world.tasks(people.head) == []
    assert (await seen(world, people.head, ended))["state"] == "rejected"


@pytest.mark.clause("A2.6")
async def test_whoever_holds_the_office_now_decides_in_place_of_the_leaver(world: World, people: People) -> None:
    request = await world.asked_for(people.clerk, world.record())
    task = await world.task(people.head, request)
    following = await world.hire(world.sales, ("department_head", world.sales))
    assert await world.tasks(following) == [], "a case freezes whom it resolved"
    await leave(world, people.head)
    assert await world.tasks(people.head) == []
    problem(await world.decide(people.head, task), 404, "not-found")
    problem(await world.call(people.head, "GET", f"/v1/requests/{request['id']}"), 404, "not-found")
    (replaced,) = await told(world, request, "candidates.replaced")
    assert (replaced["removed_persons"], replaced["added_persons"]) == (
        [str(people.head.person)],
        [str(following.person)],
    )
    after = await world.decided(following, request)
    assert (states(after), after["stages"][0]["vacant_since"]) == (["approved", "open"], None)
    assert await told(world, request, "stage.vacated") == []


async def test_a_leaver_who_has_decided_stays_in_the_case_and_counts(world: World, people: People) -> None:
    request = await world.asked_for(people.clerk, world.record())
    await world.decided(people.head, request)
    await leave(world, people.head)
    assert (await seen(world, people.head, request))["state"] == "open"
    after = await world.decided(people.manager, request)
    grant = await shown(world, people.clerk, after["grant"])
    assert str(people.head.person) in grant["persons"]


@pytest.mark.clause("A2.6")
async def test_a_stage_that_nobody_is_left_for_is_an_alarm_and_waits_for_the_next_holder(
    world: World, people: People
) -> None:
    request = await world.asked_for(people.clerk, world.record())
    await leave(world, people.manager)
    stage = (await seen(world, people.clerk, request))["stages"][1]
    assert stage["vacant_since"] is not None
    vacated = await told(world, request, "stage.vacated")
    assert vacated == [
        {
            "request": request["id"],
            "stage": stage["name"],
            "role": "service_manager",
            "unit": str(world.service),
        }
    ]
    after = await world.decided(people.head, request)
    assert states(after) == ["approved", "open"], "a vacant stage stands in the way of no other"
    await world.hire(world.sales, ("service_manager", world.sales))
    await world.hire(world.service, ("service_manager", world.service), person=people.clerk.person)
    assert await told(world, request, "stage.staffed") == [], "neither another unit nor the requester fills it"
    manager = await world.hire(world.service, ("service_manager", world.service))
    assert len(await told(world, request, "stage.staffed")) == 1
    after = await world.decided(manager, request)
    assert (after["state"], after["stages"][1]["vacant_since"]) == ("granted", None)


async def test_an_office_above_decides_where_the_one_below_is_vacant(world: World, people: People) -> None:
    request = await world.asked_for(people.clerk, world.record())
    above = await world.hire(world.company, ("department_head", world.company))
    await leave(world, people.head)
    assert [task["request"] for task in await world.tasks(above)] == [request["id"]]
    assert await told(world, request, "stage.vacated") == []


async def test_of_all_who_must_agree_those_count_who_are_left(world: World, people: People) -> None:
    others = [await world.hire(world.sales, ("department_head", world.sales)) for _ in range(2)]
    world.with_flows(flow({**HEAD, "quorum": "all"}))
    request = await world.asked_for(people.clerk, world.record())
    assert request["stages"][0]["needed"] == 3
    await world.decided(people.head, request)
    await leave(world, others[0])
    assert (await seen(world, people.clerk, request))["stages"][0]["needed"] == 2
    await leave(world, people.head)  # he has agreed
    assert (await seen(world, people.clerk, request))["stages"][0]["needed"] == 2
    assert (await world.decided(others[1], request))["state"] == "granted"


async def test_a_vote_of_two_that_lost_one_waits_and_a_rejection_does_not_end_it(world: World, people: People) -> None:
    other = await world.hire(world.sales, ("department_head", world.sales))
    third = await world.hire(world.sales, ("department_head", world.sales))
    world.with_flows(flow({**HEAD, "quorum": 2}))
    request = await world.asked_for(people.clerk, world.record())
    await leave(world, other)
    assert await told(world, request, "stage.vacated") == []
    await leave(world, third)
    assert len(await told(world, request, "stage.vacated")) == 1
    assert states(await world.decided(people.head, request)) == ["open"]
    fourth = await world.hire(world.sales, ("department_head", world.sales))
    assert (await world.decided(fourth, request))["state"] == "granted"


async def test_who_moves_stays_where_he_still_holds_the_office(world: World, people: People) -> None:
    mover = await world.hire(world.sales, ("department_head", world.sales), ("service_manager", world.service))
    request = await world.asked_for(people.clerk, world.record())
    grant = await granted(world, People(mover, people.head, people.manager, people.stranger))
    own = await world.asked_for(mover, world.record())
    assert len(await world.tasks(mover)) == 1
    await leave(world, mover, end=(world.sales,), kind="transfer")
    assert await world.tasks(mover) == []
    assert (await shown(world, mover, grant["id"]))["state"] == "revoked"
    assert (await seen(world, mover, own))["state"] == "withdrawn"
    await world.decided(people.head, request)
    assert [task["stage"] for task in await world.tasks(mover)] == ["review"]


async def test_a_stage_that_is_vacant_when_a_case_comes_back_to_it_is_said(world: World, people: People) -> None:
    world.with_flows(flow(HEAD, MANAGER))
    request = await world.asked_for(people.clerk, world.record())
    await world.decided(people.head, request)
    await leave(world, people.head)
    assert await told(world, request, "stage.vacated") == []
    await world.decided(people.manager, request, "return")
    assert [each["role"] for each in await told(world, request, "stage.vacated")] == ["department_head"]


async def test_an_escalation_fills_a_vacant_stage(world: World, people: People) -> None:
    leader = await world.hire(world.company, ("general_manager", world.company))
    escalating = {
        "time_limit": "PT1H",
        "on_timeout": "escalate",
        "escalate_to": {"role": "general_manager", "of": "company"},
    }
    world.with_flows(flow({**HEAD, **escalating}))
    request = await world.asked_for(people.clerk, world.record())
    await leave(world, people.head)
    assert len(await told(world, request, "stage.vacated")) == 1
    world.clock.advance(timedelta(hours=2))
    await enforce_time_limits(world.app.state.database, world.clock)
    assert len(await told(world, request, "stage.staffed")) == 1
    assert (await world.decided(leader, request))["state"] == "granted"


@pytest.mark.invariant(4)
async def test_the_service_can_take_a_candidate_out_and_change_him_in_no_other_way(
    world: World, people: People
) -> None:
    request = await world.asked_for(people.clerk, world.record())
    his = Candidate.request == UUID(request["id"])
    for wrong in (update(Candidate).where(his).values(person=new_id()), delete(Candidate).where(his)):
        with pytest.raises(ProgrammingError, match="permission denied"):
            async with world.app.state.database.transaction() as session:
                await session.execute(wrong, execution_options={"synchronize_session": False})
