"""The worker of the audit service: it follows every producer, takes its own events in, keeps the log, says receipts."""

from collections.abc import Mapping
from datetime import timedelta

import httpx
import orjson

from dossier_audit import metrics, service
from dossier_audit.consumers import ingest
from dossier_audit.outside import Outside
from dossier_audit.publication import Witnessed, publish
from dossier_audit.sequencer import Sequencer
from dossier_audit.settings import Settings
from dossier_audit.silence import watch
from dossier_audit.waking import woken_by
from dossier_audit.witness import WitnessClient
from dossier_common import worker
from dossier_common.keys import SigningKey
from dossier_common.relay import Confirmation, Relay
from dossier_common.startup import ensure_writable, prepared
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
        **log_jobs(context),
    }


def log_jobs(context: Context) -> Mapping[str, Job]:
    """The sequencer, and what carries its checkpoints outside."""
    settings = context.settings
    assert isinstance(settings, Settings)
    key, address = SigningKey.read(settings.log_key_file), settings.log_address
    http = httpx.AsyncClient(timeout=5, trust_env=False, follow_redirects=False)
    witnesses = [WitnessClient(each, http) for each in settings.witnesses]
    outside = Outside(settings.checkpoint_dir, witnesses, key, address)
    database, clock = context.database, context.clock
    return {
        "sequencer": Sequencer(database, clock, key, address, outside).run,
        "publication": lambda: publish(database, clock, outside),
        "silence": lambda: watch(database, clock, settings.silence_seconds),
        **{f"witness-{each.name}": Witnessed(database, clock, each, outside).run for each in witnesses},
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
    said: dict[str, tuple[int, int]] = {}
    async with woken_by(context.database, "receipts") as waking:
        while True:
            async with context.database.session() as session:
                receipts = [await service.receipt(session, producer, context.key) for producer in PUBLISHERS]
            for receipt in receipts:
                if receipt and said.get(receipt.producer) != (receipt.epoch, receipt.seq) and context.nats.is_connected:
                    await context.nats.publish(receipt_subject(receipt.producer), orjson.dumps(receipt.to_json()))
                    said[receipt.producer] = (receipt.epoch, receipt.seq)
            await waking.wait(REPEAT_SECONDS)


def ensure_checkpoints(settings: Settings) -> None:
    """Raises ValueError where no checkpoint could be copied outside the database."""
    if settings.checkpoint_dir is not None:
        ensure_writable("DOSSIER_AUDIT_CHECKPOINT_DIR", settings.checkpoint_dir)


if __name__ == "__main__":
    worker.run(PART, prepared(Settings, ensure_checkpoints), jobs, metrics.measure)
