"""Emergency access: at once, within the policy's limits, and told to others."""

import asyncio
from datetime import datetime, timedelta

import pytest
from tests.approvals.emergency_calls import (
    PATH,
    REASON,
    call,
    plea,
    review,
    shown,
    types,
    use,
    used,
)
from tests.approvals.world import People, Who, World, good, problem
from tests.support.tokens import service_token

from dossier_common.contracts.approvals import EmergencyUsed, GrantIssued
from dossier_common.contracts.audit import ALARMS
from dossier_common.ids import new_id
from dossier_common.policy import Policy


async def test_access_is_there_at_once_and_not_a_moment_or_a_use_more_than_the_policy_says(
    world: World, people: People, reviewers: tuple[Who, Who]
) -> None:
    record = world.record()
    answer = await use(world, people.clerk, record)
    emergency = good(answer, 201)
    assert answer.headers["Location"] == f"{PATH}/{emergency['id']}"
    grant = emergency["grant"]
    assert (grant["state"], grant["action"], grant["records"], grant["fields"]) == (
        *("active", "view"),
        *([str(record)], ["phone"]),
    )
    assert datetime.fromisoformat(grant["not_before"]) == world.clock.now()
    assert datetime.fromisoformat(grant["until"]) == world.clock.now() + timedelta(hours=1)
    assert grant["uses"] == 5
    assert (grant["conditions"]["emergency"], grant["conditions"]["view_only"]) == (True, True)
    assert (grant["holder_account"], grant["persons"]) == (str(people.clerk.account), [str(people.clerk.person)])
    assert datetime.fromisoformat(emergency["review_by"]) == world.clock.now() + timedelta(days=1)
    assert (emergency["state"], emergency["level"], emergency["reason"]) == ("waiting", "secret", REASON)
    token = service_token(world.keys, "approvals", "records", ["grants:resolve"], at=world.clock.now())
    headers = {"Authorization": f"Bearer {token}"}
    resolved = good(await world.http.get(f"/internal/v1/grants/{grant['id']}", headers=headers))
    assert (resolved["state"], resolved["conditions"]["emergency"]) == ("active", True)


@pytest.mark.invariant(7)
async def test_it_is_loud_and_names_nobody_in_words(world: World, people: People, reviewers: tuple[Who, Who]) -> None:
    emergency = await used(world, people.clerk)
    told = await world.events(emergency["id"])
    assert types(told) == ["emergency.used", "grant.issued"]
    event = EmergencyUsed.model_validate(told[0].data)
    assert (event.level, event.uses, event.user_person) == ("secret", 5, people.clerk.person)
    assert set(event.told_persons) == {who.person for who in reviewers}
    assert told[0].subject == emergency["record"]
    assert GrantIssued.model_validate(told[1].data).conditions.emergency
    assert "王小明" not in str([each.data for each in told])
    assert {"approvals.v1.emergency.used", "approvals.v1.emergency.unjustified"} <= set(ALARMS)
    assert "approvals.v1.emergency.review-overdue" in ALARMS


async def test_those_who_are_told_have_a_task_that_leads_to_the_review(
    world: World, people: People, reviewers: tuple[Who, Who]
) -> None:
    emergency = await used(world, people.clerk)
    for who in reviewers:
        task = await world.task(who, emergency)
        assert (task["emergency"], task["stage"], task["reason"]) == (emergency["id"], "review", REASON)
        assert task["due_at"] == emergency["review_by"]
    task = await world.task(reviewers[0], emergency)
    problem(await world.decide(reviewers[0], task), 409, "request-closed")
    problem(await world.decide(people.clerk, task), 403, "self-approval")
    good(await review(world, reviewers[0], emergency))
    for who in reviewers:
        assert await world.tasks(who) == []
    asked = good(await world.call(people.clerk, "GET", f"/v1/requests/{emergency['id']}"))
    assert (asked["flow"], asked["state"], asked["stages"][0]["state"]) == ("emergency-access", "granted", "done")


async def test_clearance_qualification_and_duty_hold_in_an_emergency_too(
    world: World, people: People, reviewers: tuple[Who, Who]
) -> None:
    record = world.record(level="secret")
    answer = await use(world, people.clerk, record, qualifications=["confidentiality_agreement"])
    assert problem(answer, 403, "not-qualified")["qualification"] == "training_passed"
    problem(await use(world, people.clerk, record, clearance="internal"), 403, "clearance-too-low")
    problem(await use(world, people.clerk, record, clearance="none"), 403, "clearance-too-low")
    officer = await use(world, people.clerk, record, roles=[("security_auditor", world.company)])
    problem(officer, 403, "duty-conflict")
    lacking = await use(world, people.clerk, record, scopes=("requests:create", "emergency:review"))
    assert problem(lacking, 403, "insufficient-scope")["scope"] == "emergency:use"
    problem(await use(world, None, record), 403, "person-needed")
    assert await world.events(people.clerk.person, "approvals.v1.grant.issued") == []
    refused = await world.events(people.clerk.person, "approvals.v1.access.refused")
    assert [event.data["slug"] for event in refused] == [
        *("not-qualified", "clearance-too-low", "clearance-too-low", "duty-conflict", "insufficient-scope")
    ]


