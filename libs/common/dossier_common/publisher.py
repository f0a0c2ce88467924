"""The way of a relay's batches into JetStream."""

from collections.abc import Sequence
from typing import Final

import orjson
from nats.aio.client import Client
from nats.errors import Error as NatsError

from dossier_common.ids import new_id
from dossier_common.leaves import Head, Numbered
from dossier_common.wire import message

KNOWN_MESSAGE: Final = 10201
"""What JetStream says of a batch with a message that the stream has."""


class Publisher:
    """Delivers batches to JetStream, as atomic batches (ADR-50 of NATS), each acknowledged after its fsync."""

    def __init__(self, nats: Client, producer: str) -> None:
        self._nats, self._producer = nats, producer

    async def deliver(self, events: Sequence[Numbered], head: Head) -> None:
        """Returns when the stream has stored the batch. Raises NatsError when that is not certain.

        A message that the stream already knows refuses the whole batch: then each is sent singly, and a
        duplicate is acknowledged as such.
        """
        if not self._nats.is_connected:
            raise NatsError("not connected")
        if len(events) == 1:
            await self._publish(events[0], head, {})
            return
        batch = str(new_id())
        for place, event in enumerate(events[:-1], start=1):
            headers = self._headers(event) | {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(place)}
            await self._nats.publish(event.type, message(event, head), headers=headers)
        last = {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(len(events)), "Nats-Batch-Commit": "1"}
        answer = await self._request(events[-1], head, last)
        if answer.get("error", {}).get("err_code") == KNOWN_MESSAGE:
            for event in events:
                await self._publish(event, head, {})
        else:
            self._accepted(answer)

    async def _publish(self, event: Numbered, head: Head, headers: dict[str, str]) -> None:
        self._accepted(await self._request(event, head, headers))

    async def _request(self, event: Numbered, head: Head, headers: dict[str, str]) -> dict[str, dict[str, int]]:
        reply = await self._nats.request(
            event.type, message(event, head), timeout=5, headers=self._headers(event) | headers
        )
        answer: dict[str, dict[str, int]] = orjson.loads(reply.data)
        return answer

    def _headers(self, event: Numbered) -> dict[str, str]:
        return {"Nats-Msg-Id": f"{self._producer}-{event.epoch}-{event.seq}"}

    @staticmethod
    def _accepted(answer: dict[str, dict[str, int]]) -> None:
        if "error" in answer:
            raise NatsError(f"the stream refused: {answer['error']}")
