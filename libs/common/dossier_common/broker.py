"""The client of NATS, for parts and for the operator."""

import asyncio
from typing import Any, Final
from urllib.parse import ParseResult

from nats.aio.client import Client, Srv
from nats.aio.transport import TcpTransport
from nats.errors import Error as NatsError

from dossier_common import telemetry
from dossier_common.tls import reason_of

CLOSING_SECONDS: Final = 1.0


class _Transport(TcpTransport):
    """Is closed for certain: no connection outlives the wait for its other end's farewell, or the next connection."""

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        self.abort()
        await super().connect(uri, buffer_size, connect_timeout)

    async def wait_closed(self) -> None:
        # After a handshake that failed nobody tells the library, and it would wait for ever.
        try:
            async with asyncio.timeout(CLOSING_SECONDS):
                await super().wait_closed()  # type: ignore[no-untyped-call]  # the library has no types here
        except TimeoutError:
            self.abort()

    def abort(self) -> None:
        """Ends the connection, if there is one, without waiting for the other end."""
        for writer in (self._io_writer, self._bare_io_writer):
            if writer is not None:
                writer.transport.abort()


class BrokerClient(Client):
    """Speaks no plain text to a `tls://` address, whatever the server, or who stands before it, says that it needs.

    The library would send the password as soon as a server's greeting asks for no TLS.
    """

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:  # noqa: FBT001, FBT002  # the library's own signature
        server = self._current_server
        if initial_connection and server is not None and server.uri.scheme == "tls":
            info["tls_required"] = True
        await super()._process_info(info, initial_connection)

    async def _connect_to_server(self, s: Srv) -> None:
        await super()._connect_to_server(s)
        if type(self._transport) is TcpTransport:
            closing = _Transport()  # type: ignore[no-untyped-call]  # likewise
            vars(closing).update(vars(self._transport))
            self._transport = closing

    async def _process_connect_init(self) -> None:
        """Whatever else answers at the address is as no answer: the library tries again after its own errors only.

        It also forgets to close what it gives up.
        """
        try:
            await super()._process_connect_init()
        except BaseException as error:
            if isinstance(self._transport, _Transport):
                self._transport.abort()
            # A line that is too long, is no text, or lacks what the protocol wants. A certificate's error is both.
            if isinstance(error, ValueError) and not isinstance(error, OSError):
                raise NatsError("what answers does not speak NATS") from error
            raise


class Troubles:
    """Says in the log what keeps the client from its server: once, not at each attempt."""

    def __init__(self) -> None:
        self._said = ""

    async def report(self, error: Exception) -> None:
        """`error_cb` of the client."""
        trouble = type(error).__name__
        if trouble != self._said:
            self._said = trouble
            telemetry.log().warning("nats", error=trouble, reason=reason_of(error))

    async def forget(self) -> None:
        """`reconnected_cb` of the client."""
        self._said = ""
