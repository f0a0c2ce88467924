"""What one person did, for whoever audits a leaver (A4.38)."""

from datetime import timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text
from tests.audit.bench import Bench
from tests.support.waiting import eventually, running

from dossier_common import outbox
from dossier_common.contracts.records import RecordsSearched
from dossier_common.contracts.retention import AccessRefused, HoldPlaced
from dossier_common.identity import Subject
from dossier_common.ids import new_id


async def acted(bench: Bench, person: UUID, records: list[UUID]) -> None:
    """The person placed a hold on each record, by two accounts; was refused once; and searched two records."""
    found = RecordsSearched(field="name", found=2, records=tuple(records[:2]))
    refused = AccessRefused(operation="place_hold", slug="insufficient-scope", record=new_id())
    deeds = [*(HoldPlaced(hold=new_id(), record=record) for record in records), found, refused]
    now = bench.producer.clock.now()
    async with bench.producer.database.transaction() as session:
        for number, event in enumerate(deeds):
            by = Subject(client="console", scopes=frozenset(), account=new_id(), person=person)
            await outbox.add(session, event, by=by, at=now + timedelta(seconds=number))
        other = Subject(client="console", scopes=frozenset(), account=new_id(), person=new_id())
        await outbox.add(session, HoldPlaced(hold=new_id(), record=records[0]), by=other, at=now)

    async def stored() -> int:
        async with bench.worker.database.session() as session:
            query = text("SELECT count(*) FROM bodies WHERE person = :person")
            return int((await session.execute(query, {"person": person})).scalar_one())

    async with running(bench.producer.relay().run()), running(bench.consumer().run()):
        await eventually(stored, len(deeds))
    # One of them is of another part, which NATS takes from retention in no batch: it came by the feed, and that is all.
    async with bench.producer.database.transaction() as session:
        await session.execute(text("UPDATE outbox_state SET published_seq = seq"))


async def asked(bench: Bench, query: str, *scopes: str) -> httpx.Response:
    return await bench.audit.get(f"/v1/audit/activity?{query}", headers=bench.token(*(scopes or ("audit:read",))))


@pytest.mark.clause("A4.38")
async def test_what_a_person_did_is_counted_and_each_record_that_he_touched_is_named_once(bench: Bench) -> None:
    person, records = new_id(), sorted(new_id() for _ in range(5))
    await acted(bench, person, records)
    answer = await asked(bench, f"person={person}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    counts = {(each["type"], each["outcome"]): each["events"] for each in found["counts"]}
    assert counts == {
        ("retention.v1.hold.placed", "success"): 5,
        ("records.v1.records.searched", "success"): 1,
        ("retention.v1.access.refused", "refused"): 1,
    }
    assert found["events"] == 7
    assert found["first"] == min(each["first"] for each in found["counts"])
    assert found["last"] == max(each["last"] for each in found["counts"]) > found["first"]
    touched = {each["record"]: each["events"] for each in found["records"]}
    assert len(touched) == 6, "the one that he was refused too"
    assert [touched[str(record)] for record in records] == [2, 2, 1, 1, 1]

    pages: list[str] = []
    address = f"/v1/audit/activity?person={person}&limit=2"
    while address:
        page = await bench.audit.get(address, headers=bench.token("audit:read"))
        assert page.json()["events"] == 7
        pages += [each["record"] for each in page.json()["records"]]
        address = page.links["next"]["url"] if "next" in page.links else ""
    assert pages == sorted(touched)

    from_ = quote(found["last"])
    late = (await asked(bench, f"person={person}&from={from_}")).json()
    assert (late["events"], len(late["records"])) == (1, 1)
    early = (await asked(bench, f"person={person}&to={quote(found['first'])}")).json()
    assert early == {"person": str(person), "events": 0, "first": None, "last": None, "counts": [], "records": []}


@pytest.mark.clause("A4.33")
@pytest.mark.usefixtures("own_events")
async def test_the_question_is_an_event_itself(bench: Bench) -> None:
    person, auditor = new_id(), new_id()
    headers = bench.token("audit:read", person=auditor)
    assert (await bench.audit.get(f"/v1/audit/activity?person={person}", headers=headers)).status_code == 200

    async def told() -> list[str]:
        query = f"/v1/audit/events?actor={auditor}&type=audit.v1.activity.queried"
        items = (await bench.audit.get(query, headers=bench.token("audit:read"))).json()["items"]
        return [item["data"]["subject_person"] for item in items]

    await eventually(told, [str(person)])


@pytest.mark.parametrize("query", ["", "person=x", "person=%00", "from=2026-01-01T00:00:00Z", "limit=0", "cursor=AAAA"])
async def test_a_question_that_cannot_be_is_the_callers_fault(bench: Bench, query: str) -> None:
    given = query if not query or query.startswith(("person", "from")) else f"person={new_id()}&{query}"
    assert (await asked(bench, given)).status_code in {400, 422}


async def test_only_auditors_ask(bench: Bench) -> None:
    assert (await asked(bench, f"person={new_id()}", "records:read", "audit:verify")).status_code == 403
