"""Messages of a producer as its relay would publish them, from its database."""

import random
from collections.abc import Iterable, Sequence

import asyncpg
from tests.faults.stack import Stack

from dossier_common.leaves import Head, Numbered
from dossier_common.wire import message

Message = tuple[str, bytes]
"""Subject and payload."""

_COLUMNS = """
SELECT o.id, o.type, o.epoch, o.seq, o.leaf, o.salt, o.body, h.seq AS head_seq, h.hash, h.signature
FROM outbox o JOIN LATERAL (
  SELECT * FROM outbox_heads WHERE epoch = o.epoch AND seq >= o.seq ORDER BY seq LIMIT 1) AS h ON true
"""
_LAST = f"SELECT * FROM ({_COLUMNS} ORDER BY o.epoch DESC, o.seq DESC LIMIT $1) AS last ORDER BY epoch, seq"
_UNPUBLISHED = f"{_COLUMNS} JOIN outbox_state s ON o.epoch = s.epoch AND o.seq > s.published_seq ORDER BY o.seq"


async def numbered(stack: Stack, part: str, *, last: int) -> Sequence[Message]:
    """The last events that the part has numbered, in their order."""
    return await _read(stack, part, _LAST, last)


async def unpublished(stack: Stack, part: str) -> Sequence[Message]:
    """What the part has numbered and not yet marked as published, in its order."""
    return await _read(stack, part, _UNPUBLISHED)


def under_new_ids(messages: Iterable[Message], chance: random.Random) -> list[tuple[str, bytes, str]]:
    """With a Nats-Msg-Id that the stream has not seen."""
    return [(subject, payload, f"again-{chance.getrandbits(64):x}") for subject, payload in messages]


async def _read(stack: Stack, part: str, query: str, *args: int) -> Sequence[Message]:
    connection = await asyncpg.connect(stack.postgres.url(part, "app", password=True))
    try:
        rows = await connection.fetch(query, *args)
    finally:
        await connection.close()
    found = []
    for row in rows:
        head = Head(part, row["epoch"], row["head_seq"], row["hash"], row["signature"])
        event = Numbered(row["id"], row["type"], row["epoch"], row["seq"], row["leaf"], row["salt"], row["body"])
        found.append((event.type, message(event, head)))
    return found
