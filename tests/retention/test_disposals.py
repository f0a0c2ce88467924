"""From the end of a relationship to the certificate, and everything that keeps a record from being destroyed."""

from dataclasses import replace
from datetime import date, timedelta

import pytest
from sqlalchemy import text
from tests.retention.bench import Bench, Person
from tests.retention.disposing import READER, Office, approved, copy_of, execute, propose, state, witness

from dossier_common.contracts.approvals import (
    GrantRevoked,
    RequestImpossible,
    RequestRejected,
    RequestWithdrawn,
)
from dossier_common.contracts.records import (
    CopyDestroyed,
    CopyLost,
    CopyReceipted,
    CopyReturned,
    DestructionRefused,
    RelationshipEnded,
)
from dossier_common.contracts.retention import (
    AccessRefused,
    CertificateIssued,
    ClockStarted,
    DestructionOrdered,
    DisposalApproved,
    DisposalExecuted,
    DisposalFailed,
    DisposalProposed,
    DisposalRejected,
)
from dossier_common.ids import new_id
from dossier_common.keys import VerifyingKeys
from dossier_local.cluster import Cluster
from dossier_retention import certificates


@pytest.mark.invariant(4)
@pytest.mark.invariant(5)
@pytest.mark.clause("A8.25")
async def test_a_record_past_its_term_is_destroyed_by_two_keys_and_certified(
    bench: Bench, office: Office, cluster: Cluster
) -> None:
    record = await bench.record()
    disposal = await propose(bench, office, record)
    (proposed,) = await bench.emitted(DisposalProposed, disposal=disposal)
    assert proposed["flow"] == "destroy"
    assert (proposed["unit"], proposed["level"]) == (str(bench.unit), "internal")
    assert await execute(bench, disposal, office.executor) == (409, "wrong-state")
    grant = await bench.approve(disposal, record, [office.proposer.person, *office.approvers])
    assert len(await bench.emitted(DisposalApproved, disposal=disposal, grant=grant)) == 1
    assert await execute(bench, disposal, office.executor) == (200, "executing")
    assert len(await bench.emitted(DisposalExecuted, executor_person=office.executor.person)) == 1
    assert await witness(bench, disposal, office.witness) == (200, "executing")
    assert await witness(bench, disposal, office.witness) == (409, "wrong-state")
    (ordered,) = await bench.emitted(DestructionOrdered, disposal=disposal)
    assert ordered["grant"] == str(grant)
    assert (ordered["executor_person"], ordered["witness_person"]) == (
        str(office.executor.person),
        str(office.witness.person),
    )
    bench.clock.advance(timedelta(seconds=2))
    await bench.hear("records", bench.shredded(record, disposal))
    case = (await bench.get(f"/v1/disposals/{disposal}", office.reader)).json()
    assert case["state"] == "destroyed"
    assert case["statement"] == "seen with own eyes"
    certificate = (await bench.get(f"/v1/certificates/{case['certificate']}", office.reader)).json()
    assert set(certificate["approver_persons"]) == {str(person) for person in office.approvers}
    assert certificate["evidence"]["decryption_failed"] is True
    assert certificate["backup_horizon"]["until"] == "2026-12-27"
    assert certificate["destroyed_at"] > certificate["ordered_at"]
    keys = VerifyingKeys(bench.worker.settings.common.producer_keys["retention"])
    assert certificates.holds(certificate, keys)
    assert not certificates.holds(certificate | {"method": "burning"}, keys)
    assert len(await bench.emitted(CertificateIssued, certificate=case["certificate"])) == 1
    again = await bench.post("/v1/disposals", office.proposer, {"record": str(record), "reason": "again"})
    assert (again.status_code, again.json()["type"]) == (409, "urn:dossier:problem:record-destroyed")
    due = (await bench.get("/v1/retention/due", office.reader, limit="200")).json()["items"]
    assert str(record) not in {each["record"] for each in due}


