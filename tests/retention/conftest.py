from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from tests.retention.bench import NOW, Bench
from tests.support.chains import Chain
from tests.support.parts import serving, settings_of
from tests.support.tokens import TestKeys

from dossier_common.clock import ManualClock
from dossier_common.policy import load_policy
from dossier_common.worker import opened
from dossier_local.cluster import Cluster
from dossier_retention.consumers import handlers
from dossier_retention.main import create
from dossier_retention.settings import Settings


@pytest.fixture
async def bench(cluster: Cluster) -> AsyncIterator[Bench]:
    keys, clock = TestKeys(), ManualClock(NOW)
    settings = settings_of(cluster, "retention", Settings)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(serving(create(settings, clock), keys))
        worker = await stack.enter_async_context(opened("retention", settings, clock))
        applied = handlers(load_policy(settings.common.policy), clock, worker.key, settings.backup_horizon_days)
        chains = {part: await Chain.after(cluster, worker, part) for part in ("gateway", "records", "approvals")}
        made = Bench(keys, clock, http, worker, applied, chains)
        await made.open_directory()
        yield made
