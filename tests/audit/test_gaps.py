"""Events that the log lacks and nobody has any more: it stands still until somebody accepts that, and then goes on."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from sqlalchemy import text
from tests.audit.bench import Bench, benched
from tests.support.waiting import eventually, running

from dossier_audit import gaps
from dossier_audit.rules import NoReference
from dossier_common.contracts.audit import GapAccepted
from dossier_common.inbox import FeedPruned
from dossier_common.relay import Diverged
from dossier_local import cluster as servers

ORDER = "order 2026-18"


@pytest.fixture
async def lacking() -> AsyncIterator[Bench]:
    """The audit service has four events of ten, as a backup of then has; of the others the producer has three."""
    async with AsyncExitStack() as stack:
        bench = await stack.enter_async_context(benched(stack.enter_context(servers.temporary())))
        await bench.emit(4)
        async with running(bench.producer.relay().run()):
            await bench.numbered()
        await bench.consumer().catch_up()
        await bench.emit(3)
        async with running(bench.producer.relay().run()):
            await bench.numbered()
        async with bench.producer.database.transaction() as session:
            await session.execute(text("DELETE FROM outbox"))  # as pruning does, of what has its receipt
            await session.execute(text("DELETE FROM outbox_heads WHERE seq < 7"))
        await bench.emit(3)
        async with bench.producer.database.session() as session:
            assert (await session.execute(text("SELECT epoch, seq FROM outbox_state"))).one() == (1, 7)
        yield bench


async def accept(bench: Bench, order: str = ORDER) -> GapAccepted:
    """What the command does."""
    worker = bench.worker
    return await gaps.accept(worker.database, worker.peers, "retention", order, worker.clock)


async def stored(bench: Bench) -> list[tuple[int, int]]:
    """Places of the producer's leaves in the audit service."""
    async with bench.worker.database.session() as session:
        query = text("SELECT epoch, seq FROM leaves WHERE producer = 'retention' ORDER BY epoch, seq")
        return [tuple(row) for row in await session.execute(query)]


@pytest.mark.invariant(2)
async def test_the_log_goes_on_behind_a_gap_that_was_accepted_with_all_that_there_still_is(lacking: Bench) -> None:
    async with running(lacking.producer.relay().run()):
        await lacking.numbered()
        with pytest.raises(FeedPruned):
            await lacking.consumer().catch_up()
        assert len(await stored(lacking)) == 4, "nothing goes on by itself"
        said = await accept(lacking)
        await lacking.consumer().catch_up()
        later = await lacking.emit(2)
        async with running(lacking.consumer().run()):
            await lacking.stored(later)
    places = await stored(lacking)
    assert places == [(1, 1), (1, 2), (1, 3), (1, 4), *((2, seq) for seq in range(1, 6))]
    async with lacking.worker.database.session() as session:
        events = await session.execute(
            text("SELECT type, convert_from(body, 'UTF8')::json -> 'data' FROM outbox ORDER BY id")
        )
        recorded = dict(tuple(row) for row in events)
    assert recorded == {
        "audit.v1.gap.accepted": {"producer": "retention", "epoch": 1, "seq": 4, "next_epoch": 2, "order": ORDER},
        "audit.v1.producer.forked": {"producer": "retention", "epoch": 1, "seq": 4},
    }
    assert said.model_dump() == recorded["audit.v1.gap.accepted"]


async def test_what_is_no_gap_or_not_yet_one_is_not_accepted(lacking: Bench) -> None:
    relay, connection = lacking.producer.relay(), await lacking.producer.database.connect()
    try:
        await relay._number(connection)
        with pytest.raises(gaps.NotAnew):
            await accept(lacking)
        for order in ("", "x" * 201, "two\nlines"):
            with pytest.raises(NoReference):
                await accept(lacking, order)
        known = await lacking.producer.confirmed()
        assert known is not None
        with pytest.raises(Diverged):
            await relay._prune(connection, known)
    finally:
        await connection.close()
    async with running(lacking.producer.relay().run()):
        await lacking.numbered()
        await accept(lacking)
        with pytest.raises(gaps.NoGap):
            await accept(lacking)


async def test_a_new_epoch_is_begun_once_however_often_the_relay_starts_before_it_is_accepted(lacking: Bench) -> None:
    for _ in range(3):
        async with running(lacking.producer.relay().run()):
            await lacking.numbered()

            async def state() -> tuple[int, int]:
                async with lacking.producer.database.session() as session:
                    return tuple((await session.execute(text("SELECT epoch, seq FROM outbox_state"))).one())

            await eventually(state, (2, 3))
