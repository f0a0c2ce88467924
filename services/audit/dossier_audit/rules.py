"""What of an ingested event can be searched, and how logs are named. Pure; ingesting never fails here.

A body is not validated: types that are unknown are stored like all others (ARCHITECTURE.md, "Poison").
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

LOG_PATH = "/v1/audit/log"
LONGEST_TEXT = 200
MOST_RECORDS = 1000


@dataclass(frozen=True, slots=True)
class Extract:
    """What a body says of itself, as far as it has the expected form."""

    outcome: str | None = None
    actor: UUID | None = None
    person: UUID | None = None
    client: str | None = None
    subject: str | None = None
    record: UUID | None = None
    records: tuple[UUID, ...] = ()
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
    records = (_uuid(each) for each in several[:MOST_RECORDS]) if isinstance(several, list) else ()
    return Extract(
        outcome=text(said.get("outcome")),
        actor=_uuid(said.get("actor")),
        person=_uuid(said.get("person")),
        client=text(said.get("client")),
        subject=text(said.get("subject")),
        record=_uuid(data.get("record")),
        records=tuple(record for record in records if record is not None),
        txn=text(said.get("txn")),
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
    try:
        time = datetime.fromisoformat(orjson.loads(leaf)["time"])
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (KeyError, TypeError, ValueError, OverflowError):
        return otherwise


def _uuid(value: Any) -> UUID | None:
    if not isinstance(value, str):
        return None
    try:
        return UUID(value)
    except ValueError:
        return None


def address(issuer: str) -> str:
    """Origin of the first log: where it is served, without a scheme (C2SP tlog-tiles)."""
    return issuer.partition("://")[2].rstrip("/") + LOG_PATH


def origin(first: str, generation: int) -> str:
    """Origin of a log; each later one has an address of its own, so that none contradicts another's checkpoint."""
    return first if generation == 1 else f"{first}s/{generation}"
