"""Shapes on the wire. What comes in forbids what it does not know; what goes out never has more than it says."""

from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

Id = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Value = Annotated[str, StringConstraints(max_length=10_000)]


class In(BaseModel):
    """What is sent to us."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Out(BaseModel):
    """What we answer."""

    model_config = ConfigDict(from_attributes=True)


class Status(StrEnum):
    """Where a record is in its life."""

    ACTIVE = "active"
    ENDED = "ended"
    DESTROYING = "destroying"
    DESTROYED = "destroyed"


class OpeningAction(StrEnum):
    """The actions that open content."""

    VIEW = "view"
    COPY = "copy"
    EXTRACT = "extract"
    PRINT = "print"
    EXPORT = "export"


class CopyAction(StrEnum):
    """The actions that make a controlled copy."""

    PRINT = "print"
    COPY = "copy"
    EXTRACT = "extract"
    EXPORT = "export"


class NewPlan(In):
    """A collection plan: what is collected of whom, and what for (E.采集流程)."""

    title: Text
    purposes: Annotated[list[Id], Field(min_length=1, max_length=50)]
    fields: Annotated[list[Id], Field(min_length=1, max_length=200)]
    customer_types: Annotated[list[Id], Field(min_length=1, max_length=20)]
    unit: UUID
    until: date | None = None


class Plan(Out):
    """A collection plan."""

    id: UUID
    title: str
    purposes: list[str]
    fields: list[str]
    customer_types: list[str]
    unit: UUID
    until: date | None
    created_at: datetime


class Plans(Out):
    """A page of plans."""

    items: list[Plan]


class Source(In):
    """Where the data came from; an indirect source names the third party, its agreement and its check (A4.14)."""

    kind: Literal["direct", "indirect"]
    third_party: Text | None = None
    agreement: Text | None = None
    capability_check: Text | None = None


class Consent(In):
    """What the customer agreed to; `evidence` names the document."""

    purposes: Annotated[list[Id], Field(min_length=1, max_length=50)]
    given_on: date
    evidence: Text


class NewRecord(In):
    """A customer record to register."""

    plan: UUID
    customer_type: Id
    importance: Id
    unit: UUID
    custodian: UUID
    source: Source
    consent: Consent | None = None
    opened_on: date
    relationship_ended_on: date | None = None
    fields: Annotated[dict[Id, Value], Field(max_length=200)]


class Change(In):
    """A merge patch: a field with null goes; what describes the record can be changed, and does not go."""

    fields: Annotated[dict[Id, Value | None], Field(max_length=200)] = {}
    relationship_ended_on: date | None = None
    custodian: UUID | None = None

    @field_validator("relationship_ended_on", "custodian", mode="before")
    @classmethod
    def _stays(cls, value: Any) -> Any:
        if value is None:
            raise ValueError("this cannot be taken away")
        return value


class Descriptor(Out):
    """What is known of a record without opening it."""

    id: UUID
    number: int
    customer_type: str
    importance: str
    level: str
    information_class: int
    unit: UUID
    custodian: UUID | None = Field(description="Null where who answered for it left and nobody does yet")
    status: Status
    version: int
    opened_on: date
    relationship_ended_on: date | None
    mark: dict[str, str] | None = Field(default=None, description="The level as the finding aid must show it (A8.22)")


class Descriptors(Out):
    """A page of the catalogue."""

    items: list[Descriptor]


class ShownField(Out):
    """A field as the decision opens or masks it."""

    state: Literal["open", "masked", "absent"]
    value: str | None = None


class Content(Out):
    """The content of a record, as the decision opens or masks it."""

    id: UUID
    version: int
    level: str
    purpose: str
    grant: UUID | None
    policy: str
    watermark: str | None
    fields: dict[str, ShownField]


class Search(In):
    """An exact match on one indexed field."""

    field: Id
    value: Annotated[str, StringConstraints(min_length=1, max_length=300)]
    purpose: Id


class Access(Out):
    """Whether the caller could open the record, and what he could ask for."""

    allowed: bool
    reason: str | None
    approvals_needed: list["ApprovalNeeded"]


class StageNeeded(Out):
    """A stage of the flow that leads to a grant."""

    name: str
    title: dict[str, str]
    any_of: list[dict[str, str]]


class ApprovalNeeded(Out):
    """A flow that leads to a grant."""

    action: str
    flow: str
    stages: list[StageNeeded]


class Match(Out):
    """A record that was found, masked."""

    record: Descriptor
    fields: dict[str, ShownField]
    access: Access


class Matches(Out):
    """What was found."""

    items: list[Match]


class RuleChecked(Out):
    """One rule of the decision, and how it ended."""

    rule: str
    passed: bool
    reason: str | None
    detail: str | None


class Explanation(Access):
    """The decision, rule by rule, without using anything."""

    rules: list[RuleChecked]
    open: list[str]
    masked: list[str]


class ImportState(Out):
    """How far an import has come."""

    id: UUID
    state: Literal["received", "running", "done", "failed"]
    reason: str | None
    received_at: datetime
    rows: int
    judged: int
    accepted: int
    refused: int
    duplicates: int


class RowFault(Out):
    """What is wrong in a row: the field and why, never what stood there."""

    field: str
    code: str
    title: dict[str, str]


class RefusedRow(Out):
    """A row, by its number in the spreadsheet."""

    row: int
    faults: list[RowFault]


class ImportReport(ImportState):
    """How far an import has come, with a page of its refused rows."""

    errors: list[RefusedRow]


class NewCopy(In):
    """A controlled copy under a grant."""

    grant: UUID
    action: CopyAction


class Copy(Out):
    """A controlled copy, and its fate."""

    id: UUID
    number: str
    record: UUID
    version: int
    grant: UUID
    action: str
    fields: list[str]
    holder: UUID
    state: Literal["issued", "receipted", "returned", "destroyed", "lost"]
    stamp: str
    issued_at: datetime


class Copies(Out):
    """A page of copies."""

    items: list[Copy]


class CopyContent(Out):
    """What stands on a controlled copy."""

    copy_id: UUID
    number: str
    stamp: str
    watermark: str
    fields: dict[str, str]
