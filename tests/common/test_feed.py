"""The feed serves whole signed batches to other parts, and to nobody else."""

import pytest
from tests.common.line import Line
from tests.support.tokens import service_token, txn_token

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
        events, head = read_page((await line.page(1, seq)).content)
        if head is None:
            break
        head.verify(line.verifying())
        verify_chain("retention", 1, seq, prev, events, head)
        seq, prev = head.seq, head.hash
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
    assert answer == {"epoch": 2, "events": [], "head": None}


async def test_head_is_the_newest(line: Line) -> None:
    headers = {"Authorization": f"Bearer {service_token(line.keys, 'retention', 'audit', [Scope.EVENTS_PULL])}"}
    assert (await line.http.get("/internal/v1/head", headers=headers)).json() == {"head": None}
    await number(line, 3, 4)
    head = (await line.http.get("/internal/v1/head", headers=headers)).json()["head"]
    assert (head["epoch"], head["seq"]) == (1, 7)


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
