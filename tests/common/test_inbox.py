"""Consumers apply each event once and in order, and believe nobody but its producer."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import nats
import orjson
import pytest
from pydantic import ConfigDict
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from tests.common.line import Line
from tests.support.broker import PATIENCE
from tests.support.waiting import eventually, running

from dossier_common.contracts.retention import HoldPlaced, HoldReleased
from dossier_common.events import Envelope, encode, instant
from dossier_common.ids import new_id
from dossier_common.inbox import Handlers
from dossier_common.keys import SigningKey
from dossier_common.leaves import NO_LEAF, ChainBroken, Head, Numbered, number
from dossier_common.publisher import Publisher
from dossier_common.topology import inbox_prefix
from dossier_common.wire import event_to_json, head_to_json, message
from dossier_common.worker import opened


async def numbered_only(line: Line, *counts: int) -> tuple[list[Numbered], list[Head]]:
    """Numbers batches of these lengths, and publishes nothing."""
    relay = line.relay()
    connection = await line.producer.database.connect()
    try:
        for count in counts:
            await line.emit(count)
            assert await relay._number(connection)
    finally:
        await connection.close()
    return await line.chain(), await line.heads()


async def publish(line: Line, events: Sequence[Numbered], head: Head) -> None:
    """Puts messages into the stream by hand, each under an id of its own."""
    client = line.producer.nats
    for event in events:
        headers = {"Nats-Msg-Id": str(new_id())}
        reply = await client.request(event.type, message(event, head), timeout=PATIENCE, headers=headers)
        assert "error" not in orjson.loads(reply.data)


@pytest.mark.invariant(2)
async def test_stream_and_feed_together_apply_each_event_once(line: Line) -> None:
    await line.emit(700)
    async with running(line.relay().run(), line.consumer().run()):
        await line.has_seen(700)
        await line.emit(1)
        await line.emit(300)
        await line.has_seen(1001)
    await line.consumer().catch_up()
    assert len(await line.seen()) == 1001


async def test_batches_that_a_fetch_cuts_wait_for_their_end(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dossier_common.pull.BATCH", 7)
    line.take_feed_away()
    async with running(line.relay().run(), line.consumer().run()):
        await line.emit(100)
        await line.emit(5)
        await line.emit(23)
        await line.has_seen(128)


async def test_repeated_and_reordered_messages_are_applied_once_and_in_order(line: Line) -> None:
    events, (first, second, third) = await numbered_only(line, 3, 2, 4)
    line.take_feed_away()
    async with running(line.consumer().run()):
        await publish(line, events[:3], first)
        await line.has_seen(3)
        await publish(line, events[:3], first)
        await publish(line, [events[1], *events[3:5], events[0], events[4]], second)
        await line.has_seen(5)
    line.give_feed_back()
    async with running(line.consumer().run()):
        await line.has_seen(9)
        await publish(line, [events[7], events[6]], third)
        await publish(line, [events[8], events[5]], third)
        await asyncio.sleep(0.3)
    assert [seq for _, seq in await line.seen()] == list(range(1, 10))


@pytest.mark.invariant(2)
async def test_gap_is_filled_from_the_feed(line: Line) -> None:
    events, (first, _, third) = await numbered_only(line, 2, 2, 2)
    line.take_feed_away()
    async with running(line.consumer().run()):
        await publish(line, events[:2], first)
        await line.has_seen(2)
        await publish(line, events[4:], third)
        await asyncio.sleep(0.5)
        assert len(await line.seen()) == 2
        line.give_feed_back()
        await line.has_seen(6)


@pytest.mark.invariant(2)
async def test_lost_stream_is_replaced_by_the_feed(line: Line) -> None:
    async with running(line.relay().run(), line.consumer().run()):
        await line.emit(3)
        await line.has_seen(3)
        await line.delete_stream()
        await line.emit(3)
        await line.has_seen(6)
        line.make_streams()
        await line.emit(3)
        await line.has_seen(9)
        await line.published()
        line.take_feed_away()
        await line.emit(3)
        await line.has_seen(12)
    assert await line.stream_length() == 9


@pytest.mark.invariant(2)
async def test_silence_sends_the_follower_to_the_feed(line: Line) -> None:
    async with running(line.consumer().run()):
        await asyncio.sleep(0.2)
        await numbered_only(line, 3)  # and never published
        await line.has_seen(3)
        await numbered_only(line, 2)
        await line.has_seen(5)


@pytest.mark.invariant(2)
async def test_old_messages_do_not_hold_up_new_ones(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dossier_common.pull.BATCH", 1)
    async with running(line.relay().run()):
        await line.emit(500)
        await line.published()
    await line.consumer().catch_up()
    async with running(line.consumer().run()):
        await asyncio.sleep(0.1)
        await numbered_only(line, 3)  # and never published
        await line.has_seen(503)


@pytest.mark.invariant(2)
async def test_nats_itself_may_be_away_from_the_start(line: Line) -> None:
    broker, processes = line.cluster.broker, line.cluster.processes
    processes["nats"].stop()
    try:
        async with opened("retention", line.producer.settings) as producer:
            await line.emit(3)
            relay = line.relay(Publisher(producer.nats, "retention").deliver)
            async with opened("approvals", line.follower.settings) as follower:
                follower.peers._http, kept = line.follower.peers._http, follower.peers._http
                await kept.aclose()
                async with running(relay.run(), follower.consumer("retention", line.note).run()):
                    await line.has_seen(3)
                    processes["nats"] = broker.start()
                    await line.published()
                    await line.emit(3)
                    await line.has_seen(6)
                follower.peers._http = kept
    finally:
        if processes["nats"].status() is not None:
            processes["nats"] = broker.start()

    async def reconnected() -> bool:
        return line.producer.nats.is_connected and line.follower.nats.is_connected

    await eventually(reconnected, expected=True)
    assert await line.stream_length() == 6


def forged(events: Sequence[Numbered], head: Head) -> tuple[Sequence[Numbered], Head]:
    made = Head.sign(SigningKey.generate(), head.producer, head.epoch, head.seq, head.hash)
    return events, made


def with_other_body(events: Sequence[Numbered], head: Head) -> tuple[Sequence[Numbered], Head]:
    return [replace(events[0], body=events[0].body.replace(b"success", b"refused")), *events[1:]], head


def with_other_leaf(events: Sequence[Numbered], head: Head) -> tuple[Sequence[Numbered], Head]:
    said = orjson.loads(events[0].leaf) | {"time": "2001-01-01T00:00:00.000000Z"}
    return [replace(events[0], leaf=orjson.dumps(said, option=orjson.OPT_SORT_KEYS)), *events[1:]], head


def with_other_type(events: Sequence[Numbered], head: Head) -> tuple[Sequence[Numbered], Head]:
    said = orjson.loads(events[0].leaf) | {"type": "retention.v1.hold.released"}
    leaf = orjson.dumps(said, option=orjson.OPT_SORT_KEYS)
    return [replace(events[0], leaf=leaf, type="retention.v1.hold.released"), *events[1:]], head


def without_one(events: Sequence[Numbered], head: Head) -> tuple[Sequence[Numbered], Head]:
    return [events[0], *events[2:]], head


def of_another_producer(events: Sequence[Numbered], head: Head) -> tuple[Sequence[Numbered], Head]:
    return events, replace(head, producer="records")


CHANGES = [forged, with_other_body, with_other_leaf, with_other_type, without_one, of_another_producer]


@pytest.mark.parametrize("change", CHANGES)
async def test_changed_batch_is_refused(line: Line, change: object) -> None:
    assert callable(change)
    events, (head,) = await numbered_only(line, 3)
    consumer = line.consumer()
    with pytest.raises(ChainBroken):
        await consumer.take(*change(events, head))
    assert await line.seen() == []
    await consumer.take(events, head)
    await line.has_seen(3)


@pytest.mark.invariant(2)
@pytest.mark.parametrize("change", [forged, with_other_body, with_other_leaf])
async def test_changed_messages_are_healed_by_the_feed_and_do_not_come_back(line: Line, change: object) -> None:
    assert callable(change)
    events, (first, second) = await numbered_only(line, 3, 2)
    line.take_feed_away()
    async with running(line.consumer().run()):
        await publish(line, *change(events[:3], first))
        await asyncio.sleep(0.5)
        assert await line.seen() == []
        line.give_feed_back()
        await line.has_seen(5)
        assert second.seq == 5

        async def waiting() -> int:
            async with line.jetstream() as jetstream:
                return (await jetstream.consumer_info("RETENTION", "approvals")).num_ack_pending or 0

        await eventually(waiting, 0)


@pytest.mark.parametrize("payload", [b"", b"{}", b"[]", b"\xff", b'{"leaf": "[]", "salt": "", "body": "", "head": {}}'])
async def test_messages_that_are_none_are_passed_over(line: Line, payload: bytes) -> None:
    await line.producer.nats.request("retention.v1.nonsense", payload, timeout=PATIENCE)
    async with running(line.relay().run(), line.consumer().run()):
        await line.emit(3)
        await line.has_seen(3)
        await line.emit(3)
        await line.has_seen(6)


async def test_body_in_place_of_a_number_is_refused(line: Line) -> None:
    events, (head,) = await numbered_only(line, 1)
    said = orjson.loads(events[0].leaf)
    for name, value in (("seq", "1"), ("epoch", True), ("type", {}), ("id", 1)):
        changed = event_to_json(events[0]) | {"leaf": orjson.dumps(said | {name: value}).decode()}
        payload = orjson.dumps(changed | {"head": head_to_json(head)})
        await line.producer.nats.request("retention.v1.nonsense", payload, timeout=PATIENCE)
    async with running(line.consumer().run()):
        await line.has_seen(1)


@pytest.mark.invariant(2)
async def test_handler_that_raises_leaves_the_cursor_and_is_tried_again(line: Line) -> None:
    broken, tried = True, 0

    async def apply(session: AsyncSession, producer: str, events: Sequence[Numbered], head: Head) -> None:
        nonlocal tried
        await line.note(session, producer, events, head)
        if broken:
            tried += 1
            raise LookupError

    await numbered_only(line, 3)
    for times in (1, 2):
        with pytest.raises(LookupError):
            await line.consumer(apply).run()
        assert tried == times
    assert await line.seen() == []
    broken = False
    async with running(line.consumer(apply).run()):
        await line.has_seen(3)


@pytest.mark.invariant(2)
async def test_two_workers_of_one_part_that_start_at_once_apply_each_event_once(line: Line) -> None:
    async def slow(session: AsyncSession, producer: str, events: Sequence[Numbered], head: Head) -> None:
        await line.note(session, producer, events, head)
        await asyncio.sleep(0.1)

    await numbered_only(line, 3, 3)
    await asyncio.gather(*(line.consumer(slow).catch_up() for _ in range(4)))
    assert await line.seen() == [(1, seq) for seq in range(1, 7)]


@pytest.mark.invariant(2)
async def test_database_that_fails_in_the_transaction_applies_nothing(line: Line) -> None:
    async def fail(session: AsyncSession, producer: str, events: Sequence[Numbered], head: Head) -> None:
        await line.note(session, producer, events, head)
        await session.execute(text("SELECT 1 / 0"))

    await numbered_only(line, 3)
    with pytest.raises(Exception, match="division by zero"):
        await line.consumer(fail).catch_up()
    assert await line.seen() == []
    await line.consumer().catch_up()
    await line.has_seen(3)


async def test_new_epoch_is_taken_from_its_start_only(line: Line) -> None:
    key, consumer = line.producer.key, line.consumer()
    now = line.producer.clock.now()

    def batch(epoch: int, seq: int, prev: bytes) -> tuple[list[Numbered], Head]:
        event, event_id = HoldPlaced(hold=new_id(), record=new_id()), new_id()
        body = encode(event, event_id, now, None)
        made = number("retention", epoch, seq, prev, event_id, instant(now), event.TYPE, body)
        return [made], Head.sign(key, "retention", epoch, seq, made.hash)

    await consumer.take(*batch(1, 1, NO_LEAF))
    with pytest.raises(ChainBroken):
        await consumer.take(*batch(2, 2, NO_LEAF))
    with pytest.raises(ChainBroken):
        await consumer.take(*batch(2, 1, b"\1" * 32))
    await consumer.take(*batch(3, 1, NO_LEAF))
    await consumer.take(*batch(2, 1, NO_LEAF))
    assert await line.seen() == [(1, 1), (3, 1)]


async def test_feed_that_lies_is_not_believed(line: Line) -> None:
    events, (head,) = await numbered_only(line, 2)
    await line.execute("UPDATE outbox SET body = convert_to('{}', 'UTF8') WHERE seq = 2")
    with pytest.raises(ChainBroken):
        await line.consumer().catch_up()
    await line.consumer().take(events, head)
    await line.has_seen(2)


async def test_follower_can_neither_publish_nor_read_what_is_not_its_own(line: Line) -> None:
    follower = line.follower.nats
    with pytest.raises(nats.errors.Error):
        await follower.request("retention.v1.hold.placed", b"{}", timeout=0.5)
    with pytest.raises(nats.errors.Error):
        await follower.request("$JS.API.CONSUMER.MSG.NEXT.RETENTION.audit", b"{}", timeout=0.5)
    assert bytes(follower._inbox_prefix) == inbox_prefix("approvals").encode()
    assert await line.stream_length() == 0


# -- handlers


async def test_handlers_are_called_by_type_and_others_pass_by(line: Line) -> None:
    handlers, placed = Handlers(), []

    @handlers.on(HoldPlaced)
    async def hold_placed(_session: AsyncSession, event: HoldPlaced, envelope: Envelope) -> None:
        placed.append((event.hold, envelope.id, envelope.type))

    events, _ = await numbered_only(line, 2)
    async with line.producer.database.session() as session:
        (head,) = await line.heads()
        await handlers.apply(session, "retention", events, head)
        unknown = [replace(events[0], type="retention.v1.hold.blessed")]
        await handlers.apply(session, "retention", unknown, head)
    assert [(each[1], each[2]) for each in placed] == [(event.id, "retention.v1.hold.placed") for event in events]


async def test_newer_member_of_an_event_is_no_error(line: Line) -> None:
    class Newer(HoldPlaced):
        model_config = ConfigDict(extra="allow")

    handlers, placed = Handlers(), []

    @handlers.on(HoldPlaced)
    async def hold_placed(_session: AsyncSession, event: HoldPlaced, _envelope: Envelope) -> None:
        placed.append(event.hold)

    hold, event_id, now = new_id(), new_id(), line.producer.clock.now()
    newer = Newer.model_validate({"hold": hold, "record": new_id(), "reason_code": "court"})
    body = encode(newer, event_id, now, None)
    made = number("retention", 1, 1, NO_LEAF, event_id, instant(now), newer.TYPE, body)
    async with line.producer.database.session() as session:
        await handlers.apply(session, "retention", [made], Head("retention", 1, 1, made.hash, b""))
    assert placed == [hold]


def test_event_type_has_one_handler() -> None:
    async def handler(_session: AsyncSession, _event: object, _envelope: Envelope) -> None:
        """Never called."""

    handlers, others = Handlers(), Handlers()
    handlers.on(HoldPlaced)(handler)
    with pytest.raises(ValueError, match="has a handler already"):
        handlers.on(HoldPlaced)(handler)
    others.on(HoldReleased)(handler)
    handlers.include(others)
    with pytest.raises(ValueError, match="have a handler already"):
        handlers.include(others)
