from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from tests.audit.bench import Bench
from tests.support.parts import introduce, serving, settings_of, working
from tests.support.tokens import TestKeys
from tests.support.waiting import running

from dossier_audit import main as audit_main
from dossier_audit.settings import Settings as AuditSettings
from dossier_audit.worker import own_relay
from dossier_local.cluster import Cluster
from dossier_retention import main as retention_main
from dossier_retention.settings import Settings as RetentionSettings


@pytest.fixture(scope="session")
async def bench(cluster: Cluster) -> AsyncIterator[Bench]:
    keys = TestKeys()
    audit_settings = settings_of(cluster, "audit", AuditSettings)
    retention_settings = settings_of(cluster, "retention", RetentionSettings)
    audit_app, producer_app = audit_main.create(audit_settings), retention_main.create(retention_settings)
    async with AsyncExitStack() as stack:
        audit = await stack.enter_async_context(serving(audit_app, keys))
        await stack.enter_async_context(serving(producer_app, keys))
        worker = await stack.enter_async_context(working("audit", audit_settings))
        producer = await stack.enter_async_context(working("retention", retention_settings))
        introduce(worker.peers, keys, {"retention": producer_app})
        introduce(producer.peers, keys, {"audit": audit_app})
        yield Bench(keys, audit, audit_app, worker, producer, producer_app)


@pytest.fixture
async def own_events(bench: Bench) -> AsyncIterator[None]:
    """The audit service takes its own events in."""
    async with running(own_relay(bench.worker).run()):
        yield
