"""Receipts come by message, and are asked for when they do not; none but the audit service's moves anything."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import orjson
import pytest
from nats.aio.client import Client
from tests.common.line import Line
from tests.support.broker import connected
from tests.support.waiting import eventually, running

from dossier_common.keys import SigningKey
from dossier_common.leaves import Head
from dossier_common.receipts import Receipt
from dossier_common.relay import Confirmation, Diverged, Relay
from dossier_common.topology import receipt_subject
from dossier_local import keys as local_keys

STATE = "SELECT receipt_epoch, receipt_seq FROM outbox_state"


@pytest.fixture
async def audit(line: Line) -> AsyncIterator[Client]:
    """The audit service's connection."""
    async with connected(line.cluster.broker, "audit") as client:
        yield client


@pytest.fixture
def key(line: Line) -> SigningKey:
    """The audit service's key."""
    return SigningKey.read(local_keys.signing_key(line.cluster.state, "audit"))


def listening(line: Line) -> Relay:
    """The producer's relay as its worker has it, but for where it asks."""
    relay = line.producer.relay()
    relay._confirmed = line.confirmed
    return relay


def receipt(key: SigningKey, head: Head, seq: int | None = None) -> Receipt:
    return Receipt.sign(key, "retention", head.epoch, seq or head.seq, head.hash, datetime.now(UTC))


async def say(audit: Client, said: Receipt, producer: str = "retention") -> None:
    await audit.publish(receipt_subject(producer), orjson.dumps(said.to_json()))
    await audit.flush()


async def subscribed(line: Line) -> None:
    """Waits until the relay listens."""

    async def subjects() -> bool:
        return receipt_subject("retention") in [each.subject for each in line.producer.nats._subs.values()]

    await eventually(subjects, expected=True)
    await line.producer.nats.flush()


@pytest.mark.invariant(2)
async def test_receipt_that_comes_by_message_is_noted_without_asking(
    line: Line, audit: Client, key: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dossier_common.relay.RECEIPT_SECONDS", 3600)
    async with running(listening(line).run()):
        await line.emit(3)
        await line.published()
        await subscribed(line)
        first = (await line.heads())[-1]
        await say(audit, receipt(key, first))
        await eventually(lambda: line.rows(STATE), [(1, 3)])
        assert await line.value("SELECT receipt_at FROM outbox_state") is not None
        await line.emit(4)
        await line.published()
        second = (await line.heads())[-1]
        await say(audit, receipt(key, second))
        await eventually(lambda: line.rows(STATE), [(1, 7)])
        await say(audit, receipt(key, first))  # one that was on its way for long moves nothing back
        third = await _one_more(line)
        await say(audit, receipt(key, third))
        await eventually(lambda: line.rows(STATE), [(1, third.seq)])
    assert line.asked == 1  # at its start


async def _one_more(line: Line) -> Head:
    await line.emit(1)
    await line.published()
    return (await line.heads())[-1]


@pytest.mark.invariant(2)
async def test_receipt_that_the_audit_service_did_not_sign_moves_nothing(
    line: Line, audit: Client, key: SigningKey
) -> None:
    async with running(listening(line).run()):
        await line.emit(3)
        await line.published()
        await subscribed(line)
        (head,) = await line.heads()
        for said in (
            receipt(SigningKey.generate(), head),
            receipt(line.producer.key, head),
            replace(receipt(key, head), seq=2),
            Receipt.sign(key, "records", 1, 3, head.hash, datetime.now(UTC)),
        ):
            await say(audit, said)
        await audit.publish(receipt_subject("retention"), b"not JSON")
        await audit.publish(receipt_subject("retention"), b"[]")
        third = await _one_more(line)
        assert await line.rows(STATE) == [(0, 0)]
        await say(audit, receipt(key, third))
        await eventually(lambda: line.rows(STATE), [(1, third.seq)])


@pytest.mark.invariant(2)
@pytest.mark.parametrize("beyond", [True, False])
async def test_receipt_of_another_chain_stops_the_relay(
    line: Line, audit: Client, key: SigningKey, *, beyond: bool
) -> None:
    relay = asyncio.create_task(listening(line).run())
    await line.emit(3)
    await line.published()
    await subscribed(line)
    (head,) = await line.heads()
    other = receipt(key, head, 9) if beyond else receipt(key, replace(head, hash=bytes(range(32))))
    await say(audit, other)
    await asyncio.wait([relay], timeout=10)
    with pytest.raises(ExceptionGroup) as ended:
        relay.result()
    assert ended.group_contains(Diverged)
    assert await line.rows(STATE) == [(0, 0)]


@pytest.mark.invariant(2)
async def test_receipt_that_was_missed_is_asked_for_while_events_wait(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dossier_common.relay.RECEIPT_SECONDS", 0.05)

    async def asked() -> bool:
        return line.asked > asked_before

    async with running(listening(line).run()):
        await line.emit(3)
        await line.published()
        asked_before = line.asked
        await eventually(asked, expected=True)
        (head,) = await line.heads()
        line.audited = Confirmation(head.epoch, head.seq, head.hash)
        await eventually(lambda: line.rows(STATE), [(1, 3)])
    asked_before = line.asked
    async with running(listening(line).run()):  # all has its receipt: nobody is asked but at the start
        await subscribed(line)
        await line.emit(0)
        await eventually(asked, expected=True)
        assert line.asked == asked_before + 1


async def test_nobody_but_the_audit_service_may_publish_receipts(line: Line, key: SigningKey) -> None:
    async with running(listening(line).run()):
        await line.emit(3)
        await line.published()
        await subscribed(line)
        (head,) = await line.heads()
        await line.follower.nats.publish(receipt_subject("retention"), orjson.dumps(receipt(key, head).to_json()))
        await line.follower.nats.flush()
        third = await _one_more(line)
        assert third.seq == 4
        assert await line.rows(STATE) == [(0, 0)]
