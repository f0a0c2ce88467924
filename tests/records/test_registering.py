import asyncio
from datetime import date
from typing import Any
from uuid import UUID

import pytest
from tests.records.world import PLANNED, Who, World, slug

from dossier_common.ids import new_id
from dossier_records.envelopes import CannotOpen, Sealed
from dossier_records.service import EVIDENCE


def pointers(answer: Any) -> set[tuple[str, str]]:
    return {(fault["pointer"], fault["code"]) for fault in answer.json()["errors"]}


async def test_a_complete_record_is_registered_with_level_number_and_event(world: World) -> None:
    answer = await world.post("/v1/records", world.custodian, world.body(importance="important"))
    assert answer.status_code == 201
    described = answer.json()
    assert (described["level"], described["information_class"], described["status"]) == ("secret", 2, "active")
    assert answer.headers["etag"] == '"1"'
    assert answer.headers["location"] == f"/v1/records/{described['id']}"
    [event] = await world.events()
    assert event["type"] == "records.v1.record.registered"
    assert event["data"]["record"] == described["id"] == event["subject"]
    assert event["person"] == str(world.custodian.person)


async def test_what_is_stored_and_told_holds_no_value_of_the_customer(world: World) -> None:
    fields = world.customer()
    await world.register(fields)
    tables = await world.owner.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    stored = ""
    for table in tables:
        rows = await world.owner.fetch(f'SELECT t::text FROM "{table["tablename"]}" AS t')  # bytes show as hex
        stored += "\n".join(row["t"] for row in rows)
    for value in (fields["name"], fields["phone"], fields["identifier"], fields["email"]):
        assert value not in stored
        assert value.encode().hex() not in stored


@pytest.mark.clause("A8.4")
async def test_an_incomplete_record_is_refused_with_a_pointer_for_each_fault(world: World) -> None:
    fields = world.customer(name=None, phone="12", email="nobody", birth_date="1990-02-31")
    answer = await world.post("/v1/records", world.custodian, world.body(fields))
    assert (answer.status_code, slug(answer)) == (422, "incomplete-record")
    assert pointers(answer) == {
        ("/fields/name", "required"),
        ("/fields/phone", "phone-format"),
        ("/fields/email", "email-format"),
        ("/fields/birth_date", "date-impossible"),
    }
    assert "nobody" not in answer.text
    assert await world.events() == []


@pytest.mark.parametrize(
    ("changes", "pointer", "code"),
    [
        ({"opened_on": "2027-01-01"}, "/opened_on", "date-in-future"),
        ({"relationship_ended_on": "2019-01-01"}, "/relationship_ended_on", "ended-before-opening"),
        ({"importance": "enormous"}, "/importance", "unknown-name"),
        ({"customer_type": "ghost"}, "/customer_type", "unknown-name"),
        ({"custodian": str(new_id())}, "/custodian", "unknown"),
        ({"unit": str(new_id())}, "/unit", "unknown"),
        ({"plan": str(new_id())}, "/plan", "unknown"),
    ],
)
async def test_what_describes_a_record_is_checked(
    world: World, changes: dict[str, Any], pointer: str, code: str
) -> None:
    answer = await world.post("/v1/records", world.custodian, world.body(**changes))
    assert answer.status_code == 422
    assert pointers(answer) == {(pointer, code)}


@pytest.mark.clause("B6.4")
async def test_what_the_plan_does_not_name_is_refused(world: World) -> None:
    plan = world.plan_body(fields=[name for name in PLANNED if name != "email"], customer_types=["organisation"])
    made = await world.post("/v1/collection-plans", world.custodian, plan)
    consent = {"purposes": ["complaint_handling"], "given_on": "2020-01-02", "evidence": "C-1"}
    answer = await world.post(
        "/v1/records", world.custodian, world.body(plan=made.json()["id"], consent=consent, importance="general")
    )
    assert (answer.status_code, slug(answer)) == (422, "outside-plan")
    assert pointers(answer) == {
        ("/fields/email", "outside-plan"),
        ("/customer_type", "outside-plan"),
        ("/consent/purposes/0", "outside-plan"),
    }


