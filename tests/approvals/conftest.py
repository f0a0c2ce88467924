import os
from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import patch
from uuid import UUID

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, Response
from tests.approvals.world import NOON, People, Who, World
from tests.support.tokens import TestKeys

from dossier_approvals.main import create
from dossier_approvals.settings import Settings
from dossier_common.auth import Verifier
from dossier_common.clock import ManualClock
from dossier_local.cluster import Cluster


@pytest.fixture(scope="session")
def settings(cluster: Cluster) -> Settings:
    with patch.dict(os.environ, cluster.environment.of("approvals")):
        return Settings()


@pytest_asyncio.fixture
async def world(settings: Settings) -> AsyncIterator[World]:
    """The service in this process, on its real database with its own role, and an organisation of its own."""
    app = create(settings)
    async with app.router.lifespan_context(app):
        clock = ManualClock(NOON)
        keys = TestKeys()
        descriptors: dict[UUID, dict[str, Any]] = {}
        asked: list[str] = []
        app.state.clock = clock
        app.state.verifier = Verifier(settings.common.issuer, "approvals", keys.fetch, clock)
        await app.state.peers._http.aclose()
        app.state.peers._http = httpx.AsyncClient(transport=httpx.ASGITransport(_peers(descriptors, asked)))
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://approvals"
        ) as http:
            world = World(app, keys, clock, http, descriptors, asked)
            await world.build()
            yield world


@pytest_asyncio.fixture
async def people(world: World) -> People:
    return People(
        clerk=await world.hire(world.sales),
        head=await world.hire(world.sales, ("department_head", world.sales)),
        manager=await world.hire(world.service, ("service_manager", world.service)),
        stranger=await world.hire(world.service),
    )


def _peers(descriptors: dict[UUID, dict[str, Any]], asked: list[str]) -> FastAPI:
    """The gateway's token endpoint and the records service's descriptors."""
    app = FastAPI()

    @app.post("/oauth/token")
    async def token(request: Request) -> dict[str, Any]:
        async with request.form() as form:
            asked.append(f"{form['client_id']} {form['scope']} {form['resource']}")
        return {"access_token": "opaque", "expires_in": 300, "token_type": "Bearer"}

    @app.get("/internal/v1/records/{record}/descriptor")
    async def describe(record: UUID, request: Request) -> Response:
        asked.append(request.url.path)
        assert request.headers["authorization"] == "Bearer opaque"
        if record not in descriptors:
            return JSONResponse({"type": "urn:dossier:problem:not-found"}, 404)
        return JSONResponse(descriptors[record])

    return app


@pytest.fixture
async def reviewers(world: World) -> tuple[Who, Who]:
    """The compliance officer and the general manager, whom the pack tells."""
    return (
        await world.hire(world.company, ("compliance_officer", world.company)),
        await world.hire(world.company, ("general_manager", world.company)),
    )
