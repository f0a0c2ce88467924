"""Connections to NATS for tests: on a machine that is busy they take long, which is no verdict."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import nats
from nats.aio.client import Client

from dossier_common.topology import inbox_prefix
from dossier_local.broker import Broker

PATIENCE: Final = 60
"""Seconds for a connection, for an answer, for a message."""


@asynccontextmanager
async def connected(broker: Broker, user: str) -> AsyncIterator[Client]:
    """A connection with the rights of this user; what the server says of what is not permitted passes by."""
    client = await nats.connect(
        broker.url,
        user=user,
        password=broker.password(user),
        inbox_prefix=inbox_prefix(user).encode(),
        connect_timeout=PATIENCE,
        error_cb=_pass_by,
    )
    try:
        yield client
    finally:
        await client.close()


async def _pass_by(_error: Exception) -> None:
    """A request that fails raises where it was made."""