async def test_a_plan_that_is_over_takes_no_more_records(world: World) -> None:
    plan = world.plan_body(until="2026-11-22")
    made = await world.post("/v1/collection-plans", world.custodian, plan)
    answer = await world.post("/v1/records", world.custodian, world.body(plan=made.json()["id"]))
    assert (answer.status_code, slug(answer)) == (409, "plan-closed")


async def test_a_plan_names_what_the_pack_knows(world: World) -> None:
    plan = world.plan_body(purposes=["service", "gossip"], fields=["name", "shoe_size"], customer_types=["ghost"])
    answer = await world.post("/v1/collection-plans", world.custodian, plan)
    assert answer.status_code == 422
    assert {pointer for pointer, _ in pointers(answer)} == {"/purposes/1", "/fields/1", "/customer_types/0"}


async def test_plans_are_listed_page_by_page_and_shown(world: World) -> None:
    for _ in range(2):
        await world.post("/v1/collection-plans", world.custodian, world.plan_body())
    first = await world.get("/v1/collection-plans?limit=2", world.custodian)
    assert len(first.json()["items"]) == 2
    rest = await world.get(first.links["next"]["url"], world.custodian)
    assert [plan["id"] for plan in rest.json()["items"]] == [str(world.plan)]
    assert "next" not in rest.links
    assert (await world.get(f"/v1/collection-plans/{world.plan}", world.custodian)).json()["title"] == "客户服务"
    assert (await world.get(f"/v1/collection-plans/{new_id()}", world.custodian)).status_code == 404


async def test_without_consent_a_plan_of_marketing_covers_nothing(world: World) -> None:
    made = await world.post("/v1/collection-plans", world.custodian, world.plan_body(purposes=["marketing"]))
    answer = await world.post("/v1/records", world.custodian, world.body(plan=made.json()["id"]))
    assert pointers(answer) == {("/consent", "consent-needed")}


async def test_an_indirect_source_names_third_party_agreement_and_check(world: World) -> None:
    source: dict[str, str] = {"kind": "indirect", "third_party": "恺悦信息"}
    answer = await world.post("/v1/records", world.custodian, world.body(source=source))
    assert (answer.status_code, slug(answer)) == (422, "outside-plan")
    assert pointers(answer) == {("/source", "incomplete-source")}
    source |= {"agreement": "A-7", "capability_check": "K-3"}
    assert (await world.post("/v1/records", world.custodian, world.body(source=source))).status_code == 201


async def test_an_identifier_is_registered_once_however_it_is_written(world: World) -> None:
    fields = world.customer()
    await world.register(fields)
    await world.forget_events()
    wide = fields["identifier"].translate({ord(digit): ord(digit) + 0xFEE0 for digit in "0123456789X"})
    again = await world.post(
        "/v1/records", world.custodian, world.body(world.customer(**fields | {"identifier": wide}))
    )
    assert (again.status_code, slug(again)) == (409, "duplicate-record")
    assert await world.events() == []
    assert await world.owner.fetchval("SELECT count(*) FROM records") == 1


async def test_consent_covers_its_purposes_and_its_evidence_is_sealed_with_the_record(world: World) -> None:
    consent = {"purposes": ["marketing"], "given_on": "2020-01-02", "evidence": "合同 C-2020-17"}
    record = await world.register(consent=consent)
    row = await world.owner.fetchrow("SELECT version, evidence, given_on FROM consents WHERE record_id = $1", record)
    assert row is not None
    kept = await world.owner.fetchrow(
        "SELECT ring, key_epoch, wrapped_key FROM record_versions WHERE record_id = $1 AND version = $2",
        record,
        row["version"],
    )
    assert kept is not None
    sealed = Sealed(kept["ring"], kept["key_epoch"], kept["wrapped_key"], row["evidence"])
    assert world.desk.vault.open(record, row["version"], sealed, [EVIDENCE]) == {EVIDENCE: consent["evidence"]}
    assert row["given_on"] == date(2020, 1, 2)
    with pytest.raises(CannotOpen):
        world.desk.vault.open(new_id(), row["version"], sealed, [EVIDENCE])
    assert (await world.read(record, world.custodian, purpose="marketing")).status_code == 200