@pytest.mark.clause("A4.26")
async def test_nothing_is_proposed_before_the_day_it_falls_due(bench: Bench, office: Office) -> None:
    record = await bench.record(ended_on=None)
    body = {"record": str(record), "reason": "too early"}
    answer = await bench.post("/v1/disposals", office.proposer, body)
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:dossier:problem:not-due")
    await bench.hear("records", RelationshipEnded(record=record, on=date(2021, 11, 23)))
    (started,) = await bench.emitted(ClockStarted, record=record)
    assert started["due_on"] == "2026-11-23"
    clocks = (await bench.get("/v1/retention/clocks", office.reader, record=str(record))).json()["items"]
    assert [clock["due_on"] for clock in clocks] == ["2026-11-23"]
    answer = await bench.post("/v1/disposals", office.proposer, body)
    assert answer.json()["due_on"] == "2026-11-23"
    due = await bench.get("/v1/retention/due", office.reader, as_of="2026-11-22", limit="200")
    assert str(record) not in {each["record"] for each in due.json()["items"]}
    bench.clock.advance(timedelta(days=1))
    assert await propose(bench, office, record)


async def test_a_clock_is_never_set_back(bench: Bench) -> None:
    record = await bench.record()
    for day in (date(2019, 1, 1), date(2021, 6, 30), date(9999, 12, 31)):
        await bench.hear("records", RelationshipEnded(record=record, on=day))
    assert [each["due_on"] for each in await bench.emitted(ClockStarted, record=record)] == ["2025-01-31", "2026-06-30"]


async def test_hold_blocks_every_step_until_another_person_lifts_it(bench: Bench, office: Office) -> None:
    compliance = (("compliance_officer", bench.company),)
    placer = Person((*READER, "holds:place", "holds:release"), compliance)
    other_account = replace(placer, account=new_id())
    releaser = Person(("holds:release",), compliance)
    record = await bench.record()
    placed = await bench.post("/v1/holds", placer, {"record": str(record), "reason": "a lawsuit"})
    assert placed.status_code == 201
    hold = placed.headers["Location"]
    held = {"record": str(record), "reason": "past its term"}
    answer = await bench.post("/v1/disposals", office.proposer, held)
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:dossier:problem:held")
    for same in (placer, other_account):
        answer = await bench.post(f"{hold}/release", same, {"reason": "settled"})
        assert (answer.status_code, answer.json()["type"]) == (403, "urn:dossier:problem:same-person")
    assert len(await bench.emitted(AccessRefused, object=hold.rsplit("/", 1)[-1], slug="same-person")) == 2
    assert (await bench.post(f"{hold}/release", releaser, {"reason": "settled"})).status_code == 200
    assert (await bench.post(f"{hold}/release", releaser, {"reason": "settled"})).status_code == 409
    disposal = await approved(bench, office, record)
    second = await bench.post("/v1/holds", placer, {"record": str(record), "reason": "another lawsuit"})
    assert await execute(bench, disposal, office.executor) == (409, "held")
    await bench.post(f"/v1/holds/{second.json()['id']}/release", releaser, {"reason": "settled"})
    assert await execute(bench, disposal, office.executor) == (200, "executing")
    late = await bench.post("/v1/holds", placer, {"record": str(record), "reason": "too late"})
    assert (late.status_code, late.json()["type"]) == (409, "urn:dossier:problem:destruction-under-way")
    listed = (await bench.get("/v1/holds", office.reader, record=str(record))).json()["items"]
    assert [each["reason"] for each in listed] == ["another lawsuit", "a lawsuit"]


@pytest.mark.clause("A3.4.2.3")
async def test_copies_that_are_out_block_and_lost_ones_are_named(bench: Bench, office: Office) -> None:
    record = await bench.record()
    copies = [copy_of(record, f"C-{place}") for place in range(3)]
    await bench.hear("records", *copies)
    await bench.hear("records", CopyReceipted(copy_id=copies[0].copy_id, record=record))
    answer = await bench.post("/v1/disposals", office.proposer, {"record": str(record), "reason": "past its term"})
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:dossier:problem:outstanding-copies")
    assert answer.json()["copies"] == ["C-0", "C-1", "C-2"]
    await bench.hear("records", CopyReturned(copy_id=copies[0].copy_id, record=record))
    await bench.hear("records", CopyDestroyed(copy_id=copies[1].copy_id, record=record))
    await bench.hear("records", CopyLost(copy_id=copies[2].copy_id, record=record))
    disposal = await approved(bench, office, record)
    late = copy_of(record, "C-3")
    await bench.hear("records", late)
    assert await execute(bench, disposal, office.executor) == (409, "outstanding-copies")
    await bench.hear("records", CopyReturned(copy_id=late.copy_id, record=record))
    assert await execute(bench, disposal, office.executor) == (200, "executing")
    assert await witness(bench, disposal, office.witness) == (200, "executing")
    await bench.hear("records", bench.shredded(record, disposal))
    case = (await bench.get(f"/v1/disposals/{disposal}", office.reader)).json()
    certificate = (await bench.get(f"/v1/certificates/{case['certificate']}", office.reader)).json()
    assert certificate["copies_lost"] == ["C-2"]


