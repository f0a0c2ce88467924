"""Shapes on the wire of the retention service."""

from datetime import date, datetime
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, StringConstraints

from dossier_common.policy import DisposalMethod
from dossier_common.texts import SealedTexts
from dossier_retention.models import Disposal, Hold, Participant, RetentionClock
from dossier_retention.repository import Due
from dossier_retention.rules import DisposalState, Duty

FreeText = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]
"""Stays in this service's database, sealed; never in an event."""


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Clock(_Shape):
    """A term that runs; disposal may be proposed from `due_on` on."""

    record: UUID
    rule: str
    started_on: date
    due_on: date
    policy: str

    @classmethod
    def of(cls, clock: RetentionClock) -> Self:
        """From a row."""
        return cls(
            record=clock.record, rule=clock.rule, started_on=clock.started_on, due_on=clock.due_on, policy=clock.policy
        )


class Clocks(_Shape):
    """A page of clocks."""

    items: list[Clock]


class DueRecord(_Shape):
    """A record whose term is over, and what stands in the way of its disposal; `disposal` is the open case."""

    record: UUID
    unit: UUID
    rule: str
    started_on: date
    due_on: date
    held: bool
    outstanding_copies: int
    disposal: UUID | None

    @classmethod
    def of(cls, due: Due) -> Self:
        """From what was found."""
        return cls(
            record=due.record,
            unit=due.unit,
            rule=due.rule,
            started_on=due.started_on,
            due_on=due.due_on,
            held=due.held,
            outstanding_copies=due.outstanding_copies,
            disposal=due.disposal,
        )


class DueRecords(_Shape):
    """A page of what is past its term (E, B6.11)."""

    as_of: date
    items: list[DueRecord]


class NewHold(_Shape):
    """A hold to be placed."""

    record: UUID
    reason: FreeText


class Release(_Shape):
    """Why a hold is lifted."""

    reason: FreeText


class HoldView(_Shape):
    """A hold; it stands until `released_at`."""

    id: UUID
    record: UUID
    reason: str
    placed_by_person: UUID
    placed_at: datetime
    released_by_person: UUID | None
    released_at: datetime | None
    release_reason: str | None

    @classmethod
    def of(cls, hold: Hold, texts: SealedTexts) -> Self:
        """From a row."""
        return cls(
            id=hold.id,
            record=hold.record,
            reason=texts.open(hold.reason),
            placed_by_person=hold.placed_by,
            placed_at=hold.placed_at,
            released_by_person=hold.released_by,
            released_at=hold.released_at,
            release_reason=texts.open(hold.release_reason) if hold.release_reason else None,
        )


class Holds(_Shape):
    """A page of holds."""

    items: list[HoldView]


class NewDisposal(_Shape):
    """A proposal to dispose of a record (A8.25)."""

    record: UUID
    reason: FreeText


class Execution(_Shape):
    """The first key: the method, and what is to be noted."""

    method: DisposalMethod
    note: FreeText | None = None


class WitnessStatement(_Shape):
    """The second key: what the witness saw (A1.5.2.2.3)."""

    statement: FreeText


class DisposalView(_Shape):
    """A case. The persons are those of the present round; `failure` says why it ended, or why it is open again."""

    id: UUID
    record: UUID
    rule: str
    state: DisposalState
    round: int
    reason: str
    method: str | None
    proposer_person: UUID | None
    approver_persons: list[UUID]
    executor_person: UUID | None
    witness_person: UUID | None
    note: str | None
    statement: str | None
    proposed_at: datetime
    approved_at: datetime | None
    executed_at: datetime | None
    ordered_at: datetime | None
    closed_at: datetime | None
    failure: str | None
    certificate: UUID | None
    policy: str

    @classmethod
    def of(cls, case: Disposal, participants: list[Participant], certificate: UUID | None, texts: SealedTexts) -> Self:
        """From the rows."""
        persons: dict[str, list[UUID]] = {duty: [] for duty in Duty}
        for each in participants:
            persons[each.duty].append(each.person)
        return cls(
            id=case.id,
            record=case.record,
            rule=case.rule,
            state=DisposalState(case.state),
            round=case.round,
            reason=texts.open(case.reason),
            method=case.method,
            proposer_person=next(iter(persons[Duty.PROPOSER]), None),
            approver_persons=persons[Duty.APPROVER],
            executor_person=next(iter(persons[Duty.EXECUTOR]), None),
            witness_person=next(iter(persons[Duty.WITNESS]), None),
            note=texts.open(case.note) if case.note else None,
            statement=texts.open(case.statement) if case.statement else None,
            proposed_at=case.proposed_at,
            approved_at=case.approved_at,
            executed_at=case.executed_at,
            ordered_at=case.ordered_at,
            closed_at=case.closed_at,
            failure=case.failure,
            certificate=certificate,
            policy=case.policy,
        )


class Disposals(_Shape):
    """A page of disposals."""

    items: list[DisposalView]


class CertificateView(_Shape):
    """A certificate of destruction.

    `signature` is base64, Ed25519 by the key `kid` of the retention service, over the line `dossier-certificate-v1`, a
    newline, and the RFC 8785 canonical JSON of all other members.
    """

    id: UUID
    disposal: UUID
    record: UUID
    method: str
    content: dict[str, Any]
    proposed_at: str
    approved_at: str | None
    executed_at: str | None
    ordered_at: str | None
    destroyed_at: str
    issued_at: str
    proposer_person: UUID | None
    approver_persons: list[UUID]
    executor_person: UUID | None
    witness_person: UUID | None
    grant: UUID
    copies_lost: list[str]
    evidence: dict[str, Any]
    backup_horizon: dict[str, Any]
    policy: str
    kid: str
    signature: str
