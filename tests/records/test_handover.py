"""Custody of who left or moved goes to the successor, whole and once; the list is signed for (A4.38, A5.3)."""

import asyncio
import hashlib
import os
import sys
from collections import Counter
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from tests.records.test_imports import SMALL
from tests.records.world import Who, World, slug, states
from tests.support.waiting import eventually

from dossier_common.canonical import canonical
from dossier_common.contracts.gateway import AccountCreated, AccountEnabled, PersonOffboarded, UnitCreated
from dossier_common.ids import new_id
from dossier_local import customer_files
from dossier_local.cluster import Cluster
from dossier_local.state import CHECKOUT
from dossier_records.service import handing_over
from dossier_records.settings import Settings
from dossier_records.spreadsheets import CSV

SUPERVISING = ("records:catalogue", "records:classify")


@pytest.fixture
async def successor(world: World) -> Who:
    """Somebody of the unit who goes on with the work."""
    return await employed(world)


async def employed(world: World, **marks: Any) -> Who:
    who = Who(units=(world.unit,), **marks)
    created = AccountCreated(account=who.account, person=who.person, unit=world.unit, clearance=who.clearance)
    await world.tell(created)
    return who


def supervisor(unit: UUID, **marks: Any) -> Who:
    return Who(scopes=SUPERVISING, units=(unit,), roles=(("information_supervisor", unit),), **marks)


async def leave(world: World, successor: Who, who: Who | None = None, kind: str = "leaving") -> UUID:
    """The gateway tells that somebody left, or moved; twice, as it may come."""
    gone = PersonOffboarded(
        offboarding=new_id(),
        kind=kind,
        person=(who or world.custodian).person,
        accounts=((who or world.custodian).account,),
        units_left=(world.unit,),
        successor_account=successor.account,
        successor_person=successor.person,
        successor_clearance=successor.clearance,
    )
    await world.tell(gone)
    await world.tell(gone)
    return gone.offboarding


async def hand_over(world: World) -> None:
    """What the worker does until nothing is left to do."""
    while await handing_over.advance(world.app.state.database, world.desk):
        pass


async def shown(world: World, handover: UUID, who: Who) -> dict[str, Any]:
    answer = await world.get(f"/v1/custody-handovers/{handover}", who)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def listed(world: World, handover: UUID, who: Who, **narrowed: str) -> list[dict[str, Any]]:
    """The whole list, page by page."""
    items: list[dict[str, Any]] = []
    query = "&".join(f"{name}={value}" for name, value in narrowed.items())
    address = f"/v1/custody-handovers/{handover}/items?limit=2&{query}"
    while address:
        answer = await world.get(address, who)
        assert answer.status_code == 200, answer.text
        items += answer.json()["items"]
        address = answer.links["next"]["url"] if "next" in answer.links else ""
    return items


@pytest.mark.clause("A4.38")
@pytest.mark.clause("A2.6")
async def test_the_successor_gets_every_record_and_the_list_is_what_the_leaver_had(
    world: World, successor: Who
) -> None:
    had = sorted([await world.register() for _ in range(5)])
    other = await world.register(custodian=str(world.colleague.person))
    before = (await world.read(had[0], world.custodian)).json()["fields"]
    await world.forget_events()
    handover = await leave(world, successor)
    await hand_over(world)
    items = await listed(world, handover, successor)
    assert [item["record"] for item in items] == [str(record) for record in had]
    assert {(item["state"], item["reason"], item["vacant"]) for item in items} == {("handed_over", None, False)}
    assert not {"name", "fields", "custodian"} & set(items[0])
    rows = await world.owner.fetch("SELECT id, custodian, version FROM records")
    kept = {row["id"]: (row["custodian"], row["version"]) for row in rows}
    assert kept == dict.fromkeys(had, (successor.person, 2)) | {other: (world.colleague.person, 1)}
    assert (await world.read(had[0], successor)).json()["fields"] == before
    assert states(await world.read(had[0], world.custodian), "open") == set()
    stale = await world.patch(had[0], successor, {"fields": {"remarks": "x"}}, "1")
    assert (stale.status_code, slug(stale)) == (412, "stale-version")
    told = [event["data"] for event in await world.events("custody.handed-over")]
    assert [event["record"] for event in told] == [str(record) for record in had]
    assert {(event["person_from"], event["person_to"], event["handover"]) for event in told} == {
        (str(world.custodian.person), str(successor.person), str(handover))
    }
    (closed,) = await world.events("custody.listed")
    assert (closed["data"]["handed_over"], closed["data"]["unassigned"]) == (5, 0)


