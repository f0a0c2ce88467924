import asyncio
import json
import time
from datetime import timedelta
from typing import Any
from unittest.mock import patch
from uuid import UUID

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncSession
from tests.records.world import SCOPES, Who, World, slug

from dossier_common.ids import new_id
from dossier_local import customer_files
from dossier_records import imports, repository
from dossier_records.keyring import KeyDestroyed
from dossier_records.spreadsheets import CSV, XLSX

FILES = customer_files.files(customer_files.sheet())
SMALL = customer_files.sheet(seed=9, count=60, faults=6)
EXPECTED = json.loads(FILES["expected.json"])


async def taken_in(world: World, content: bytes, media_type: str) -> dict[str, Any]:
    """The report of an import that the worker has worked off."""
    received = await world.import_(content, media_type)
    assert received.status_code == 202, received.text
    assert received.json()["state"] == "received"
    assert await world.work_off()
    return await report(world, received)


async def report(world: World, received: httpx.Response) -> dict[str, Any]:
    answer = await world.get(received.headers["location"] + "?limit=200", world.custodian)
    assert answer.status_code == 200
    shown: dict[str, Any] = answer.json()
    return shown


def counts(shown: dict[str, Any]) -> tuple[str, int, int, int, int]:
    return shown["state"], shown["rows"], shown["accepted"], shown["refused"], shown["duplicates"]


def refusals(shown: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"row": row["row"], "field": fault["field"], "code": fault["code"]}
        for row in shown["errors"]
        for fault in row["faults"]
    ]


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("customers-gb18030.csv", f"{CSV}; charset=gb18030"),
        ("customers-gb18030.csv", CSV),
        ("customers-utf8.csv", f'{CSV};charset="UTF-8"'),
        ("customers.xlsx", XLSX),
    ],
)
async def test_a_thousand_rows_are_taken_in_and_the_same_forty_refused(
    world: World, name: str, media_type: str
) -> None:
    received = await world.import_(FILES[name], media_type)
    started = time.perf_counter()
    assert await world.work_off()
    seconds = time.perf_counter() - started
    shown = await report(world, received)
    print(f"\n{name}: {EXPECTED['rows'] / seconds:.0f} rows/s")
    assert counts(shown) == ("done", 1040, 1000, 40, 0)
    assert refusals(shown) == EXPECTED["refused"]
    assert all(fault["title"]["zh"] and fault["title"]["en"] for row in shown["errors"] for fault in row["faults"])
    counted = await world.counted()
    assert counted == {"import.received": 1, "record.registered": 1000, "import.completed": 1}
    told = {event["data"]["record"] for event in await world.events("record.registered")}
    kept = {str(row["id"]) for row in await world.owner.fetch("SELECT id FROM records")}
    assert told == kept


async def test_the_same_file_again_adds_nothing(world: World) -> None:
    await taken_in(world, FILES["customers-utf8.csv"], CSV)
    await world.forget_events()
    again = await taken_in(world, FILES["customers.xlsx"], XLSX)
    assert counts(again) == ("done", 1040, 0, 40, 1000)
    assert refusals(again) == EXPECTED["refused"]
    assert await world.counted() == {"import.received": 1, "import.completed": 1}
    assert await world.owner.fetchval("SELECT count(*) FROM records") == 1000


async def test_refused_rows_are_paged_in_the_order_of_the_sheet(world: World) -> None:
    received = await world.import_(FILES["customers-utf8.csv"], CSV)
    await world.work_off()
    page = await world.get(received.headers["location"] + "?limit=15", world.custodian)
    rows = [row["row"] for row in page.json()["errors"]]
    while "next" in page.links:
        page = await world.get(page.links["next"]["url"], world.custodian)
        rows += [row["row"] for row in page.json()["errors"]]
    assert rows == [each["row"] for each in EXPECTED["refused"]]
    for cursor in ("x", "WyJhIl0", "W10", "Wzk5OTk5OTk5OTk5OTk5OTk5XQ", "Wy0xXQ"):
        wrong = await world.get(received.headers["location"] + f"?cursor={cursor}", world.custodian)
        assert (wrong.status_code, slug(wrong)) == (400, "invalid-request")


async def test_imported_records_are_found_read_and_belong_to_their_import(world: World) -> None:
    await taken_in(world, customer_files.files(SMALL)["customers-utf8.csv"], CSV)
    row = next(row for row in SMALL.rows if row["birth_date"] and row["identifier"] and row["phone"].isdigit())
    search = {"field": "phone", "value": row["phone"], "purpose": "service"}
    [match] = (await world.post("/v1/records/search", world.custodian, search)).json()["items"]
    content = await world.read(UUID(match["record"]["id"]), world.custodian)
    assert content.json()["fields"]["name"] == {"state": "open", "value": row["name"]}
    [event] = [e for e in await world.events("record.registered") if e["data"]["record"] == match["record"]["id"]]
    assert event["data"]["import_id"]
    assert event["person"] == str(world.custodian.person)


