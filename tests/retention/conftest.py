from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
from tests.retention.bench import NOW, Bench
from tests.retention.disposing import Office
from tests.support.chains import Chain
from tests.support.parts import serving, settings_of, working
from tests.support.tokens import TestKeys

from dossier_common.clock import ManualClock
from dossier_common.ids import new_id
from dossier_common.policy import load_policy
from dossier_local.cluster import Cluster
from dossier_retention.consumers import handlers
from dossier_retention.main import create
from dossier_retention.settings import Settings


@pytest.fixture(scope="session")
async def service(cluster: Cluster) -> AsyncIterator[Bench]:
    keys, clock = TestKeys(), ManualClock(NOW)
    settings = settings_of(cluster, "retention", Settings)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(serving(create(settings, clock), keys))
        worker = await stack.enter_async_context(working("retention", settings, clock))
        applied = handlers(load_policy(settings.common.policy), clock, worker.key, settings.backup_horizon_days)
        yield Bench(keys, clock, http, worker, applied, {})


@pytest.fixture
async def bench(cluster: Cluster, service: Bench) -> Bench:
    """The service on the same day, with units of its own for each test."""
    service.clock.advance(NOW - service.clock.now())
    chains = {part: await Chain.after(cluster, service.worker, part) for part in ("gateway", "records", "approvals")}
    bench = replace(service, chains=chains, unit=new_id(), company=new_id())
    await bench.open_directory()
    return bench


@pytest.fixture
def office(bench: Bench) -> Office:
    return Office(bench)
