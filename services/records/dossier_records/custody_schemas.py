"""Shapes of handovers of custody on the wire."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints

from dossier_records.schemas import In, Out


class HandoverKind(StrEnum):
    """Whether the person left for good, or works in another unit."""

    LEAVING = "leaving"
    TRANSFER = "transfer"


class HandoverState(StrEnum):
    """`complete` when nothing is missing from the list; `receipted` when the successor has signed for it."""

    RUNNING = "running"
    COMPLETE = "complete"
    RECEIPTED = "receipted"


class ItemState(StrEnum):
    """`unassigned`: the successor may not be given the record, and nobody answered for it from then on."""

    HANDED_OVER = "handed_over"
    UNASSIGNED = "unassigned"


class Handover(Out):
    """What a person who left or moved answered for, on its way to the successor."""

    id: UUID = Field(description="That of the offboarding")
    kind: HandoverKind
    person_from: UUID
    person_to: UUID
    units: list[UUID]
    state: HandoverState
    handed_over: int
    unassigned: int
    names_struck: int = Field(description="Records for which the person was named, and is no more")
    digest: str | None = Field(description="SHA-256 over the closed list, hex")
    opened_at: datetime
    completed_at: datetime | None
    receipted_at: datetime | None


class Handovers(Out):
    """A page of handovers, the newest first."""

    items: list[Handover]


class OutstandingCopy(Out):
    """A numbered copy that the person still has to bring back."""

    id: UUID
    number: str
    record: UUID
    state: str
    issued_at: datetime


class HandoverShown(Handover):
    """With what is still to be done: records on their way, copies that must come back (the oldest 200 are listed)."""

    remaining: int
    copies_outstanding: int
    copies: list[OutstandingCopy]


class Item(Out):
    """A line of the list: a descriptor, never content. Without `vacant`, as a line is signed for."""

    record: UUID
    number: int
    customer_type: str
    level: str
    unit: UUID
    state: ItemState
    reason: str | None
    vacant: bool = Field(description="Nobody answers for the record now")


class Items(Out):
    """A page of the list, by record."""

    items: list[Item]


class NewReceipt(In):
    """The digest of the list that the successor signs for."""

    digest: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class NewCustodian(In):
    """The person who answers for the record from now on."""

    custodian: UUID
