"""What `make bench` measures of the audit log, at several sizes and beside yardsticks. Nothing here is a verdict."""

import asyncio
import logging
import os
from collections.abc import Iterator

import pytest
import structlog
import uvloop
from tests.benchmarks import log_measures as measures
from tests.benchmarks.log_measures import Figures
from tests.benchmarks.log_rig import BUSINESS, Rig, rigged, served
from tests.support.parts import without_receipts

from dossier_local import cluster as servers
from dossier_local.cluster import Cluster

SIZES = [int(size) for size in os.environ.get("BENCH_LEAVES", "10000,1000000").split(",")]
BATCH = 500


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    """Servers of its own, stopped before the next measurement begins."""
    with servers.temporary() as running:
        yield without_receipts(running)


def test_log_at_each_size_beside_a_bare_insert_and_a_bare_publish(own_cluster: Cluster) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(_measured(own_cluster))
    _show(found)


@pytest.fixture(autouse=True)
def _quiet() -> None:
    """Warnings are expected where a way is cut off so that another is measured."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))


async def _measured(cluster: Cluster) -> dict[int, Figures]:
    found: dict[int, Figures] = {}
    async with rigged(cluster) as rig:
        twins, publishing = measures.Twins(rig), measures.Publishing(rig)
        for size in SIZES:
            figures = found[size] = await _fill(rig, size)
            async with served(rig, "audit") as address:
                _note(figures, await measures.proving(rig, address))
                _note(figures, await measures.verifying(rig, address))
            for measure in (measures.keeping, measures.ingesting):
                _note(figures, await measure(rig))
            for yardstick in (twins.inserting, publishing.publishing):
                _note(figures, await yardstick())
            _note(figures, await measures.following_the_stream(rig))
            async with served(rig, BUSINESS):
                _note(figures, await measures.trickling(rig))
                _note(figures, await measures.following_the_feed(rig))  # last: what it took lies in the stream still
    return found


def _note(figures: Figures, more: Figures) -> None:
    """Adds figures, and says them at once: a run that is cut short has not measured in vain."""
    figures |= more
    for name, figure in more.items():
        print(f"    {name:<62}{figure:>12,.1f}", flush=True)


async def _fill(rig: Rig, size: int) -> Figures:
    """Brings the log to this size by the way that is measured; what is measured adds 60,000 leaves to each size.

    What PostgreSQL owes for it (statistics, checkpoint) is paid before anything else is measured: a log grows to a
    million leaves in days.
    """
    missing = size - await rig.size()
    assert missing > 0, "the sizes are too near to each other"
    spent = await rig.ingest(missing, BATCH)
    print(f"\n  log of {await rig.size()} leaves: {missing} ingested in {spent.provable:.0f} s", flush=True)
    rig.cluster.postgres.psql("VACUUM ANALYZE;\nCHECKPOINT;", "dossier_audit")
    return {"sustained up to here, batches of 500: provable, events/s": spent.events / spent.provable}


def _show(found: dict[int, Figures]) -> None:
    sizes = list(found)
    print(f"\n  {'leaves':<62}" + "".join(f"{size:>12,}" for size in sizes) + f"{'change':>9}")
    for name in found[sizes[0]]:
        figures = [found[size][name] for size in sizes]
        change = f"{figures[-1] / figures[0] - 1:+9.0%}" if len(figures) > 1 else ""
        print(f"  {name:<62}" + "".join(f"{figure:>12,.1f}" for figure in figures) + change)
    print("\n  ratios to the yardsticks of the same size")
    for name, yardstick in RATIOS:
        ratios = "".join(f"{found[size][name] / found[size][yardstick]:>12.2f}" for size in sizes)
        print(f"  {name:<62}{ratios}   × {yardstick.partition(':')[2].partition(',')[0].strip()}")


_INSERT, _PUBLISH = "yardstick: INSERT of the same rows, events/s", "yardstick: publish into JetStream, events/s"
RATIOS = (
    ("sustained up to here, batches of 500: provable, events/s", _INSERT),
    ("ingest, batches of 500: provable, events/s", _INSERT),
    ("relay, outbox to JetStream: events/s", _PUBLISH),
    ("audit, JetStream to provable: events/s", _PUBLISH),
    ("audit, feed to provable: events/s", _INSERT),
)
