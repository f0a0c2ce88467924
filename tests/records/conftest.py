import os
from collections.abc import AsyncIterator
from dataclasses import replace
from unittest.mock import patch
from uuid import UUID

import asyncpg
import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, Response
from tests.records.world import NOON, Asked, World
from tests.support.emptied import emptied, superuser
from tests.support.tokens import TestKeys

from dossier_common.auth import Verifier
from dossier_common.clock import ManualClock
from dossier_local.cluster import Cluster
from dossier_records.main import create
from dossier_records.service import Desk
from dossier_records.settings import Settings

KEPT = ("ring_epochs",)
"""Tables that a test finds as the one before left them: key rings live as long as their provider's folder."""


@pytest.fixture(scope="session")
def settings(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The part's settings as the launcher gives them, with a key ring of the tests' own."""
    folder = tmp_path_factory.mktemp("records")
    own = {
        "DOSSIER_RECORDS_KEYRING_DIR": str(folder / "keyring"),
        "DOSSIER_RECORDS_SUPPLEMENT_DIR": str(folder / "supplements"),
    }
    with patch.dict(os.environ, cluster.environment.of("records") | own):
        return Settings()


@pytest_asyncio.fixture(scope="session")
async def superuser_connection(cluster: Cluster) -> AsyncIterator[asyncpg.Connection]:
    """A connection to the records database past all grants."""
    connection = await superuser(cluster, "records")
    yield connection
    await connection.close()


@pytest_asyncio.fixture
async def owner(superuser_connection: asyncpg.Connection) -> asyncpg.Connection:
    """The superuser in the records database, which is as empty as after its migrations, but for the key rings."""
    await emptied(superuser_connection, KEPT)
    return superuser_connection


@pytest_asyncio.fixture(scope="session")
async def service(settings: Settings, superuser_connection: asyncpg.Connection) -> AsyncIterator[FastAPI]:
    """The service in this process, on its real database with its own role."""
    await superuser_connection.execute("DELETE FROM record_versions; DELETE FROM ring_epochs")
    app = create(settings)
    async with app.router.lifespan_context(app):
        await app.state.peers._http.aclose()
        yield app


@pytest_asyncio.fixture
async def world(service: FastAPI, settings: Settings, owner: asyncpg.Connection) -> AsyncIterator[World]:
    """The service with a clock, keys and peers of this test, and an organisation of its own."""
    state, clock, keys, asked = service.state, ManualClock(NOON), TestKeys(), Asked()
    state.clock, state.verifier = clock, Verifier(settings.common.issuer, "records", keys.fetch, clock)
    state.desk, state.reader._clock = Desk(state.desk.policy, state.desk.vault, clock), clock
    state.grants = replace(state.grants, clock=clock)
    state.peers._clock, state.peers._tokens = clock, {}
    for spooled in state.desk.vault.spooled():
        state.desk.vault.forget(spooled)
    async with (
        httpx.AsyncClient(transport=httpx.ASGITransport(_peers(asked))) as state.peers._http,
        httpx.AsyncClient(
            transport=httpx.ASGITransport(service, raise_app_exceptions=False), base_url="http://records"
        ) as http,
    ):
        world = World(service, keys, clock, http, owner, asked, settings)
        await world.build()
        await world.forget_events()
        yield world


def _peers(asked: Asked) -> FastAPI:
    """The gateway's token endpoint, and grants as the approvals service resolves them."""
    app = FastAPI()

    @app.post("/oauth/token")
    async def token(request: Request) -> dict[str, object]:
        async with request.form() as form:
            asked.paths.append(f"{form['client_id']} {form['scope']} {form['resource']}")
        return {"access_token": "opaque", "expires_in": 300, "token_type": "Bearer"}

    @app.get("/internal/v1/grants/{grant}")
    async def resolve(grant: UUID, request: Request) -> Response:
        asked.paths.append(request.url.path)
        if grant not in asked.grants:
            return JSONResponse({"type": "urn:dossier:problem:not-found"}, 404)
        return JSONResponse(asked.grants[grant])

    return app
