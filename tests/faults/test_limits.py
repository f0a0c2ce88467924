"""The audit service is away for long: first nobody reads content, later nobody changes anything; then all goes on."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

import pytest
from tests.faults.client import CLERK, Acknowledged, Kind
from tests.faults.rounds import Rig, rig
from tests.faults.verified import verified

from dossier_common.problems import AuditUnavailable
from dossier_local.client import Answer

SEED = 20261122
LIMIT_SECONDS = 3
PATIENCE = 60.0


async def _until(holds: Callable[[], Awaitable[bool]], what: str) -> None:
    until = monotonic() + PATIENCE
    while not await holds():
        assert monotonic() < until, what
        await asyncio.sleep(0.1)


def _since(under_fault: Rig, kind: Kind, moment: float) -> list[Acknowledged]:
    return [each for each in under_fault.acknowledged if each.kind is kind and each.asked_at >= moment]


def _refused(answer: Answer) -> bool:
    return (answer.status, answer.body.get("type")) == (503, f"urn:dossier:problem:{AuditUnavailable.slug}")


@pytest.mark.invariant(1)
@pytest.mark.invariant(2)
@pytest.mark.timeout(400)
async def test_without_the_audit_service_reads_stop_at_their_limit_and_writes_at_theirs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOSSIER_RECORDS_BACKLOG_SECONDS", str(LIMIT_SECONDS))
    async with rig(SEED) as under_fault:
        caller, calls = under_fault.traffic._client.as_(CLERK), under_fault.traffic
        calls.start(without=Kind.QUERIED)
        begun = monotonic()
        await _until(lambda: _flows(under_fault, Kind.READ, begun), "readings before the fault")
        record = next(each.key for each in under_fault.acknowledged if each.kind is Kind.REGISTERED)

        async def reading() -> bool:
            answer = await caller.call("GET", f"/v1/records/{record}", purpose="service")
            assert answer.status == 200 or _refused(answer), answer
            assert answer.status == 200 or int(answer.headers["retry-after"]) > 0
            return _refused(answer)

        async def changing() -> bool:
            answer = await caller.call("POST", "/v1/records", body={})
            assert answer.status == 422 or _refused(answer), answer
            return _refused(answer)

        injector = under_fault.injector
        async with injector.stopped("audit-worker"), injector.stopped("audit-web"):
            stopped = monotonic()
            await _until(reading, "a reading being refused")
            reads_stopped = monotonic()
            assert not await changing(), "writes have ten times the time"
            await _until(
                lambda: _flows(under_fault, Kind.REGISTERED, reads_stopped), "records after reads have stopped"
            )
            await _until(changing, "a change being refused")
            writes_stopped = monotonic()
            assert writes_stopped - stopped >= 10 * LIMIT_SECONDS - 2
            await asyncio.sleep(1)
            assert await reading()
            assert await changing()
            assert not _since(under_fault, Kind.REGISTERED, writes_stopped + 0.5)
            assert not _since(under_fault, Kind.READ, reads_stopped + 1.5)
        again = monotonic()
        for kind in (Kind.READ, Kind.REGISTERED):
            await _until(lambda kind=kind: _flows(under_fault, kind, again), f"{kind.name} after the fault")  # type: ignore[misc]  # bound at once
        await calls.stop()
        assert await under_fault.settled(), "everything acknowledged is in the log"
        log = await under_fault.checker.read_log()
        assert not log.wrong
        assert not log.repeated
        assert await verified(under_fault) == []


async def _flows(under_fault: Rig, kind: Kind, moment: float) -> bool:
    return bool(_since(under_fault, kind, moment))
