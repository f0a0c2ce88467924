"""The worker of the audit service: it follows every producer, takes its own events in, and announces receipts."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta

import asyncpg
import orjson

from dossier_audit import service
from dossier_audit.consumers import ingest
from dossier_audit.settings import Settings
from dossier_common import worker
from dossier_common.relay import Confirmation, Relay
from dossier_common.settings import load
from dossier_common.topology import PUBLISHERS, receipt_subject
from dossier_common.worker import Context, Job

PART = "audit"
REPEAT_SECONDS = 5.0


def jobs(context: Context) -> Mapping[str, Job]:
    """What runs in this process."""
    return {
        **worker.follow(context, ingest(context.clock)),
        "relay": own_relay(context).run,
        "receipts": lambda: announce_receipts(context),
    }


def own_relay(context: Context) -> Relay:
    """The relay of the audit service's own events: straight into its ingest tables, without a broker between."""

    async def confirmed() -> Confirmation | None:
        async with context.database.session() as session:
            receipt = await service.receipt(session, PART, context.key)
        return Confirmation(receipt.epoch, receipt.seq, receipt.hash) if receipt else None

    return Relay(
        PART,
        context.database,
        context.key,
        context.clock,
        deliver=context.consumer(PART, ingest(context.clock)).take,
        confirmed=confirmed,
        keep=timedelta(days=context.settings.outbox_keep_days),
    )


async def announce_receipts(context: Context) -> None:
    """Publishes each producer's receipt after the commit that it confirms, on core NATS: whoever misses it asks for it.

    Raises when its connection is lost.
    """
    woken = asyncio.Event()
    connection = await context.database.connect()
    try:
        await connection.add_listener("receipts", lambda *_: woken.set())
        said: dict[str, tuple[int, int]] = {}
        while True:
            woken.clear()
            async with context.database.session() as session:
                receipts = [await service.receipt(session, producer, context.key) for producer in PUBLISHERS]
            for receipt in receipts:
                if receipt and said.get(receipt.producer) != (receipt.epoch, receipt.seq) and context.nats.is_connected:
                    await context.nats.publish(receipt_subject(receipt.producer), orjson.dumps(receipt.to_json()))
                    said[receipt.producer] = (receipt.epoch, receipt.seq)
            with suppress(TimeoutError):  # not by wait_for, which before Python 3.12 can lose a cancellation
                async with asyncio.timeout(REPEAT_SECONDS):
                    await woken.wait()
            if connection.is_closed():
                raise ConnectionError("the listening connection is lost")
    finally:
        with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
            await connection.close(timeout=2)


if __name__ == "__main__":
    worker.run(PART, load(Settings), jobs)
