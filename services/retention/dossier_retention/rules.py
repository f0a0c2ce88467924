"""Decisions of the retention service. Pure: no I/O, no clock, no session."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from dossier_common.identity import RoleIn
from dossier_common.policy import Period, RetentionRule, Trigger
from dossier_common.problems import SamePerson
from dossier_retention.errors import (
    AnotherOffice,
    DestructionUnderWay,
    GrantEnded,
    Held,
    MethodNotAllowed,
    NotDue,
    OutstandingCopies,
    RecordDestroyed,
    WrongState,
)


class TermUndefined(ValueError):
    """The term ends nowhere: it has no length, or the calendar ends before it."""


class DisposalState(StrEnum):
    """Where a disposal stands."""

    PROPOSED = "proposed"
    APPROVED = "approved"
    EXECUTING = "executing"
    DESTROYED = "destroyed"
    REJECTED = "rejected"
    FAILED = "failed"


class CopyState(StrEnum):
    """The fate of a controlled copy (A3.4.2.3)."""

    OPEN = "open"
    RETURNED = "returned"
    DESTROYED = "destroyed"
    LOST = "lost"


class Duty(StrEnum):
    """What a person has done in a case."""

    PROPOSER = "proposer"
    APPROVER = "approver"
    EXECUTOR = "executor"
    WITNESS = "witness"


OPEN: Final = frozenset({DisposalState.PROPOSED, DisposalState.APPROVED, DisposalState.EXECUTING})
"""One such case at most over a record."""

TRANSITIONS: Final[Mapping[DisposalState, frozenset[DisposalState]]] = {
    DisposalState.PROPOSED: frozenset({DisposalState.APPROVED, DisposalState.REJECTED}),
    DisposalState.APPROVED: frozenset({DisposalState.EXECUTING, DisposalState.FAILED}),
    DisposalState.EXECUTING: frozenset({DisposalState.DESTROYED, DisposalState.APPROVED, DisposalState.FAILED}),
    DisposalState.DESTROYED: frozenset(),
    DisposalState.REJECTED: frozenset(),
    DisposalState.FAILED: frozenset(),
}
"""Nothing leaves an ended state; nothing is destroyed that was not executing, or executing that was not approved.

An order that records refused makes the case `approved` again, in a new round; a grant that ended makes it `failed`.
"""


def ensure_transition(state: DisposalState, to: DisposalState) -> None:
    """Raises WrongState."""
    if to not in TRANSITIONS[state]:
        raise WrongState(state)


def term_end(start: date, term: Period) -> date:
    """First day on which disposal may be proposed; months are calendar months, clipped to the month's end.

    Raises TermUndefined for a term without length, or past the calendar's end. Source: requirements A4.26.
    """
    if term.is_zero:
        raise TermUndefined("a term without length")
    try:
        return term.after(start)
    except ValueError as error:
        raise TermUndefined(str(error)) from error


def clock_start(trigger: Trigger, opened_on: date, relationship_ended_on: date | None) -> date | None:
    """The day on which the term begins, None while the event that starts it is outstanding."""
    if trigger is Trigger.OPENED:
        return opened_on
    if trigger is Trigger.RELATIONSHIP_ENDED:
        return relationship_ended_on
    return None


@dataclass(frozen=True, slots=True)
class Standing:
    """What speaks for or against the disposal of a record."""

    destroyed: bool
    due_on: date | None
    held: bool
    copies_out: tuple[str, ...]


def ensure_disposable(standing: Standing, today: date) -> None:
    """Raises RecordDestroyed, NotDue, Held or OutstandingCopies, in this order. Lost copies do not block.

    A lost copy is an incident (A1.5.3.4) that nobody can return; the certificate names it.
    """
    if standing.destroyed:
        raise RecordDestroyed
    if standing.due_on is None or today < standing.due_on:
        raise NotDue(standing.due_on)
    if standing.held:
        raise Held
    if standing.copies_out:
        raise OutstandingCopies(standing.copies_out)


def ensure_holdable(*, destroyed: bool, open_state: DisposalState | None) -> None:
    """Raises RecordDestroyed, or DestructionUnderWay once the first key was turned."""
    if destroyed:
        raise RecordDestroyed
    if open_state is DisposalState.EXECUTING:
        raise DestructionUnderWay


def ensure_distinct(person: UUID, others: Collection[UUID]) -> None:
    """Raises SamePerson (invariant 4)."""
    if person in others:
        raise SamePerson


def ensure_office(held: Iterable[RoleIn], role: str, path: Sequence[UUID]) -> None:
    """The role in the unit of the record or in one above it. Raises AnotherOffice (A1.5.2.2.3)."""
    if not any(each.role == role and each.unit in path for each in held):
        raise AnotherOffice(role)


def methods_of(rule: RetentionRule) -> frozenset[str]:
    """The methods that the rule allows, over all media."""
    methods = rule.disposal.methods
    return frozenset({str(methods.electronic), str(methods.paper), str(methods.disk)})


def ensure_method(rule: RetentionRule, method: str) -> None:
    """Raises MethodNotAllowed (A8.25)."""
    allowed = methods_of(rule)
    if method not in allowed:
        raise MethodNotAllowed(allowed)


def grant_ended(state: DisposalState, until: datetime | None, *, ordered: bool, now: datetime) -> bool:
    """Whether the approval ran out before the order was given; after it, the order stands."""
    approved = state in {DisposalState.APPROVED, DisposalState.EXECUTING}
    return approved and not ordered and until is not None and until <= now


def ensure_granted(state: DisposalState, until: datetime | None, now: datetime) -> None:
    """Raises GrantEnded."""
    if grant_ended(state, until, ordered=False, now=now):
        raise GrantEnded


def evidence_suffices(*, decryption_failed: bool, remaining: int) -> bool:
    """Destroyed means unreadable (invariant 5): tried, seen to fail, and nothing left under the old key."""
    return decryption_failed and remaining == 0
