"""Composition root of the web process of the records service."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

from fastapi import FastAPI

from dossier_common.app import create_app
from dossier_common.contracts.records import AccessRefused
from dossier_common.serve import serve
from dossier_common.startup import prepared
from dossier_records import custody_endpoints, endpoints
from dossier_records.fastpath import FastRead
from dossier_records.grants import Grants
from dossier_records.keyring import FileKeyring, ensure_opens
from dossier_records.reading import Reader
from dossier_records.service import Desk
from dossier_records.settings import Settings
from dossier_records.vault import Vault


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    policy = settings.common.pack
    vault = Vault(app.state.keyring, settings.cipher, settings.ring_buckets, policy)
    app.state.desk = Desk(policy, vault, app.state.clock)
    stale_after = timedelta(seconds=settings.projection_stale_seconds)
    app.state.grants = Grants(app.state.database, app.state.peers, app.state.clock, stale_after)
    app.state.reader = Reader(app.state.database, vault, policy, app.state.clock, stale_after=stale_after)
    committing = asyncio.create_task(app.state.reader.run())
    try:
        yield
    finally:
        committing.cancel()
        with suppress(asyncio.CancelledError):
            await committing


def create(settings: Settings | None = None) -> FastAPI:
    """The application; without settings only for its OpenAPI document."""
    keyring = FileKeyring(settings.keyring_dir, settings.keyring_passphrase) if settings else None
    app = create_app(
        "records",
        settings,
        routers=[endpoints.api, custody_endpoints.router, endpoints.internal],
        refused=AccessRefused,
        lifespan=_lifespan,
        body_limits={"/v1/imports": settings.max_import} if settings else None,
        lacking=keyring.lacking if keyring else None,
    )
    app.state.keyring = keyring
    app.add_middleware(FastRead, owner=app)
    return app


if __name__ == "__main__":
    from_environment = prepared(Settings, ensure_opens)
    serve("records", create(from_environment), from_environment)
