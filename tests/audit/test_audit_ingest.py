"""How events come in: once, in order, only what their producer signed, and whatever they hold."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import orjson
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from tests.audit.bench import Bench
from tests.support.parts import introduce
from tests.support.waiting import eventually, running

from dossier_audit.consumers import ingest
from dossier_audit.main import create
from dossier_common.clock import SystemClock
from dossier_common.ids import new_id
from dossier_common.keys import SigningKey
from dossier_common.leaves import NO_LEAF, ChainBroken, Head, Numbered, number
from dossier_common.publisher import Publisher
from dossier_common.relay import Relay
from dossier_common.worker import Context
from dossier_local import keys as local_keys
from dossier_local.cluster import Cluster


@pytest.mark.invariant(2)
async def test_feed_and_stream_together_store_each_event_once(bench: Bench) -> None:
    records = await bench.emit(700)
    async with running(bench.producer.relay().run()):
        await bench.numbered()
    await bench.consumer().catch_up()
    assert await bench.count(records) == 700
    async with running(bench.consumer().run(), bench.producer.relay().run()):
        later = await bench.emit(3)
        await bench.stored(later)
    assert await bench.count(records) == 700
    assert await bench.count(later) == 3


@pytest.mark.invariant(2)
async def test_stream_alone_stores_each_event_once(bench: Bench) -> None:
    before = await bench.emit(1)
    async with running(bench.producer.relay().run()), running(bench.consumer().run()):
        await bench.stored(before)
        introduce(bench.worker.peers, bench.keys, {})
        try:
            records = await bench.emit(600) + await bench.emit(1)
            await bench.stored(records)
        finally:
            introduce(bench.worker.peers, bench.keys, {"retention": bench.producer_app})
        async with bench.worker.database.session() as session:
            query = text(
                "SELECT count(*), max(seq) - min(seq) + 1, "
                "(SELECT seq FROM cursors WHERE producer = 'retention') - max(seq) "
                "FROM leaves WHERE producer = 'retention'"
            )
            stored, span, ahead = (await session.execute(query)).one()
    assert stored == span
    assert ahead == 0


@pytest.mark.invariant(2)
async def test_feed_alone_stores_each_event_once_when_nats_is_lost(bench: Bench) -> None:
    async def lost(_events: Sequence[Numbered], _head: Head) -> None:
        raise ConnectionError

    relay = Relay(
        "retention",
        bench.producer.database,
        bench.producer.key,
        bench.producer.clock,
        deliver=lost,
        confirmed=bench.producer.confirmed,
    )
    records = await bench.emit(300)
    async with running(relay.run()):

        async def caught_up() -> int:
            await bench.consumer().catch_up()
            return await bench.count(records)

        await eventually(caught_up, 300)


async def test_tampered_message_is_refused_and_the_feed_heals(bench: Bench) -> None:
    publisher = Publisher(bench.producer.nats, "retention")
    tampered = 0

    async def deliver(events: Sequence[Numbered], head: Head) -> None:
        nonlocal tampered
        changed = replace(events[0], body=events[0].body.replace(b"success", b"refused"))
        assert changed.body != events[0].body
        tampered += 1
        await publisher.deliver([changed, *events[1:]], head)

    relay = Relay(
        "retention",
        bench.producer.database,
        bench.producer.key,
        bench.producer.clock,
        deliver=deliver,
        confirmed=bench.producer.confirmed,
    )
    async with running(bench.consumer().run()):
        async with running(relay.run()):
            records = await bench.emit(5)
            await bench.stored(records)
        async with running(bench.producer.relay().run()):
            later = await bench.emit(5)
            await bench.stored(later)
    assert tampered
    async with bench.worker.database.session() as session:
        outcomes = await session.execute(text("SELECT outcome FROM bodies WHERE record = ANY(:of)"), {"of": records})
    assert set(outcomes.scalars()) == {"success"}


def _chain(key: SigningKey, producer: str, bodies: Sequence[bytes], *, epoch: int = 1) -> tuple[list[Numbered], Head]:
    prev, events = NO_LEAF, []
    for seq, body in enumerate(bodies, start=1):
        time = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        events.append(number(producer, epoch, seq, prev, new_id(), time, f"{producer}.v1.unheard.of", body))
        prev = events[-1].hash
    return events, Head.sign(key, producer, epoch, len(events), prev)


async def _stored(worker: Context, producer: str) -> int:
    async with worker.database.session() as session:
        query = text("SELECT count(*) FROM leaves WHERE producer = :producer")
        return int((await session.execute(query, {"producer": producer})).scalar_one())


@pytest.mark.invariant(3)
async def test_forged_signature_is_refused(bench: Bench) -> None:
    consumer = bench.worker.consumer("approvals", ingest(SystemClock()))
    events, head = _chain(SigningKey.generate(), "approvals", [b"{}"])
    with pytest.raises(ChainBroken, match="not signed by its producer"):
        await consumer.take(events, head)
    assert await _stored(bench.worker, "approvals") == 0


@pytest.mark.invariant(3)
async def test_gap_another_producer_and_changed_body_are_refused(bench: Bench, cluster: Cluster) -> None:
    consumer = bench.worker.consumer("approvals", ingest(SystemClock()))
    key = SigningKey.read(local_keys.signing_key(cluster.state, "approvals"))
    events, head = _chain(key, "approvals", [b"{}", b"{}", b"{}"])
    with pytest.raises(ChainBroken):
        await consumer.take(events[1:], head)
    with pytest.raises(ChainBroken):
        await consumer.take([events[0], replace(events[1], body=b"[]"), events[2]], head)
    with pytest.raises(ChainBroken):
        await consumer.take(*_chain(key, "records", [b"{}"]))
    assert await _stored(bench.worker, "approvals") == 0


@pytest.mark.invariant(2)
async def test_events_that_nobody_understands_are_stored(bench: Bench, cluster: Cluster) -> None:
    consumer = bench.worker.consumer("gateway", ingest(SystemClock()))
    key = SigningKey.read(local_keys.signing_key(cluster.state, "gateway"))
    odd = [
        b"not json",
        b"[]",
        b"null",
        b'{"data": 1, "actor": "nobody", "outcome": 3}',
        orjson.dumps({"data": {"record": "x", "records": ["x", 1]}, "txn": "a\0b", "client": "c" * 900}),
        '{"data": "密"}'.encode(),
    ]
    await consumer.take(*_chain(key, "gateway", odd))
    async with bench.worker.database.session() as session:
        rows = (
            await session.execute(
                text(
                    "SELECT body, actor, record, records, txn, client "
                    "FROM bodies WHERE producer = 'gateway' ORDER BY seq"
                )
            )
        ).all()
    assert [row.body for row in rows] == odd
    assert all(row[1:] == (None, None, None, None, None) for row in rows)


async def test_new_epoch_of_a_restored_producer_is_stored_and_is_an_event(bench: Bench, cluster: Cluster) -> None:
    consumer = bench.worker.consumer("records", ingest(SystemClock()))
    key = SigningKey.read(local_keys.signing_key(cluster.state, "records"))
    await consumer.take(*_chain(key, "records", [b"{}", b"{}"]))
    await consumer.take(*_chain(key, "records", [b"{}"], epoch=2))
    assert await _stored(bench.worker, "records") == 3
    async with bench.worker.database.session() as session:
        query = text("SELECT body FROM outbox WHERE type = 'audit.v1.producer.forked'")
        bodies = [orjson.loads(body) for body in (await session.execute(query)).scalars()]
    assert {"producer": "records", "epoch": 1, "seq": 2} in [body["data"] for body in bodies]


async def test_leaf_and_body_are_kept_byte_for_byte(bench: Bench) -> None:
    records = await bench.emit(1)
    async with running(bench.producer.relay().run()), running(bench.consumer().run()):
        await bench.stored(records)
    async with bench.producer.database.session() as session:
        query = text("SELECT leaf, salt, body FROM outbox WHERE convert_from(body, 'UTF8') LIKE :record")
        sent = (await session.execute(query, {"record": f"%{records[0]}%"})).one()
    async with bench.worker.database.session() as session:
        query = text(
            "SELECT l.leaf, b.salt, b.body, l.hash FROM leaves l JOIN bodies b USING (producer, epoch, seq) "
            "WHERE b.record = :record"
        )
        kept = (await session.execute(query, {"record": records[0]})).one()
    assert tuple(kept)[:3] == tuple(sent)
    assert kept.hash == hashlib.sha256(sent.leaf).digest()


def test_openapi_can_be_had_without_settings() -> None:
    app = create()
    assert isinstance(app, FastAPI)
    assert "/v1/audit/events" in app.openapi()["paths"]
