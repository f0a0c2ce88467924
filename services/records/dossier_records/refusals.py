"""From a decision that refuses to the problem that is answered; pure."""

from typing import Final

from dossier_common.policy import Action, Policy
from dossier_common.problems import Forbidden, Hidden, InsufficientScope, OutsideZone, Problem
from dossier_records import errors
from dossier_records.rules import SCOPES, Check, Decision, Reason, RecordFacts, approvals_needed

_PROBLEMS: Final[dict[Reason, type[Forbidden]]] = {
    Reason.DUTY_CONFLICT: errors.DutyConflict,
    Reason.NOT_QUALIFIED: errors.NotQualified,
    Reason.CLEARANCE_TOO_LOW: errors.ClearanceTooLow,
    Reason.NO_NEED_TO_KNOW: errors.NoNeedToKnow,
    Reason.GRANT_EXHAUSTED: errors.GrantExhausted,
    Reason.PURPOSE_NOT_COVERED: errors.PurposeNotCovered,
    Reason.OUTSIDE_ZONE: OutsideZone,
    Reason.OUTSIDE_HOURS: errors.OutsideHours,
}


def problem(policy: Policy, decision: Decision, action: Action, record: RecordFacts) -> Problem:
    """The problem of a decision that refuses; it tells what the caller may know, and what he could ask for."""
    failed = decision.failed
    assert failed is not None
    return problem_of(policy, failed, action, record)


def problem_of(policy: Policy, failed: Check, action: Action, record: RecordFacts) -> Problem:
    """The problem of one rule that did not pass."""
    reason = failed.reason
    if reason is Reason.HIDDEN:
        return Hidden("There is no such record.")
    if reason is Reason.INSUFFICIENT_SCOPE:
        return InsufficientScope(SCOPES[action])
    if reason is Reason.GRANT_REQUIRED:
        because = f"The grant does not cover this use: {failed.detail}." if failed.detail else None
        return errors.GrantRequired(because, approvals_needed=approvals_needed(policy, action, record.level))
    if reason is Reason.NOT_QUALIFIED:
        return errors.NotQualified(f"Missing or expired: {failed.detail}.", qualification=failed.detail)
    if reason is Reason.CLEARANCE_TOO_LOW:
        return errors.ClearanceTooLow(f"The record's level is {failed.detail}.", level=failed.detail)
    assert reason is not None
    return _PROBLEMS[reason]()
