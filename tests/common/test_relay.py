"""The relay numbers what was committed, gaplessly and once, whatever else fails."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from nats.errors import Error as NatsError
from tests.common.line import Line, ensure_whole
from tests.support.waiting import eventually, running

from dossier_common import outbox
from dossier_common.clock import ManualClock
from dossier_common.contracts.retention import HoldPlaced
from dossier_common.events import EventTooLarge
from dossier_common.ids import new_id
from dossier_common.leaves import Head, Numbered
from dossier_common.problems import UpstreamUnavailable
from dossier_common.publisher import Publisher
from dossier_common.relay import LOCK, Confirmation


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