@pytest.mark.clause("A5.3")
async def test_the_successor_signs_for_the_closed_list_by_its_digest_once(world: World, successor: Who) -> None:
    for _ in range(3):
        await world.register()
    handover = await leave(world, successor)
    path = f"/v1/custody-handovers/{handover}/receipt"
    open_ = await shown(world, handover, successor)
    assert (open_["state"], open_["remaining"], open_["digest"]) == ("running", 3, None)
    assert slug(await world.post(path, successor, {"digest": "0" * 64})) == "wrong-state"
    await hand_over(world)
    closed = await shown(world, handover, successor)
    assert (closed["state"], closed["remaining"], closed["handed_over"]) == ("complete", 0, 3)
    lines = [
        {name: item[name] for name in item if name != "vacant"} for item in await listed(world, handover, successor)
    ]
    digest = hashlib.sha256(b"".join(canonical(line) + b"\n" for line in lines)).hexdigest()
    assert closed["digest"] == digest
    assert slug(await world.post(path, successor, {"digest": "0" * 64})) == "invalid-request"
    refused = await world.post(path, supervisor(world.unit), {"digest": digest})
    assert (refused.status_code, slug(refused)) == (403, "not-the-successor")
    signed = await world.post(path, successor, {"digest": digest})
    assert (signed.status_code, signed.json()["state"]) == (200, "receipted")
    assert slug(await world.post(path, successor, {"digest": digest})) == "wrong-state"
    (event,) = await world.events("custody.receipted")
    assert (event["data"]["digest"], event["person"]) == (digest, str(successor.person))


async def test_a_list_is_seen_by_the_successor_and_by_who_supervises_the_unit_and_by_nobody_else(
    world: World, successor: Who
) -> None:
    company = world.unit
    department, elsewhere = new_id(), new_id()
    await world.tell(UnitCreated(unit=department, parent=company, kind="department", code="D"))
    await world.tell(UnitCreated(unit=elsewhere, parent=company, kind="department", code="E"))
    world.unit = department
    handover = await leave(world, successor)
    await hand_over(world)
    for who in (successor, supervisor(department), supervisor(company)):
        assert (await shown(world, handover, who))["id"] == str(handover)
        (item,) = (await world.get("/v1/custody-handovers?state=complete", who)).json()["items"]
        assert item["id"] == str(handover)
    without_scope = replace(supervisor(department), scopes=("records:catalogue",))
    for who in (world.custodian, world.colleague, supervisor(elsewhere), without_scope):
        for path in (f"/v1/custody-handovers/{handover}", f"/v1/custody-handovers/{handover}/items"):
            answer = await world.get(path, who)
            assert (answer.status_code, slug(answer)) == (404, "not-found")
        assert (await world.get("/v1/custody-handovers", who)).json()["items"] == []
    assert (await world.get(f"/v1/custody-handovers/{new_id()}", successor)).status_code == 404


