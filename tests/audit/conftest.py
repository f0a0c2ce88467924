from collections.abc import AsyncIterator

import pytest
from tests.audit.bench import Bench, benched
from tests.support.waiting import running

from dossier_audit.worker import own_relay
from dossier_local.cluster import Cluster


@pytest.fixture(scope="session")
async def bench(cluster: Cluster) -> AsyncIterator[Bench]:
    async with benched(cluster) as made:
        yield made


@pytest.fixture
async def own_events(bench: Bench) -> AsyncIterator[None]:
    """The audit service takes its own events in."""
    async with running(own_relay(bench.worker).run()):
        yield
