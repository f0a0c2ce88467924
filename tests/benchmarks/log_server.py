"""The web process of one part, as it is in use, with the benchmark in the gateway's place.

`python -m tests.benchmarks.log_server PART KEY` with the part's settings in the environment and the gateway's signing
key in the file KEY. A bearer token of whoever calls from outside becomes a Txn-Token of an auditor, as the gateway
would make it; between parts an access token is verified as always.
"""

import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from uuid import uuid4

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send
from tests.support.tokens import ISSUER, TestKeys, txn_token

from dossier_common.auth import Verifier
from dossier_common.keys import SigningKey
from dossier_common.serve import serve
from dossier_common.settings import load

LIFETIME = 5


class Exchange:
    """Gives calls to `/v1/` their Txn-Token, one for as long as it lives."""

    def __init__(self, app: ASGIApp, keys: TestKeys, part: str) -> None:
        self._app, self._keys, self._part = app, keys, part
        self._auditor = uuid4()
        self._made_at, self._token = float("-inf"), b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/v1/"):
            headers = [(name, value) for name, value in scope["headers"] if name != b"authorization"]
            scope = {**scope, "headers": [*headers, (b"txn-token", self._fresh())]}
        await self._app(scope, receive, send)

    def _fresh(self) -> bytes:
        if time.monotonic() > self._made_at + LIFETIME - 1:
            scopes = ["audit:read", "audit:verify"]
            token = txn_token(self._keys, self._part, scopes, account=self._auditor, person=self._auditor)
            self._made_at, self._token = time.monotonic(), token.encode()
        return self._token


def main(part: str, key: Path) -> None:
    """Serves until SIGTERM."""
    keys = TestKeys()
    keys.signing = SigningKey.read(key)
    settings = load(import_module(f"dossier_{part}.settings").Settings)
    app: FastAPI = import_module(f"dossier_{part}.main").create(settings)
    opened = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with opened(app):
            app.state.verifier = Verifier(ISSUER, part, keys.fetch, app.state.clock)
            yield

    app.router.lifespan_context = lifespan
    serve(part, Exchange(app, keys, part), settings)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