async def test_method_is_one_that_the_pack_allows(bench: Bench, office: Office) -> None:
    disposal = await approved(bench, office, await bench.record())
    for method in ("pulping", "waste_paper"):
        answer = await bench.post(f"/v1/disposals/{disposal}/execution", office.executor, {"method": method})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == "/body/method"


@pytest.mark.parametrize("end", ["rejected", "withdrawn", "impossible"])
async def test_a_case_that_is_not_approved_ends_and_can_be_proposed_anew(
    bench: Bench, office: Office, end: str
) -> None:
    record = await bench.record()
    disposal = await propose(bench, office, record)
    twice = await bench.post("/v1/disposals", office.proposer, {"record": str(record), "reason": "twice"})
    assert (twice.status_code, twice.json()["type"]) == (409, "urn:dossier:problem:disposal-open")
    events = {
        "rejected": RequestRejected(request=new_id(), stage="supervisor", disposal=disposal),
        "withdrawn": RequestWithdrawn(request=new_id(), disposal=disposal),
        "impossible": RequestImpossible(disposal=disposal, reason="vacant-role"),
    }
    await bench.hear("approvals", events[end])
    assert await state(bench, office, disposal) == "rejected"
    assert len(await bench.emitted(DisposalRejected, disposal=disposal)) == 1
    await bench.approve(disposal, record, [office.proposer.person, *office.approvers])
    assert await state(bench, office, disposal) == "rejected"
    assert await propose(bench, office, record) != disposal


async def test_an_order_that_records_refused_can_be_given_again(bench: Bench, office: Office) -> None:
    record = await bench.record()
    disposal = await approved(bench, office, record)
    await execute(bench, disposal, office.executor)
    await witness(bench, disposal, office.witness)
    refused = DestructionRefused(record=record, disposal=disposal, reason="outstanding-copies")
    await bench.hear("records", refused)
    case = (await bench.get(f"/v1/disposals/{disposal}", office.reader)).json()
    assert (case["state"], case["round"], case["failure"]) == ("approved", 2, "outstanding-copies")
    assert (case["executor_person"], case["witness_person"], case["method"]) == (None, None, None)
    assert len(await bench.emitted(DisposalFailed, disposal=disposal)) == 1
    await bench.hear("records", refused)
    approver = Person(("disposals:execute",), (("records_clerk", bench.unit),), person=office.approvers[0])
    assert await execute(bench, disposal, approver) == (403, "same-person")
    assert await execute(bench, disposal, office.executor) == (200, "executing")
    assert await witness(bench, disposal, office.witness) == (200, "executing")
    await bench.hear("records", bench.shredded(record, disposal))
    assert await state(bench, office, disposal) == "destroyed"


@pytest.mark.invariant(5)
@pytest.mark.parametrize(("failed", "remaining"), [(False, 0), (True, 1)])
async def test_no_certificate_without_evidence(bench: Bench, office: Office, failed: bool, remaining: int) -> None:  # noqa: FBT001
    record = await bench.record()
    disposal = await approved(bench, office, record)
    await bench.hear("records", bench.shredded(record, disposal))
    assert await state(bench, office, disposal) == "approved"
    await execute(bench, disposal, office.executor)
    await witness(bench, disposal, office.witness)
    await bench.hear("records", bench.shredded(record, disposal, failed=failed, remaining=remaining))
    case = (await bench.get(f"/v1/disposals/{disposal}", office.reader)).json()
    assert (case["state"], case["failure"], case["certificate"]) == ("approved", "evidence-insufficient", None)


async def test_an_approval_that_ran_out_has_to_be_had_anew(bench: Bench, office: Office) -> None:
    record = await bench.record()
    disposal = await approved(bench, office, record, timedelta(days=1))
    bench.clock.advance(timedelta(days=1))
    assert await execute(bench, disposal, office.executor) == (409, "grant-ended")
    assert await propose(bench, office, record) != disposal
    assert await state(bench, office, disposal) == "failed"


