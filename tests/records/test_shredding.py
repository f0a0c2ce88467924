import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncSession
from tests.records.world import World, slug

from dossier_common.contracts.retention import HoldReleased
from dossier_common.identity import Subject
from dossier_common.ids import new_id
from dossier_common.policy import Action
from dossier_records import copies, envelopes, repository, shredding
from dossier_records.envelopes import Sealed
from dossier_records.keyring import KeyDestroyed
from dossier_records.rules import ring_of
from dossier_records.service import EVIDENCE
from dossier_records.shredding import NotGone, Shredder

TABLES = ("record_versions", "blind_indexes", "consents", "destruction_orders")


class Crash(RuntimeError):
    pass


async def finished(shredder: Shredder) -> int:
    steps = 0
    while await shredder.advance():
        steps += 1
        assert steps < 50
    return steps


async def neighbours(world: World, count: int, **changes: Any) -> list[UUID]:
    """Records of one ring."""
    found: list[UUID] = []
    while len(found) < count:
        record = await world.register(**changes)
        buckets = world.settings.ring_buckets
        if not found or ring_of("", record, buckets) == ring_of("", found[0], buckets):
            found.append(record)
    return found


async def place(world: World, record: UUID) -> tuple[str, int]:
    row = await world.owner.fetchrow(
        "SELECT ring, key_epoch FROM record_versions WHERE record_id = $1 ORDER BY version DESC", record
    )
    assert row is not None
    return row["ring"], row["key_epoch"]


def key_file(world: World, ring: str, epoch: int) -> Path:
    return world.settings.keyring_dir / f"{ring}.{epoch}.key"


async def step(world: World, disposal: UUID) -> str:
    return str(await world.owner.fetchval("SELECT step FROM destruction_orders WHERE disposal_id = $1", disposal))


# ---- refused


async def test_a_held_record_is_not_destroyed_and_the_refusal_is_an_event(world: World) -> None:
    record = await world.register()
    hold = await world.hold(record)
    await world.forget_events()
    disposal = await world.order(record)
    await finished(world.shredder())
    [event] = await world.events()
    assert (event["type"], event["outcome"]) == ("records.v1.destruction.refused", "refused")
    assert event["data"] == {"record": str(record), "disposal": str(disposal), "reason": "held"}
    assert (await world.read(record, world.custodian)).status_code == 200
    await world.tell(HoldReleased(hold=hold, record=record))
    await world.order(record, disposal)
    await finished(world.shredder())
    assert (await world.counted())["record.shredded"] == 1


async def test_a_record_with_a_copy_outstanding_is_not_destroyed(world: World) -> None:
    record = await world.register()
    grant = await world.granted(record, world.colleague, action="copy")
    body = {"grant": str(grant), "action": "copy"}
    copy = (await world.post(f"/v1/records/{record}/copies", world.colleague, body)).json()["id"]
    for end in (None, "receipt", "return"):
        if end:
            await world.post(f"/v1/copies/{copy}/{end}", world.colleague)
        await world.forget_events()
        await world.order(record)
        await finished(world.shredder())
        told = (await world.events("destruction.refused", "record.shredded"))[0]
        assert told["data"].get("reason") == (None if end == "return" else "outstanding-copies")
    assert (await world.read(record, world.custodian)).status_code == 404


async def test_what_is_unknown_or_destroyed_already_is_refused(world: World) -> None:
    record = await world.register()
    await world.order(record)
    await finished(world.shredder())
    await world.forget_events()
    for target, reason in ((record, "wrong-state"), (new_id(), "not-found")):
        await world.order(target)
        await finished(world.shredder())
        assert (await world.events())[-1]["data"]["reason"] == reason


async def test_a_copy_that_is_being_issued_is_seen_by_the_destruction(world: World) -> None:
    record = await world.register()
    grant = await world.granted(record, world.colleague, action="copy")
    await world.order(record)
    actor = Subject(
        client="app",
        scopes=frozenset(world.colleague.scopes),
        account=world.colleague.account,
        person=world.colleague.person,
        clearance="top_secret",
        qualifications=frozenset(world.colleague.qualifications),
    )
    async with world.app.state.database.transaction() as session:
        await copies.issue(session, world.desk, record, grant, Action.COPY, actor, known=True)
        destroying = asyncio.create_task(world.shredder().advance())
        await asyncio.sleep(0.2)
        assert not destroying.done()
    await destroying
    assert (await world.events("destruction.refused"))[0]["data"]["reason"] == "outstanding-copies"


