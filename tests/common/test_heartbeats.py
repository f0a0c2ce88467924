"""Heartbeats and freshness: a projection says until when nothing can be missing in it, and never says too much."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import nats.errors
import orjson
import pytest
from nats.aio.client import Client
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from structlog.testing import capture_logs
from tests.common.line import Line
from tests.common.test_inbox import numbered_only
from tests.support.broker import PATIENCE, connected
from tests.support.waiting import eventually, running

from dossier_cli import accounts
from dossier_common import cursors
from dossier_common.clock import ManualClock, SystemClock
from dossier_common.cursors import Cursor
from dossier_common.heartbeats import Heartbeat, HeartbeatForged, Pulse
from dossier_common.inbox import Consumer
from dossier_common.keys import SigningKey
from dossier_common.leaves import NO_LEAF, Head, Numbered
from dossier_common.publisher import Publisher
from dossier_common.relay import Relay
from dossier_common.topology import FOLLOWS, PARTS, PUBLISHERS, heartbeat_subject

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
HASH = bytes(range(32))


async def fresh(line: Line) -> datetime | None:
    """Until when nothing is missing at the follower."""
    async with line.follower.database.session() as session:
        found: datetime | None = (
            await session.execute(text("SELECT fresh_at FROM cursors WHERE producer = 'retention'"))
        ).scalar_one_or_none()
        return found


async def fresh_since(line: Line, at: datetime) -> None:
    """Waits until nothing that was committed before this instant is missing at the follower."""

    async def ask() -> bool:
        found = await fresh(line)
        return found is not None and found >= at

    await eventually(ask, expected=True)


def now() -> datetime:
    return datetime.now(UTC)


def living(line: Line, *, publishing: bool = True) -> Relay:
    """A relay with heartbeats; perhaps the stream loses all that it publishes."""

    async def lose(_events: Sequence[Numbered], _head: Head) -> None:
        """Nothing arrives, and nobody notices."""

    deliver = Publisher(line.producer.nats, "retention").deliver if publishing else lose
    relay = line.relay(deliver)
    relay._beat = line.producer.beat
    return relay


async def beat(line: Line, epoch: int, seq: int, leaf_hash: bytes, at: datetime) -> None:
    """One heartbeat of the producer's, whatever is in its database."""
    made = Heartbeat.sign(line.producer.key, "retention", epoch, seq, leaf_hash, at)
    await line.producer.nats.publish(heartbeat_subject("retention"), made.payload())
    await line.producer.nats.flush()


