"""An Idempotency-Key makes a repetition safe: the work is done once, and the answer is the same."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
import orjson
import pytest
from fastapi import FastAPI
from sqlalchemy import insert
from tests.common.line import Line, ProducerSettings
from tests.common.web import application
from tests.support.parts import serving, settings_of
from tests.support.tokens import TestKeys, txn_token

from dossier_common import idempotency, tables
from dossier_common.clock import ManualClock
from dossier_common.ids import new_id
from dossier_local.cluster import Cluster

NOW = datetime(2026, 11, 22, 8, tzinfo=UTC)
RECORD = new_id()
THING = {"record": str(RECORD)}


class Caller:
    """One person at the part, who repeats himself."""

    def __init__(self, line: Line, app: FastAPI, http: httpx.AsyncClient, keys: TestKeys, clock: ManualClock) -> None:
        self.line, self.app, self.http, self.keys, self.clock = line, app, http, keys, clock
        self.account = new_id()

    async def post(
        self,
        key: str,
        body: object = THING,
        *,
        path: str = "/v1/things",
        scopes: tuple[str, ...] = ("holds:place",),
        account: UUID | None = None,
    ) -> httpx.Response:
        who = account or self.account
        token = txn_token(self.keys, "retention", scopes, account=who, person=who, at=self.clock.now())
        return await self.http.post(path, json=body, headers={"Txn-Token": token, "Idempotency-Key": key})

    async def done(self) -> object:
        """How often the work was done."""
        return await self.line.value("SELECT count(*) FROM outbox WHERE type = 'retention.v1.hold.placed'")


@pytest.fixture
async def caller(line: Line, cluster: Cluster) -> AsyncIterator[Caller]:
    await line.execute("DELETE FROM idempotency_keys")
    keys, clock = TestKeys(), ManualClock(NOW)
    app = application(settings_of(cluster, "retention", ProducerSettings), clock)
    async with serving(app, keys) as http:
        yield Caller(line, app, http, keys, clock)


async def test_same_key_and_body_get_the_same_answer(caller: Caller) -> None:
    first, second = await caller.post("one"), await caller.post("one")
    assert (first.status_code, second.status_code) == (201, 201)
    assert second.content == first.content
    for name in ("location", "etag", "x-colour", "content-type", "content-length"):
        assert second.headers[name] == first.headers[name]
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert second.headers["x-request-id"] != first.headers["x-request-id"]
    assert await caller.done() == 1
    assert (await caller.post("two")).content != first.content
    assert await caller.done() == 2


async def test_answer_may_be_any_bytes(caller: Caller) -> None:
    first, second = [await caller.post("one", path="/v1/reports") for _ in range(2)]
    assert first.content == second.content == b"\x89PDF\xff"
    assert second.headers["content-type"] == "application/pdf"


async def test_other_body_path_or_query_under_the_same_key_is_409(caller: Caller) -> None:
    await caller.post("one")
    for answer in (
        await caller.post("one", {"record": str(new_id())}),
        await caller.post("one", path="/v1/reports"),
        await caller.post("one", path="/v1/things?x=1"),
    ):
        assert answer.status_code == 409
        assert answer.json()["type"] == "urn:dossier:problem:idempotency-conflict"
    assert await caller.done() == 1


async def test_key_belongs_to_its_caller(caller: Caller) -> None:
    await caller.post("one")
    other = await caller.post("one", {"record": str(new_id())}, account=new_id())
    assert other.status_code == 201
    assert await caller.done() == 2


async def test_two_at_once_do_the_work_once(caller: Caller) -> None:
    answers = await asyncio.gather(*(caller.post("one", THING | {"name": "slow"}) for _ in range(4)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert sorted("idempotent-replayed" in answer.headers for answer in answers) == [False, True, True, True]
    assert await caller.done() == 1


async def test_request_that_failed_claims_nothing(caller: Caller) -> None:
    assert (await caller.post("one", THING | {"name": "conflict"})).status_code == 409
    assert (await caller.post("one", {"record": "x"})).status_code == 422
    assert (await caller.post("one", scopes=())).status_code == 403
    assert await caller.line.value("SELECT count(*) FROM idempotency_keys") == 0
    assert (await caller.post("one")).status_code == 201


async def test_waiting_second_request_does_the_work_when_the_first_is_rolled_back(caller: Caller) -> None:
    database = caller.app.state.database
    async with database.session() as session:
        await session.execute(
            insert(tables.idempotency_keys).values(caller=str(caller.account), key="one", digest=b"", created_at=NOW)
        )
        second = asyncio.create_task(caller.post("one"))
        await asyncio.sleep(0.2)
        assert not second.done()
        await session.rollback()
    assert (await second).status_code == 201
    assert await caller.done() == 1


@pytest.mark.invariant(4)
async def test_answer_is_not_repeated_to_who_has_lost_the_scope(caller: Caller) -> None:
    assert (await caller.post("one")).status_code == 201
    answer = await caller.post("one", scopes=("holds:release",))
    assert answer.status_code == 403
    assert answer.json()["scope"] == "holds:place"
    assert await caller.line.value("SELECT count(*) FROM outbox WHERE type = 'retention.v1.access.refused'") == 1


async def test_key_is_forgotten_after_a_day(caller: Caller) -> None:
    first = await caller.post("one")
    caller.clock.advance(timedelta(hours=23, minutes=59))
    assert (await caller.post("one")).content == first.content
    caller.clock.advance(timedelta(minutes=2))
    again = await caller.post("one", {"record": str(new_id())})
    assert again.status_code == 201
    assert await caller.done() == 2


async def test_housekeeping_forgets_old_keys_only(caller: Caller) -> None:
    await caller.post("old")
    caller.clock.advance(timedelta(hours=25))
    await caller.post("new")
    async with caller.app.state.database.transaction() as session:
        await idempotency.forget(session, caller.clock.now() - idempotency.KEEP)
    assert await caller.line.rows("SELECT key FROM idempotency_keys") == [("new",)]


@pytest.mark.parametrize("key", ["", "x" * 201, "tab\there"])
async def test_key_that_is_none_is_400(caller: Caller, key: str) -> None:
    assert (await caller.post(key)).status_code == 400


async def test_longest_key_is_taken(caller: Caller) -> None:
    assert (await caller.post("x" * 200)).status_code == 201
    assert (await caller.post("x" * 200)).status_code == 201
    assert await caller.done() == 1


async def test_stranger_claims_nothing(caller: Caller) -> None:
    answer = await caller.http.post("/v1/things", json=THING, headers={"Idempotency-Key": "one"})
    assert answer.status_code == 401
    assert await caller.line.value("SELECT count(*) FROM idempotency_keys") == 0


@pytest.mark.invariant(7)
async def test_neither_body_nor_answer_lies_there_in_plain(caller: Caller) -> None:
    answer = await caller.post("one", THING | {"name": "张三"})
    (row,) = await caller.line.rows("SELECT digest, answer FROM idempotency_keys")
    for told in ("张三".encode(), answer.json()["id"].encode(), str(RECORD).encode(), orjson.dumps(THING)):
        for kept in row:
            assert isinstance(kept, bytes)
            assert told not in kept
