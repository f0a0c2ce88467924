"""The gateway's fixtures: each module has a gateway and an organisation of its own, of which it may leave anything."""

from collections.abc import AsyncIterator

import httpx
import pytest
from tests.gateway import world as worlds
from tests.gateway.world import OFFICERS, ROOT, TestClock, Upstream, World
from tests.support.emptied import emptied, superuser

from dossier_common.database import Database
from dossier_common.policy import load_policy
from dossier_gateway import ceremony as ceremonies
from dossier_local.cluster import Cluster


@pytest.fixture(scope="module")
async def made(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> ceremonies.Ceremony:
    """What the ceremony made in a database where there was nothing."""
    connection = await superuser(cluster, "gateway")
    await emptied(connection)
    await connection.close()
    settings = worlds.settings_for(cluster, tmp_path_factory.mktemp("ceremony"), 1)
    database = Database(settings)
    try:
        return await ceremonies.ceremony(
            database,
            load_policy(settings.common.policy),
            TestClock(),
            root=ceremonies.Root(*ROOT),
            names=[(name, name) for name in OFFICERS.values()],
        )
    finally:
        await database.close()


@pytest.fixture(scope="module")
async def world(
    cluster: Cluster, made: ceremonies.Ceremony, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    """A gateway with three officers who can sign in, and an upstream."""
    upstream = Upstream()
    clock = TestClock()
    async with worlds.listening(upstream) as (_, port):
        settings = worlds.settings_for(
            cluster, tmp_path_factory.mktemp("gateway"), port, sign_ins_per_second=1000, sign_ins_at_once=1000
        )
        async with worlds.gateway(settings, clock) as (proxy, http, own):
            found = World(proxy, http, upstream, settings, clock, own, made)
            for officer in made.officers:
                await found.enrol(officer.enrolment_code)
            yield found


@pytest.fixture
async def browser(world: World) -> httpx.AsyncClient:
    """A browser in which nobody is signed in."""
    return await world.browser()


@pytest.fixture(autouse=True)
def calm(world: World) -> None:
    """Each test begins with a quiet upstream and the right time."""
    world.upstream.received.clear()
    world.upstream.behaviour = None
    world.clock.ahead *= 0
