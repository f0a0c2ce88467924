"""What `make bench` measures of the gateway, beside yardsticks of the same run. Nothing here is a verdict."""

import asyncio
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
import uvloop
from tests.benchmarks import edge_measures as measures
from tests.benchmarks import edge_rig as rigs
from tests.benchmarks.edge_measures import Figures
from tests.support.parts import without_receipts

from dossier_local import cluster as servers
from dossier_local.cluster import Cluster

SESSIONS = int(os.environ.get("BENCH_SESSIONS", "10000"))
SIGN_INS = 12
_RATIOS = (
    ("gateway: calls/s", "direct: calls/s"),
    ("gateway: calls/s", "nginx: calls/s"),
    ("gateway: calls/s", "bare forwarder: calls/s"),
    ("gateway: µs of processor", "direct: µs of processor"),
    ("gateway: µs of processor", "nginx: µs of processor"),
    ("gateway: µs of processor", "bare forwarder: µs of processor"),
)


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    """Servers of its own, stopped before the next measurement begins."""
    with servers.temporary() as running:
        yield without_receipts(running)


@pytest.fixture(autouse=True)
def _quiet() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))


@pytest.mark.timeout(600)
def test_gateway_beside_direct_nginx_and_a_bare_forwarder(own_cluster: Cluster, tmp_path: Path) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(_measured(own_cluster, tmp_path))
    print("\n  ratios")
    for name, yardstick in _RATIOS:
        if name in found and yardstick in found:
            print(f"  {name:<62}{found[name] / found[yardstick]:>12.2f}   × {yardstick.partition(':')[0]}")
    checks = found["gateway: µs of processor"] - found["bare forwarder: µs of processor"]
    print(f"  {'the gateway above the bare forwarder: µs of processor':<62}{checks:>12.1f}")


async def _measured(cluster: Cluster, folder: Path) -> Figures:
    found: Figures = {}
    how = "gateway on one core, load and upstream on another" if rigs.PINNED else "not pinned: one core, or no taskset"
    print(f"\n  {how}{'' if rigs.NGINX else '; nginx is not installed, its row is left out'}", flush=True)
    async with rigs.rigged(cluster, folder) as rig:
        await measures.application(rig)
        everybody = await measures.people(rig, SESSIONS)
        tokens = everybody.tokens(rig)
        _note(found, await measures.forwarding(rig, folder, tokens[0]))
        _note(found, await measures.checking(rig, tokens))
        _note(found, await measures.issuing(rig))
        _note(found, await measures.signing_in(rig, everybody.accounts[:SIGN_INS]))
        _note(found, await measures.revoking(rig))
        _note(found, await measures.remembering(rig, tokens))
    return found


def _note(figures: Figures, more: Figures) -> None:
    """Adds figures, and says them at once: a run that is cut short has not measured in vain."""
    figures |= more
    for name, figure in more.items():
        print(f"    {name:<62}{figure:>12,.2f}", flush=True)
