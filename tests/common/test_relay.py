"""The relay numbers what was committed, gaplessly and once, whatever else fails."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from nats.errors import Error as NatsError
from sqlalchemy import text
from tests.common.line import Line
from tests.support.waiting import eventually, running

from dossier_common import outbox
from dossier_common.clock import ManualClock
from dossier_common.contracts.retention import HoldPlaced
from dossier_common.events import EventTooLarge
from dossier_common.ids import new_id
from dossier_common.leaves import NO_LEAF, Head, Numbered, verify_chain
from dossier_common.problems import UpstreamUnavailable
from dossier_common.publisher import Publisher
from dossier_common.relay import LOCK, Confirmation, Diverged
from dossier_common.settings import PartSettings


class Crashed(Exception):
    """The relay's process ends here."""


class Recorder:
    """Delivers to the stream, and remembers."""

    def __init__(self, line: Line) -> None:
        self.publisher = Publisher(line.producer.nats, "retention")
        self.batches: list[tuple[list[int], int]] = []

    async def deliver(self, events: Sequence[Numbered], head: Head) -> None:
        await self.publisher.deliver(events, head)
        self.batches.append(([event.seq for event in events], head.seq))


def ensure_whole(line: Line, events: Sequence[Numbered], heads: Sequence[Head], *, epoch: int = 1) -> None:
    """One epoch's events are a gapless chain, cut by signed heads."""
    seq, prev = 0, NO_LEAF
    for head in heads:
        head.verify(line.verifying())
        batch = [event for event in events if seq < event.seq <= head.seq]
        verify_chain("retention", epoch, seq, prev, batch, head)
        seq, prev = head.seq, head.hash
    assert [event.seq for event in events] == list(range(1, seq + 1))


@pytest.mark.invariant(2)
async def test_events_of_concurrent_transactions_are_numbered_gaplessly(line: Line) -> None:
    async def work(number: int) -> None:
        for _ in range(10):
            await line.emit(number)

    async def rolled_back() -> None:
        for _ in range(10):
            with suppress(RuntimeError):
                async with line.producer.database.transaction() as session:
                    event = HoldPlaced(hold=new_id(), record=new_id())
                    await outbox.add(session, event, by=None, at=line.producer.clock.now())
                    raise RuntimeError

    async with running(line.relay().run()):
        await asyncio.gather(*(work(number) for number in (1, 2, 3, 40)), rolled_back())
        await line.numbered(460)
        await line.published()
    events, heads = await line.chain(), await line.heads()
    assert len(events) == 460
    ensure_whole(line, events, heads)
    assert await line.stream_length() == 460


async def test_events_of_one_transaction_keep_their_order(line: Line) -> None:
    holds = [new_id() for _ in range(300)]
    async with line.producer.database.transaction() as session:
        events = [HoldPlaced(hold=hold, record=new_id()) for hold in holds]
        await outbox.add_all(session, events, by=None, at=line.producer.clock.now())
    async with running(line.relay().run()):
        await line.numbered(300)
    assert [str(hold) for hold in holds] == [
        row[0]
        for row in await line.rows("SELECT convert_from(body, 'UTF8')::json->'data'->>'hold' FROM outbox ORDER BY seq")
    ]


async def test_event_of_a_transaction_that_commits_late_is_numbered_after_those_of_others(line: Line) -> None:
    async with running(line.relay().run()):
        async with line.producer.database.transaction() as session:
            event = HoldPlaced(hold=new_id(), record=new_id())
            await outbox.add(session, event, by=None, at=line.producer.clock.now())
            await line.emit(5)
            await line.numbered(5)
        await line.numbered(6)
    ensure_whole(line, await line.chain(), await line.heads())


async def test_too_large_an_event_is_refused_when_it_is_added(line: Line) -> None:
    class Long(HoldPlaced):
        text: str

    async with line.producer.database.transaction() as session:
        with pytest.raises(EventTooLarge):
            await outbox.add(
                session,
                Long(hold=new_id(), record=new_id(), text="x" * 40_000),
                by=None,
                at=line.producer.clock.now(),
            )
    assert await line.value("SELECT count(*) FROM outbox") == 0


