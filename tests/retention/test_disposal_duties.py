"""Who turns which key in a disposal: different persons, of the offices that the pack names."""

import asyncio
from dataclasses import replace

import asyncpg
import pytest
from tests.retention.bench import Bench, Person
from tests.retention.disposing import READER, Office, approved, execute, state, witness

from dossier_common.contracts.retention import (
    AccessRefused,
    DestructionOrdered,
    DisposalExecuted,
)
from dossier_common.ids import new_id
from dossier_local.cluster import Cluster


@pytest.mark.invariant(4)
@pytest.mark.clause("A1.5.2.2.3")
async def test_nobody_holds_two_duties_in_one_case(bench: Bench, office: Office) -> None:
    record = await bench.record()
    disposal = await approved(bench, office, record)
    clerk = (("records_clerk", bench.unit),)
    for person in (office.proposer.person, *office.approvers):
        twice = Person(("disposals:execute",), clerk, person=person)
        assert await execute(bench, disposal, twice) == (403, "same-person")
    assert await execute(bench, disposal, office.executor) == (200, "executing")
    inspector = (("inspector", bench.unit),)
    for person in (office.proposer.person, *office.approvers, office.executor.person):
        twice = Person(("disposals:witness",), inspector, person=person)
        assert await witness(bench, disposal, twice) == (403, "same-person")
    assert len(await bench.emitted(AccessRefused, object=disposal, slug="same-person")) == 7
    assert await witness(bench, disposal, office.witness) == (200, "executing")


@pytest.mark.invariant(4)
async def test_two_executions_at_once_turn_the_key_once(bench: Bench, office: Office) -> None:
    record = await bench.record()
    disposal = await approved(bench, office, record)
    accounts = [replace(office.executor, account=new_id()) for _ in range(6)]
    answers = await asyncio.gather(*(execute(bench, disposal, each) for each in accounts))
    assert sorted(status for status, _ in answers) == [200, 409, 409, 409, 409, 409]
    assert len(await bench.emitted(DisposalExecuted, disposal=disposal)) == 1


@pytest.mark.invariant(4)
async def test_executor_and_witness_at_once_are_never_one_person(bench: Bench, office: Office) -> None:
    record = await bench.record()
    disposal = await approved(bench, office, record)
    scopes = ("disposals:execute", "disposals:witness")
    roles = (("records_clerk", bench.unit), ("inspector", bench.unit))
    accounts = [Person(scopes, roles, person=office.executor.person) for _ in range(6)]
    await asyncio.gather(
        *(execute(bench, disposal, each) for each in accounts), *(witness(bench, disposal, each) for each in accounts)
    )
    assert len(await bench.emitted(DisposalExecuted, disposal=disposal)) == 1
    assert await bench.emitted(DestructionOrdered, disposal=disposal) == []


@pytest.mark.invariant(4)
async def test_the_database_itself_refuses_a_second_duty(bench: Bench, office: Office, cluster: Cluster) -> None:
    disposal = await approved(bench, office, await bench.record())
    connection = await asyncpg.connect(cluster.database_url("retention", "app"))
    entry = "INSERT INTO participants (disposal, round, person, duty) VALUES ($1, 1, $2, 'executor')"
    try:
        with pytest.raises(asyncpg.UniqueViolationError, match="pk_participants"):
            await connection.execute(entry, disposal, office.approvers[0])
        for change in ("DELETE FROM participants", "UPDATE participants SET round = 9", "DELETE FROM certificates"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(change)
    finally:
        await connection.close()


async def test_executor_and_witness_are_of_the_offices_that_the_pack_names(bench: Bench, office: Office) -> None:
    disposal = await approved(bench, office, await bench.record())
    for roles in ((), (("inspector", bench.unit),), (("records_clerk", new_id()),)):
        assert await execute(bench, disposal, Person(("disposals:execute",), roles)) == (404, "not-found")
    assert await execute(bench, disposal, office.executor) == (200, "executing")
    manager = Person(("disposals:witness",), (("project_manager", bench.unit),))
    assert await witness(bench, disposal, manager) == (403, "another-office")


@pytest.mark.clause("A4.34")
async def test_an_office_elsewhere_finds_no_record_of_the_unit_and_changes_none(bench: Bench, office: Office) -> None:
    record, gone = await bench.record(), await bench.record()
    elsewhere = (("records_clerk", new_id()), ("compliance_officer", new_id()), ("general_manager", new_id()))
    scopes = (*READER, "disposals:propose", "disposals:execute", "holds:place", "holds:release")
    stranger = Person(scopes, elsewhere)
    placer = Person(("holds:place",), (("compliance_officer", bench.company),))
    about = {"record": str(record), "reason": "a lawsuit"}
    hold = (await bench.post("/v1/holds", placer, about)).headers["Location"]
    disposal = await approved(bench, office, gone)
    for path, body in (
        ("/v1/holds", about),
        ("/v1/disposals", about),
        (f"{hold}/release", {"reason": "settled"}),
        (f"/v1/disposals/{disposal}/execution", {"method": "crypto_shred"}),
    ):
        hidden = await bench.post(path, stranger, body)
        assert (hidden.status_code, hidden.json()["type"]) == (404, "urn:dossier:problem:not-found")
    for path in (hold, f"/v1/disposals/{disposal}"):
        hidden, unknown = [await bench.get(each, stranger) for each in (path, f"{path.rpartition('/')[0]}/{new_id()}")]
        told = [{**each.json(), "instance": ""} for each in (hidden, unknown)]
        assert (hidden.status_code, told[0]) == (404, told[1])
    for path in ("/v1/holds", "/v1/disposals", "/v1/retention/clocks", "/v1/retention/due"):
        assert (await bench.get(path, stranger)).json()["items"] == []
        assert (await bench.get(path, office.reader, limit="200")).json()["items"]
    assert len(await bench.emitted(AccessRefused, object=disposal, slug="not-found")) == 2
    assert (await bench.get(hold, office.reader)).json()["released_at"] is None
    assert await state(bench, office, disposal) == "approved"
