"""Events of the approvals service: requests, decisions, grants."""

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from dossier_common.events import AccessRefused as BaseAccessRefused
from dossier_common.events import Event


class Conditions(BaseModel):
    """What a grant is bound to; times are instants in UTC."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    view_only: bool = False
    watermark: bool = True
    zone: str | None = None
    stamp: bool = False
    receipt: bool = False
    encrypted: bool = False
    return_by: datetime | None = None
    emergency: bool = False


class RequestCreated(Event):
    """Somebody asked (A2.7, A8.17)."""

    TYPE: ClassVar[str] = "approvals.v1.request.created"

    request: UUID
    action: str
    flow: str
    records: tuple[UUID, ...]
    purpose: str
    requester_account: UUID
    requester_person: UUID
    recipient: UUID | None = None
    disposal: UUID | None = None
    policy: str


class StepDecided(Event):
    """One approver's decision in one stage of one round."""

    TYPE: ClassVar[str] = "approvals.v1.step.decided"

    request: UUID
    round: int
    stage: str
    verdict: str
    decider_account: UUID
    decider_person: UUID
    records: tuple[UUID, ...] = ()


class StepEscalated(Event):
    """The time limit of a stage passed: more persons may decide it, and nothing was approved by that."""

    TYPE: ClassVar[str] = "approvals.v1.step.escalated"

    request: UUID
    round: int
    stage: str
    added_persons: tuple[UUID, ...]


class RequestRejected(Event):
    """The request ended without a grant."""

    TYPE: ClassVar[str] = "approvals.v1.request.rejected"

    request: UUID
    stage: str
    disposal: UUID | None = None


class RequestWithdrawn(Event):
    """The requester took it back; with the reason `offboarding` he has left or moved, and it ended with that."""

    TYPE: ClassVar[str] = "approvals.v1.request.withdrawn"

    request: UUID
    disposal: UUID | None = None
    reason: str | None = None


class CandidatesReplaced(Event):
    """A person who left or moved decides in this stage no more; those who hold its office now do."""

    TYPE: ClassVar[str] = "approvals.v1.candidates.replaced"

    request: UUID
    stage: str
    removed_persons: tuple[UUID, ...]
    added_persons: tuple[UUID, ...]


class StageVacated(Event):
    """Nobody is left who could decide a stage of an open request: an alarm, naming the office that is vacant."""

    TYPE: ClassVar[str] = "approvals.v1.stage.vacated"

    request: UUID
    stage: str
    role: str
    unit: UUID


class StageStaffed(Event):
    """A stage that was vacant can be decided again: the office has a holder."""

    TYPE: ClassVar[str] = "approvals.v1.stage.staffed"

    request: UUID
    stage: str


class RequestReturned(Event):
    """A stage sent the case back: a new round begins."""

    TYPE: ClassVar[str] = "approvals.v1.request.returned"

    request: UUID
    round: int
    stage: str


class RequestImpossible(Event):
    """A disposal could not be put to approval: no flow, or a role that nobody holds."""

    TYPE: ClassVar[str] = "approvals.v1.request.impossible"

    disposal: UUID
    reason: str


class GrantIssued(Event):
    """All stages approved: who may do what, with which fields, for which purpose, when, and how often.

    `fields` empty means all fields; `uses` None means no count. `persons` are those of the case: the requester first.
    """

    TYPE: ClassVar[str] = "approvals.v1.grant.issued"

    grant: UUID
    request: UUID
    action: str
    records: tuple[UUID, ...]
    fields: tuple[str, ...]
    purpose: str
    not_before: datetime
    until: datetime
    uses: int | None = None
    conditions: Conditions
    holder_account: UUID
    holder_person: UUID
    persons: tuple[UUID, ...]
    disposal: UUID | None = None
    policy: str


class GrantRevoked(Event):
    """The grant ended before its time, by somebody else's act; `offboarding` where its holder left or moved."""

    TYPE: ClassVar[str] = "approvals.v1.grant.revoked"

    grant: UUID
    reason: str | None = None


class GrantReturned(Event):
    """The holder gave the grant back."""

    TYPE: ClassVar[str] = "approvals.v1.grant.returned"

    grant: UUID


class EmergencyUsed(Event):
    """Somebody took access at once, which nobody approved: `told_persons` review it before `review_by`."""

    TYPE: ClassVar[str] = "approvals.v1.emergency.used"

    emergency: UUID
    grant: UUID
    record: UUID
    level: str
    fields: tuple[str, ...]
    purpose: str
    user_account: UUID
    user_person: UUID
    until: datetime
    uses: int
    review_by: datetime
    told_persons: tuple[UUID, ...]
    policy: str


class EmergencyReviewed(Event):
    """Another person found that the emergency access was justified."""

    TYPE: ClassVar[str] = "approvals.v1.emergency.reviewed"

    emergency: UUID
    record: UUID
    user_person: UUID
    reviewer_person: UUID


class EmergencyUnjustified(Event):
    """Another person found that the emergency access was not justified."""

    TYPE: ClassVar[str] = "approvals.v1.emergency.unjustified"

    emergency: UUID
    record: UUID
    user_person: UUID
    reviewer_person: UUID


class EmergencyReviewOverdue(Event):
    """The time for the review passed without one; it is still to be done, and nothing was justified by that."""

    TYPE: ClassVar[str] = "approvals.v1.emergency.review-overdue"

    emergency: UUID
    record: UUID
    user_person: UUID


class AccessRefused(BaseAccessRefused):
    """The approvals service refused a known caller."""

    TYPE: ClassVar[str] = "approvals.v1.access.refused"
