"""Events: CloudEvents 1.0 in canonical JSON, at most 32 KiB, without personal data (invariant 7).

An event model is frozen, in the past tense, and holds identifiers. Its `TYPE` is at the same time the
JetStream subject. A changed meaning is a new version beside the old.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, ClassVar
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict

from dossier_common.canonical import canonical
from dossier_common.identity import Subject

MAX_BODY = 32 * 1024


class EventTooLarge(ValueError):
    """The event is longer than 32 KiB; whoever emits it must refuse the request that would make it so."""


class Outcome(StrEnum):
    """How the act ended."""

    SUCCESS = "success"
    REFUSED = "refused"
    FAILED = "failed"


class Event(BaseModel):
    """Base of all event models; a subclass sets TYPE, and OUTCOME where it is not a success."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    TYPE: ClassVar[str]
    OUTCOME: ClassVar[Outcome] = Outcome.SUCCESS

    def concerns(self) -> str | None:
        """The identifier that becomes the CloudEvents `subject`: the record where there is one."""
        for name in ("record", "object", "request", "disposal", "account", "unit"):
            value = getattr(self, name, None)
            if value is not None:
                return str(value)
        return None


class AccessRefused(Event):
    """A known caller was refused. Each part has a subclass with its own TYPE."""

    OUTCOME = Outcome.REFUSED

    operation: str
    slug: str
    scope: str | None = None
    record: UUID | None = None
    object: UUID | None = None


def encode(event: Event, event_id: UUID, at: datetime, by: Subject | None) -> bytes:
    """The CloudEvents body. Actor, person, client and transaction stand beside the data as extension attributes.

    Raises EventTooLarge.
    """
    producer = event.TYPE.split(".", 1)[0]
    body: dict[str, Any] = {
        "specversion": "1.0",
        "id": str(event_id),
        "source": f"urn:dossier:{producer}",
        "type": event.TYPE,
        "time": instant(at),
        "datacontenttype": "application/json",
        "outcome": event.OUTCOME.value,
        "data": event.model_dump(mode="json", exclude_none=True),
    }
    subject = event.concerns()
    if subject:
        body["subject"] = subject
    if by is not None:
        body |= by.marks()
    encoded = canonical(body)
    if len(encoded) > MAX_BODY:
        raise EventTooLarge(f"{event.TYPE}: {len(encoded)} bytes")
    return encoded


def instant(at: datetime) -> str:
    """RFC 3339 in UTC with microseconds."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Envelope(BaseModel):
    """A received CloudEvent, before its data is read as one of the contracts."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: UUID
    type: str
    time: datetime
    outcome: Outcome = Outcome.SUCCESS
    subject: str | None = None
    actor: UUID | None = None
    person: UUID | None = None
    client: str | None = None
    txn: str | None = None
    data: dict[str, Any]

    @classmethod
    def decode(cls, body: bytes) -> "Envelope":
        """Reads a body that `encode` made, perhaps by a newer version."""
        return cls.model_validate(orjson.loads(body))
