"""Shapes on the wire."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from dossier_approvals.rules import GrantState, RequestState, StepState, Verdict, Wish
from dossier_common.contracts.approvals import Conditions
from dossier_common.policy import Action, Doing, RequestPart, Title

FIRST = datetime(2000, 1, 1, tzinfo=UTC)
LAST = datetime(2200, 1, 1, tzinfo=UTC)
COUNT_MAX = 1_000_000


def _in_calendar(at: datetime) -> datetime:
    if not FIRST <= at <= LAST:
        raise ValueError("an instant between 2000 and 2200")
    return at.astimezone(UTC)


def _distinct(values: list[UUID]) -> list[UUID]:
    if len(set(values)) != len(values):
        raise ValueError("the same record stands twice in the list")
    return values


Instant = Annotated[AwareDatetime, AfterValidator(_in_calendar)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]*$", max_length=64)]
Line = Annotated[str, StringConstraints(max_length=500)]
Text = Annotated[str, StringConstraints(max_length=2000)]


class Shape(BaseModel):
    """What is sent in: unknown members are refused."""

    model_config = ConfigDict(extra="forbid")


class NewRequest(Shape):
    """What somebody asks for. Which parts are needed, the flow of the action and the level says (A2.7, A8.17).

    `requester_profile` also takes the parts that have no place of their own: `copies`, `recipient`, `scope`, `method`,
    `introduction_letter`, `work_card`, `identity_document`, `legal_document`. No `fields` means all of them.
    A flow that hands to a partner takes its id as `recipient`: it has to be qualified (B3.5).
    """

    action: Action
    records: Annotated[list[UUID], Field(min_length=1, max_length=50), AfterValidator(_distinct)]
    purpose: Annotated[str, StringConstraints(max_length=64)] | None = None
    reason: Text | None = None
    requester_profile: dict[Name, Line] = Field(default_factory=dict, max_length=20)
    fields: list[Name] = Field(default_factory=list, max_length=200)
    not_before: Instant | None = None
    until: Instant | None = None
    uses: int | None = Field(default=None, ge=1, le=COUNT_MAX)
    recipient: UUID | None = Field(default=None, description="The partner, where the flow hands to one")

    def wish(self) -> Wish:
        """As the rules take it."""
        return Wish(
            action=self.action.value,
            records=tuple(self.records),
            purpose=self.purpose or "",
            reason=self.reason or "",
            profile=self.requester_profile,
            fields=tuple(dict.fromkeys(self.fields)),
            not_before=self.not_before,
            until=self.until,
            uses=self.uses,
            recipient=self.recipient,
        )


class NewDecision(Shape):
    """What an approver says to a task."""

    verdict: Verdict
    comment: Text = ""


class NewRevocation(Shape):
    """Why a grant is taken away."""

    reason: Annotated[str, StringConstraints(min_length=1, max_length=2000, strip_whitespace=True)]


class Office(BaseModel):
    """A role in the unit where its holders were found."""

    role: str
    unit: UUID


class StageOutlook(BaseModel):
    """A stage as it would be: who could decide it, by office and number."""

    name: str
    title: Title | None
    role: str
    unit: UUID
    offices: list[Office]
    candidates: int
    needed: int
    doing: Doing | None
    time_limit: str | None


class Preview(BaseModel):
    """Which way a request would go, and what it has to contain. Nothing was changed."""

    flow: str
    title: Title | None
    required: list[RequestPart]
    one_of: list[RequestPart]
    stages: list[StageOutlook]


class DecisionMade(BaseModel):
    """One person's verdict."""

    round: int
    person: UUID
    verdict: Verdict
    comment: str
    at: datetime


class StageState(StageOutlook):
    """A stage of a request, as it stands in the present round; decisions of all rounds.

    `vacant_since`: nobody is left who could decide it; it waits until the office has a holder, or for its time limit.
    """

    state: StepState
    due_at: datetime | None
    vacant_since: datetime | None
    decisions: list[DecisionMade]


class RequestSummary(BaseModel):
    """A request in a list."""

    id: UUID
    state: RequestState
    action: Action
    flow: str
    purpose: str
    requester_person: UUID
    round: int
    disposal: UUID | None
    created_at: datetime
    ended_at: datetime | None


class RequestShown(RequestSummary):
    """A request, to those who take part in it."""

    requester_account: UUID
    reason: str
    requester_profile: dict[str, str]
    records: list[UUID]
    fields: list[str]
    not_before: datetime | None
    until: datetime | None
    uses: int | None
    recipient: UUID | None
    policy: str
    grant: UUID | None
    stages: list[StageState]


class RequestList(BaseModel):
    """A page of requests, the newest first."""

    items: list[RequestSummary]


class Task(BaseModel):
    """What waits for the caller: a decision, or, with `emergency`, the review at `/v1/emergency-access/{emergency}`."""

    id: UUID
    request: UUID
    emergency: UUID | None
    action: Action
    stage: str
    title: Title | None
    doing: Doing | None
    records: list[UUID]
    purpose: str
    reason: str
    requester_profile: dict[str, str]
    requester_person: UUID
    round: int
    disposal: UUID | None
    opened_at: datetime
    due_at: datetime | None


class TaskList(BaseModel):
    """A page of tasks, the oldest first."""

    items: list[Task]


class GrantShown(BaseModel):
    """A grant; `uses_counted` follows what the records service tells."""

    id: UUID
    request: UUID
    state: GrantState
    action: Action
    records: list[UUID]
    fields: list[str]
    purpose: str
    not_before: datetime
    until: datetime
    uses: int | None
    uses_counted: int
    conditions: Conditions
    holder_account: UUID
    holder_person: UUID
    persons: list[UUID]
    disposal: UUID | None
    policy: str
    issued_at: datetime
    ended_at: datetime | None


class GrantList(BaseModel):
    """A page of grants, the newest first."""

    items: list[GrantShown]


class GrantResolved(BaseModel):
    """A grant in the shape of the event that issued it, with its present state; for services."""

    grant: UUID
    request: UUID
    action: str
    records: list[UUID]
    fields: list[str]
    purpose: str
    not_before: datetime
    until: datetime
    uses: int | None
    conditions: Conditions
    holder_account: UUID
    holder_person: UUID
    persons: list[UUID]
    disposal: UUID | None
    policy: str
    state: GrantState
    uses_counted: int