# ---- Idempotency-Key


async def test_the_same_key_and_body_get_the_same_answer_and_one_record(world: World) -> None:
    body = world.body()
    first = await world.post("/v1/records", world.custodian, body, Idempotency_Key="k-1")
    again = await world.post("/v1/records", world.custodian, body, Idempotency_Key="k-1")
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert first.headers["location"] == again.headers["location"]
    assert await world.counted() == {"record.registered": 1}


async def test_the_same_key_with_another_body_is_a_conflict(world: World) -> None:
    await world.post("/v1/records", world.custodian, world.body(), Idempotency_Key="k-1")
    other = await world.post("/v1/records", world.custodian, world.body(), Idempotency_Key="k-1")
    assert (other.status_code, slug(other)) == (409, "idempotency-conflict")


async def test_the_same_key_twice_at_once_makes_one_record(world: World) -> None:
    body = world.body()
    calls = [world.post("/v1/records", world.custodian, body, Idempotency_Key="k-2") for _ in range(6)]
    answers = await asyncio.gather(*calls)
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert await world.counted() == {"record.registered": 1}


async def test_a_refused_registration_keeps_no_key(world: World) -> None:
    wrong = world.body(world.customer(name=None))
    assert (await world.post("/v1/records", world.custodian, wrong, Idempotency_Key="k-3")).status_code == 422
    right = await world.post("/v1/records", world.custodian, world.body(), Idempotency_Key="k-3")
    assert right.status_code == 201


# ---- bad input, and who may


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"fields": {"name": "\xff"}}',
        b'{"fields": {"name": "\\u0000"}}',
        b'{"fields": {"name": "\\ud800"}}',
        b"[" * 200_000,
        b'{"opened_on": 1e400}',
    ],
)
async def test_what_is_no_body_is_refused_without_a_trace(world: World, content: bytes) -> None:
    headers = world.token(world.custodian) | {"Content-Type": "application/json"}
    answer = await world.http.post("/v1/records", content=content, headers=headers)
    assert answer.status_code in {400, 422}
    assert await world.events() == []


async def test_unknown_members_are_refused(world: World) -> None:
    answer = await world.post("/v1/records", world.custodian, world.body(level="internal"))
    assert answer.status_code == 422


async def test_without_the_scope_it_is_one_refusal_on_record(world: World) -> None:
    stranger = Who(scopes=("records:read",))
    answer = await world.post("/v1/records", stranger, world.body())
    assert (answer.status_code, slug(answer)) == (403, "insufficient-scope")
    [event] = await world.events()
    assert (event["type"], event["outcome"]) == ("records.v1.access.refused", "refused")
    assert event["data"] == {
        "operation": "register_record",
        "slug": "insufficient-scope",
        "scope": "records:register",
    }
    assert event["person"] == str(stranger.person)


async def test_parts_and_nobody_else_are_told_descriptors(world: World) -> None:
    record = await world.register()
    path = f"/internal/v1/records/{record}/descriptor"
    told = await world.http.get(path, headers=world.service("approvals", "records:describe"))
    assert (told.status_code, told.json()["id"], told.headers["etag"]) == (200, str(record), '"1"')
    assert (await world.get(path, Who(scopes=("records:describe",)))).status_code == 403
    unknown = await world.http.get(
        f"/internal/v1/records/{UUID(int=1)}/descriptor", headers=world.service("approvals", "records:describe")
    )
    assert unknown.status_code == 404
