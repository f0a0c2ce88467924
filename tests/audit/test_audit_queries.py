"""What auditors see, and that they are seen (A4.33)."""

import hashlib
from base64 import b64decode

import orjson
import pytest
from sqlalchemy import text
from tests.audit.bench import Bench
from tests.support.broker import PATIENCE
from tests.support.tokens import service_token
from tests.support.waiting import eventually, running

from dossier_audit.worker import announce_receipts
from dossier_common.ids import new_id
from dossier_common.keys import VerifyingKeys
from dossier_common.receipts import Receipt, ReceiptForged
from dossier_common.topology import receipt_subject


@pytest.fixture
async def records(bench: Bench) -> list[str]:
    emitted = await bench.emit(5)
    async with running(bench.producer.relay().run()), running(bench.consumer().run()):
        await bench.stored(emitted)
    return [str(record) for record in emitted]


@pytest.mark.clause("A4.33")
async def test_events_are_found_by_record_and_proven_by_their_commitment(bench: Bench, records: list[str]) -> None:
    headers = bench.token("audit:read")
    answer = await bench.audit.get("/v1/audit/events", params={"record": records[0]}, headers=headers)
    assert answer.status_code == 200
    (found,) = answer.json()["items"]
    assert (found["type"], found["outcome"], found["subject"]) == ("retention.v1.hold.placed", "success", records[0])
    opened = (await bench.audit.get(f"/v1/audit/events/{found['id']}", headers=headers)).json()
    leaf = orjson.loads(opened["leaf"])
    assert hashlib.sha256(b64decode(opened["salt"]) + opened["body"].encode()).hexdigest() == leaf["commitment"]
    assert hashlib.sha256(opened["leaf"].encode()).hexdigest() == opened["hash"]
    assert (leaf["producer"], leaf["seq"]) == (found["producer"], found["seq"])


async def test_pages_go_through_all_events_once_in_both_orders(bench: Bench, records: list[str]) -> None:
    headers = bench.token("audit:read")
    everything: dict[str, list[tuple[str, int]]] = {}
    for order in ("newest", "oldest"):
        seen: list[tuple[str, int]] = []
        address = f"/v1/audit/events?type=retention.v1.hold.placed&limit=200&order={order}"
        while address:
            answer = await bench.audit.get(address, headers=headers)
            assert answer.status_code == 200
            seen += [(item["time"], item["seq"]) for item in answer.json()["items"]]
            address = answer.links["next"]["url"] if "next" in answer.links else ""
        assert len(seen) == len(set(seen)) >= 5
        everything[order] = seen
    assert everything["newest"] == everything["oldest"][::-1]


@pytest.mark.parametrize(
    "query",
    [
        "from=2026-01-01T00:00:00",
        "from=0001-01-01T00:00:00%2B14:00",
        "record=x",
        "outcome=perhaps",
        "actor=%F0",
        "limit=0",
        "cursor=AAAA",
        "cursor=WzEsMiwzLDRd",
        "cursor=WyIyMDI2LTAxLTAxVDAwOjAwOjAwIiwieCIsLTEsOTk5XQ",
        "type=a'b",
    ],
)
async def test_bad_queries_are_the_callers_fault(bench: Bench, query: str) -> None:
    answer = await bench.audit.get(f"/v1/audit/events?{query}", headers=bench.token("audit:read"))
    assert answer.status_code in {400, 422}
    assert answer.headers["content-type"] == "application/problem+json"


async def test_unknown_event_is_not_found(bench: Bench) -> None:
    answer = await bench.audit.get(f"/v1/audit/events/{new_id()}", headers=bench.token("audit:read"))
    assert answer.status_code == 404