@pytest.mark.clause("A4.38")
async def test_what_the_successor_is_not_cleared_for_is_left_vacant_until_a_supervisor_assigns_it(
    world: World,
) -> None:
    secret = await world.register(importance="important")
    plain = await world.register()
    level = {
        record: await world.owner.fetchval("SELECT level FROM records WHERE id = $1", record)
        for record in (secret, plain)
    }
    assert level[secret] != level[plain]
    successor = await employed(world, clearance=level[plain])
    await world.forget_events()
    handover = await leave(world, successor)
    await hand_over(world)
    (vacant,) = await listed(world, handover, successor, state="unassigned")
    assert (vacant["record"], vacant["reason"], vacant["vacant"]) == (str(secret), "clearance-too-low", True)
    (event,) = await world.events("custody.vacated")
    assert (event["data"]["record"], event["data"]["unit"]) == (str(secret), str(world.unit))
    assert await world.owner.fetchval("SELECT custodian FROM records WHERE id = $1", secret) is None

    path = f"/v1/custody-handovers/{handover}/items/{secret}/assignment"
    body = {"custodian": str(world.colleague.person)}
    assert slug(await world.post(path, successor, body)) == "insufficient-scope"
    assert (await world.post(path, supervisor(new_id()), body)).status_code == 404
    assert slug(await world.post(path, supervisor(world.unit), {"custodian": str(world.custodian.person)})) == (
        "invalid-request"
    )
    of_plain = f"/v1/custody-handovers/{handover}/items/{plain}/assignment"
    assert (await world.post(of_plain, supervisor(world.unit), body)).status_code == 404
    assigned = await world.post(path, supervisor(world.unit), body)
    assert (assigned.status_code, assigned.json()["custodian"]) == (200, str(world.colleague.person))
    assert assigned.headers["etag"] == '"3"'
    assert slug(await world.post(path, supervisor(world.unit), body)) == "wrong-state"
    (line,) = await listed(world, handover, successor, state="unassigned")
    assert (line["state"], line["vacant"]) == ("unassigned", False), "the list that was signed for stays as it was"
    assert len(await world.events("custody.assigned")) == 1


async def test_named_lists_lose_the_leaver(world: World, successor: Who) -> None:
    theirs = await world.register(custodian=str(world.colleague.person))
    own = await world.register()
    for record in (theirs, own):
        named = [world.custodian.person, world.colleague.person]
        await world.owner.execute("UPDATE records SET named = $2 WHERE id = $1", record, named)
    await world.forget_events()
    handover = await leave(world, successor)
    await hand_over(world)
    rows = await world.owner.fetch("SELECT id, custodian, named, version FROM records")
    assert {row["id"]: (row["custodian"], list(row["named"]), row["version"]) for row in rows} == {
        theirs: (world.colleague.person, [world.colleague.person], 2),
        own: (successor.person, [world.colleague.person], 2),
    }
    struck = [event["data"]["record"] for event in await world.events("custody.name-struck")]
    assert sorted(struck) == sorted(map(str, (theirs, own)))
    assert [item["record"] for item in await listed(world, handover, successor)] == [str(own)]
    assert (await shown(world, handover, successor))["names_struck"] == 2


async def test_who_left_is_made_nobody_s_custodian_until_he_is_back_and_who_moves_until_it_is_done(
    world: World, successor: Who
) -> None:
    record = await world.register(custodian=str(successor.person))
    await leave(world, successor)
    for state in ("running", "complete"):
        refused = await world.post("/v1/records", successor, world.body())
        assert (refused.status_code, refused.json()["errors"][0]["code"]) == (422, "left"), state
        patched = await world.patch(record, successor, {"custodian": str(world.custodian.person)}, "1")
        assert patched.json()["errors"][0]["code"] == "left"
        imported = await world.import_(b"x", CSV, successor)
        assert imported.json()["errors"][0]["code"] == "left"
        await hand_over(world)
    who = world.custodian
    await world.tell(AccountEnabled(account=who.account, person=who.person, state="active"))
    await world.register()
    await leave(world, successor, kind="transfer")
    moving = await world.post("/v1/records", successor, world.body())
    assert moving.json()["errors"][0]["code"] == "moving"
    await hand_over(world)
    await world.register()


async def test_the_list_is_not_closed_before_the_last_row_of_a_spreadsheet_is_in(world: World, successor: Who) -> None:
    content = customer_files.files(SMALL)["customers-utf8.csv"]
    assert (await world.import_(content, CSV)).status_code == 202
    handover = await leave(world, successor)
    await hand_over(world)
    assert (await shown(world, handover, successor))["state"] == "running"
    assert await world.work_off()
    await hand_over(world)
    closed = await shown(world, handover, successor)
    assert (closed["state"], closed["handed_over"]) == ("complete", 60)


