"""The web process of the audit service."""

from fastapi import FastAPI

from dossier_audit import endpoints
from dossier_audit.settings import Settings
from dossier_common.app import create_app
from dossier_common.clock import Clock
from dossier_common.contracts.audit import AccessRefused
from dossier_common.serve import serve
from dossier_common.settings import load


def create(settings: Settings | None = None, clock: Clock | None = None) -> FastAPI:
    """The application; without settings only its OpenAPI document can be had."""
    return create_app("audit", settings, routers=[endpoints.router], refused=AccessRefused, clock=clock)


if __name__ == "__main__":
    loaded = load(Settings)
    serve("audit", create(loaded), loaded)
