"""Shapes of emergency access on the wire."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, Field, StringConstraints

from dossier_approvals.emergency_rules import Plea, ReviewState, Verdict
from dossier_approvals.schemas import GrantShown, Name, Shape

Said = Annotated[str, StringConstraints(min_length=1, max_length=2000, strip_whitespace=True)]


class NewEmergency(Shape):
    """What has to be seen at once, what for, and why nobody can be asked. No `fields` means all of them."""

    record: UUID
    fields: list[Name] = Field(default_factory=list, max_length=200)
    purpose: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    reason: Said

    def plea(self) -> Plea:
        """As the rules take it."""
        return Plea(self.record, tuple(dict.fromkeys(self.fields)), self.purpose, self.reason)


class NewReview(Shape):
    """What a reviewer finds, and why."""

    verdict: Verdict
    comment: Said


class ReviewMade(BaseModel):
    """The one review."""

    verdict: Verdict
    comment: str
    person: UUID
    at: datetime


class EmergencyShown(BaseModel):
    """An emergency access, to its user and to reviewers. `grant.id` is what a reading names."""

    id: UUID
    record: UUID
    level: str
    fields: list[str]
    purpose: str
    reason: str
    user_account: UUID
    user_person: UUID
    used_at: datetime
    policy: str
    grant: GrantShown
    state: ReviewState
    review_by: datetime
    review: ReviewMade | None


class EmergencyList(BaseModel):
    """A page of emergency accesses, the newest first."""

    items: list[EmergencyShown]
