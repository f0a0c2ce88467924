"""Emergency access (break-glass): who may take it, to what, and on which terms. Pure.

It stands for need to know and approval. Duty, qualification and clearance hold as always, and so do purpose, place and
time, which the records service judges with each use.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from dossier_approvals.errors import ClearanceTooLow, DutyConflict, NoEmergencyAccess, NotQualified
from dossier_approvals.rules import Terms
from dossier_common.contracts.approvals import Conditions
from dossier_common.identity import Subject
from dossier_common.policy import EmergencyRule, Policy
from dossier_common.problems import Fault, Hidden, Problem
from dossier_common.scopes import Scope

FLOW: Final = "emergency-access"
"""What stands for a flow in the request of an emergency access: none of the pack's."""
STAGE: Final = "review"
NO_SUCH_RECORD: Final = Fault(pointer="/body/record", code="not-found", detail="There is no such record.")
"""Of one that is unknown, and of one that the caller may not know of."""


class Verdict(StrEnum):
    """What a reviewer finds."""

    JUSTIFIED = "justified"
    UNJUSTIFIED = "unjustified"


class ReviewState(StrEnum):
    """Where the review stands; `overdue` ones are still to be done."""

    WAITING = "waiting"
    OVERDUE = "overdue"
    REVIEWED = "reviewed"


@dataclass(frozen=True, slots=True)
class Plea:
    """What somebody has to see at once; no fields means all of them."""

    record: UUID
    fields: tuple[str, ...]
    purpose: str
    reason: str


def rule_of(policy: Policy) -> EmergencyRule:
    """What the policy says of emergencies. Raises NoEmergencyAccess."""
    if policy.emergency is None:
        raise NoEmergencyAccess("The policy provides for no emergency access; ask for a grant.")
    return policy.emergency


def ensure_fit(policy: Policy, by: Subject) -> None:
    """The caller may see content at all. Raises DutyConflict for an officer (A4.34), NotQualified (B2.5.4)."""
    officers = {role.id for role in policy.roles if role.officer}
    if any(held.role in officers for held in by.roles):
        raise DutyConflict
    for needed in policy.qualifications_for(Scope.RECORDS_READ):
        if needed.id not in by.qualifications:
            raise NotQualified(needed.id)


def ensure_covered(policy: Policy, by: Subject, level: str) -> None:
    """The caller is cleared for the record's level, and emergencies are provided for there.

    Raises ClearanceTooLow, NoEmergencyAccess; Hidden instead where not everybody may know of such a record (A8.22).
    """
    problem: Problem | None = None
    if not policy.clears(by.clearance, level):
        problem = ClearanceTooLow(level)
    elif level not in rule_of(policy).levels:
        problem = NoEmergencyAccess(f"The policy provides for no emergency access at the level {level}.", level=level)
    if problem is not None:
        raise problem if policy.level(level).listed_to == "all" else Hidden(errors=[NO_SUCH_RECORD])


def terms_of(rule: EmergencyRule, now: datetime) -> Terms:
    """From now on, and not a moment or a use more than the policy says."""
    return Terms(now, rule.term.after(now), rule.uses, Conditions(view_only=True, emergency=True))


def review_state(review_by: datetime, *, reviewed: bool, now: datetime) -> ReviewState:
    """How the review stands now."""
    if reviewed:
        return ReviewState.REVIEWED
    return ReviewState.OVERDUE if now >= review_by else ReviewState.WAITING