async def test_batches_are_stored_whole_and_none_is_in_the_stream_twice_after_a_crash(line: Line) -> None:
    await line.emit(300)
    recorder = Recorder(line)
    async with running(line.relay(recorder.deliver).run()):
        await line.published()
    assert [head for _, head in recorder.batches] == [256, 300]
    assert await line.stream_length() == 300
    await line.execute("UPDATE outbox_state SET published_seq = 0")
    async with running(line.relay().run()):
        await line.published()
    assert await line.stream_length() == 300


async def test_batch_whose_first_messages_are_known_is_sent_singly(line: Line) -> None:
    await line.emit(5)
    publisher = Publisher(line.producer.nats, "retention")

    async def crash(events: Sequence[Numbered], head: Head) -> None:
        for event in events[:2]:
            await publisher._publish(event, head, {})
        raise Crashed

    with pytest.raises(ExceptionGroup) as ended:
        await line.relay(crash).run()
    assert ended.group_contains(Crashed)
    assert await line.stream_length() == 2
    async with running(line.relay().run(), line.consumer().run()):
        await line.published()
        assert await line.stream_length() == 5
        await line.has_seen(5)


@pytest.mark.invariant(2)
async def test_numbering_goes_on_while_nothing_can_be_delivered_and_all_arrives_later(line: Line) -> None:
    away = True
    publisher = Publisher(line.producer.nats, "retention")

    async def deliver(events: Sequence[Numbered], head: Head) -> None:
        if away:
            raise NatsError("away")
        await publisher.deliver(events, head)

    async with running(line.relay(deliver).run()):
        for _ in range(6):
            await line.emit(256)
        await line.numbered(6 * 256)
        assert await line.stream_length() == 0
        away = False
        await line.published()
    assert await line.stream_length() == 6 * 256


async def test_of_two_relays_one_numbers_and_the_other_takes_over(line: Line) -> None:
    first, second = Recorder(line), Recorder(line)
    leading = asyncio.create_task(line.relay(first.deliver).run())
    await line.emit(3)
    await line.published()
    async with running(line.relay(second.deliver).run()):
        await line.emit(3)
        await line.published()
        assert second.batches == []
        leading.cancel()
        await asyncio.wait([leading])
        await line.emit(3)
        await line.published()
    assert [batch for batch, _ in first.batches] == [[1, 2, 3], [4, 5, 6]]
    assert [batch for batch, _ in second.batches] == [[7, 8, 9]]
    ensure_whole(line, await line.chain(), await line.heads())


async def test_relay_that_lost_its_lock_without_noticing_cannot_number_beside_its_successor(line: Line) -> None:
    await line.emit(4)
    frozen, successor = line.relay(), line.relay()
    connections = [await line.producer.database.connect() for _ in range(2)]
    try:
        both = await asyncio.gather(
            *(relay._number(each) for relay, each in zip((frozen, successor), connections, strict=True)),
            return_exceptions=True,
        )
        assert both.count(4) == 1
        assert sum(isinstance(done, RuntimeError | asyncpg.UniqueViolationError) for done in both) == 1
        await line.emit(2)

        class Frozen:
            """Freezes between reading the state and writing; meanwhile its successor numbers the same events."""

            def __getattr__(self, name: str) -> object:
                return getattr(connections[0], name)

            async def fetchrow(self, query: str) -> object:
                state = await connections[0].fetchrow(query)
                assert await successor._number(connections[1])
                return state

        with pytest.raises((RuntimeError, asyncpg.UniqueViolationError)):
            await frozen._number(Frozen())  # type: ignore[arg-type]  # a connection, but for its delay
    finally:
        for each in connections:
            await each.close()
    ensure_whole(line, await line.chain(), await line.heads())


async def test_relay_whose_connection_is_cut_ends_and_its_next_start_goes_on(line: Line) -> None:
    relay = asyncio.create_task(line.relay().run())
    await line.emit(2)
    await line.published()
    superuser = await asyncpg.connect(line.cluster.database_url("retention", "migrator"))
    await superuser.execute("SET ROLE retention_owner")
    pid = await superuser.fetchval("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = $1", LOCK)
    await superuser.close()
    await line.execute("SELECT pg_terminate_backend(:pid)", pid=pid)
    await asyncio.wait([relay], timeout=10)
    assert relay.done()
    assert relay.exception() is not None
    await line.emit(2)
    async with running(line.relay().run()):
        await line.published()
    ensure_whole(line, await line.chain(), await line.heads())


