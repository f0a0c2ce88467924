"""What of an ingested event can be searched, how logs and orders are named. Pure; ingesting never fails here.

A body is not validated: types that are unknown are stored like all others (ARCHITECTURE.md, "Poison").
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import orjson

LOG_PATH = "/v1/audit/log"
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TIME: Final = re.compile(rb'"time":"([0-9TZ:.+-]+)","type":"[^"\\\\]*"}$')
"""The end of a leaf: its members stand in order, and the type, which comes last, can so hide no other time."""
LONGEST_TEXT = 200
LONGEST_ORDER = 200
MOST_RECORDS = 1000


class Extract(NamedTuple):
    """What a body says of itself, as far as it has the expected form; identifiers as UUIDs are written (RFC 9562)."""

    outcome: str | None = None
    actor: str | None = None
    person: str | None = None
    client: str | None = None
    subject: str | None = None
    record: str | None = None
    records: tuple[str, ...] = ()
    txn: str | None = None


NOTHING = Extract()


def extract(body: bytes) -> Extract:
    """The searchable part of a body; empty for one that is no JSON object."""
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        return NOTHING
    if not isinstance(said, dict):
        return NOTHING
    inner = said.get("data")
    data: Mapping[str, Any] = inner if isinstance(inner, dict) else {}
    several = data.get("records")
    return Extract(
        text(said.get("outcome")),
        _uuid(said.get("actor")),
        _uuid(said.get("person")),
        text(said.get("client")),
        text(said.get("subject")),
        _uuid(data.get("record")),
        _uuids(several[:MOST_RECORDS]) if isinstance(several, list) else (),
        text(said.get("txn")),
    )


def text(value: Any) -> str | None:
    """A text that PostgreSQL can hold and an index can take, else None."""
    if not isinstance(value, str) or len(value) > LONGEST_TEXT or "\0" in value:
        return None
    return value


def type_of(event_type: str) -> str:
    """The event's type as a column can hold it; the leaf keeps it as it is."""
    return event_type.replace("\0", "\ufffd")[:LONGEST_TEXT]


def time_of(leaf: bytes, otherwise: datetime) -> datetime:
    """When the producer says that it happened; `otherwise` where that is no instant."""
    plain = _TIME.search(leaf)
    try:
        time = datetime.fromisoformat(plain[1].decode() if plain else orjson.loads(leaf)["time"])
        if time.tzinfo is UTC:
            return time
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (KeyError, TypeError, ValueError, OverflowError):
        return otherwise


def _uuid(value: Any) -> str | None:
    """As it is mostly written it is only looked at: to make objects of them was half of what reading a body cost."""
    if not isinstance(value, str):
        return None
    if _UUID.fullmatch(value):
        return value
    try:
        return str(UUID(value))
    except ValueError:
        return None


def _uuids(values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(found for found in map(_uuid, values) if found is not None)


def address(issuer: str) -> str:
    """Origin of the first log: where it is served, without a scheme (C2SP tlog-tiles)."""
    return issuer.partition("://")[2].rstrip("/") + LOG_PATH


def origin(first: str, generation: int) -> str:
    """Origin of a log; each later one has an address of its own, so that none contradicts another's checkpoint."""
    return first if generation == 1 else f"{first}s/{generation}"


class NoReference(ValueError):
    """This cannot be the reference to an order."""


def ensure_reference(order: str) -> None:
    """Raises NoReference for what cannot stand in the log for good as the reference to an order."""
    if not 0 < len(order) <= LONGEST_ORDER or not order.isprintable():
        raise NoReference(f"the order's reference has 1 to {LONGEST_ORDER} printable characters")
