"""A long-lived pull from a JetStream consumer: one request brings many messages, and they gather until they are taken.

The client's own `fetch` asks twice for each batch and waits for each message singly, which cost more than applying.
"""

import asyncio
from types import TracebackType
from typing import Self

import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from dossier_common.clock import set_within

BATCH = 256
EXPIRES_SECONDS = 5
GRACE_SECONDS = 1.0
"""After a request has expired, the server has so long to say so before another is made."""
_ENDED = frozenset({"404", "408"})


class PullEnded(NatsError):
    """The server ended the pull: the consumer or its stream is gone, or was moved."""


class Pull:
    """Asks for messages while it is open. `woken` is set when one comes; others may set it too."""

    def __init__(self, nats: Client, stream: str, durable: str, woken: asyncio.Event) -> None:
        self._nats, self._woken = nats, woken
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}"
        self._inbox = nats.new_inbox()
        self._subscription: Subscription | None = None
        self._messages: list[Msg] = []
        self._left, self._expires_at = 0, float("-inf")
        self._ended: str | None = None
        self.last: Msg | None = None
        """The newest message that came, taken or not."""

    async def __aenter__(self) -> Self:
        self._subscription = await self._nats.subscribe(self._inbox, cb=self._came)
        await self._ask()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._subscription is not None and self._nats.is_connected:
            await self._subscription.unsubscribe()

    async def take(self, seconds: float) -> list[Msg]:
        """What has come, or comes within this time; perhaps nothing. Raises NatsError when nothing will come."""
        if not self._messages:
            await set_within(self._woken, seconds)
        self._woken.clear()
        if not self._nats.is_connected:
            raise PullEnded("not connected")
        if self._ended is not None:
            raise PullEnded(f"the pull was ended: {self._ended}")
        taken, self._messages = self._messages, []
        if self._left <= 0 or asyncio.get_running_loop().time() > self._expires_at:
            await self._ask()
        return taken

    async def _ask(self) -> None:
        self._left = BATCH
        self._expires_at = asyncio.get_running_loop().time() + EXPIRES_SECONDS + GRACE_SECONDS
        asked = {"batch": BATCH, "expires": EXPIRES_SECONDS * 1_000_000_000}
        await self._nats.publish(self._subject, orjson.dumps(asked), reply=self._inbox)

    async def _came(self, message: Msg) -> None:
        status = message.headers.get("Status") if message.headers and not message.reply else None
        if status is None:
            self._messages.append(message)
            self.last = message
            self._left -= 1
        elif status in _ENDED:
            self._left = 0
        else:
            self._ended = f"{status} {(message.headers or {}).get('Description', '')}".strip()
        self._woken.set()
