"""Connections with TLS: counted and timed from the moment that they are accepted, not from the end of the handshake.

uvicorn would let anyone hold a connection in its handshake for a minute, outside the limits of `http1`.
"""

import asyncio
import os
import socket
import ssl
from functools import partial
from typing import Any, ClassVar, Final, cast

from uvicorn.config import Config
from uvicorn.server import ServerState

from dossier_common import telemetry
from dossier_common.door import Limits
from dossier_common.http1 import Http1, address_of, http1
from dossier_common.tls import reason_of

SAY_EVERY: Final = 60.0
"""Seconds between two lines of the log on the same trouble."""


class Handshake(asyncio.Protocol):
    """A connection until its TLS is made; then an `Http1` takes its place. One that fails is closed without a word.

    The connection is taken from the transport that accepted it before anything is read: uvloop may read the beginning
    of a handshake before `start_tls` can.
    """

    context: ClassVar[ssl.SSLContext]
    protocol: ClassVar[type[Http1]]
    said: ClassVar[dict[str, float]]

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,  # uvicorn's name for it
    ) -> None:
        self._loop = _loop or asyncio.get_running_loop()
        self._next = partial(self.protocol, config, server_state, app_state, _loop)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called twice: when the connection was accepted, and when its TLS is made."""
        made = cast("asyncio.Transport", transport)  # uvloop's is none by class
        if made.get_extra_info("sslcontext") is None:
            self._accepted(made)
            return
        self.protocol.door.leave(self, self._address)
        following = self._next()
        made.set_protocol(following)
        following.connection_made(made)

    def _accepted(self, transport: asyncio.Transport) -> None:
        """Refuses whoever has too many connections, else begins."""
        peer = address_of(transport, "peername")
        self._address = peer[0] if peer else ""
        if self.protocol.door.enter(self, self._address):
            try:
                connection = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
            except OSError:  # no file is left: as if it had not been accepted
                self.protocol.door.leave(self, self._address)
            else:
                self._task = self._loop.create_task(self._shake(connection))
        transport.abort()

    def look(self, now: float) -> None:
        """Nothing: the loop itself ends a handshake that takes too long."""

    async def _shake(self, connection: socket.socket) -> None:
        connection.setblocking(False)  # noqa: FBT003  # the standard library's own
        seconds = self.protocol.door.limits.head_seconds
        try:
            await self._loop.connect_accepted_socket(
                lambda: self, connection, ssl=self.context, ssl_handshake_timeout=seconds
            )
        except OSError as error:
            self._say(reason_of(error))
        finally:
            self.protocol.door.leave(self, self._address)

    def _say(self, reason: str | None) -> None:
        """Says why a part was not let in, who is told nothing; of a public server nobody wants to know."""
        now = self._loop.time()
        if reason is None or self.context.verify_mode is not ssl.CERT_REQUIRED:
            return
        if now - self.said.get(reason, -SAY_EVERY) >= SAY_EVERY:
            self.said[reason] = now
            telemetry.log().warning("caller-not-trusted", reason=reason)


def protocol(limits: Limits, context: ssl.SSLContext | None) -> type[asyncio.Protocol]:
    """The protocol for `uvicorn.Config(http=…)`, for one server: HTTP/1.1 by TLS, or in plain text without a context.

    uvicorn itself is given no certificate.
    """
    spoken = http1(limits)
    if context is None:
        return spoken
    return type("Handshake", (Handshake,), {"context": context, "protocol": spoken, "said": {}})
