"""The feed serves whole signed batches to other parts, and to nobody else."""

from datetime import UTC, datetime, timedelta

import pytest
from tests.common.line import Line
from tests.support.tokens import service_token, txn_token

from dossier_common.clock import ManualClock
from dossier_common.ids import new_id
from dossier_common.leaves import NO_LEAF, verify_chain
from dossier_common.relay import Confirmation
from dossier_common.scopes import Scope
from dossier_common.wire import read_page


async def number(line: Line, *counts: int) -> None:
    relay = line.relay()
    connection = await line.producer.database.connect()
    try:
        await relay._open_epoch(connection)
        for count in counts:
            await line.emit(count)
            while await relay._number(connection):
                pass
    finally:
        await connection.close()


async def test_pages_end_at_signed_heads(line: Line) -> None:
    await number(line, 3, 700, 1)
    seq, prev, ends = 0, NO_LEAF, []
    while True:
        page = read_page((await line.page(1, seq)).content)
        if page.head is None:
            break
        page.head.verify(line.verifying())
        verify_chain("retention", 1, seq, prev, page.events, page.head)
        seq, prev = page.head.seq, page.head.hash
        ends.append(seq)
    assert ends == [259, 704]
    assert set(ends) <= {head.seq for head in await line.heads()}


async def test_page_may_start_within_a_batch(line: Line) -> None:
    await number(line, 5)
    answer = (await line.page(1, 2)).json()
    assert (len(answer["events"]), answer["head"]["seq"]) == (3, 5)


async def test_next_epoch_follows_the_end_of_the_last(line: Line) -> None:
    await number(line, 3)
    line.audited = Confirmation(1, 8, bytes(32))
    await number(line, 2)
    assert (await line.page(0, 0)).json()["head"]["seq"] == 3
    assert (await line.page(1, 0)).json()["epoch"] == 1
    for after in (3, 8, 2**63 - 1):
        answer = (await line.page(1, after)).json()
        assert (answer["epoch"], len(answer["events"]), answer["head"]["seq"]) == (2, 2, 2)
    answer = (await line.page(2, 2)).json()
    assert (answer["epoch"], answer["events"], answer["head"]) == (2, [], None)


async def test_head_is_the_newest(line: Line) -> None:
    headers = {"Authorization": f"Bearer {service_token(line.keys, 'retention', 'audit', [Scope.EVENTS_PULL])}"}
    assert (await line.http.get("/internal/v1/head", headers=headers)).json()["head"] is None
    await number(line, 3, 4)
    head = (await line.http.get("/internal/v1/head", headers=headers)).json()["head"]
    assert (head["epoch"], head["seq"]) == (1, 7)


async def test_through_is_the_time_of_what_has_no_number_yet(line: Line) -> None:
    headers = {"Authorization": f"Bearer {service_token(line.keys, 'retention', 'audit', [Scope.EVENTS_PULL])}"}

    async def through() -> list[datetime]:
        head = await line.http.get("/internal/v1/head", headers=headers)
        return [read_page((await line.page(1, 3)).content).through, datetime.fromisoformat(head.json()["through"])]

    await number(line, 3)
    before = datetime.now(UTC)
    assert min(await through()) >= before
    committed = datetime.now(UTC) - timedelta(seconds=70)
    await line.emit(1, ManualClock(committed))
    await line.emit(1)
    assert await through() == [committed, committed]
    await number(line, 0)
    assert min(await through()) >= before


@pytest.mark.invariant(2)
async def test_follower_that_asks_for_what_was_pruned_is_told_so(line: Line) -> None:
    await number(line, 3, 2, 2)
    first, second, third = await line.heads()
    for kept, pruned in ((first, 3), (second, 5), (third, 7)):
        await line.execute("DELETE FROM outbox WHERE seq <= :seq", seq=pruned)
        await line.execute("DELETE FROM outbox_heads WHERE seq < :seq", seq=kept.seq)
        for epoch, after in ((0, 0), (1, 0), (1, pruned - 1)):
            answer = await line.page(epoch, after)
            assert (answer.status_code, answer.json()["type"]) == (410, "urn:dossier:problem:events-pruned")
            assert answer.json()["oldest"] == {"epoch": 1, "seq": pruned + 1}
        assert (await line.page(1, pruned)).status_code == 200


@pytest.mark.parametrize("query", ["epoch=-1", "epoch=x", "after=-1", f"after={2**63}", f"epoch={2**31}"])
async def test_nonsense_is_refused(line: Line, query: str) -> None:
    headers = {"Authorization": f"Bearer {service_token(line.keys, 'retention', 'audit', [Scope.EVENTS_PULL])}"}
    assert (await line.http.get(f"/internal/v1/feed?{query}", headers=headers)).status_code == 422


@pytest.mark.invariant(6)
async def test_only_parts_may_pull(line: Line) -> None:
    await number(line, 3)
    person = txn_token(line.keys, "retention", [Scope.EVENTS_PULL], account=new_id(), person=new_id())
    application = txn_token(line.keys, "retention", [Scope.EVENTS_PULL], client="crm")
    unscoped = service_token(line.keys, "retention", "approvals", [Scope.GRANTS_RESOLVE])
    for headers in ({"Txn-Token": person}, {"Txn-Token": application}, {"Authorization": f"Bearer {unscoped}"}):
        answer = await line.http.get("/internal/v1/feed", headers=headers)
        assert (answer.status_code, answer.json()["scope"]) == (403, "events:pull")
    assert (await line.http.get("/internal/v1/feed")).status_code == 401