class Feed:
    """Counts the pages that a consumer asks for."""

    def __init__(self, consumer: Consumer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pages, page = 0, consumer._page

        async def counted() -> object:
            self.pages += 1
            return await page()

        monkeypatch.setattr(consumer, "_page", counted)


# -- what travels


def test_heartbeat_arrives_as_it_was_signed(line: Line) -> None:
    made = Heartbeat.sign(line.producer.key, "retention", 2, 7, HASH, AT)
    assert Heartbeat.verified(made.payload(), "retention", line.verifying()) == made


@pytest.mark.parametrize(
    "change",
    [
        {"producer": "records"},
        {"epoch": 3},
        {"epoch": True},
        {"seq": 8},
        {"seq": "7"},
        {"seq": 2**80},
        {"hash": "00" * 32},
        {"hash": "x"},
        {"at": "2026-01-01T12:00:01Z"},
        {"at": "2026-01-01T12:00:00"},
        {"at": None},
        {"signature": ""},
        {"signature": 1},
    ],
)
def test_changed_heartbeat_is_none(line: Line, change: dict[str, object]) -> None:
    said = orjson.loads(Heartbeat.sign(line.producer.key, "retention", 2, 7, HASH, AT).payload())
    with pytest.raises(HeartbeatForged):
        Heartbeat.verified(json.dumps(said | change).encode(), "retention", line.verifying())


@pytest.mark.parametrize("payload", [b"", b"{}", b"[]", b"null", b"\xff", b'"retention"'])
def test_payload_that_is_no_heartbeat_is_refused(line: Line, payload: bytes) -> None:
    with pytest.raises(HeartbeatForged):
        Heartbeat.verified(payload, "retention", line.verifying())


@pytest.mark.invariant(6)
def test_heartbeat_of_another_key_is_none_and_a_head_is_none_either(line: Line) -> None:
    other = Heartbeat.sign(SigningKey.generate(), "retention", 2, 7, HASH, AT)
    head = Head.sign(line.producer.key, "retention", 2, 7, HASH)
    for made in (other, replace(other, signature=head.signature)):
        with pytest.raises(HeartbeatForged):
            Heartbeat.verified(made.payload(), "retention", line.verifying())


def test_pulse_tells_what_the_cursor_has_reached_and_since_when_it_is_behind(line: Line) -> None:
    pulse = Pulse("retention", line.verifying())

    def hear(epoch: int, seq: int, leaf_hash: bytes, seconds: int) -> None:
        made = Heartbeat.sign(line.producer.key, "retention", epoch, seq, leaf_hash, AT + timedelta(seconds=seconds))
        pulse.hear(made.payload(), float(seconds))

    hear(1, 0, NO_LEAF, 0)
    assert (pulse.passed(Cursor()), pulse.ahead_since()) == (AT, None)
    for seconds in (1, 2, 3):
        hear(1, 10 * seconds, HASH, seconds)
    assert (pulse.passed(Cursor(1, 9, HASH)), pulse.ahead_since()) == (None, 1.0)
    assert (pulse.passed(Cursor(1, 25, HASH)), pulse.ahead_since()) == (AT + timedelta(seconds=2), 3.0)
    assert pulse.passed(Cursor(1, 25, HASH)) is None
    hear(2, 1, HASH, 4)
    assert (pulse.passed(Cursor(1, 99, HASH)), pulse.ahead_since()) == (AT + timedelta(seconds=3), 4.0)
    with capture_logs() as logs:
        for _ in range(3):
            hear(2, 1, HASH, 5)
            assert pulse.passed(Cursor(2, 1, bytes(32))) is None
    assert [(each["event"], each["log_level"]) for each in logs] == [("producer-forked", "error")]
    with capture_logs() as logs:
        pulse.hear(b"{}", 6.0)
    assert [each["event"] for each in logs] == ["heartbeat-forged"]
    assert pulse.heard_at == 5.0


# -- the producer


async def test_heartbeat_says_how_far_all_is_numbered(line: Line) -> None:
    relay = line.relay()
    connection = await line.producer.database.connect()
    try:
        before = now()
        made = await relay._heartbeat(connection)
        assert (made.epoch, made.seq, made.hash) == (1, 0, NO_LEAF)
        assert before <= made.at <= now()
        await line.emit(3)
        await relay._number(connection)
        await line.emit(1, ManualClock(AT))
        await line.emit(1)
        made = await relay._heartbeat(connection)
        (head,) = await line.heads()
        assert (made.epoch, made.seq, made.hash, made.at) == (1, 3, head.hash, AT)
    finally:
        await connection.close()


# -- the follower


@pytest.mark.invariant(2)
async def test_follower_is_fresh_by_heartbeats_alone(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = line.consumer()
    feed = Feed(consumer, monkeypatch)
    async with running(living(line).run(), consumer.run()):
        await line.emit(3)
        await line.has_seen(3)
        await fresh_since(line, now())
        asked = feed.pages
        for _ in range(2):
            await fresh_since(line, now() + timedelta(seconds=0.5))
            await line.emit(1)
        await line.has_seen(5)
        assert feed.pages - asked <= 1  # nobody needs the feed while the heart beats


async def test_what_was_fresh_by_a_clock_that_was_set_back_counts_no_more(line: Line) -> None:
    async with line.follower.database.transaction() as session:
        await cursors.write_fresh(session, "retention", now() + timedelta(hours=1), SystemClock())
        await cursors.write_fresh(session, "retention", AT, SystemClock())
    assert await fresh(line) == AT
    async with line.follower.database.transaction() as session:
        await cursors.write_fresh(session, "retention", AT - timedelta(seconds=1), SystemClock())
    assert await fresh(line) == AT


@pytest.mark.invariant(2)
async def test_freshness_is_never_later_than_what_is_applied(line: Line) -> None:
    async with running(line.consumer().run()):
        await fresh_since(line, now())
        line.take_feed_away()
        events, (head,) = await numbered_only(line, 3)
        last = await fresh(line)
        assert last is not None
        await beat(line, 1, 3, head.hash, now())
        await beat(line, 1, 3, head.hash, now() + timedelta(hours=1))
        await asyncio.sleep(1.0)  # time in which it could say too much
        assert await fresh(line) == last
        line.give_feed_back()
        await line.has_seen(len(events))
        await fresh_since(line, last + timedelta(seconds=0.1))
        found = await fresh(line)
        assert found is not None
        assert found <= now()  # whatever the producer's clock says


@pytest.mark.invariant(2)
async def test_what_a_heartbeat_speaks_of_and_the_stream_lost_is_pulled(line: Line) -> None:
    async with running(living(line, publishing=False).run(), line.consumer().run()):
        for number in (3, 4, 5):
            await line.emit(1 if number > 3 else 3)
            emitted = now()
            await line.has_seen(number)
            await fresh_since(line, emitted)
    assert await line.stream_length() == 0


@pytest.mark.invariant(2)
async def test_silent_heart_sends_the_follower_to_the_feed_about_once_a_second(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer = line.consumer()
    feed = Feed(consumer, monkeypatch)
    async with running(consumer.run()):
        started = now()
        await fresh_since(line, started + timedelta(seconds=3))
        assert feed.pages <= (now() - started).total_seconds() + 2


@pytest.mark.invariant(2)
async def test_handler_that_fails_makes_the_projection_stale(line: Line) -> None:
    async def fail(session: AsyncSession, producer: str, events: Sequence[Numbered], head: Head) -> None:
        await line.note(session, producer, events, head)
        raise LookupError

    async with running(living(line).run()):
        failing = asyncio.create_task(line.consumer(fail).run())
        await fresh_since(line, now())
        await line.emit(1)
        emitted = now()
        await asyncio.wait([failing], timeout=20)
        for _ in range(2):
            found = await fresh(line)
            assert found is not None
            assert found <= emitted
            with pytest.raises(LookupError):
                await line.consumer(fail).run()
    assert isinstance(failing.exception(), LookupError)


@pytest.mark.invariant(2)
async def test_slow_handler_makes_the_projection_stale_until_it_is_done(line: Line) -> None:
    done = asyncio.Event()

    async def slow(session: AsyncSession, producer: str, events: Sequence[Numbered], head: Head) -> None:
        await done.wait()
        await line.note(session, producer, events, head)

    async with running(living(line).run(), line.consumer(slow).run()):
        await fresh_since(line, now())
        await line.emit(1)
        emitted = now()
        await asyncio.sleep(1.5)  # several heartbeats
        found = await fresh(line)
        assert found is not None
        assert found <= emitted
        done.set()
        await line.has_seen(1)
        await fresh_since(line, emitted + timedelta(seconds=1))


@pytest.mark.invariant(3)
async def test_fork_is_told_and_makes_nothing_fresh(line: Line) -> None:
    _, (head,) = await numbered_only(line, 3)
    await line.consumer().catch_up()
    line.take_feed_away()
    before = await fresh(line)
    with capture_logs() as logs:

        async def told() -> bool:
            return any(each["event"] == "producer-forked" for each in logs)

        async with running(line.consumer().run()):
            async with asyncio.timeout(20):
                while not await told():
                    await beat(line, 1, 3, HASH, now())
                    await asyncio.sleep(0.05)
    (fork,) = [each for each in logs if each["event"] == "producer-forked"]
    assert (fork["producer"], fork["epoch"], fork["seq"]) == ("retention", 1, 3)
    assert await fresh(line) == before
    assert head.hash != HASH


@pytest.mark.invariant(2)
async def test_pruned_feed_is_told_as_an_error_and_not_asked_again_at_once(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    events, _ = await numbered_only(line, 3, 2)
    await line.execute("DELETE FROM outbox WHERE seq <= 3")
    consumer = line.consumer()
    feed = Feed(consumer, monkeypatch)
    with capture_logs() as logs:
        async with running(consumer.run()):
            await asyncio.sleep(2.5)  # more than the time after which a feed is asked again
    assert len(events) == 5
    assert feed.pages == 1
    (told,) = [each for each in logs if each["event"] == "feed-pruned"]
    assert (told["log_level"], told["producer"]) == ("error", "retention")
    assert "1/4" in told["detail"]
    assert (await line.seen(), await fresh(line)) == ([], None)


# -- who may


@pytest.fixture
async def gateway(line: Line) -> AsyncIterator[Client]:
    """A part that does not follow this producer."""
    async with connected(line.cluster.broker, "gateway") as client:
        yield client


@pytest.mark.invariant(6)
async def test_only_the_producer_beats_and_only_its_followers_hear(line: Line, gateway: Client) -> None:
    subject = heartbeat_subject("retention")
    overheard = await gateway.subscribe(subject)
    heard = await line.follower.nats.subscribe(subject)
    await line.follower.nats.flush()
    for client in (gateway, line.follower.nats):
        await client.publish(subject, b"forged")
        await client.flush()
    await beat(line, 1, 0, NO_LEAF, now())
    first = await heard.next_msg(timeout=PATIENCE)
    assert Heartbeat.verified(first.data, "retention", line.verifying()).seq == 0
    with pytest.raises(nats.errors.TimeoutError):
        await overheard.next_msg(timeout=0.2)
    await heard.unsubscribe()


def test_permissions_follow_the_topology() -> None:
    for part in PARTS:
        beats = {each for each in accounts.publishes(part) if each.endswith(".heartbeat")}
        hears = {each for each in accounts.subscribes(part) if each.endswith(".heartbeat")}
        assert beats == ({heartbeat_subject(part)} if part in PUBLISHERS else set())
        assert hears == {heartbeat_subject(producer) for producer in FOLLOWS[part]}
