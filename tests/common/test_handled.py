"""An event is handled once, whatever its producer numbers again after a restore."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from structlog.testing import capture_logs
from tests.common.line import Line
from tests.support.waiting import eventually, running

from dossier_common import inbox, outbox
from dossier_common.contracts.retention import HoldPlaced, HoldReleased
from dossier_common.events import Envelope
from dossier_common.ids import new_id
from dossier_common.inbox import Handlers
from dossier_common.problems import UpstreamUnavailable
from dossier_common.relay import Confirmation
from dossier_common.settings import PartSettings
from dossier_common.worker import _forever, keep_house


def noting(line: Line) -> Handlers:
    """As handlers of the parts do: one adds a row, counts, and emits an event of its own; neither bears repetition."""
    handlers = Handlers()

    @handlers.on(HoldPlaced)
    async def hold_placed(session: AsyncSession, event: HoldPlaced, envelope: Envelope) -> None:
        await session.execute(
            text("INSERT INTO seen (epoch, seq, id) VALUES (0, (SELECT count(*) FROM seen), :id)"), {"id": envelope.id}
        )
        follows = HoldReleased(hold=event.hold, record=event.record)
        await outbox.add(session, follows, by=None, at=line.follower.clock.now())

    return handlers


async def emitted(line: Line) -> object:
    async with line.follower.database.session() as session:
        return (await session.execute(text("SELECT count(*) FROM outbox"))).scalar_one()


async def forget(line: Line) -> None:
    async with line.follower.database.transaction() as session:
        await session.execute(text("DELETE FROM outbox"))
        await session.execute(text("DELETE FROM handled_events"))


@pytest.mark.invariant(2)
async def test_events_that_come_again_in_a_new_epoch_are_handled_once(line: Line) -> None:
    await forget(line)
    apply = noting(line).apply
    async with running(line.relay().run(), line.consumer(apply).run()):
        await line.emit(5)
        await eventually(lambda: _count(line), 5)
    ids = await line.seen_ids()
    line.audited = Confirmation(1, 5, bytes(32))  # another chain: what has no receipt is numbered again
    async with running(line.relay().run(), line.consumer(apply).run()):
        await line.emit(2)
        await eventually(lambda: _count(line), 7)
    assert [(each.epoch, each.seq) for each in await line.chain()] == [(2, seq) for seq in range(1, 8)]
    assert (await line.seen_ids())[:5] == ids
    assert await emitted(line) == 7


@pytest.mark.invariant(2)
@pytest.mark.parametrize("confirmed", [None, Confirmation(1, 2, bytes(32))])
async def test_what_is_left_is_numbered_anew_for_a_log_that_lacks_what_was_pruned(
    line: Line, confirmed: Confirmation | None
) -> None:
    await forget(line)
    apply = noting(line).apply
    async with running(line.relay().run(), line.consumer(apply).run()):
        await line.emit(4)
        await eventually(lambda: _count(line), 4)
        await line.emit(3)
        await eventually(lambda: _count(line), 7)
    ids, first = await line.seen_ids(), (await line.heads())[0]
    await line.execute("DELETE FROM outbox WHERE seq <= :seq", seq=first.seq)
    line.audited = Confirmation(1, first.seq, first.hash)
    async with running(line.relay().run()):
        await line.published()
    assert {event.epoch for event in await line.chain()} == {1}, "it has what was pruned"
    line.audited = confirmed
    for _ in range(2):
        async with running(line.relay().run(), line.consumer(apply).run()):
            await line.emit(1)
            await line.published()
            await eventually(lambda: _unhandled(line), 0)
    chain = await line.chain()
    assert [(each.epoch, each.seq) for each in chain] == [(2, seq) for seq in range(1, len(chain) + 1)]
    assert [each.id for each in chain][: 7 - first.seq] == ids[first.seq :]
    assert await line.seen_ids() == ids[: first.seq] + [each.id for each in chain], "each was handled once, in order"


async def _unhandled(line: Line) -> int:
    return len({each.id for each in await line.chain()} - set(await line.seen_ids()))


async def _count(line: Line) -> int:
    return len(await line.seen_ids())


@pytest.mark.invariant(2)
async def test_event_that_is_twice_in_one_batch_is_handled_once(line: Line) -> None:
    await forget(line)
    await line.emit(2)
    async with running(line.relay().run()):
        await line.numbered(2)
    first, second = await line.chain()
    (head,) = await line.heads()
    async with line.follower.database.transaction() as session:
        await noting(line).apply(session, "retention", [first, second, first], head)
    assert await line.seen_ids() == [first.id, second.id]


@pytest.mark.invariant(2)
async def test_event_whose_handling_was_rolled_back_is_handled_again(line: Line) -> None:
    await forget(line)
    await line.emit(1)
    async with running(line.relay().run()):
        await line.numbered(1)
    events, (head,) = await line.chain(), await line.heads()
    async with line.follower.database.session() as session:
        await noting(line).apply(session, "retention", events, head)
        await session.rollback()
    assert await line.seen_ids() == []
    async with line.follower.database.transaction() as session:
        await noting(line).apply(session, "retention", events, head)
    assert await line.seen_ids() == [events[0].id]


async def test_same_id_of_another_producer_is_another_event(line: Line) -> None:
    await forget(line)
    await line.emit(1)
    async with running(line.relay().run()):
        await line.numbered(1)
    events, (head,) = await line.chain(), await line.heads()
    for producer in ("retention", "records", "retention"):
        async with line.follower.database.transaction() as session:
            await noting(line).apply(session, producer, events, head)
    assert len(await line.seen_ids()) == 2


async def test_events_without_a_handler_are_not_noted(line: Line) -> None:
    await forget(line)
    await line.emit(3)
    async with running(line.relay().run(), line.consumer(Handlers().apply).run()):
        await line.published()
    await line.consumer(Handlers().apply).catch_up()
    assert await _handled(line) == 0


async def test_handler_that_bears_repetition_is_called_again_and_nothing_is_noted(line: Line) -> None:
    await forget(line)
    handlers, several, called = Handlers(), Handlers(), []

    @handlers.on(HoldPlaced, repeatable=True)
    async def hold_placed(_session: AsyncSession, _event: HoldPlaced, envelope: Envelope) -> None:
        called.append(envelope.id)

    several.include(handlers)
    await line.emit(2)
    async with running(line.relay().run()):
        await line.numbered(2)
    events, heads = await line.chain(), await line.heads()
    for _ in range(2):
        async with line.follower.database.transaction() as session:
            await several.apply(session, "retention", events, heads[-1])
    assert called == [event.id for event in events] * 2
    assert await _handled(line) == 0


async def _handled(line: Line) -> int:
    async with line.follower.database.session() as session:
        found: int = (await session.execute(text("SELECT count(*) FROM handled_events"))).scalar_one()
        return found


async def test_housekeeping_forgets_what_is_two_weeks_older_than_the_producers_newest(line: Line) -> None:
    await forget(line)
    now = datetime.now(UTC)
    async with line.follower.database.transaction() as session:
        for producer, ages in (("retention", (0, 13, 15)), ("records", (30, 40, 45))):
            for days in ages:
                values = {"producer": producer, "id": new_id(), "at": now - timedelta(days=days)}
                await session.execute(text("INSERT INTO handled_events VALUES (:producer, :id, :at)"), values)
    assert timedelta(days=14) == inbox.HANDLED_KEEP
    await keep_house(line.follower)
    async with line.follower.database.session() as session:
        left = await session.execute(text("SELECT producer, at FROM handled_events ORDER BY at DESC"))
        found = [(producer, (now - at).days) for producer, at in left]
    assert found == [("retention", 0), ("retention", 13), ("records", 30), ("records", 40)]


def test_no_outbox_keeps_events_longer_than_followers_know_them() -> None:
    (most,) = (rule.le for rule in PartSettings.model_fields["outbox_keep_days"].metadata if hasattr(rule, "le"))
    assert timedelta(days=most) < inbox.HANDLED_KEEP


async def test_part_that_is_not_up_yet_is_one_line_without_a_traceback() -> None:
    tried: list[int] = []

    async def job() -> None:
        tried.append(1)
        raise (UpstreamUnavailable("The audit service cannot be reached.") if len(tried) == 1 else LookupError)

    async def times() -> bool:
        return len(tried) >= 2

    with capture_logs() as logs:
        async with running(_forever("relay", job)):
            await eventually(times, expected=True)
            await eventually(lambda: _logged(logs), expected=True)
    waits, failed = logs[:2]
    assert (waits["event"], waits["detail"]) == ("job-waits", "The audit service cannot be reached.")
    assert "exc_info" not in waits
    assert (failed["event"], failed["error"]) == ("job-failed", "LookupError")
    assert "exc_info" in failed


async def _logged(logs: Sequence[object]) -> bool:
    return len(logs) >= 2
