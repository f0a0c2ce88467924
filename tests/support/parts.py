"""Parts in the process of a test: their web applications without sockets, their workers on the real servers."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TypeVar
from unittest.mock import patch

import httpx
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from tests.support.tokens import ISSUER, TestKeys, service_token
from tests.support.waiting import eventually

from dossier_common.auth import Verifier
from dossier_common.clock import Clock
from dossier_common.peers import Peers
from dossier_common.settings import PartSettings
from dossier_common.worker import Context, opened
from dossier_local.cluster import Cluster
from dossier_local.environment import Environment

S = TypeVar("S", bound=PartSettings)


class WithoutReceipts(Environment):
    """No audit service runs beside a component test, so that nothing gets a receipt: the backlog's limits are far."""

    def of(self, part: str) -> dict[str, str]:
        prefix = f"DOSSIER_{part.upper()}_BACKLOG"
        return super().of(part) | {f"{prefix}_SECONDS": str(10**10), f"{prefix}_ROWS": str(10**10)}


def without_receipts(cluster: Cluster) -> Cluster:
    """The cluster, for parts that get no receipt."""
    known = cluster.environment
    return replace(cluster, environment=WithoutReceipts(known.state, known.postgres, known.broker, known.ports))


def settings_of(cluster: Cluster, part: str, cls: type[S]) -> S:
    """Settings of a part, as the launcher would give them."""
    with patch.dict(os.environ, cluster.environment.of(part), clear=True):
        return cls()


@asynccontextmanager
async def serving(app: FastAPI, keys: TestKeys) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application, within its lifespan; tokens are verified with the test's keys."""
    async with app.router.lifespan_context(app):
        app.state.verifier = Verifier(ISSUER, app.state.part, keys.fetch, app.state.clock)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{app.state.part}") as client:
            yield client


@asynccontextmanager
async def working(part: str, settings: PartSettings, clock: Clock | None = None) -> AsyncIterator[Context]:
    """The open resources of a worker that has found NATS, which a part that starts does not wait for."""

    async def connected() -> bool:
        return context.nats.is_connected

    async with opened(part, settings, clock) as context:
        await eventually(connected, expected=True)
        yield context


def introduce(peers: Peers, keys: TestKeys, apps: Mapping[str, FastAPI]) -> None:
    """Lets a part call these applications, with tokens of a gateway that has the test's keys; all others are away."""

    async def token(request: Request) -> JSONResponse:
        form = await request.form()
        audience = str(form["resource"]).rsplit(":", 1)[-1]
        issued = service_token(keys, audience, str(form["client_id"]), str(form["scope"]).split())
        return JSONResponse({"access_token": issued, "token_type": "Bearer", "expires_in": 300})

    async def jwks(_request: Request) -> JSONResponse:
        return JSONResponse(keys.jwks())

    gateway = Starlette(routes=[Route("/oauth/token", token, methods=["POST"]), Route("/oauth/jwks.json", jwks)])
    addresses = peers._settings.peers
    mounts = {addresses["gateway"]: httpx.ASGITransport(gateway)}
    mounts |= {addresses[part]: httpx.ASGITransport(app) for part, app in apps.items()}
    peers._http = httpx.AsyncClient(mounts=mounts, timeout=2, trust_env=False)