async def test_a_revoked_grant_ends_the_case_until_the_order_is_given(bench: Bench, office: Office) -> None:
    first, second = await bench.record(), await bench.record()
    for record, ordered, end in ((first, False, "failed"), (second, True, "executing")):
        disposal = await propose(bench, office, record)
        grant = await bench.approve(disposal, record, [office.proposer.person, *office.approvers])
        await execute(bench, disposal, office.executor)
        if ordered:
            await witness(bench, disposal, office.witness)
        await bench.hear("approvals", GrantRevoked(grant=grant))
        assert await state(bench, office, disposal) == end


async def test_due_list_says_what_stands_in_the_way_and_pages(bench: Bench, office: Office) -> None:
    records = [await bench.record(ended_on=date(1990, 1, 1 + place)) for place in range(3)]
    placer = Person(("holds:place",), (("compliance_officer", bench.company),))
    await bench.post("/v1/holds", placer, {"record": str(records[0]), "reason": "a lawsuit"})
    await bench.hear("records", copy_of(records[1]))
    disposal = await propose(bench, office, records[2])
    found: dict[str, dict[str, object]] = {}
    address = "/v1/retention/due?as_of=1995-01-31&limit=1"
    while address:
        answer = await bench.http.get(address, headers=bench.headers(office.reader))
        assert answer.status_code == 200
        for item in answer.json()["items"]:
            assert item["record"] not in found
            found[item["record"]] = item
        address = answer.links["next"]["url"] if "next" in answer.links else ""
    standing = [
        (found[str(record)]["held"], found[str(record)]["outstanding_copies"], found[str(record)]["disposal"])
        for record in records
    ]
    assert standing == [(True, 0, None), (False, 1, None), (False, 0, str(disposal))]


async def test_an_application_without_a_person_neither_holds_nor_proposes(bench: Bench) -> None:
    record = await bench.record()
    headers = {"Txn-Token": bench.application_token(("disposals:propose", "holds:place"))}
    for path in ("/v1/holds", "/v1/disposals"):
        answer = await bench.http.post(path, json={"record": str(record), "reason": "past its term"}, headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (403, "urn:dossier:problem:person-needed")


@pytest.mark.invariant(7)
async def test_free_text_is_sealed_in_the_database_and_in_no_event(bench: Bench, office: Office) -> None:
    record = await bench.record()
    canary = "canary-西直门外大街"
    answer = await bench.post("/v1/disposals", office.proposer, {"record": str(record), "reason": canary})
    assert answer.json()["reason"] == canary
    async with bench.worker.database.session() as session:
        reason = (
            await session.execute(text("SELECT reason FROM disposals WHERE record = :record"), {"record": record})
        ).scalar_one()
        bodies = (await session.execute(text("SELECT body FROM outbox"))).scalars().all()
    assert b"canary" not in reason
    assert not any(b"canary" in body for body in bodies)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/disposals", {"record": "00000000-0000-7000-8000-000000000000", "reason": "x"}, 404),
        ("/v1/disposals", {"record": "x", "reason": "x"}, 422),
        ("/v1/disposals", {"record": "00000000-0000-7000-8000-000000000000", "reason": " "}, 422),
        ("/v1/disposals", {"record": "00000000-0000-7000-8000-000000000000", "reason": "x" * 2001}, 422),
        ("/v1/disposals", {"record": "00000000-0000-7000-8000-000000000000", "reason": "x", "more": 1}, 422),
        ("/v1/disposals", [], 422),
    ],
)
async def test_bad_bodies_are_the_callers_fault(
    bench: Bench, office: Office, path: str, body: object, status: int
) -> None:
    assert (await bench.post(path, office.proposer, body)).status_code == status


@pytest.mark.parametrize(
    "address",
    [
        "/v1/retention/due?as_of=x",
        "/v1/retention/due?cursor=WzFd",
        "/v1/retention/due?cursor=WyIyMDI2LTAxLTAxIiwxXQ",
        "/v1/disposals?state=x",
        "/v1/disposals?cursor=WzFd",
        "/v1/holds?standing=perhaps",
        "/v1/retention/clocks?record=1",
    ],
)
async def test_bad_queries_are_the_callers_fault(bench: Bench, office: Office, address: str) -> None:
    assert (await bench.http.get(address, headers=bench.headers(office.reader))).status_code in {400, 422}


async def test_the_same_key_proposes_once(bench: Bench, office: Office) -> None:
    record = await bench.record()
    body = {"record": str(record), "reason": "past its term"}
    headers = bench.headers(office.proposer) | {"Idempotency-Key": str(new_id())}
    answers = [await bench.http.post("/v1/disposals", json=body, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()
