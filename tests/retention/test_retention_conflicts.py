"""Invariant 4 in the retention service: the database refuses what goes round the code."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import delete, insert, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from tests.retention.bench import Bench, Person

from dossier_common.ids import new_id
from dossier_retention.models import Hold, Participant

pytestmark = pytest.mark.invariant(4)


async def past_the_code(bench: Bench, statement: Any) -> None:
    """Executes it as the service's own database role."""
    async with bench.worker.database.transaction() as session:
        await session.execute(statement)


async def held(bench: Bench, placer: Person) -> str:
    answer = await bench.post("/v1/holds", placer, {"record": str(await bench.record()), "reason": "a lawsuit"})
    assert answer.status_code == 201, answer.text
    hold: str = answer.json()["id"]
    return hold


async def test_the_database_itself_refuses_a_release_by_the_placer(bench: Bench) -> None:
    placer = Person(("holds:place",), (("compliance_officer", bench.company),))
    hold = await held(bench, placer)
    released = {"released_by": placer.person, "released_at": bench.clock.now(), "release_reason": b"x"}
    with pytest.raises(IntegrityError, match="ck_holds_another_person"):
        await past_the_code(bench, update(Hold).where(Hold.id == hold).values(released))
    with pytest.raises(IntegrityError, match="ck_holds_released"):
        await past_the_code(bench, update(Hold).where(Hold.id == hold).values(released_at=bench.clock.now()))
    for statement in (update(Hold).values(placed_by=new_id()), delete(Hold)):
        with pytest.raises(DBAPIError, match="permission denied"):
            await past_the_code(bench, statement)


async def test_two_accounts_of_the_placer_at_once_release_nothing_and_two_others_release_once(bench: Bench) -> None:
    offices = (("compliance_officer", bench.company),)
    placer = Person(("holds:place", "holds:release"), offices)
    hold = await held(bench, placer)

    async def release(*people: Person) -> list[int]:
        path = f"/v1/holds/{hold}/release"
        answers = await asyncio.gather(*(bench.post(path, who, {"reason": "settled"}) for who in people))
        return sorted(answer.status_code for answer in answers)

    assert await release(placer, replace(placer, account=new_id())) == [403, 403]
    others = [Person(("holds:release",), offices) for _ in range(2)]
    assert await release(*others) == [200, 409]


async def test_the_database_itself_refuses_a_second_duty_in_a_round(bench: Bench) -> None:
    record = await bench.record()
    proposer = Person(("disposals:propose",), (("information_officer", bench.unit),))
    answer = await bench.post("/v1/disposals", proposer, {"record": str(record), "reason": "past its term"})
    assert answer.status_code == 201, answer.text
    row = {"disposal": answer.json()["id"], "round": 1, "person": new_id(), "duty": "executor"}
    await past_the_code(bench, insert(Participant).values(row))
    for person, duty in ((row["person"], "witness"), (proposer.person, "executor"), (proposer.person, "witness")):
        with pytest.raises(IntegrityError, match="pk_participants"):
            await past_the_code(bench, insert(Participant).values(row | {"person": person, "duty": duty}))
    for statement in (update(Participant).values(person=new_id()), delete(Participant)):
        with pytest.raises(DBAPIError, match="permission denied"):
            await past_the_code(bench, statement)
