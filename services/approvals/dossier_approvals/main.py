"""The web process of the approvals service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from dossier_approvals import emergency_endpoints, endpoints
from dossier_approvals.settings import Settings
from dossier_common.app import create_app
from dossier_common.contracts.approvals import AccessRefused
from dossier_common.serve import serve
from dossier_common.startup import prepared
from dossier_common.texts import SealedTexts


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.policy = app.state.settings.common.pack
    app.state.texts = SealedTexts(app.state.signing_key.derive("approvals-texts"))
    yield


def create(settings: Settings | None = None) -> FastAPI:
    """The application; without settings it can only be asked for its OpenAPI document."""
    routers = [endpoints.router, emergency_endpoints.router]
    return create_app("approvals", settings, routers=routers, refused=AccessRefused, lifespan=_lifespan)


if __name__ == "__main__":
    settings = prepared(Settings)
    serve("approvals", create(settings), settings)