@pytest.mark.clause("A4.33")
@pytest.mark.usefixtures("own_events")
async def test_auditors_find_their_own_queries(bench: Bench) -> None:
    auditor, asked = new_id(), new_id()
    headers = bench.token("audit:read", account=auditor)
    await bench.audit.get("/v1/audit/events", params={"record": str(asked)}, headers=headers)

    async def mine() -> list[tuple[str, str, list[str]]]:
        other = bench.token("audit:read")
        params = {"actor": str(auditor), "producer": "audit"}
        answer = await bench.audit.get("/v1/audit/events", params=params, headers=other)
        return [(each["type"], each["actor"], each["data"]["filters"]) for each in answer.json()["items"]]

    await eventually(mine, [("audit.v1.events.queried", str(auditor), [f"record={asked}"])])


async def _refusals(bench: Bench, slug: str, operation: str) -> int:
    query = text("SELECT body FROM outbox WHERE type = 'audit.v1.access.refused'")
    async with bench.worker.database.session() as session:
        bodies = [orjson.loads(body)["data"] for body in (await session.execute(query)).scalars()]
    return sum((body["slug"], body["operation"]) == (slug, operation) for body in bodies)


async def test_refusal_of_a_known_caller_is_one_event(bench: Bench) -> None:
    before = await _refusals(bench, "insufficient-scope", "list_audit_events")
    answer = await bench.audit.get("/v1/audit/events", headers=bench.token("accounts:manage"))
    assert answer.status_code == 403
    assert await _refusals(bench, "insufficient-scope", "list_audit_events") == before + 1


@pytest.mark.invariant(6)
async def test_no_token_and_foreign_tokens_are_unauthenticated(bench: Bench) -> None:
    token = service_token(bench.keys, "http://127.0.0.1:1", "some-app", ["audit:read"])
    for headers in ({}, {"Authorization": f"Bearer {token}"}, {"Txn-Token": "x.y.z"}):
        assert (await bench.audit.get("/v1/audit/events", headers=headers)).status_code == 401


async def test_receipt_is_signed_and_for_its_producer_only(bench: Bench, records: list[str]) -> None:
    assert records
    keys = VerifyingKeys(bench.worker.settings.common.producer_keys["audit"])
    token = service_token(bench.keys, "audit", "retention", ["events:pull"])
    headers = {"Authorization": f"Bearer {token}"}
    said = (await bench.audit.get("/internal/v1/receipts/retention", headers=headers)).json()["receipt"]
    receipt = Receipt.verified(said, "retention", keys)
    confirmed = await bench.producer.confirmed()
    assert confirmed is not None
    assert (confirmed.epoch, confirmed.seq, confirmed.hash) == (receipt.epoch, receipt.seq, receipt.hash)
    for changed in (said | {"seq": said["seq"] + 1}, said | {"producer": "records"}, said | {"signature": "AAAA"}):
        with pytest.raises(ReceiptForged):
            Receipt.verified(changed, changed["producer"], keys)
    with pytest.raises(ReceiptForged):
        Receipt.verified(said, "records", keys)
    answer = await bench.audit.get("/internal/v1/receipts/records", headers=headers)
    assert answer.status_code == 403
    assert await _refusals(bench, "foreign-receipt", "show_receipt") == 1
    person = await bench.audit.get("/internal/v1/receipts/retention", headers=bench.token("events:pull"))
    assert person.status_code == 403


async def test_receipts_are_announced_after_the_commit(bench: Bench) -> None:
    received: list[Receipt] = []
    keys = VerifyingKeys(bench.worker.settings.common.producer_keys["audit"])
    subscription = await bench.producer.nats.subscribe(receipt_subject("retention"))
    try:
        async with running(bench.producer.relay().run(), bench.consumer().run(), announce_receipts(bench.worker)):
            await bench.stored(await bench.emit(2))
            confirmed = await bench.producer.confirmed()
            assert confirmed is not None
            while not received or (received[-1].epoch, received[-1].seq) < (confirmed.epoch, confirmed.seq):
                message = await subscription.next_msg(timeout=PATIENCE)
                received.append(Receipt.verified(orjson.loads(message.data), "retention", keys))
    finally:
        await subscription.unsubscribe()
    assert received[-1].hash == confirmed.hash