async def test_nothing_is_issued_of_a_record_whose_destruction_has_begun(world: World) -> None:
    record = await world.register()
    grant = await world.granted(record, world.colleague, action="copy")
    await world.order(record)
    await world.shredder().advance()
    body = {"grant": str(grant), "action": "copy"}
    answer = await world.post(f"/v1/records/{record}/copies", world.colleague, body)
    assert (answer.status_code, slug(answer)) == (404, "not-found")
    assert (await world.read(record, world.custodian)).status_code == 404
    assert (
        await world.get(f"/v1/records/{record}/access?action=view&purpose=service", world.custodian)
    ).status_code == 404


# ---- destroyed


@pytest.mark.invariant(5)
@pytest.mark.clause("A8.25")
async def test_destroyed_means_unreadable_even_with_the_old_rows(world: World) -> None:
    consent = {"purposes": ["marketing"], "given_on": "2020-01-02", "evidence": "合同 C-2020-17"}
    fields = world.customer()
    [record] = await neighbours(world, 1, fields=fields, consent=consent)
    other, third = await neighbours_of(world, record, 2)
    await world.patch(record, world.custodian, {"fields": {"remarks": "回访"}}, "1")
    await world.patch(other, world.custodian, {"fields": {"remarks": "回访"}}, "1")
    ring, old = await place(world, record)
    key = key_file(world, ring, old)
    restored = await world.owner.fetch("SELECT * FROM record_versions WHERE record_id = $1 ORDER BY version", record)
    evidence = await world.owner.fetchval("SELECT evidence FROM consents WHERE record_id = $1", record)
    await world.forget_events()
    disposal = await world.order(record)
    assert key.exists()
    await finished(world.shredder())

    assert not key.exists()
    assert key_file(world, ring, old + 1).exists()
    assert len(restored) == 2
    for row in restored:
        kept = Sealed(row["ring"], row["key_epoch"], row["wrapped_key"], row["sealed"])
        with pytest.raises(KeyDestroyed):
            world.desk.vault.open(record, row["version"], kept, fields)
    kept = Sealed(ring, old, restored[0]["wrapped_key"], evidence)
    with pytest.raises(KeyDestroyed):
        world.desk.vault.open(record, 1, kept, [EVIDENCE])
    moved = Sealed(ring, old + 1, restored[0]["wrapped_key"], restored[0]["sealed"])
    with pytest.raises(envelopes.CannotOpen):
        world.desk.vault.open(record, 1, moved, fields)

    for table in TABLES[:3]:
        assert await world.owner.fetchval(f"SELECT count(*) FROM {table} WHERE record_id = $1", record) == 0
    order = await world.owner.fetchrow("SELECT * FROM destruction_orders")
    assert order is not None
    assert (order["step"], order["old_wrapped_key"], order["old_sealed"]) == ("done", None, None)
    for living in (other, third):
        assert (await world.read(living, world.custodian)).status_code == 200
        assert await place(world, living) == (ring, old + 1)
    assert (await world.read(record, world.custodian)).status_code == 404

    event = (await world.events("record.shredded"))[0]
    data = event["data"]
    assert (data["record"], data["disposal"], data["ring"]) == (str(record), str(disposal), ring)
    assert (data["epoch_destroyed"], data["epoch_current"], data["remaining_under_old_epoch"]) == (old, old + 1, 0)
    assert (data["decryption_failed"], data["rewrapped"]) == (True, 3)
    name, _, digest = data["supplement"].partition(" sha256:")
    content = (world.settings.supplement_dir / name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == digest
    supplement = json.loads(content)
    assert (supplement["ring"], supplement["replaces"], supplement["epoch"]) == (ring, old, old + 1)
    assert {(key["record"], key["version"]) for key in supplement["keys"]} == {
        (str(other), 1),
        (str(other), 2),
        (str(third), 1),
    }


async def neighbours_of(world: World, record: UUID, count: int) -> list[UUID]:
    buckets, found = world.settings.ring_buckets, list[UUID]()
    while len(found) < count:
        other = await world.register()
        if ring_of("", other, buckets) == ring_of("", record, buckets):
            found.append(other)
    return found


@pytest.mark.invariant(5)
async def test_an_older_backup_and_the_supplement_open_the_survivors_and_not_the_destroyed(world: World) -> None:
    record, other = await neighbours(world, 2)
    backup = {row["record_id"]: row for row in await world.owner.fetch("SELECT * FROM record_versions")}
    await world.order(record)
    await finished(world.shredder())
    name = (await world.events("record.shredded"))[0]["data"]["supplement"].split()[0]
    supplement = json.loads((world.settings.supplement_dir / name).read_bytes())
    keys = {(UUID(key["record"]), key["version"]): bytes.fromhex(key["wrapped"]) for key in supplement["keys"]}
    row = backup[other]
    kept = Sealed(supplement["ring"], supplement["epoch"], keys[other, 1], row["sealed"])
    assert world.desk.vault.open(other, 1, kept, ["name"])["name"]
    assert (record, 1) not in keys


async def test_a_destroyed_record_is_described_and_its_identifier_is_free(world: World) -> None:
    fields = world.customer()
    record = await world.register(fields)
    await world.order(record)
    await finished(world.shredder())
    listed = (await world.get("/v1/records?status=destroyed", world.colleague)).json()["items"]
    assert [item["id"] for item in listed] == [str(record)]
    search = {"field": "phone", "value": fields["phone"], "purpose": "service"}
    assert (await world.post("/v1/records/search", world.custodian, search)).json() == {"items": []}
    await world.register(fields)


async def test_two_records_of_one_ring_are_destroyed_one_after_the_other(world: World) -> None:
    one, two, three = await neighbours(world, 3)
    ring, old = await place(world, one)
    await world.order(one)
    await world.order(two)
    await finished(world.shredder())
    assert [event["data"]["epoch_destroyed"] for event in await world.events("record.shredded")] == [old, old + 1]
    assert await place(world, three) == (ring, old + 2)
    assert (await world.read(three, world.custodian)).status_code == 200
    assert sorted(path.name for path in world.settings.keyring_dir.glob(f"{ring}.*")) == [f"{ring}.{old + 2}.key"]


async def test_an_order_of_an_earlier_time_waits_for_the_one_that_was_begun(world: World) -> None:
    one, two, three = await neighbours(world, 3)
    begun = await world.order(one)
    shredder = world.shredder()
    for _ in range(2):
        await shredder.advance()
    late = await world.order(two)
    await world.owner.execute(
        "UPDATE destruction_orders SET ordered_at = ordered_at - interval '1 day' WHERE disposal_id = $1", late
    )
    await shredder.advance()
    assert (await step(world, begun), await step(world, late)) == ("rewrapping", "ordered")
    await finished(shredder)
    assert (await world.counted())["record.shredded"] == 2
    assert (await world.read(three, world.custodian)).status_code == 200


# ---- crashes


async def _crash_at_commit(world: World, shredder: Shredder) -> bool:
    """One step whose transaction does not commit, though what it did outside PostgreSQL stays done."""
    database = world.app.state.database
    transaction = database.transaction

    @asynccontextmanager
    async def failing() -> AsyncIterator[AsyncSession]:
        async with transaction() as session:
            yield session
            await session.flush()
            raise Crash

    database.transaction = failing
    try:
        return await shredder.advance()
    except Crash:
        return True
    finally:
        del database.transaction


@pytest.mark.invariant(5)
async def test_each_step_can_be_repeated_after_a_crash_before_its_commit(world: World) -> None:
    record, other = await neighbours(world, 2)
    ring, old = await place(world, record)
    disposal = await world.order(record)
    await world.forget_events()
    steps = []
    while (at := await step(world, disposal)) != "done":
        steps.append(at)
        await _crash_at_commit(world, world.shredder())
        assert await step(world, disposal) == at
        await world.shredder().advance()
    assert list(dict.fromkeys(steps)) == ["ordered", "closing", "rewrapping", "supplement", "destroying"]
    assert await world.counted() == {"record.shredded": 1}
    assert not key_file(world, ring, old).exists()
    assert (await world.read(other, world.custodian)).status_code == 200
    assert (await world.read(record, world.custodian)).status_code == 404


async def test_survivors_are_re_wrapped_in_batches(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shredding, "REWRAP_BATCH", 2)
    record, *others = await neighbours(world, 6)
    await world.order(record)
    await finished(world.shredder())
    assert (await world.events("record.shredded"))[0]["data"]["rewrapped"] == 5
    for other in others:
        assert (await world.read(other, world.custodian)).status_code == 200


async def test_a_key_that_does_not_go_is_told_and_never_certified(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = await world.register()
    disposal = await world.order(record)
    monkeypatch.setattr(type(world.desk.vault.keyring), "destroy", lambda *_: None)
    with pytest.raises(NotGone):
        await finished(world.shredder())
    assert await step(world, disposal) == "destroying"
    assert (await world.counted())["record.shredded"] == 0
    monkeypatch.undo()
    await finished(world.shredder())
    assert (await world.counted())["record.shredded"] == 1


# ---- writers meanwhile


async def test_nothing_new_comes_under_an_epoch_that_closes(world: World) -> None:
    record, other = await neighbours(world, 2)
    ring, old = await place(world, record)
    await world.order(record)
    shredder = world.shredder()
    for _ in range(2):
        await shredder.advance()
    state = await world.owner.fetch("SELECT epoch, state FROM ring_epochs WHERE ring = $1 AND epoch >= $2", ring, old)
    assert {row["epoch"]: row["state"] for row in state} == {old: "closing", old + 1: "open"}
    with pytest.raises(asyncpg.CheckViolationError):
        await world.owner.execute(
            "INSERT INTO record_versions (record_id, version, ring, key_epoch, wrapped_key, sealed, at)"
            " VALUES ($1, 9, $2, $3, '', '', now())",
            other,
            ring,
            old,
        )
    await world.patch(other, world.custodian, {"fields": {"remarks": "回访"}}, "1")
    assert await place(world, other) == (ring, old + 1)
    [late] = await neighbours_of(world, record, 1)
    assert await place(world, late) == (ring, old + 1)
    await finished(shredder)
    for living in (other, late):
        assert (await world.read(living, world.custodian)).status_code == 200


async def test_who_waited_for_an_epoch_that_closed_takes_the_next_and_makes_no_key_anew(world: World) -> None:
    record, other = await neighbours(world, 2)
    ring, old = await place(world, record)
    database, vault = world.app.state.database, world.desk.vault
    await world.order(record)
    await world.shredder().advance()

    async def take() -> int:
        async with database.transaction() as session:
            return await vault.open_epoch(session, ring)

    async with database.transaction() as session:
        await repository.set_epoch_state(session, ring, old, "closing")
        vault.keyring.create(ring, old + 1)
        await repository.set_epoch_state(session, ring, old + 1, "open")
        waiting = asyncio.create_task(take())
        await asyncio.sleep(0.2)
        assert not waiting.done()
    assert await waiting == old + 1
    await finished(world.shredder())
    assert not key_file(world, ring, old).exists()
    async with database.transaction() as session:
        assert await vault.open_epochs(session, [ring]) == {ring: old + 1}
    assert not key_file(world, ring, old).exists()
    assert (await world.read(other, world.custodian)).status_code == 200


async def test_the_application_role_cannot_undo_a_destruction(world: World) -> None:
    record = await world.register()
    await world.order(record)
    await finished(world.shredder())
    connection = await world.app.state.database.connect()
    try:
        for table in ("records", "copies", "ring_epochs", "destruction_orders"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(f"DELETE FROM {table}")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(f"TRUNCATE {table} CASCADE")
    finally:
        await connection.close()
