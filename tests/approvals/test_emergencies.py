"""Emergency access: at once, within the policy's limits, told to others, and reviewed by another person."""

import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import delete, insert, text, update
from sqlalchemy.exc import IntegrityError, ProgrammingError
from tests.approvals.world import People, Who, World, good, problem
from tests.support.tokens import service_token, txn_token

from dossier_approvals.models import Decision, Emergency, EmergencyReview
from dossier_approvals.worker import enforce_time_limits
from dossier_common.contracts.approvals import EmergencyUsed, GrantIssued
from dossier_common.contracts.audit import ALARMS
from dossier_common.ids import new_id
from dossier_common.policy import Policy

USE = ("emergency:use", "requests:create", "requests:read", "grants:read")
REVIEW = ("emergency:review", "requests:read", "requests:decide")
QUALIFIED = ("confidentiality_agreement", "training_passed")
REASON = "客户王小明在现场晕倒, 需联系家属 13912345678"
PATH = "/v1/emergency-access"


@pytest.fixture
async def reviewers(world: World) -> tuple[Who, Who]:
    """The compliance officer and the general manager, whom the pack tells."""
    return (
        await world.hire(world.company, ("compliance_officer", world.company)),
        await world.hire(world.company, ("general_manager", world.company)),
    )


def plea(record: UUID, /, **parts: Any) -> dict[str, Any]:
    body = {"record": str(record), "purpose": "service", "reason": REASON, "fields": ["phone"]} | parts
    return {name: part for name, part in body.items() if part is not None}


async def call(
    world: World,
    who: Who | None,
    method: str,
    path: str,
    body: Any = None,
    *,
    scopes: tuple[str, ...] = USE,
    **claims: Any,
) -> httpx.Response:
    """A call as the gateway would forward it, with what it says of the person."""
    claims = {"clearance": "confidential", "qualifications": QUALIFIED} | claims
    if who is not None:
        claims |= {"account": who.account, "person": who.person}
    token = txn_token(world.keys, "approvals", scopes, at=world.clock.now(), **claims)
    return await world.http.request(method, path, json=body, headers={"Txn-Token": token})


async def use(world: World, who: Who | None, record: UUID, **claims: Any) -> httpx.Response:
    return await call(world, who, "POST", PATH, plea(record), **claims)


async def used(world: World, who: Who, record: UUID | None = None) -> dict[str, Any]:
    return good(await use(world, who, record or world.record()), 201)


async def review(
    world: World, who: Who | None, emergency: dict[str, Any], verdict: str = "justified", **claims: Any
) -> httpx.Response:
    body = {"verdict": verdict, "comment": "已电话核实"}
    return await call(world, who, "POST", f"{PATH}/{emergency['id']}/review", body, scopes=REVIEW, **claims)


async def shown(world: World, who: Who, emergency: dict[str, Any], scopes: tuple[str, ...] = USE) -> dict[str, Any]:
    return good(await call(world, who, "GET", f"{PATH}/{emergency['id']}", scopes=scopes))


def types(events: list[Any]) -> list[str]:
    return [event.type.removeprefix("approvals.v1.") for event in events]


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
        answer = await use(world, people.clerk, world.record(level=level), clearance=clearance)
        assert "level" not in problem(answer, 404, "not-found")
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


@pytest.mark.invariant(4)
async def test_another_person_reviews_it_once(world: World, people: People, reviewers: tuple[Who, Who]) -> None:
    second = await world.hire(world.company, ("general_manager", world.company), person=people.clerk.person)
    emergency = await used(world, people.clerk)
    for who in (people.clerk, second):
        problem(await review(world, who, emergency), 403, "same-person")
    problem(await review(world, None, emergency), 403, "person-needed")
    problem(await review(world, people.head, {"id": str(new_id())}), 404, "not-found")
    after = good(await review(world, reviewers[1], emergency))
    assert (after["state"], after["review"]["verdict"], after["review"]["comment"]) == (
        *("reviewed", "justified"),
        "已电话核实",
    )
    assert after["review"]["person"] == str(reviewers[1].person)
    assert problem(await review(world, reviewers[0], emergency, "unjustified"), 409, "already-reviewed")
    problem(await review(world, people.clerk, emergency), 403, "same-person")
    assert types(await world.events(emergency["id"]))[2:] == [
        *(["access.refused"] * 3),
        "emergency.reviewed",
        "access.refused",
    ]
    assert good(await call(world, people.clerk, "GET", f"/v1/grants/{emergency['grant']['id']}"))["state"] == "active"


