"""Shapes on the wire of the audit service."""

from base64 import b64encode
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self
from uuid import UUID

import orjson
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict

from dossier_audit.models import Body, Erasure, Leaf
from dossier_common.receipts import Receipt


def _in_utc(at: datetime) -> datetime:
    try:
        return at.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("an instant between the years 1 and 9999") from error


Instant = Annotated[AwareDatetime, AfterValidator(_in_utc)]


class Order(StrEnum):
    """By the time that the producers state."""

    NEWEST = "newest"
    OLDEST = "oldest"


class AuditEvent(BaseModel):
    """What happened. Members that the event does not say are null; `data` is null for a body that is no JSON object."""

    model_config = ConfigDict(extra="forbid")

    id: UUID
    type: str
    time: datetime
    outcome: str | None
    actor: UUID | None
    person: UUID | None
    client: str | None
    subject: str | None
    producer: str
    epoch: int
    seq: int
    txn: str | None
    data: dict[str, Any] | None

    @classmethod
    def of(cls, body: Body) -> Self:
        """From a row."""
        return cls(**_described(body))


class AuditEvents(BaseModel):
    """A page of events."""

    items: list[AuditEvent]


class TypeCount(BaseModel):
    """Events of one type that ended in one way."""

    type: str
    outcome: str | None
    events: int
    first: datetime
    last: datetime


class TouchedRecord(BaseModel):
    """A record that events were about."""

    record: UUID
    events: int
    first: datetime
    last: datetime


class Activity(BaseModel):
    """What a person did, by whichever of his accounts; `records` is a page, all else is the whole."""

    person: UUID
    events: int
    first: datetime | None
    last: datetime | None
    counts: list[TypeCount]
    records: list[TouchedRecord]


class OpenedEvent(AuditEvent):
    """An event with what proves it: SHA-256(salt ‖ body) is the leaf's commitment, and SHA-256(leaf) its hash.

    `leaf` and `body` are the exact text that was hashed; `salt` is base64, `hash` hex. Of a body that was erased by law
    neither body nor salt is left, and `erased` says when and by which order.
    """

    leaf: str
    body: str | None
    salt: str | None
    hash: str
    ingested_at: datetime
    erased: "ErasedBody | None"

    @classmethod
    def opened(cls, leaf: Leaf, body: Body, erasure: Erasure | None) -> Self:
        """From the rows."""
        return cls(
            **_described(body),
            leaf=leaf.leaf.decode(errors="replace"),  # a damaged one is shown as it is: its commitment tells
            body=body.body.decode(errors="replace") if body.body is not None else None,
            salt=b64encode(body.salt).decode() if body.salt is not None else None,
            hash=leaf.hash.hex(),
            ingested_at=leaf.ingested_at,
            erased=ErasedBody(at=erasure.at, order=erasure.order) if erasure else None,
        )


class ErasedBody(BaseModel):
    """When a body was erased, and by which order."""

    at: datetime
    order: str


def _described(body: Body) -> dict[str, Any]:
    try:
        said = orjson.loads(body.body or b"null")
    except orjson.JSONDecodeError:
        said = None
    data = said.get("data") if isinstance(said, dict) else None
    return {
        "id": body.id,
        "type": body.type,
        "time": body.time,
        "outcome": body.outcome,
        "actor": body.actor,
        "person": body.person,
        "client": body.client,
        "subject": body.subject,
        "producer": body.producer,
        "epoch": body.epoch,
        "seq": body.seq,
        "txn": body.txn,
        "data": data if isinstance(data, dict) else None,
    }


class WireReceipt(BaseModel):
    """How far a producer's events are durable; hash in hex, signature in base64."""

    model_config = ConfigDict(extra="forbid")

    producer: str
    epoch: int
    seq: int
    hash: str
    at: str
    signature: str

    @classmethod
    def of(cls, receipt: Receipt) -> Self:
        """As it travels."""
        return cls(**receipt.to_json())


class ReceiptAnswer(BaseModel):
    """The newest receipt, or none before the producer's first event."""

    receipt: WireReceipt | None


class KnownCheckpoint(BaseModel):
    """A checkpoint of the log before: root in hex."""

    origin: str
    size: int
    root: str


class OpeningLeaf(BaseModel):
    """The first leaf of a log and what hides behind its commitment: text, text, base64."""

    leaf: str
    body: str
    salt: str

    @classmethod
    def of(cls, leaf: Leaf | None, body: Body | None) -> Self:
        """From the rows of both. Neither is ever erased, so that what is gone is empty here: verifiers say what is."""
        hidden, salt = (body.body or b"", body.salt or b"") if body else (b"", b"")
        return cls(
            leaf=leaf.leaf.decode(errors="replace") if leaf else "",
            body=hidden.decode(errors="replace"),
            salt=b64encode(salt).decode(),
        )


class LogDescription(BaseModel):
    """A log: where it is served, and the vkey of its checkpoints."""

    generation: int
    origin: str
    url: str
    vkey: str
    opened_at: datetime
    state: Literal["open", "closed"]
    predecessor: KnownCheckpoint | None
    opened: OpeningLeaf


class Logs(BaseModel):
    """All logs, the first first; only the last is open."""

    logs: list[LogDescription]
