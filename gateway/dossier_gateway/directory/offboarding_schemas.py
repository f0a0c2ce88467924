"""Shapes of leaving and moving on the wire."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from dossier_gateway.directory.schemas import Wire


class Kind(StrEnum):
    """Whether the person goes for good, or works in another unit from now on."""

    LEAVING = "leaving"
    TRANSFER = "transfer"


class Reason(StrEnum):
    """Why; it stays in the directory, and stands in no event."""

    RESIGNATION = "resignation"
    RETIREMENT = "retirement"
    DISMISSAL = "dismissal"
    CONTRACT_END = "contract_end"
    DEATH = "death"
    REASSIGNMENT = "reassignment"
    PROMOTION = "promotion"
    SECONDMENT = "secondment"
    REORGANISATION = "reorganisation"


REASONS = {
    Kind.LEAVING: frozenset(
        {Reason.RESIGNATION, Reason.RETIREMENT, Reason.DISMISSAL, Reason.CONTRACT_END, Reason.DEATH}
    ),
    Kind.TRANSFER: frozenset({Reason.REASSIGNMENT, Reason.PROMOTION, Reason.SECONDMENT, Reason.REORGANISATION}),
}


class NewOffboarding(Wire):
    """Who goes on with the work (an account of another person); `unit` is the new home unit of a transfer."""

    kind: Kind
    reason: Reason
    successor: UUID
    unit: UUID | None = None


class Offboarding(Wire):
    """One act over all accounts of a person."""

    id: UUID
    kind: Kind
    reason: Reason
    person: UUID
    accounts: list[UUID]
    units_left: list[UUID]
    unit: UUID | None
    successor: UUID
    successor_person: UUID
    by: UUID | None
    at: datetime


class Offboardings(Wire):
    """A page of them, the newest first."""

    items: list[Offboarding]
