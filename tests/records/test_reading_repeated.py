"""Readings repeated under their key, many at once, and without what makes them durable (invariants 1 and 3)."""

import asyncio
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import httpx
import pytest
from tests.records.world import World, slug

from dossier_local.cluster import Cluster
from dossier_records.envelopes import Sealed

PAST_THE_FAST_PATH = "&and=nothing"
TERMINATED = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'records_app'"


# ---- Idempotency-Key


@pytest.mark.parametrize("extra", ["", PAST_THE_FAST_PATH])
async def test_a_reading_repeated_under_its_key_counts_once(world: World, extra: str) -> None:
    record = await world.register()
    grant = await world.granted(record, world.colleague, uses=1)
    await world.forget_events()
    answers = [await world.read(record, world.colleague, grant, key="k-1", extra=extra) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert await world.used(grant) == 1
    assert await world.counted() == {"record.viewed": 3}
    assert slug(await world.read(record, world.colleague, grant, key="k-2", extra=extra)) == "grant-exhausted"


async def test_the_same_key_many_times_at_once_counts_once(world: World) -> None:
    record = await world.register()
    grant = await world.granted(record, world.colleague)
    answers = await asyncio.gather(*[world.read(record, world.colleague, grant, key="k-1") for _ in range(20)])
    assert {answer.status_code for answer in answers} == {200}
    assert await world.used(grant) == 1


async def test_a_key_opens_no_other_record(world: World) -> None:
    one, two = await world.register(), await world.register()
    grant = await world.granted(one, world.colleague, records=(one, two), uses=2)
    assert (await world.read(one, world.colleague, grant, key="k-1")).status_code == 200
    other = await world.read(two, world.colleague, grant, key="k-1")
    assert (other.status_code, slug(other)) == (409, "idempotency-conflict")
    assert await world.used(grant) == 1


async def test_a_key_counts_again_for_a_new_version_and_after_a_day(world: World) -> None:
    record = await world.register()
    grant = await world.granted(record, world.colleague, until=world.clock.now() + timedelta(days=9))
    await world.read(record, world.colleague, grant, key="k-1")
    assert (await world.patch(record, world.custodian, {"fields": {"remarks": "回访"}}, "1")).status_code == 200
    await world.read(record, world.colleague, grant, key="k-1")
    assert await world.used(grant) == 2
    world.clock.advance(timedelta(hours=25))
    await world.seen_through(world.clock.now())
    for _ in range(2):
        assert (await world.read(record, world.colleague, grant, key="k-1")).status_code == 200
    assert await world.used(grant) == 3


@pytest.mark.parametrize("key", [" ", "a\x7f", "k" * 201, "caf\u00e9"])
async def test_a_key_that_is_none_is_refused(world: World, key: str) -> None:
    record = await world.register()
    grant = await world.granted(record, world.colleague)
    headers = [
        (b"txn-token", world.token(world.colleague)["Txn-Token"].encode()),
        (b"idempotency-key", key.encode("latin-1")),
    ]
    answer = await world.http.get(f"/v1/records/{record}?purpose=service&grant={grant}", headers=headers)
    assert answer.status_code == 422
    assert await world.used(grant) == 0


# ---- many at once


async def test_two_hundred_readings_at_once_use_a_grant_of_fifty_exactly(world: World) -> None:
    records = [await world.register() for _ in range(4)]
    grant = await world.granted(records[0], world.colleague, records=tuple(records), uses=50)
    await world.forget_events()
    answers = await asyncio.gather(*[world.read(records[n % 4], world.colleague, grant) for n in range(200)])
    assert sorted(answer.status_code for answer in answers) == [200] * 50 + [403] * 150
    assert {slug(answer) for answer in answers if answer.status_code == 403} == {"grant-exhausted"}
    assert await world.used(grant) == 50
    assert await world.counted() == {"record.viewed": 50, "access.refused": 150}
    uses = sorted(event["data"]["use"] for event in await world.events("record.viewed"))
    assert uses == list(range(1, 51))


async def test_readings_that_were_given_up_disturb_no_other(world: World) -> None:
    record = await world.register()
    await world.forget_events()
    reading = [asyncio.create_task(world.read(record, world.colleague)) for _ in range(30)]
    await asyncio.sleep(0)
    for task in reading[::2]:
        task.cancel()
    answers = await asyncio.gather(*reading, return_exceptions=True)
    assert all(isinstance(answer, httpx.Response) and answer.status_code == 200 for answer in answers[1::2])


@pytest.mark.parametrize("damage", [b"no envelope", b'{"alg":"AES-256-GCM","fields":{"name":"AAAA"}}'])
async def test_a_damaged_row_fails_alone(world: World, damage: bytes) -> None:
    records = [await world.register() for _ in range(10)]
    await world.owner.execute("UPDATE record_versions SET sealed = $1 WHERE record_id = $2", damage, records[4])
    answers = await asyncio.gather(*[world.read(record, world.custodian) for record in records])
    assert [answer.status_code for answer in answers] == [200] * 4 + [500] + [200] * 5
    assert slug(answers[4]) == "damaged-record"


# ---- invariant 1


@contextmanager
def watched(world: World, cluster: Cluster) -> Iterator[list[int]]:
    """How many events another connection sees at each opening of content."""
    seen: list[int] = []
    vault = world.desk.vault
    opened = type(vault).open

    def looked(record: UUID, version: int, kept: Sealed, wanted: Collection[str]) -> dict[str, str]:
        seen.append(_count(cluster))
        return opened(vault, record, version, kept, wanted)

    vault.open = looked  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        del vault.open


def _count(cluster: Cluster) -> int:
    return int(cluster.postgres.psql("SELECT count(*) FROM outbox", "dossier_records"))


@pytest.mark.invariant(1)
async def test_nothing_is_decrypted_before_its_record_is_durable(world: World, cluster: Cluster) -> None:
    record = await world.register()
    copying = await world.granted(record, world.custodian, action="copy")
    copy = await world.post(f"/v1/records/{record}/copies", world.custodian, {"grant": str(copying), "action": "copy"})
    await world.forget_events()
    phone = (await world.read(record, world.custodian)).json()["fields"]["phone"]["value"]
    await world.forget_events()
    search = {"field": "phone", "value": phone, "purpose": "service"}
    with watched(world, cluster) as seen:
        await world.read(record, world.custodian)
        await world.read(record, world.custodian, extra=PAST_THE_FAST_PATH)
        await world.post("/v1/records/search", world.custodian, search)
        await world.get(f"/v1/copies/{copy.json()['id']}/content", world.custodian)
    assert seen == [1, 2, 3, 4]


@pytest.mark.invariant(1)
async def test_what_cannot_be_recorded_is_not_decrypted(world: World, cluster: Cluster) -> None:
    record = await world.register()
    grant = await world.granted(record, world.colleague)
    await world.forget_events()
    await world.owner.execute("REVOKE INSERT ON outbox FROM records_app")
    try:
        with watched(world, cluster) as seen:
            answers = [
                await world.read(record, world.custodian),
                await world.read(record, world.colleague, grant),
                await world.read(record, world.custodian, extra=PAST_THE_FAST_PATH),
            ]
    finally:
        await world.owner.execute("GRANT INSERT ON outbox TO records_app")
    assert {slug(answer) for answer in answers} == {"audit-unavailable"}
    assert seen == []
    assert await world.used(grant) == 0


@pytest.mark.invariant(1)
async def test_without_its_database_it_answers_503_and_shows_nothing(world: World) -> None:
    fields = world.customer()
    record = await world.register(fields)
    await world.read(record, world.custodian)
    await world.owner.execute("ALTER ROLE records_app CONNECTION LIMIT 0")
    try:
        await world.owner.execute(TERMINATED)
        answers = [
            *await asyncio.gather(*[world.read(record, world.custodian) for _ in range(80)]),
            await world.read(record, world.custodian, extra=PAST_THE_FAST_PATH),
            await world.read(record, replace(world.custodian, scopes=())),
            await world.get(f"/v1/records/{record}/access?action=view&purpose=service", world.custodian),
        ]
    finally:
        await world.owner.execute("ALTER ROLE records_app CONNECTION LIMIT -1")
    assert {answer.status_code for answer in answers} == {503}
    assert {slug(answer) for answer in answers[:-1]} == {"audit-unavailable"}
    assert all(answer.headers["retry-after"] for answer in answers)
    assert not any(value in answer.text for answer in answers for value in fields.values())
    assert (await world.read(record, world.custodian)).status_code == 200


@pytest.mark.invariant(1)
async def test_a_connection_lost_in_the_commit_is_no_reading(world: World) -> None:
    record = await world.register()
    await world.read(record, world.custodian)
    await world.owner.execute("BEGIN; LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE")
    try:
        reading = [asyncio.create_task(world.read(record, world.custodian)) for _ in range(5)]
        await asyncio.sleep(0.3)
        await world.owner.execute(f"{TERMINATED} AND wait_event_type = 'Lock'")
    finally:
        await world.owner.execute("ROLLBACK")
    answers = await asyncio.gather(*reading)
    for answer in answers:
        assert answer.status_code in {200, 503}
        assert answer.status_code == 200 or slug(answer) == "audit-unavailable"
    assert 503 in {answer.status_code for answer in answers}
    assert (await world.read(record, world.custodian)).status_code == 200
