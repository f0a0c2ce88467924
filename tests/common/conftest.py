from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest
from tests.common.line import FollowerSettings, Line, ProducerSettings
from tests.support.parts import introduce, serving, settings_of, without_receipts, working
from tests.support.tokens import TestKeys

from dossier_common.app import create_app
from dossier_common.contracts.retention import AccessRefused
from dossier_local import cluster as servers
from dossier_local.cluster import Cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Servers of these tests alone: they set producers back, delete streams and stop servers."""
    with servers.temporary() as running:
        yield without_receipts(running)


@pytest.fixture(scope="session")
async def opened_line(cluster: Cluster) -> AsyncIterator[Line]:
    keys = TestKeys()
    producer_settings = settings_of(cluster, "retention", ProducerSettings)
    follower_settings = settings_of(cluster, "approvals", FollowerSettings)
    app = create_app("retention", producer_settings, routers=[], refused=AccessRefused)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(serving(app, keys))
        producer = await stack.enter_async_context(working("retention", producer_settings))
        follower = await stack.enter_async_context(working("approvals", follower_settings))
        line = Line(cluster, keys, app, http, producer, follower)
        introduce(follower.peers, keys, {"retention": app})
        await line.make_table()
        yield line


@pytest.fixture
async def line(opened_line: Line) -> Line:
    """A producer that has numbered nothing, and a follower that has seen nothing of it."""
    await opened_line.reset()
    return opened_line
