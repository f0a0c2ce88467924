"""Emergency access is reviewed: by another person, once, and in time."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete, insert, text, update
from sqlalchemy.exc import IntegrityError, ProgrammingError
from tests.approvals.emergency_calls import (
    PATH,
    REASON,
    REVIEW,
    USE,
    call,
    ids,
    review,
    shown,
    types,
    used,
)
from tests.approvals.world import People, Who, World, good, problem

from dossier_approvals.models import Emergency, EmergencyReview
from dossier_approvals.worker import enforce_time_limits
from dossier_common.ids import new_id


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


@pytest.mark.invariant(7)
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