@pytest.mark.invariant(2)
async def test_without_an_answer_of_the_audit_service_nothing_is_numbered(line: Line) -> None:
    async def away() -> Confirmation | None:
        raise UpstreamUnavailable("away")

    await line.emit(3)
    with pytest.raises(UpstreamUnavailable):
        await line.relay(confirmed=away).run()
    assert await line.value("SELECT count(*) FROM outbox WHERE seq IS NOT NULL") == 0
    async with running(line.relay().run()):
        await line.numbered(3)


@pytest.mark.invariant(2)
async def test_numbering_goes_on_when_the_audit_service_leaves_later(line: Line) -> None:
    clock, answers = ManualClock(datetime.now(UTC)), True
    asked = 0

    async def confirmed() -> Confirmation | None:
        nonlocal asked
        asked += 1
        if not answers:
            raise UpstreamUnavailable("away")
        return None

    async def times_asked() -> bool:
        return asked >= 2

    async with running(line.relay(confirmed=confirmed, clock=clock).run()):
        await line.emit(1)
        await line.numbered(1)
        answers = False
        clock.advance(timedelta(minutes=2))
        await eventually(times_asked, expected=True)
        await line.emit(1)
        await line.numbered(2)


async def receipt(line: Line, head: Head) -> Confirmation:
    return Confirmation(head.epoch, head.seq, head.hash)


@pytest.mark.invariant(2)
async def test_rows_stay_until_their_receipt_and_the_time_to_keep_them(line: Line) -> None:
    settings_keep = timedelta(days=7)
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    relay = line.relay(clock=clock)
    connection = await line.producer.database.connect()
    try:
        for day in range(4):
            await line.emit(3, clock)
            assert await relay._number(connection), day
            clock.advance(timedelta(days=1))
        heads = await line.heads()
        count = "SELECT count(*) FROM outbox"
        second = await receipt(line, heads[1])
        await relay._prune(connection, second)
        assert await line.value(count) == 12
        clock.advance(settings_keep)
        await relay._prune(connection, second)
        assert [event.seq for event in await line.chain()] == [7, 8, 9, 10, 11, 12]
        clock.advance(timedelta(days=-3))
        await relay._prune(connection, await receipt(line, heads[3]))
        assert [event.seq for event in await line.chain()] == [7, 8, 9, 10, 11, 12]
        assert await line.rows("SELECT receipt_epoch, receipt_seq FROM outbox_state") == [(1, 12)]
        clock.advance(timedelta(days=2))
        await relay._prune(connection, await receipt(line, heads[3]))
        assert [event.seq for event in await line.chain()] == [10, 11, 12]
        assert (await line.page(1, 9)).json()["head"]["seq"] == 12
        clock.advance(timedelta(days=20))
        await relay._prune(connection, await receipt(line, heads[3]))
        assert await line.chain() == []
        assert (await line.heads())[-1] == heads[3]
        await line.emit(1, clock)
        assert await relay._number(connection)
        assert (await line.page(1, 12)).json()["head"]["seq"] == 13
    finally:
        await connection.close()


async def test_pruning_keeps_whole_batches_and_takes_more_than_one_step(line: Line) -> None:
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    relay = line.relay(clock=clock)
    connection = await line.producer.database.connect()
    try:
        await line.emit(5200, clock)
        while await relay._number(connection):
            pass
        clock.advance(timedelta(days=8))
        await line.emit(10, clock)
        await relay._number(connection)
        last = (await line.heads())[-1]
        await relay._prune(connection, await receipt(line, last))
        assert [event.seq for event in await line.chain()] == list(range(5201, 5211))
    finally:
        await connection.close()