# ---- crashes


def uuid7_at(world: World, *, hours: int) -> UUID:
    """An id as it would have been made so many hours from the world's now."""
    at = world.clock.now() + timedelta(hours=hours)
    return UUID(int=(int(at.timestamp() * 1000) << 80) | (new_id().int & ((1 << 80) - 1)))


class Crash(RuntimeError):
    pass


async def test_after_a_crash_in_the_third_batch_each_row_is_there_once(world: World) -> None:
    received = await world.import_(FILES["customers-utf8.csv"], CSV)
    add, batches = repository.add_refusals, 0

    async def failing(session: AsyncSession, rows: Any) -> None:
        nonlocal batches
        batches += 1
        await add(session, rows)
        if batches == 3:
            raise Crash

    with patch.object(repository, "add_refusals", failing), pytest.raises(Crash):
        await world.work_off()
    halfway = await report(world, received)
    assert (halfway["state"], halfway["judged"]) == ("running", 2 * imports.BATCH)
    assert world.desk.vault.spooled() == [UUID(halfway["id"])]
    assert await world.work_off()
    assert counts(await report(world, received)) == ("done", 1040, 1000, 40, 0)
    assert await world.counted() == {"import.received": 1, "record.registered": 1000, "import.completed": 1}
    assert not await world.work_off()


async def test_after_a_crash_before_the_key_went_it_goes_at_the_next_start(world: World) -> None:
    with patch.object(type(world.desk.vault), "forget", side_effect=Crash), pytest.raises(Crash):
        await taken_in(world, customer_files.files(SMALL)["customers-utf8.csv"], CSV)
    assert len(world.desk.vault.spooled()) == 1
    keyring, never_stored = world.desk.vault.keyring, (str(uuid7_at(world, hours=-2)), str(uuid7_at(world, hours=0)))
    for each in never_stored:
        keyring.create(f"spool-{each}", 1)
    waiting = await world.import_(customer_files.files(SMALL)["customers.xlsx"], XLSX)
    await imports.forget_finished(world.app.state.database, world.desk)
    assert set(world.desk.vault.spooled()) == {UUID(waiting.json()["id"]), UUID(never_stored[1])}
    assert await world.work_off()


async def test_an_older_import_that_comes_late_does_not_end_one_that_runs(world: World) -> None:
    """Ids are made before the commit, and by several processes: the oldest id may come last."""
    first = await world.import_(FILES["customers-utf8.csv"], CSV)
    late = await world.import_(customer_files.files(SMALL)["customers-utf8.csv"], CSV)
    await world.owner.execute("UPDATE imports SET state = 'failed' WHERE id = $1", UUID(late.json()["id"]))
    old, batches = UUID(int=UUID(first.json()["id"]).int - 1), 0
    add = repository.add_refusals

    async def overtaken(session: AsyncSession, rows: Any) -> None:
        nonlocal batches
        batches += 1
        await add(session, rows)
        if batches == 1:
            await world.owner.execute(
                "UPDATE imports SET id = $2, state = 'received' WHERE id = $1", UUID(late.json()["id"]), old
            )

    with patch.object(repository, "add_refusals", overtaken):
        assert await world.work_off()
    assert counts(await report(world, first)) == ("done", 1040, 1000, 40, 0)


async def test_two_workers_take_each_row_in_once(world: World) -> None:
    content = customer_files.files(customer_files.sheet(seed=11, count=700, faults=0))["customers-utf8.csv"]
    received = [await world.import_(content, CSV) for _ in range(2)]
    await asyncio.gather(world.work_off(), world.work_off())
    while await world.work_off():
        pass
    shown = [await report(world, each) for each in received]
    assert sum(each["accepted"] for each in shown) == sum(each["duplicates"] for each in shown) == 700
    assert (await world.counted())["record.registered"] == 700
    assert await world.owner.fetchval("SELECT count(*) FROM records") == 700


async def test_a_customer_registered_meanwhile_is_a_duplicate(world: World) -> None:
    row = next(row for row in SMALL.rows if row["birth_date"] and row["email"])
    known = {name: row[name] for name in ("name", "identifier_type", "identifier", "phone")}
    received = await world.import_(customer_files.files(SMALL)["customers-utf8.csv"], CSV)
    existing, tried = repository.existing_identifiers, 0

    async def beaten(session: AsyncSession, digests: Any) -> set[bytes]:
        nonlocal tried
        found = await existing(session, digests)
        tried += 1
        if tried == 1:
            await world.register(known)
        return found

    with patch.object(repository, "existing_identifiers", beaten):
        assert await world.work_off()
    assert tried == 2
    assert counts(await report(world, received)) == ("done", 66, 59, 6, 1)
    assert await world.owner.fetchval("SELECT count(*) FROM records") == 60


