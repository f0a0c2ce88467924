"""Deciding: by distinct persons, in order, within the time."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import IntegrityError, ProgrammingError
from tests.approvals.world import People, World, good, pointers, problem

from dossier_approvals.models import Decision, Participant, Request
from dossier_approvals.worker import enforce_time_limits
from dossier_common.ids import new_id

HEAD = {"role": "department_head", "of": "requester.unit"}
MANAGER = {"role": "service_manager", "of": "record.unit"}


def flow(*stages: dict[str, Any], **grant: Any) -> dict[str, Any]:
    """A flow for viewing with these stages."""
    named = [{"name": f"stage-{number}"} | stage for number, stage in enumerate(stages)]
    return {"id": "x", "when": {"action": "view"}, "grant": {"term_max": "P7D"} | grant, "stages": named}


def states(request: dict[str, Any]) -> list[str]:
    return [stage["state"] for stage in request["stages"]]


@pytest.mark.clause("A8.18.2")
@pytest.mark.clause("A8.18.3")
async def test_two_stages_one_after_the_other_end_in_a_grant(world: World, people: People) -> None:
    request = await world.asked_for(people.clerk, world.record())
    after = await world.decided(people.head, request)
    assert (after["state"], states(after), after["grant"]) == ("open", ["approved", "open"], None)
    assert await world.tasks(people.head) == []
    after = await world.decided(people.manager, request)
    assert (after["state"], states(after)) == ("granted", ["approved", "approved"])
    assert after["grant"] is not None
    told = [event.type.removeprefix("approvals.v1.") for event in await world.events(request["id"])]
    assert told == ["request.created", "step.decided", "step.decided", "grant.issued"]
    decided = await world.events(request["id"], "approvals.v1.step.decided")
    assert [event.person for event in decided] == [people.head.person, people.manager.person]


@pytest.mark.invariant(4)
@pytest.mark.clause("A1.5")
async def test_the_requester_decides_nothing_and_that_is_one_event(world: World, people: People) -> None:
    second = await world.hire(world.sales, ("department_head", world.sales), person=people.clerk.person)
    request = await world.asked_for(people.clerk, world.record())
    task = await world.task(people.head, request)
    for who in (people.clerk, second):
        assert await world.tasks(who) == []
        problem(await world.decide(who, task), 403, "self-approval")
    refused = await world.events(task["id"], "approvals.v1.access.refused")
    assert [event.data["slug"] for event in refused] == ["self-approval"] * 2
    assert [event.outcome for event in refused] == ["refused"] * 2


@pytest.mark.invariant(4)
async def test_nobody_decides_two_stages_of_one_round(world: World, people: People) -> None:
    both = await world.hire(world.sales, ("department_head", world.sales), ("service_manager", world.service))
    request = await world.asked_for(people.clerk, world.record())
    first = await world.task(people.head, request)
    await world.decided(both, request)
    second = await world.task(people.manager, request)
    assert await world.tasks(both) == []
    problem(await world.decide(both, second), 403, "same-person")
    problem(await world.decide(both, first), 403, "same-person")
    assert (await world.decided(people.manager, request))["state"] == "granted"


@pytest.mark.invariant(4)
async def test_two_accounts_of_one_person_at_once_count_once(world: World, people: People) -> None:
    one = await world.hire(world.sales, ("department_head", world.sales))
    two = await world.hire(world.sales, ("department_head", world.sales), person=one.person)
    world.with_flows(flow(HEAD | {"quorum": 2}))
    for _ in range(5):
        request = await world.asked_for(people.clerk, world.record())
        task = await world.task(one, request)
        answers = await asyncio.gather(*(world.decide(who, task) for who in (one, two)))
        assert sorted(answer.status_code for answer in answers) == [200, 403]
        problem(next(answer for answer in answers if answer.status_code == 403), 403, "same-person")
        async with world.app.state.database.session() as session:
            count = select(func.count()).select_from(Decision).where(Decision.step == task["id"])
            assert (await session.execute(count)).scalar_one() == 1
        assert len(await world.events(request["id"], "approvals.v1.step.decided")) == 1
        assert len(await world.events(task["id"], "approvals.v1.access.refused")) == 1
        assert (await world.decided(people.head, request))["state"] == "granted"


@pytest.mark.invariant(4)
async def test_two_approvers_at_once_make_one_grant(world: World, people: People) -> None:
    others = [await world.hire(world.sales, ("department_head", world.sales)) for _ in range(3)]
    world.with_flows(flow(HEAD))
    request = await world.asked_for(people.clerk, world.record())
    task = await world.task(people.head, request)
    answers = await asyncio.gather(*(world.decide(who, task) for who in (people.head, *others)))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    assert len(await world.events(request["id"], "approvals.v1.grant.issued")) == 1


@pytest.mark.invariant(4)
async def test_the_database_itself_refuses_a_person_twice_in_a_round(world: World, people: People) -> None:
    request = await world.asked_for(people.clerk, world.record())
    row = {"request": request["id"], "round": 1, "person": people.clerk.person, "capacity": "decider"}
    with pytest.raises(IntegrityError, match="pk_participants"):
        async with world.app.state.database.transaction() as session:
            await session.execute(insert(Participant).values(row))


async def test_what_was_asked_and_decided_cannot_be_rewritten_by_the_service(world: World, people: People) -> None:
    request = await world.asked_for(people.clerk, world.record())
    await world.decided(people.head, request)
    for change in (
        update(Decision).values(verdict="reject"),
        update(Participant).values(person=new_id()),
        update(Request).values(requester_person=new_id()),
    ):
        with pytest.raises(ProgrammingError, match="permission denied"):
            async with world.app.state.database.transaction() as session:
                await session.execute(change)


async def test_the_task_of_another_stage_or_of_nobody_is_refused(world: World, people: People) -> None:
    request = await world.asked_for(people.clerk, world.record())
    task = await world.task(people.head, request)
    problem(await world.decide(people.manager, task), 403, "not-your-stage")
    problem(await world.decide(people.stranger, task), 404, "not-found")
    problem(await world.decide(people.head, {"id": str(new_id())}), 404, "not-found")
    (refused,) = [
        event
        for event in await world.events(task["id"], "approvals.v1.access.refused")
        if event.data["slug"] == "not-found"
    ]
    assert refused.person == people.stranger.person
    path = f"/v1/tasks/{task['id']}/decision"
    problem(await world.call(None, "POST", path, {"verdict": "approve"}), 403, "person-needed")
    for body in ({"verdict": "maybe"}, {"verdict": "approve", "comment": "x" * 2001}, {}, {"verdict": "done"}):
        problem(await world.call(people.head, "POST", path, body), 422, "invalid-request")
    problem(
        await world.call(people.head, "POST", path, {"verdict": "approve"}, scopes=["requests:read"]),
        403,
        "insufficient-scope",
    )


async def test_one_rejection_ends_the_request(world: World, people: People) -> None:
    other = await world.hire(world.sales, ("department_head", world.sales))
    request = await world.asked_for(people.clerk, world.record())
    task = await world.task(people.head, request)
    body = {"verdict": "reject", "comment": "目的不明确"}
    path = f"/v1/tasks/{task['id']}/decision"
    after = good(await world.call(people.head, "POST", path, body))
    assert (after["state"], states(after)) == ("rejected", ["rejected", "waiting"])
    assert after["stages"][0]["decisions"][0]["comment"] == "目的不明确"
    problem(await world.decide(other, task), 409, "request-closed")
    (rejected,) = await world.events(request["id"], "approvals.v1.request.rejected")
    assert rejected.data["stage"] == "own-department"
    assert good(await world.call(people.clerk, "GET", "/v1/grants"))["items"] == []


async def test_all_of_a_stage_must_agree_where_the_quorum_is_all(world: World, people: People) -> None:
    other = await world.hire(world.sales, ("department_head", world.sales))
    world.with_flows(flow(HEAD | {"quorum": "all"}))
    request = await world.asked_for(people.clerk, world.record())
    assert (await world.decided(people.head, request))["state"] == "open"
    assert (await world.decided(other, request))["state"] == "granted"
    request = await world.asked_for(people.clerk, world.record())
    assert (await world.decided(other, request, "reject"))["state"] == "rejected"


async def test_a_quorum_that_cannot_be_reached_is_a_vacancy(world: World, people: People) -> None:
    world.with_flows(flow(HEAD | {"quorum": 2}))
    problem(await world.ask(people.clerk, world.record()), 422, "vacant-role")
    # a second account of the same head makes no second person
    await world.hire(world.sales, ("department_head", world.sales), person=people.head.person)
    problem(await world.ask(people.clerk, world.record()), 422, "vacant-role")
    await world.hire(world.sales, ("department_head", world.sales))
    await world.asked_for(people.clerk, world.record())


async def test_who_alone_can_decide_later_is_told_to_leave_the_first_stage_to_others(
    world: World, people: People
) -> None:
    both = await world.hire(world.sales, ("department_head", world.sales), ("service_manager", world.sales))
    world.with_flows(flow(HEAD, {"role": "service_manager", "of": "requester.unit"}))
    request = await world.asked_for(people.clerk, world.record())
    needed = problem(await world.decide(both, await world.task(both, request)), 409, "needed-for-later-stage")
    assert needed["stage"] == "stage-1"
    await world.decided(people.head, request)
    assert (await world.decided(both, request))["state"] == "granted"


@pytest.mark.clause("A2.8")
async def test_a_returned_case_starts_a_new_round_with_the_same_people(world: World, people: People) -> None:
    request = await world.asked_for(people.clerk, world.record())
    old = await world.task(people.head, request)
    await world.decided(people.head, request)
    after = await world.decided(people.manager, request, "return")
    assert (after["state"], after["round"], states(after)) == ("open", 2, ["open", "waiting"])
    (returned,) = await world.events(request["id"], "approvals.v1.request.returned")
    assert returned.data == {"request": request["id"], "round": 2, "stage": "review"}
    problem(await world.decide(people.head, old), 403, "same-person")
    again = await world.decided(people.head, request)
    assert (again["round"], states(again)) == (2, ["approved", "open"])
    granted = await world.decided(people.manager, request)
    assert granted["state"] == "granted"
    grant = good(await world.call(people.clerk, "GET", f"/v1/grants/{granted['grant']}"))
    assert grant["persons"] == [str(who.person) for who in (people.clerk, people.head, people.manager)]


async def test_a_case_returns_to_the_stage_that_the_flow_names(world: World, people: People) -> None:
    boss = await world.hire(world.company, ("general_manager", world.company))
    leader = {"role": "general_manager", "of": "company", "return_to": "stage-1"}
    world.with_flows(flow(HEAD, MANAGER, leader))
    request = await world.asked_for(people.clerk, world.record())
    for who in (people.head, people.manager):
        await world.decided(who, request)
    after = await world.decided(boss, request, "return")
    assert (after["round"], states(after)) == (2, ["approved", "open", "waiting"])
    await world.decided(people.manager, request)
    assert (await world.decided(boss, request))["state"] == "granted"


async def test_a_doing_stage_is_done_and_not_approved(world: World, people: People) -> None:
    world.with_flows(flow(HEAD, MANAGER | {"doing": "archive"}))
    request = await world.asked_for(people.clerk, world.record())
    await world.decided(people.head, request)
    task = await world.task(people.manager, request)
    assert task["doing"] == "archive"
    for verdict in ("approve", "reject"):
        answer = await world.decide(people.manager, task, verdict)
        assert pointers(problem(answer, 422, "invalid-request")) == {"/body/verdict"}
    done = good(await world.decide(people.manager, task, "done"))
    assert (done["state"], states(done)) == ("granted", ["approved", "done"])


async def overdue(world: World, days: int) -> None:
    """So many days later, the worker has come by."""
    world.clock.advance(timedelta(days=days))
    await enforce_time_limits(world.app.state.database, world.clock)


async def test_a_stage_that_is_not_decided_in_time_expires(world: World, people: People) -> None:
    request = await world.asked_for(people.clerk, world.record())
    task = await world.task(people.head, request)
    world.clock.advance(timedelta(days=5))
    problem(await world.decide(people.head, task), 409, "stage-closed")
    await enforce_time_limits(world.app.state.database, world.clock)
    shown = good(await world.call(people.clerk, "GET", f"/v1/requests/{request['id']}"))
    assert (shown["state"], states(shown), shown["grant"]) == ("rejected", ["expired", "waiting"], None)
    (rejected,) = await world.events(request["id"], "approvals.v1.request.rejected")
    assert rejected.actor is None


async def test_the_limit_of_each_stage_starts_when_it_is_reached(world: World, people: People) -> None:
    request = await world.asked_for(people.clerk, world.record())
    await overdue(world, 4)
    await world.decided(people.head, request)
    await overdue(world, 4)
    assert (await world.decided(people.manager, request))["state"] == "granted"


async def test_a_late_stage_is_escalated_to_more_people_and_never_approved(world: World, people: People) -> None:
    boss = await world.hire(world.company, ("general_manager", world.company))
    escalate = {"role": "general_manager", "of": "company"}
    world.with_flows(flow(HEAD | {"time_limit": "P1D", "on_timeout": "escalate", "escalate_to": escalate}))
    request = await world.asked_for(people.clerk, world.record())
    assert await world.tasks(boss) == []
    await overdue(world, 1)
    (escalated,) = await world.events(request["id"], "approvals.v1.step.escalated")
    assert escalated.data["added_persons"] == [str(boss.person)]
    shown = good(await world.call(boss, "GET", f"/v1/requests/{request['id']}"))
    assert (shown["state"], shown["stages"][0]["candidates"]) == ("open", 2)
    second = await world.asked_for(people.clerk, world.record())
    assert (await world.decided(boss, request))["state"] == "granted"
    await overdue(world, 1)
    assert (await world.decided(people.head, second))["state"] == "granted"
    third = await world.asked_for(people.clerk, world.record())
    await overdue(world, 1)
    await overdue(world, 1)
    shown = good(await world.call(people.clerk, "GET", f"/v1/requests/{third['id']}"))
    assert (shown["state"], states(shown)) == ("rejected", ["expired"])


async def test_an_escalation_to_nobody_expires(world: World, people: People) -> None:
    escalate = {"role": "general_manager", "of": "company"}
    world.with_flows(flow(HEAD | {"time_limit": "P1D", "on_timeout": "escalate", "escalate_to": escalate}))
    request = await world.asked_for(people.clerk, world.record())
    await overdue(world, 1)
    shown = good(await world.call(people.clerk, "GET", f"/v1/requests/{request['id']}"))
    assert shown["state"] == "rejected"


async def test_two_workers_expire_a_stage_once(world: World, people: People) -> None:
    requests = [await world.asked_for(people.clerk, world.record()) for _ in range(6)]
    world.clock.advance(timedelta(days=6))
    await asyncio.gather(*(enforce_time_limits(world.app.state.database, world.clock) for _ in range(3)))
    for request in requests:
        assert len(await world.events(request["id"], "approvals.v1.request.rejected")) == 1


async def test_a_request_ends_with_the_term_that_was_asked_for(world: World, people: People) -> None:
    until = (world.clock.now() + timedelta(days=2)).isoformat()
    request = await world.asked_for(people.clerk, world.record(), until=until)
    await world.decided(people.head, request)
    task = await world.task(people.manager, request)
    world.clock.advance(timedelta(days=2))
    problem(await world.decide(people.manager, task), 409, "stage-closed")
    await enforce_time_limits(world.app.state.database, world.clock)
    shown = good(await world.call(people.clerk, "GET", f"/v1/requests/{request['id']}"))
    assert shown["state"] == "rejected"


@pytest.mark.invariant(4)
async def test_the_database_itself_refuses_a_decision_by_the_requester(world: World, people: People) -> None:
    request = await world.asked_for(people.clerk, world.record())
    task = await world.task(people.head, request)
    row = {
        "request": request["id"],
        "round": 1,
        "person": people.clerk.person,
        "account": people.clerk.account,
        "step": task["id"],
        "position": 0,
        "verdict": "approve",
        "at": world.clock.now(),
    }
    for more, refused in (({}, "fk_decisions_request"), ({"capacity": "requester"}, "ck_decisions_capacity")):
        with pytest.raises(IntegrityError, match=refused):
            async with world.app.state.database.transaction() as session:
                await session.execute(insert(Decision).values(row | more))