async def test_a_record_whose_content_is_damaged_is_left_vacant_and_keeps_nothing_from_the_others(
    world: World, successor: Who
) -> None:
    damaged, whole = await world.register(), await world.register()
    await world.owner.execute(
        "UPDATE record_versions SET wrapped_key = decode('00', 'hex') WHERE record_id = $1", damaged
    )
    handover = await leave(world, successor)
    await hand_over(world)
    items = {item["record"]: (item["state"], item["reason"]) for item in await listed(world, handover, successor)}
    assert items == {str(damaged): ("unassigned", "damaged-record"), str(whole): ("handed_over", None)}


async def test_a_successor_who_leaves_meanwhile_hands_on_what_he_was_given(world: World, successor: Who) -> None:
    own = await world.register(custodian=str(successor.person))
    given = await world.register()
    third = await employed(world)
    await leave(world, successor)
    second = await leave(world, third, who=successor)
    await hand_over(world)
    assert {item["record"] for item in await listed(world, second, third)} == {str(own), str(given)}
    assert {row["custodian"] for row in await world.owner.fetch("SELECT custodian FROM records")} == {third.person}


@pytest.mark.clause("A4.38")
async def test_copies_that_the_leaver_has_are_followed_until_the_successor_has_them_back(
    world: World, successor: Who
) -> None:
    record = await world.register(custodian=str(world.colleague.person))
    holder = world.custodian
    grant = await world.granted(record, holder, action="copy")
    issued = await world.post(f"/v1/records/{record}/copies", holder, {"grant": str(grant), "action": "copy"})
    assert issued.status_code == 201, issued.text
    copy = issued.json()["id"]
    assert (await world.post(f"/v1/copies/{copy}/return", successor)).status_code == 404
    handover = await leave(world, successor)
    await hand_over(world)
    found = await shown(world, handover, successor)
    assert found["copies_outstanding"] == 1
    assert [(each["id"], each["record"], each["state"]) for each in found["copies"]] == [(copy, str(record), "issued")]
    assert (await world.post(f"/v1/copies/{copy}/receipt", successor)).status_code == 404
    assert (await world.get(f"/v1/copies/{copy}/content", successor)).status_code == 404
    assert (await world.post(f"/v1/copies/{copy}/return", successor)).json()["state"] == "returned"
    assert (await shown(world, handover, successor))["copies_outstanding"] == 0


async def test_a_worker_that_is_killed_again_and_again_hands_each_record_over_once(
    world: World, successor: Who, cluster: Cluster, settings: Settings
) -> None:
    had = {await world.register() for _ in range(40)}
    await world.forget_events()
    handover = await leave(world, successor)
    environment = cluster.environment.of("records") | {
        "DOSSIER_RECORDS_KEYRING_DIR": str(settings.keyring_dir),
        "DOSSIER_RECORDS_SUPPLEMENT_DIR": str(settings.supplement_dir),
    }
    for kill in range(3):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.records.handing_over_process", "2"),
            cwd=CHECKOUT,
            env=os.environ | environment,
        )

        async def gone_on(least: int = 2 * kill + 1) -> bool:
            count: int = await world.owner.fetchval("SELECT count(*) FROM custody_items")
            return count >= least

        await eventually(gone_on, expected=True, seconds=120)
        process.kill()
        await process.wait()
    await hand_over(world)
    counted = Counter(UUID(event["data"]["record"]) for event in await world.events("custody.handed-over"))
    assert counted == Counter(had)
    assert {UUID(item["record"]) for item in await listed(world, handover, successor)} == had
    assert {row["version"] for row in await world.owner.fetch("SELECT version FROM records")} == {2}
    (closed,) = await world.events("custody.listed")
    assert closed["data"]["handed_over"] == 40


async def test_the_service_cannot_change_a_line_of_a_list(world: World, successor: Who) -> None:
    await world.register()
    await leave(world, successor)
    await hand_over(world)
    granted = await world.owner.fetch(
        "SELECT privilege_type FROM information_schema.role_table_grants"
        " WHERE table_name = 'custody_items' AND grantee = 'records_app'"
    )
    assert {row["privilege_type"] for row in granted} == {"SELECT", "INSERT"}
