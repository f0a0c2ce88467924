"""The web process of the audit service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from dossier_audit import endpoints, log_endpoints
from dossier_audit.settings import Settings
from dossier_common.app import create_app
from dossier_common.clock import Clock
from dossier_common.contracts.audit import AccessRefused
from dossier_common.keys import SigningKey
from dossier_common.serve import serve
from dossier_common.startup import prepared


def create(settings: Settings | None = None, clock: Clock | None = None) -> FastAPI:
    """The application; without settings only its OpenAPI document can be had."""
    routers = [endpoints.router, log_endpoints.router]
    return create_app("audit", settings, routers=routers, refused=AccessRefused, clock=clock, lifespan=_open)


@asynccontextmanager
async def _open(app: FastAPI) -> AsyncIterator[None]:
    app.state.log_key = SigningKey.read(app.state.settings.log_key_file)
    yield


if __name__ == "__main__":
    loaded = prepared(Settings)
    serve("audit", create(loaded), loaded)
