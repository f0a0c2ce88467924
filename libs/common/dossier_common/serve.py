"""Runs a web process: uvicorn with uvloop and our own strict protocol, quiet, and kind to the hot path."""

import gc

import uvicorn
from starlette.types import ASGIApp

from dossier_common import telemetry
from dossier_common.door import Limits
from dossier_common.handshake import protocol
from dossier_common.settings import PartSettings


def serve(
    part: str, app: ASGIApp, settings: PartSettings, *, limits: Limits | None = None, public: bool = False
) -> None:
    """Serves until SIGTERM or SIGINT, then lets running requests end (10 s).

    `public`: callers need no certificate.
    """
    telemetry.setup(part)
    gc.collect()
    gc.freeze()  # a full collection over what lives forever was the p99 of reading
    gc.set_threshold(20_000, 50, 100)
    uvicorn.run(
        telemetry.traced(app),
        host=settings.listen_host,
        port=settings.listen_port,
        loop="uvloop",
        http=protocol(
            limits or Limits(per_address=settings.connections_per_address),
            settings.tls.public_server if public else settings.tls.server,
        ),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # uvicorn would believe X-Forwarded-For of anyone on this machine
        date_header=True,
        timeout_graceful_shutdown=10,
        lifespan="on",
    )