async def test_of_a_record_that_only_the_named_may_know_of_nothing_is_told_to_the_uncleared(
    world: World, people: People, reviewers: tuple[Who, Who]
) -> None:
    unknown = problem(await use(world, people.clerk, new_id()), 404, "not-found")
    assert unknown["errors"][0]["pointer"] == "/body/record"
    for level, clearance in (("confidential", "secret"), ("top_secret", "confidential"), ("top_secret", "top_secret")):
        for status in ("active", "destroyed"):
            answer = await use(world, people.clerk, world.record(level=level, status=status), clearance=clearance)
            assert problem(answer, 404, "not-found") == unknown
    good(await use(world, people.clerk, world.record(level="confidential")), 201)


async def test_a_pack_without_the_section_or_the_level_has_no_emergency_access(
    world: World, people: People, reviewers: tuple[Who, Who]
) -> None:
    record = world.record(level="secret")
    content = world.policy.content()
    narrow = content["emergency"] | {"levels": ["internal"]}
    world.app.state.policy = Policy.model_validate(content | {"emergency": narrow})
    assert problem(await use(world, people.clerk, record), 403, "no-emergency-access")["level"] == "secret"
    world.app.state.policy = Policy.model_validate(content | {"emergency": None})
    asked = len(world.asked)
    problem(await use(world, people.clerk, record), 403, "no-emergency-access")
    assert len(world.asked) == asked, "no other part is asked for what is refused anyway"


async def test_what_is_wrong_with_a_plea_is_said(world: World, people: People, reviewers: tuple[Who, Who]) -> None:
    record = world.record()
    for parts, pointer in (
        ({"reason": " "}, "/body/reason"),
        ({"reason": None}, "/body/reason"),
        ({"reason": "x" * 2001}, "/body/reason"),
        ({"purpose": "curiosity"}, "/body/purpose"),
        ({"fields": ["colour"]}, "/body/fields/0"),
        ({"record": "x"}, "/body/record"),
        ({"until": "2030-01-01T00:00:00Z"}, "/body/until"),
        ({"uses": 100}, "/body/uses"),
    ):
        document = problem(await call(world, people.clerk, "POST", PATH, plea(record, **parts)), 422, "invalid-request")
        assert [fault["pointer"] for fault in document["errors"]] == [pointer]
    gone = world.record(status="destroyed")
    problem(await use(world, people.clerk, gone), 409, "record-unavailable")


async def test_where_nobody_else_could_review_there_is_no_access(world: World, people: People) -> None:
    record = world.record()
    assert problem(await use(world, people.clerk, record), 422, "vacant-role")["role"] == "compliance_officer"
    alone = await world.hire(world.sales, ("compliance_officer", world.company))
    problem(await use(world, alone, record), 422, "vacant-role")
    good(await use(world, people.clerk, record), 201)


async def test_nobody_prolongs_it_by_taking_it_again(world: World, people: People, reviewers: tuple[Who, Who]) -> None:
    record = world.record()
    second = await world.hire(world.sales, person=people.clerk.person)
    first = await used(world, people.clerk, record)
    for who in (people.clerk, second):
        problem(await use(world, who, record), 409, "emergency-open")
    world.clock.advance(timedelta(hours=2))
    assert (await shown(world, people.clerk, first))["grant"]["state"] == "expired"
    problem(await use(world, people.clerk, record), 409, "emergency-open")
    good(await use(world, people.clerk, world.record()), 201)
    good(await use(world, people.stranger, record), 201)
    good(await review(world, reviewers[0], first))
    again = await used(world, people.clerk, record)
    assert again["id"] != first["id"]
    assert len(await world.events(first["id"])) == 3, "what was refused left no event of a use"


async def test_two_at_once_are_one_access(world: World, people: People, reviewers: tuple[Who, Who]) -> None:
    second = await world.hire(world.sales, person=people.clerk.person)
    for _ in range(3):
        record = world.record()
        answers = await asyncio.gather(*(use(world, who, record) for who in (people.clerk, second, people.clerk)))
        assert sorted(answer.status_code for answer in answers) == [201, 409, 409]
        assert len(await world.events(record, "approvals.v1.grant.issued")) == 1


async def test_its_user_gives_it_back_like_any_grant(world: World, people: People, reviewers: tuple[Who, Who]) -> None:
    emergency = await used(world, people.clerk)
    path = f"/v1/grants/{emergency['grant']['id']}/return"
    problem(await call(world, people.stranger, "POST", path), 404, "not-found")
    assert good(await call(world, people.clerk, "POST", path))["state"] == "returned"
    after = await shown(world, people.clerk, emergency)
    assert (after["grant"]["state"], after["state"]) == ("returned", "waiting")