# ---- files that cannot be read, and what stands outside the plan


@pytest.mark.parametrize(
    ("content", "media_type", "reason"),
    [
        (b"\xff\xfe\x00\x01", f"{CSV}; charset=utf-8", "bad-encoding"),
        (b"PK\x03\x04 no workbook", XLSX, ""),
        ("姓名,火星\n甲,乙\n".encode(), CSV, "no-header"),
        (b"\x00" * 100, XLSX, "not-a-spreadsheet"),
    ],
)
async def test_a_file_that_cannot_be_read_ends_as_failed_with_its_reason(
    world: World, content: bytes, media_type: str, reason: str
) -> None:
    shown = await taken_in(world, content, media_type)
    assert shown["state"] == "failed"
    assert shown["reason"].startswith(reason)
    assert shown["reason"]
    assert "甲" not in shown["reason"]
    assert await world.counted() == {"import.received": 1, "import.failed": 1}
    assert world.desk.vault.spooled() == []


async def test_the_key_of_a_file_is_gone_when_it_is_done(world: World) -> None:
    received = await world.import_(customer_files.files(SMALL)["customers-utf8.csv"], CSV)
    import_id = UUID(received.json()["id"])
    sealed = await world.owner.fetchval("SELECT sealed FROM imports")
    assert customer_files.files(SMALL)["customers-utf8.csv"] == world.desk.vault.unspool(import_id, sealed)
    await world.work_off()
    assert world.desk.vault.spooled() == []
    assert await world.owner.fetchval("SELECT sealed FROM imports") is None
    with pytest.raises(KeyDestroyed):
        world.desk.vault.unspool(import_id, sealed)


async def test_fields_and_customers_outside_the_plan_refuse_their_rows(world: World) -> None:
    fields = ["name", "identifier_type", "identifier", "phone", "sex", "birth_date", "address", "postcode", "email"]
    made = await world.post(
        "/v1/collection-plans", world.custodian, world.plan_body(fields=fields, customer_types=["person"])
    )
    world.plan = UUID(made.json()["id"])
    shown = await taken_in(world, customer_files.files(SMALL)["customers-utf8.csv"], CSV)
    rows = [row for row in SMALL.rows if not row["remarks"] and row["birth_date"]]
    assert 0 < shown["accepted"] <= len(rows)
    assert len(refusals(shown)) == len({(each["row"], each["field"]) for each in refusals(shown)})
    codes = {(each["field"], each["code"]) for each in refusals(shown)}
    assert {("remarks", "outside-form"), ("customer_type", "outside-form")} <= codes


async def test_what_is_no_spreadsheet_is_refused_at_once(world: World) -> None:
    content = customer_files.files(SMALL)["customers-utf8.csv"]
    assert (await world.import_(content, "application/json")).status_code == 415
    assert slug(await world.import_(b"", CSV)) == "unreadable-file"
    assert (await world.import_(b"x" * (world.settings.max_import + 1), CSV)).status_code == 413
    stranger = Who(scopes=tuple(scope for scope in SCOPES if scope != "records:import"))
    refused = await world.import_(content, CSV, stranger)
    assert (refused.status_code, slug(refused)) == (403, "insufficient-scope")
    await world.owner.execute("UPDATE plans SET until = '2020-01-01'")
    assert slug(await world.import_(content, CSV)) == "plan-closed"
    assert await world.counted() == {"access.refused": 1}
    assert world.desk.vault.spooled() == []


async def test_the_same_upload_under_one_key_is_one_import(world: World) -> None:
    content = customer_files.files(SMALL)["customers-utf8.csv"]
    path = f"/v1/imports?plan={world.plan}&unit={world.unit}&custodian={world.custodian.person}"
    headers = world.token(world.custodian) | {"Content-Type": CSV, "Idempotency-Key": "i-1"}
    answers = [await world.http.post(path, content=content, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json() == answers[1].json()
    assert await world.owner.fetchval("SELECT count(*) FROM imports") == 1


async def test_a_file_that_nobody_foresaw_fails_and_blocks_no_other(world: World) -> None:
    first = await world.import_(customer_files.files(SMALL)["customers-utf8.csv"], CSV)
    second = await world.import_(customer_files.files(SMALL)["customers-utf8.csv"], CSV)
    with patch.object(imports, "_judge", side_effect=RuntimeError("unforeseen")):
        assert await world.work_off()
    assert await world.work_off()
    assert not await world.work_off()
    failed, done = await report(world, first), await report(world, second)
    assert (failed["state"], failed["reason"]) == ("failed", "unexpected")
    assert (done["state"], done["accepted"], done["refused"]) == ("done", 60, 6)
