import os
from collections.abc import AsyncIterator
from pathlib import Path
from unittest.mock import patch
from uuid import UUID

import asyncpg
import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, Response
from tests.records.world import NOON, Asked, World
from tests.support.tokens import TestKeys

from dossier_common.auth import Verifier
from dossier_common.clock import ManualClock
from dossier_local.cluster import Cluster
from dossier_records.main import create
from dossier_records.service import Desk
from dossier_records.settings import Settings

CLEARED = "SELECT string_agg(format('DELETE FROM %I', tablename), ';') FROM pg_tables WHERE schemaname = 'public' AND tablename NOT IN ('alembic_version', 'outbox_state')"


def superuser(cluster: Cluster) -> dict[str, str]:
    """What asyncpg needs to reach the records database past all grants."""
    return {
        "user": "postgres",
        "password": cluster.state.read_secret("postgres-superuser"),
        "database": "dossier_records",
        "host": str(cluster.postgres.sockets),
    }


@pytest_asyncio.fixture
async def owner(cluster: Cluster) -> AsyncIterator[asyncpg.Connection]:
    """The superuser in the records database, which is as empty as after its migrations."""
    connection = await asyncpg.connect(**superuser(cluster))
    try:
        await connection.execute("SET session_replication_role = replica")
        await connection.execute(await connection.fetchval(CLEARED))
        await connection.execute("SET session_replication_role = origin")
        yield connection
    finally:
        await connection.close()


@pytest.fixture
def settings(cluster: Cluster, tmp_path: Path) -> Settings:
    """The part's settings as the launcher gives them, with a key ring of the test's own."""
    own = {
        "DOSSIER_RECORDS_KEYRING_DIR": str(tmp_path / "keyring"),
        "DOSSIER_RECORDS_SUPPLEMENT_DIR": str(tmp_path / "supplements"),
    }
    with patch.dict(os.environ, cluster.environment.of("records") | own):
        return Settings()


@pytest_asyncio.fixture
async def world(settings: Settings, owner: asyncpg.Connection) -> AsyncIterator[World]:
    """The service in this process, on its real database with its own role, and an organisation of its own."""
    app = create(settings)
    async with app.router.lifespan_context(app):
        clock, keys, asked = ManualClock(NOON), TestKeys(), Asked()
        state = app.state
        state.clock, state.verifier = clock, Verifier(settings.common.issuer, "records", keys.fetch, clock)
        state.desk, state.reader._clock = Desk(state.desk.policy, state.desk.vault, clock), clock
        state.peers._clock = clock
        await state.peers._http.aclose()
        state.peers._http = httpx.AsyncClient(transport=httpx.ASGITransport(_peers(asked)))
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://records"
        ) as http:
            world = World(app, keys, clock, http, owner, asked, settings)
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
