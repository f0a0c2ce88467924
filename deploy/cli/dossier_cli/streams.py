"""The operator's step `dossier streams`: streams of the producers and durable consumers of their followers.

It can be repeated at any time: what is there stays, what is missing is made, and what was configured otherwise is set
right. A stream only carries events; the outbox of its producer keeps them (invariant 2), so losing one loses none.
"""

import asyncio
import ssl
import time
from dataclasses import dataclass
from typing import Final

import nats.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import NotFoundError

from dossier_cli.accounts import OPERATOR
from dossier_common import topology
from dossier_common.broker import BrokerClient
from dossier_common.tls import reason_of

DAYS_KEPT: Final = 7
MAX_MESSAGE: Final = 128 << 10
MAX_BYTES: Final = 2 << 30
"""A full stream refuses (`discard: new`), and the relay keeps its rows until there is room again."""
TRY_EVERY: Final = 0.5
ANSWER_SECONDS: Final = 30
"""To make a stream on a busy disk takes long; who has waited in vain repeats the command."""
DUPLICATES_KNOWN: Final = 120.0
"""Seconds for which a message id is remembered; consumers know what they have applied by their cursor."""


@dataclass(frozen=True)
class Made:
    """What one run had to make, by name; consumers as `STREAM/consumer`."""

    streams: tuple[str, ...]
    consumers: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.streams or self.consumers)


def stream_config(producer: str, replicas: int) -> StreamConfig:
    """The stream of one producer: on disk, seven days, refuses when full, takes atomic batches, nothing deletable."""
    return StreamConfig(
        name=topology.stream(producer),
        subjects=[topology.subjects(producer)],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        discard=DiscardPolicy.NEW,
        max_age=DAYS_KEPT * 86400,
        max_bytes=MAX_BYTES,
        max_msg_size=MAX_MESSAGE,
        duplicate_window=DUPLICATES_KNOWN,
        num_replicas=replicas,
        deny_delete=True,
        deny_purge=True,
        allow_direct=False,
        allow_atomic=True,
    )


def consumer_config(follower: str) -> ConsumerConfig:
    """The durable pull consumer of one follower: all events from the first, acknowledged cumulatively, in order."""
    return ConsumerConfig(
        durable_name=follower,
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.ALL,
        ack_wait=30,
        max_deliver=-1,
        max_ack_pending=4096,
        max_waiting=16,
    )


async def connect(url: str, password: str, *, tls: ssl.SSLContext | None = None, lasting: bool = True) -> Client:
    """A connection of the operator. A lasting one is tried for without end, and reconnects for as long as it lives.

    Raises nats.errors.Error, OSError.
    """
    client, failures = BrokerClient(), list[Exception]()

    async def failed(error: Exception) -> None:
        failures[:] = [error]  # the client reconnects by itself, and a request that fails raises where it was made

    try:
        await client.connect(
            url,
            user=OPERATOR,
            password=password,
            name="dossier streams",
            inbox_prefix=topology.inbox_prefix(OPERATOR).encode(),
            allow_reconnect=lasting,
            max_reconnect_attempts=-1 if lasting else 1,
            reconnect_time_wait=1,
            connect_timeout=5,
            error_cb=failed,
            tls=tls,
        )
    except nats.errors.NoServersError as error:
        raise (failures or [error])[0] from error  # why there is none
    return client


async def ensure(client: Client, *, replicas: int = 1) -> Made:
    """Makes what is missing and sets right what differs. Raises nats.js.errors.APIError, nats.errors.Error."""
    jetstream = client.jetstream(timeout=ANSWER_SECONDS)
    streams: list[str] = []
    consumers: list[str] = []
    for producer in topology.PUBLISHERS:
        config = stream_config(producer, replicas)
        name = topology.stream(producer)
        try:
            present = (await jetstream.stream_info(name)).config
        except NotFoundError:
            await jetstream.add_stream(config)
            streams.append(name)
        else:
            if _differs(present, config):
                await jetstream.update_stream(config)
        there = {info.name for info in await jetstream.consumers_info(name)}
        for follower in (part for part, followed in topology.FOLLOWS.items() if producer in followed):
            if follower not in there:
                await _add_consumer(jetstream, name, follower)
                consumers.append(f"{name}/{follower}")
    return Made(tuple(streams), tuple(consumers))


async def run(
    url: str, password: str, *, tls: ssl.SSLContext | None = None, replicas: int = 1, wait: float = 0
) -> Made:
    """One run of `dossier streams`: connects, ensures, disconnects.

    For `wait` seconds it goes on trying, but not with a password that is refused. Raises as `ensure` does, and OSError.
    """
    until = time.monotonic() + wait
    while True:
        try:
            client = await connect(url, password, tls=tls, lasting=False)
            try:
                return await ensure(client, replicas=replicas)
            finally:
                await client.close()
        except (nats.errors.Error, OSError) as error:
            if time.monotonic() > until or refused(error):
                raise
            await asyncio.sleep(TRY_EVERY)


def refused(error: Exception) -> bool:
    """Whether the server knows the user `operator` by another password, or not at all."""
    return "authorization violation" in str(error).lower()


def reason(error: Exception) -> str:
    """Why NATS could not be used, in one line."""
    if refused(error):
        return (
            f"it refuses the password of {OPERATOR}: see DOSSIER_NATS_OPERATOR_PASSWORD_FILE, and NATS's accounts.conf"
        )
    said = reason_of(error) or getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(said.split())


async def _add_consumer(jetstream: JetStreamContext, stream: str, follower: str) -> None:
    await jetstream.add_consumer(stream, consumer_config(follower))


def _differs(present: StreamConfig, wanted: StreamConfig) -> bool:
    fields = wanted.as_dict()
    there = present.as_dict()
    return any(there.get(name) != value for name, value in fields.items() if value not in (None, [], {}))
