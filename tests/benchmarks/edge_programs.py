"""What stands beside and behind the gateway when it is measured: an upstream, and a forwarder that checks nothing.

`python -m tests.benchmarks.edge_programs upstream PORT` answers every request with the same 200 bytes; it is made so
that it costs next to nothing. `… forwarder PORT UPSTREAM` forwards with the gateway's own server and client, and does
nothing else: what the gateway costs above it are its checks.
"""

import asyncio
import sys
from types import SimpleNamespace
from typing import Any, cast

import httptools
import uvicorn
import uvloop
from starlette.types import Receive, Scope, Send

from dossier_common.door import Limits
from dossier_common.http1 import http1
from dossier_common.tls import Tls
from dossier_gateway.proxy.forward import Forwarder
from dossier_gateway.proxy.headers import Inbound
from dossier_gateway.settings import Settings

BODY = b'{"items":[],"next":null,"padding":"' + b"x" * 163 + b'"}'
ANSWER = (
    b"HTTP/1.1 200 OK\r\ndate: Sun, 22 Nov 2026 00:00:00 GMT\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\nx-request-id: 019a0000-0000-7000-8000-000000000000\r\n\r\n%b" % (len(BODY), BODY)
)


class Upstream(asyncio.Protocol):
    """Answers whatever it is asked."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._transport.write(ANSWER)


async def upstream(port: int) -> None:
    """Serves until it is ended."""
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


class Bare:
    """The gateway's server and forwarder without anything between them."""

    def __init__(self, base: str) -> None:
        values: dict[str, Any] = {
            "forwarded_body": 1 << 20,
            "upstream_seconds": 35,
            "call_seconds": 60,
            "upstream_connections": 128,
        }
        values["tls"] = Tls()
        self._settings = cast("Settings", SimpleNamespace(common=SimpleNamespace(peers={"part": base}), **values))
        self._forwarder: Forwarder | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if self._forwarder is None:
            self._forwarder = Forwarder(self._settings, [])
        inbound = Inbound.read(scope["headers"])
        call = self._forwarder.outgoing("part", scope["method"], scope["raw_path"], inbound, [])
        await self._forwarder.forward(call, receive, send)


def main(program: str, port: str, *more: str) -> None:
    """Serves until SIGTERM."""
    if program == "upstream":
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(upstream(int(port)))
        return
    uvicorn.run(
        Bare(more[0]),
        port=int(port),
        loop="uvloop",
        http=http1(Limits()),
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
