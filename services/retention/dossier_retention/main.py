"""The web process of the retention service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from dossier_common.app import create_app
from dossier_common.clock import Clock
from dossier_common.contracts.retention import AccessRefused
from dossier_common.serve import serve
from dossier_common.startup import prepared
from dossier_common.texts import SealedTexts
from dossier_retention import endpoints
from dossier_retention.service import Means
from dossier_retention.settings import Settings


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    state = app.state
    state.policy = state.settings.common.pack
    state.means = Means(state.policy, SealedTexts(state.signing_key.derive("retention-texts")), state.clock)
    yield


def create(settings: Settings | None = None, clock: Clock | None = None) -> FastAPI:
    """The application; without settings only its OpenAPI document can be had."""
    return create_app(
        "retention", settings, routers=[endpoints.router], refused=AccessRefused, lifespan=_lifespan, clock=clock
    )


if __name__ == "__main__":
    loaded = prepared(Settings)
    serve("retention", create(loaded), loaded)
