"""What a worker tells of itself at `/metrics`."""

from collections.abc import AsyncIterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.common.line import Line
from tests.support.waiting import running

from dossier_common import metrics
from dossier_common.worker import Context, observed, opened

OWN = metrics.gauge("test_own_size", "A gauge of the part's own")


@pytest.fixture(scope="session")
def counting() -> None:
    metrics.setup("test")


async def asked(context: Context) -> dict[tuple[str, str], float]:
    """Values by name and producer."""

    async def own(_context: Context) -> None:
        OWN.set(42)

    transport = httpx.ASGITransport(observed(context, own))
    async with httpx.AsyncClient(transport=transport, base_url="http://worker") as http:
        answer = await http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, sample.labels.get("producer", "")): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


@pytest.fixture
async def away(line: Line) -> AsyncIterator[Context]:
    """A worker whose database is away."""
    url = line.producer.settings.database_url.replace("/run", "/gone")
    async with opened("retention", line.producer.settings.model_copy(update={"database_url": url})) as context:
        yield context


@pytest.mark.usefixtures("counting")
async def test_producer_tells_its_backlog_and_how_far_it_has_come(line: Line) -> None:
    async with running(line.relay().run()):
        await line.emit(5)
        await line.published()
        await line.execute("UPDATE outbox_state SET receipt_epoch = 1, receipt_seq = 2")
    await line.emit(1)
    told = await asked(line.producer)
    assert told["dossier_outbox_numbered", ""] == 5
    assert told["dossier_outbox_published", ""] == 5
    assert told["dossier_outbox_receipted", ""] == 2
    assert told["dossier_outbox_backlog_rows", ""] == 4
    assert 0 < told["dossier_outbox_backlog_seconds", ""] < 60
    assert told["dossier_measured", ""] == 1
    assert told["test_own_size", ""] == 42


@pytest.mark.usefixtures("counting")
async def test_follower_tells_cursor_staleness_and_pulls_by_producer(line: Line) -> None:
    before = await asked(line.follower)
    pulls = before.get(("dossier_feed_pulls_total", "retention"), 0.0)
    async with running(line.relay().run()):
        await line.emit(4)
        await line.published()
    await line.consumer().catch_up()
    told = await asked(line.follower)
    assert told["dossier_cursor", "retention"] == 4
    assert 0 <= told["dossier_staleness_seconds", "retention"] < 30
    assert told["dossier_feed_pulls_total", "retention"] == pulls + 2
    assert told["dossier_events_applied_total", "retention"] >= 4


@pytest.mark.usefixtures("counting")
async def test_metrics_say_so_while_the_database_is_away(line: Line, away: Context) -> None:
    assert (await asked(line.producer))["dossier_measured", ""] == 1
    assert (await asked(away))["dossier_measured", ""] == 0
