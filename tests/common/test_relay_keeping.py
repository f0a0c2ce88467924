"""What a relay keeps and prunes, and what it numbers anew: after a restore, a fork, or a log that lacks events."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from sqlalchemy import text
from tests.common.line import Line, ensure_whole
from tests.support.waiting import running

from dossier_common.clock import ManualClock
from dossier_common.leaves import Head
from dossier_common.relay import Confirmation, Diverged, Relay
from dossier_common.settings import PartSettings


def receipt(head: Head) -> Confirmation:
    """What the audit service says once it has come so far."""
    return Confirmation(head.epoch, head.seq, head.hash)


@asynccontextmanager
async def numbered_by_hand(line: Line) -> AsyncIterator[tuple[Relay, asyncpg.Connection, Head]]:
    """A relay that does not run, its connection, and the head of four events that it has numbered."""
    relay = line.relay()
    connection = await line.producer.database.connect()
    try:
        await line.emit(4)
        await relay._number(connection)
        (head,) = await line.heads()
        yield relay, connection, head
    finally:
        await connection.close()


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
        second = receipt(heads[1])
        await relay._prune(connection, second)
        assert await line.value(count) == 12
        clock.advance(settings_keep)
        await relay._prune(connection, second)
        assert [event.seq for event in await line.chain()] == [7, 8, 9, 10, 11, 12]
        clock.advance(timedelta(days=-3))
        await relay._prune(connection, receipt(heads[3]))
        assert [event.seq for event in await line.chain()] == [7, 8, 9, 10, 11, 12]
        assert await line.rows("SELECT receipt_epoch, receipt_seq FROM outbox_state") == [(1, 12)]
        clock.advance(timedelta(days=2))
        await relay._prune(connection, receipt(heads[3]))
        assert [event.seq for event in await line.chain()] == [10, 11, 12]
        assert (await line.page(1, 9)).json()["head"]["seq"] == 12
        clock.advance(timedelta(days=20))
        await relay._prune(connection, receipt(heads[3]))
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
        await relay._prune(connection, receipt(last))
        assert [event.seq for event in await line.chain()] == list(range(5201, 5211))
    finally:
        await connection.close()


async def test_pruning_waits_for_its_turn_on_the_connection(line: Line) -> None:
    async with numbered_by_hand(line) as (relay, connection, head):
        for confirmed in (None, receipt(head)):
            async with relay._turn:
                pruning = asyncio.create_task(relay._prune(connection, confirmed))
                await connection.execute("SELECT pg_sleep(0.05)")
                assert not pruning.done()
            await pruning


@pytest.mark.invariant(2)
async def test_restored_producer_goes_on_in_a_new_epoch(line: Line) -> None:
    async with running(line.relay().run(), line.consumer().run()):
        await line.emit(4)
        await line.has_seen(4)
        await line.emit(2)
        await line.has_seen(6)
    first, last = (await line.heads())[0], (await line.heads())[-1]
    line.audited = receipt(last)
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
    await relay._prune(connection, receipt(head))
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
    async with numbered_by_hand(line) as (relay, connection, head):
        for other in (Confirmation(1, 4, bytes(32)), Confirmation(1, 5, head.hash), Confirmation(2, 1, head.hash)):
            with pytest.raises(Diverged):
                await relay._prune(connection, other)
        await relay._prune(connection, receipt(head))


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