async def test_pruning_waits_for_its_turn_on_the_connection(line: Line) -> None:
    relay = line.relay()
    connection = await line.producer.database.connect()
    try:
        await line.emit(4)
        await relay._number(connection)
        (head,) = await line.heads()
        for confirmed in (None, await receipt(line, head)):
            async with relay._turn:
                pruning = asyncio.create_task(relay._prune(connection, confirmed))
                await connection.execute("SELECT pg_sleep(0.05)")
                assert not pruning.done()
            await pruning
    finally:
        await connection.close()


@pytest.mark.invariant(2)
async def test_restored_producer_goes_on_in_a_new_epoch(line: Line) -> None:
    async with running(line.relay().run(), line.consumer().run()):
        await line.emit(4)
        await line.has_seen(4)
        await line.emit(2)
        await line.has_seen(6)
    first, last = (await line.heads())[0], (await line.heads())[-1]
    line.audited = await receipt(line, last)
    await line.execute("DELETE FROM outbox WHERE seq > 4")
    await line.execute("DELETE FROM outbox_heads WHERE seq > 4")
    await line.set_back(epoch=1, seq=first.seq, hash_=first.hash)
    await line.emit(3)
    async with running(line.relay().run(), line.consumer().run()):
        await line.has_seen(3, epoch=2)
        await line.emit(2)
        await line.has_seen(5, epoch=2)
    assert [seq for epoch, seq in await line.seen() if epoch == 1] == [1, 2, 3, 4, 5, 6]
    events, heads = await line.chain(), await line.heads()
    ensure_whole(line, [e for e in events if e.epoch == 2], [h for h in heads if h.epoch == 2], epoch=2)


@pytest.mark.invariant(2)
async def test_events_of_a_fork_are_numbered_again_so_that_none_is_missing(line: Line) -> None:
    async with running(line.relay().run()):
        await line.emit(4)
        await line.published()
    (head,) = await line.heads()
    relay = line.relay()
    connection = await line.producer.database.connect()
    await relay._prune(connection, await receipt(line, head))
    await line.emit(3)
    await relay._number(connection)
    await connection.close()
    line.audited = Confirmation(1, 6, bytes(range(32)))
    ids = [event.id for event in await line.chain()]
    async with running(line.relay().run()):
        await line.published()
    events, heads = await line.chain(), await line.heads()
    assert [(event.epoch, event.seq) for event in events] == [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2), (2, 3)]
    assert [event.id for event in events] == ids
    ensure_whole(line, events[4:], heads[1:], epoch=2)


async def test_relay_that_is_told_of_another_chain_stops(line: Line) -> None:
    relay = line.relay()
    connection = await line.producer.database.connect()
    try:
        await line.emit(4)
        await relay._number(connection)
        (head,) = await line.heads()
        for other in (Confirmation(1, 4, bytes(32)), Confirmation(1, 5, head.hash), Confirmation(2, 1, head.hash)):
            with pytest.raises(Diverged):
                await relay._prune(connection, other)
        await relay._prune(connection, await receipt(line, head))
    finally:
        await connection.close()


async def test_follower_that_was_behind_gets_the_rest_of_the_old_epoch_first(line: Line) -> None:
    await line.emit(4)
    async with running(line.relay().run()):
        await line.published()
    line.audited = Confirmation(1, 9, bytes(32))
    async with running(line.relay().run()):
        await line.emit(3)
        await line.published()
    await line.delete_stream()
    line.make_streams()
    line.take_feed_away()
    await line.execute("UPDATE outbox_state SET published_seq = 0")
    async with running(line.relay().run(), line.consumer().run()):
        await line.published()
        await asyncio.sleep(0.5)
        assert await line.seen() == []
        line.give_feed_back()
        await line.has_seen(3, epoch=2)
        await line.has_seen(4, epoch=1)


async def test_heads_can_be_neither_changed_nor_may_the_state_be_deleted_by_the_application(line: Line) -> None:
    for statement in ("UPDATE outbox_heads SET seq = 1", "DELETE FROM outbox_state", "TRUNCATE outbox"):
        async with line.producer.database.session() as session:
            with pytest.raises(Exception, match="permission denied"):
                await session.execute(text(statement))


def test_outbox_is_kept_a_week_unless_said_otherwise() -> None:
    assert PartSettings.model_fields["outbox_keep_days"].default == 7
