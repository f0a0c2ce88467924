"""Metrics of a worker, in OpenTelemetry, served as Prometheus text at `/metrics`; none holds personal data.

Counters grow where things happen. Gauges are set when somebody asks, from what the database says at that moment
(`measure`), so that a job that hangs cannot keep them looking well. A part adds its own with `counter` and `gauge`, and
sets its gauges in the function that it gives to `worker.run`.
"""

from typing import TYPE_CHECKING, Final

import prometheus_client
from opentelemetry import metrics
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from sqlalchemy import text

from dossier_common import backlog
from dossier_common.clock import Clock
from dossier_common.database import Database

if TYPE_CHECKING:
    from opentelemetry.metrics import Counter
    from opentelemetry.metrics import _Gauge as Gauge

CONTENT_TYPE: Final = prometheus_client.CONTENT_TYPE_LATEST

_METER = metrics.get_meter("dossier")


def counter(name: str, description: str, unit: str = "1") -> "Counter":
    """A number that only grows; in Prometheus its name ends in `_total`."""
    return _METER.create_counter(name, unit, description)


def gauge(name: str, description: str, unit: str = "1") -> "Gauge":
    """A number that is as it was last set."""
    return _METER.create_gauge(name, unit, description)


FEED_PULLS: Final = counter("dossier_feed_pulls", "Pages asked of a followed producer's feed", "{page}")
FEED_PRUNED: Final = counter("dossier_feed_pruned", "Times that a feed no longer had what comes next", "{answer}")
STREAM_LEFT: Final = counter("dossier_stream_left", "Times that a stream was left for an error", "{time}")
APPLIED: Final = counter("dossier_events_applied", "Events of a followed producer that were applied", "{event}")
NOT_DELIVERED: Final = counter("dossier_batches_not_delivered", "Tries to publish a batch that failed", "{try}")

CURRENT: Final = gauge("dossier_measured", "Whether the gauges are of now: 0 while the database is away")
_BACKLOG_ROWS: Final = gauge("dossier_outbox_backlog_rows", "Outbox rows without a receipt", "{row}")
_BACKLOG_SECONDS: Final = gauge("dossier_outbox_backlog", "Age of the oldest outbox row without a receipt", "s")
_NUMBERED: Final = gauge("dossier_outbox_numbered", "Number of the last event of the present epoch", "{event}")
_PUBLISHED: Final = gauge("dossier_outbox_published", "Number of the last published event", "{event}")
_RECEIPTED: Final = gauge("dossier_outbox_receipted", "Number of the last event that has a receipt", "{event}")
_EPOCH: Final = gauge("dossier_outbox_epoch", "The producer's present epoch", "{epoch}")
_CURSOR: Final = gauge("dossier_cursor", "Number of the last applied event of a followed producer", "{event}")
_STALENESS: Final = gauge("dossier_staleness", "How long ago nothing of a followed producer was missing", "s")


def setup(part: str) -> None:
    """From here on the instruments of this process count; call it once."""
    reader = PrometheusMetricReader()
    resource = Resource.create({"service.name": f"dossier-{part}"})
    metrics.set_meter_provider(MeterProvider(metric_readers=[reader], resource=resource))


def exposition() -> bytes:
    """All metrics of this process as Prometheus text."""
    return prometheus_client.generate_latest()


async def measure(database: Database, clock: Clock, looking: backlog.Backlog) -> None:
    """Sets the gauges of outbox and cursors. A producer of which nothing is known has no staleness."""
    CURRENT.set(0)
    await looking.look()
    async with database.session() as session:
        state = (await session.execute(text("SELECT epoch, seq, published_seq, receipt_seq FROM outbox_state"))).one()
        followed = (await session.execute(text("SELECT producer, seq, fresh_at FROM cursors"))).all()
    _BACKLOG_ROWS.set(looking.rows)
    _BACKLOG_SECONDS.set(looking.seconds())
    _EPOCH.set(state.epoch)
    _NUMBERED.set(state.seq)
    _PUBLISHED.set(state.published_seq)
    _RECEIPTED.set(state.receipt_seq)
    now = clock.now()
    for producer in followed:
        said = {"producer": producer.producer}
        _CURSOR.set(producer.seq, said)
        if producer.fresh_at is not None:
            _STALENESS.set((now - producer.fresh_at).total_seconds(), said)
    CURRENT.set(1)
