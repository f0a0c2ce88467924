"""Runs a web process: uvicorn with uvloop and httptools, quiet, and kind to the hot path."""

import gc

import uvicorn
from starlette.types import ASGIApp

from dossier_common import telemetry
from dossier_common.settings import PartSettings


def serve(part: str, app: ASGIApp, settings: PartSettings) -> None:
    """Serves until SIGTERM or SIGINT, then lets running requests end (10 s)."""
    telemetry.setup(part)
    gc.collect()
    gc.freeze()  # a full collection over what lives forever was the p99 of reading
    gc.set_threshold(20_000, 50, 100)
    uvicorn.run(
        telemetry.traced(app),
        host=settings.listen_host,
        port=settings.listen_port,
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # uvicorn would believe X-Forwarded-For of anyone on this machine
        date_header=True,
        timeout_graceful_shutdown=10,
        timeout_keep_alive=75,
        lifespan="on",
    )