@pytest.mark.invariant(4)
async def test_two_reviews_at_once_are_one(world: World, people: People, reviewers: tuple[Who, Who]) -> None:
    for _ in range(3):
        emergency = await used(world, people.clerk)
        answers = await asyncio.gather(
            review(world, reviewers[0], emergency), review(world, reviewers[1], emergency, "unjustified")
        )
        assert sorted(answer.status_code for answer in answers) == [200, 409]


@pytest.mark.invariant(4)
async def test_the_database_itself_refuses_a_review_by_the_user_and_a_second_one(
    world: World, people: People, reviewers: tuple[Who, Who]
) -> None:
    emergency = await used(world, people.clerk)
    row = {
        "emergency": emergency["id"],
        "user_person": people.clerk.person,
        "person": people.clerk.person,
        "account": new_id(),
        "verdict": "justified",
        "comment": world.app.state.texts.seal("past the code"),
        "at": world.clock.now(),
    }

    async def insertion(**changed: Any) -> None:
        async with world.app.state.database.transaction() as session:
            await session.execute(insert(EmergencyReview).values(row | changed))

    with pytest.raises(IntegrityError, match="another_person"):
        await insertion()
    with pytest.raises(IntegrityError, match="fk_emergency_reviews"):
        await insertion(user_person=reviewers[0].person)
    await insertion(person=reviewers[0].person)
    with pytest.raises(IntegrityError, match="pk_emergency_reviews"):
        await insertion(person=reviewers[1].person)
    open_one = {"person": people.clerk.person, "record": emergency["record"], "review_by": world.clock.now()}
    with pytest.raises(ProgrammingError, match="permission denied"):
        async with world.app.state.database.transaction() as session:
            await session.execute(update(Emergency).values(person=new_id()))
    with pytest.raises(IntegrityError, match="uq_emergencies_open"):
        async with world.app.state.database.transaction() as session:
            await session.execute(insert(Emergency).values(open_one | {"id": new_id(), "grant": new_id()}))
    for statement in (
        update(EmergencyReview).values(verdict="justified"),
        delete(EmergencyReview),
        delete(Emergency),
        text("UPDATE emergency_reviews SET person = user_person"),
    ):
        with pytest.raises(ProgrammingError, match="permission denied"):
            async with world.app.state.database.transaction() as session:
                await session.execute(statement)


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


async def test_an_unjustified_access_ends_at_once(world: World, people: People, reviewers: tuple[Who, Who]) -> None:
    emergency = await used(world, people.clerk)
    after = good(await review(world, reviewers[0], emergency, "unjustified"))
    assert after["grant"]["state"] == "revoked"
    assert types(await world.events(emergency["id"]))[2:] == ["emergency.unjustified"]
    assert types(await world.events(emergency["grant"]["id"]))[-1] == "grant.revoked"
    late = await used(world, people.clerk)
    world.clock.advance(timedelta(hours=3))
    assert good(await review(world, reviewers[0], late, "unjustified"))["grant"]["state"] == "expired"
    assert types(await world.events(late["grant"]["id"])) == ["emergency.used", "grant.issued"]


async def test_a_review_that_is_overdue_is_said_once_and_is_still_to_be_done(
    world: World, people: People, reviewers: tuple[Who, Who]
) -> None:
    emergency, reviewed = await used(world, people.clerk), await used(world, people.clerk)
    good(await review(world, reviewers[0], reviewed))
    database, kind = world.app.state.database, "approvals.v1.emergency.review-overdue"
    world.clock.advance(timedelta(days=1, seconds=-1))
    await enforce_time_limits(database, world.clock)
    assert await world.events(emergency["id"], kind) == []
    world.clock.advance(timedelta(seconds=1))
    await asyncio.gather(*(enforce_time_limits(database, world.clock) for _ in range(2)))
    await enforce_time_limits(database, world.clock)
    (overdue,) = await world.events(emergency["id"], kind)
    assert overdue.person is None
    assert await world.events(reviewed["id"], kind) == []
    assert (await shown(world, people.clerk, emergency))["state"] == "overdue"
    assert (await world.task(reviewers[0], emergency))["emergency"] == emergency["id"]
    assert good(await review(world, reviewers[0], emergency))["state"] == "reviewed"


