"""The witness over HTTP: adding checkpoints, and showing the last ones."""

import asyncio
import logging
import sqlite3
from typing import Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from dossier_witness.store import Store
from dossier_witness.witness import Answer, Witness

MAX_BODY: Final = 1 << 20
"""Bytes: 63 hashes, and a checkpoint with 100 signatures of the post-quantum kind (5 kB each)."""
BODY_SECONDS: Final = 10.0
log = logging.getLogger("dossier_witness")


def application(witness: Witness, store: Store) -> Starlette:
    """The ASGI application.

    Submission prefix: its root. Monitoring prefix: `/logs`. A request that is wrong is answered 4xx; 503 says that the
    state file cannot be written, and that nothing was cosigned.
    """

    async def add_checkpoint(request: Request) -> Response:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _body(request)
        except TimeoutError:
            return _logged(Answer(408, "the request took too long\n", "the request took too long"))
        except ClientDisconnect:
            return _logged(Answer(400, "the request is not whole\n", "the request is not whole"))
        if body is None:
            return _logged(Answer(413, f"the request has more than {MAX_BODY} bytes\n", "the request is too long"))
        try:
            return _logged(await run_in_threadpool(witness.add_checkpoint, body))
        except sqlite3.Error as error:
            return _unavailable(error)

    async def checkpoint(request: Request) -> Response:
        try:
            cosigned = await run_in_threadpool(store.by_hash, request.path_params["origin_hash"])
        except sqlite3.Error as error:
            return _unavailable(error)
        if cosigned is None:
            return PlainTextResponse("no checkpoint of this origin was cosigned\n", 404)
        return PlainTextResponse(cosigned.note, headers={"cache-control": "no-cache"})

    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    return Starlette(
        routes=[
            Route("/add-checkpoint", add_checkpoint, methods=["POST"]),
            Route("/logs/{origin_hash}/checkpoint", checkpoint, methods=["GET"]),
            Route("/healthz", healthz, methods=["GET"]),
        ]
    )


async def _body(request: Request) -> bytes | None:
    """The request's body, or nothing when it is too long."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            return None
    return bytes(body)


def _logged(answer: Answer) -> Response:
    log.log(answer.alarm, answer.reason, extra={"told": {"status": answer.status, **answer.told}})
    # Named in full, since a charset would be added to any text/…
    kind = "text/x.tlog.size" if answer.status == 409 else "text/plain; charset=utf-8"
    return Response(answer.body, answer.status, {"content-type": kind})


def _unavailable(error: sqlite3.Error) -> Response:
    log.error("the state file cannot be used", extra={"told": {"status": 503, "error": str(error)}})
    return PlainTextResponse("the witness cannot use its state now\n", 503, {"retry-after": "5"})
