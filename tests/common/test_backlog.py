"""Limits of the backlog: readings that are recorded stop first, changes later, and receipts open both again."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI, Request
from structlog.testing import capture_logs
from tests.common.line import Line
from tests.support.parts import serving
from tests.support.tokens import txn_token
from tests.support.waiting import eventually, running

from dossier_common import outbox
from dossier_common.app import create_app, router
from dossier_common.auth import scope
from dossier_common.backlog import Backlog
from dossier_common.clock import ManualClock
from dossier_common.contracts.retention import AccessRefused, HoldPlaced, HoldReleased
from dossier_common.database import Read, Recorded, Write, recorded
from dossier_common.identity import Subject
from dossier_common.ids import new_id
from dossier_common.problems import AuditUnavailable
from dossier_common.relay import Confirmation
from dossier_common.scopes import Scope

ROWS = 3
Placer = Annotated[Subject, scope(Scope.HOLDS_PLACE)]
api = router(tags=["limits"])


@api.get("/v1/plain")
async def show_plain(_session: Read, _by: Placer) -> str:
    return "plain"


@api.get("/v1/recorded")
async def show_recorded(request: Request, session: Recorded, by: Placer) -> str:
    await outbox.add(session, HoldPlaced(hold=new_id(), record=new_id()), by=by, at=request.app.state.clock.now())
    return "recorded"


@api.post("/v1/opened")
async def show_opened(request: Request, by: Placer) -> str:
    async with recorded(request) as session:
        await outbox.add(session, HoldPlaced(hold=new_id(), record=new_id()), by=by, at=request.app.state.clock.now())
    return "opened after the commit"


@api.post("/v1/changes")
async def change(request: Request, session: Write, by: Placer) -> str:
    await outbox.add(session, HoldReleased(hold=new_id(), record=new_id()), by=by, at=request.app.state.clock.now())
    return "changed"


@dataclass
class Limited:
    """A part with low limits, whose relay only works when it is let."""

    line: Line
    app: FastAPI
    http: httpx.AsyncClient

    @property
    def backlog(self) -> Backlog:
        found: Backlog = self.app.state.backlog
        return found

    def header(self, *scopes: str) -> dict[str, str]:
        return {"Txn-Token": txn_token(self.line.keys, "retention", scopes, account=new_id(), person=new_id())}

    async def statuses(self, *scopes: str) -> dict[str, int]:
        """What each kind of operation is answered, as the backlog is now."""
        await self.backlog.look()
        header = self.header(*(scopes or ("holds:place",)))
        ways = {"plain": "GET", "recorded": "GET", "opened": "POST", "changes": "POST"}
        answers = {path: await self.http.request(verb, f"/v1/{path}", headers=header) for path, verb in ways.items()}
        return {path: answer.status_code for path, answer in answers.items()}

    async def refusal(self, path: str = "recorded") -> dict[str, Any]:
        """The problem of a reading that is refused."""
        answer = await self.http.get(f"/v1/{path}", headers=self.header("holds:place"))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
        document: dict[str, Any] = answer.json()
        assert document["type"] == "urn:dossier:problem:audit-unavailable"
        return document


@pytest.fixture
async def limited(line: Line) -> AsyncIterator[Limited]:
    settings = line.producer.settings.model_copy(update={"backlog_rows": ROWS, "backlog_seconds": 900})
    app = create_app("retention", settings, routers=[api], refused=AccessRefused)
    async with serving(app, line.keys) as http:
        yield Limited(line, app, http)


ALL = {"plain": 200, "recorded": 200, "opened": 200, "changes": 200}
NO_READINGS = ALL | {"recorded": 503, "opened": 503}
NOTHING = NO_READINGS | {"changes": 503}


@pytest.mark.invariant(1)
@pytest.mark.invariant(2)
async def test_readings_stop_first_then_changes_and_receipts_open_both_again(limited: Limited) -> None:
    line = limited.line
    assert await limited.statuses() == ALL  # leaves three events, which is the limit
    await line.emit(1)
    assert await limited.statuses() == NO_READINGS
    document = await limited.refusal()
    assert (document["limit"], document["most"]) == ("backlog-rows", ROWS)
    await line.emit(10 * ROWS)
    assert await limited.statuses() == NOTHING
    async with running(line.relay().run()):
        await line.published()  # numbers and publishing alone help nobody
        assert await limited.statuses() == NOTHING
        head = (await line.heads())[-1]
        line.audited = Confirmation(head.epoch, head.seq, head.hash)

        async def served() -> bool:
            answer = await limited.http.get("/v1/recorded", headers=limited.header("holds:place"))
            return answer.status_code == 200

        await eventually(served, expected=True)
    assert (await limited.statuses())["changes"] == 200


@pytest.mark.invariant(1)
@pytest.mark.parametrize("numbered", [True, False])
async def test_age_of_the_oldest_event_counts_too(limited: Limited, *, numbered: bool) -> None:
    line, now = limited.line, datetime.now(UTC)
    connection = await line.producer.database.connect()
    try:
        for minutes, expected in ((14, ALL), (16, NO_READINGS), (149, NO_READINGS), (151, NOTHING)):
            await line.execute("DELETE FROM outbox")
            await line.emit(1, ManualClock(now - timedelta(minutes=minutes)))
            if numbered:
                await line.relay()._number(connection)
                await line.execute("UPDATE outbox_state SET receipt_epoch = 1, receipt_seq = seq - 1")
            assert await limited.statuses() == expected, minutes
            if expected == NO_READINGS:
                document = await limited.refusal()
                assert (document["limit"], document["most"]) == ("backlog-seconds", 900)
    finally:
        await connection.close()


async def test_age_goes_on_while_nobody_can_look(limited: Limited) -> None:
    clock = ManualClock(datetime.now(UTC))
    backlog = Backlog(limited.line.producer.database, clock.now, seconds=60, rows=100)
    await limited.line.emit(1, clock)
    await backlog.look()
    backlog.ensure(1)
    clock.advance(timedelta(seconds=61))
    with pytest.raises(AuditUnavailable):
        backlog.ensure(1)
    backlog.ensure(10)


@pytest.mark.invariant(1)
async def test_refusals_go_on_being_recorded(limited: Limited) -> None:
    line = limited.line
    await line.emit(100)
    assert await limited.statuses("holds:release") == dict.fromkeys(ALL, 403)
    assert await line.value("SELECT count(*) FROM outbox WHERE type = 'retention.v1.access.refused'") == 4
    for path in ("recorded", "changes"):
        verb = "GET" if path == "recorded" else "POST"
        assert (await limited.http.request(verb, f"/v1/{path}")).status_code == 401


async def test_readiness_and_feed_do_not_depend_on_it(limited: Limited) -> None:
    await limited.line.emit(100)
    await limited.backlog.look()
    assert (await limited.http.get("/readyz")).status_code == 200


async def test_rows_are_those_without_a_receipt_over_the_epochs(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dossier_common.backlog.STEP", 4)
    backlog = Backlog(line.producer.database, line.producer.clock.now, seconds=900, rows=ROWS)  # nobody else looks
    relay, connection = line.relay(), await line.producer.database.connect()

    async def rows(looks: int = 1) -> int:
        for _ in range(looks):
            await backlog.look()
        return backlog.rows

    try:
        assert (await rows(), backlog.seconds()) == (0, 0.0)
        await line.emit(10)
        assert [await rows(), await rows(), await rows(), await rows()] == [4, 8, 10, 10]  # a step each time
        await line.emit(1)
        assert await rows() == 11
        await relay._number(connection)
        assert await rows() == 11
        (head,) = await line.heads()
        await line.emit(2)
        assert await rows() == 13
        await relay._note(connection, Confirmation(1, 11, head.hash))
        assert await rows() == 2
        await relay._number(connection)
        await line.execute("UPDATE outbox_state SET epoch = 2, seq = 0")
        await line.emit(3)
        assert await rows() == 5
        await relay._number(connection)
        assert await rows() == 5
        await line.execute("UPDATE outbox_state SET receipt_epoch = 2, receipt_seq = 1")
        assert await rows() == 2
    finally:
        await connection.close()


async def test_backlog_that_cannot_be_looked_at_is_said_once_and_looked_at_again(
    limited: Limited, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dossier_common.backlog.EVERY_SECONDS", 0.01)
    backlog = Backlog(limited.line.producer.database, lambda: datetime.now(UTC), seconds=60, rows=100)
    looks, look = 0, backlog.look

    async def failing() -> None:
        nonlocal looks
        looks += 1
        if looks < 5:
            raise ConnectionError
        await look()

    monkeypatch.setattr(backlog, "look", failing)
    await limited.line.emit(7)

    async def rows() -> int:
        return backlog.rows

    with capture_logs() as logs:
        async with running(backlog.run()):
            await eventually(rows, 7)
    assert [each["event"] for each in logs] == ["backlog-unknown"]