async def test_each_sees_his_own_and_reviewers_see_all(
    world: World, people: People, reviewers: tuple[Who, Who]
) -> None:
    emergency, other = await used(world, people.clerk), await used(world, people.stranger)
    problem(await call(world, people.stranger, "GET", f"{PATH}/{emergency['id']}"), 404, "not-found")
    assert (await shown(world, reviewers[1], emergency, REVIEW))["reason"] == REASON
    assert await ids(world, people.clerk, USE, "limit=200") == [emergency["id"]]
    assert (await ids(world, reviewers[0], REVIEW, "limit=200"))[:2] == [other["id"], emergency["id"]]
    good(await review(world, reviewers[0], other))
    waiting = await ids(world, reviewers[0], REVIEW, "limit=200&waiting=true")
    assert emergency["id"] in waiting
    assert other["id"] not in waiting
    first = await call(world, reviewers[0], "GET", f"{PATH}?limit=1", scopes=REVIEW)
    following = first.headers["Link"].split("<")[1].split(">")[0]
    second = good(await call(world, reviewers[0], "GET", following, scopes=REVIEW))
    assert (good(first)["items"][0]["id"], second["items"][0]["id"]) == (other["id"], emergency["id"])
    path = f"{PATH}/{emergency['id']}"
    problem(await call(world, people.head, "GET", path, scopes=REVIEW), 404, "not-found")
    elsewhere = [("compliance_officer", world.sales)]
    problem(await call(world, people.head, "GET", path, scopes=REVIEW, roles=elsewhere), 404, "not-found")
    problem(await review(world, people.head, emergency, roles=elsewhere), 404, "not-found")
    here = [("compliance_officer", world.company)]
    assert await ids(world, people.head, REVIEW, roles=elsewhere) == []
    assert await ids(world, people.head, REVIEW, roles=here) == [other["id"], emergency["id"]]
    assert good(await review(world, people.head, emergency, roles=here))["state"] == "reviewed"
    lacking = await call(world, people.clerk, "GET", PATH, scopes=("requests:read",))
    problem(lacking, 403, "insufficient-scope")
    assert await ids(world, None, USE) == []


async def ids(world: World, who: Who | None, scopes: tuple[str, ...], query: str = "", **claims: Any) -> list[str]:
    answer = await call(world, who, "GET", f"{PATH}?{query}", scopes=scopes, **claims)
    return [each["id"] for each in good(answer)["items"]]


async def test_its_user_gives_it_back_like_any_grant(world: World, people: People, reviewers: tuple[Who, Who]) -> None:
    emergency = await used(world, people.clerk)
    path = f"/v1/grants/{emergency['grant']['id']}/return"
    problem(await call(world, people.stranger, "POST", path), 404, "not-found")
    assert good(await call(world, people.clerk, "POST", path))["state"] == "returned"
    after = await shown(world, people.clerk, emergency)
    assert (after["grant"]["state"], after["state"]) == ("returned", "waiting")


async def test_reason_and_comment_are_sealed_at_rest(world: World, people: People, reviewers: tuple[Who, Who]) -> None:
    emergency = await used(world, people.clerk)
    good(await review(world, reviewers[0], emergency, "unjustified"))
    async with world.app.state.database.session() as session:
        kept = await session.execute(
            text(
                "SELECT r.texts, v.comment, g.end_reason FROM emergencies e JOIN requests r USING (id)"
                ' JOIN emergency_reviews v ON v.emergency = e.id JOIN grants g ON g.id = e."grant" WHERE e.id = :id'
            ),
            {"id": emergency["id"]},
        )
        texts = [bytes(each) for each in kept.one()]
    assert len(texts) == 3
    assert not any(each.encode() in text for text in texts for each in ("王小明", "已电话核实"))
