"""The access decision: one pure function, and what the use cases ask beside it. No I/O, no clock, no session."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from dossier_common.identity import Subject
from dossier_common.policy import Action, Basis, Disclosure, Policy, Relation, UnknownNameError
from dossier_common.scopes import Scope

SCOPES: Final = {
    Action.VIEW: Scope.RECORDS_READ,
    Action.COPY: Scope.RECORDS_COPY,
    Action.EXTRACT: Scope.RECORDS_COPY,
    Action.PRINT: Scope.RECORDS_COPY,
    Action.EXPORT: Scope.RECORDS_EXPORT,
}
"""The actions that open content, and the scope of each."""


class Rule(StrEnum):
    """The rules, in the order in which they are asked."""

    SCOPE = "scope"
    DUTY = "duty"
    QUALIFICATION = "qualification"
    CLEARANCE = "clearance"
    NEED_TO_KNOW = "need-to-know"
    PURPOSE = "purpose"
    PLACE_AND_TIME = "place-and-time"


class Reason(StrEnum):
    """Why a rule did not pass; the slugs of the problems."""

    INSUFFICIENT_SCOPE = "insufficient-scope"
    DUTY_CONFLICT = "duty-conflict"
    NOT_QUALIFIED = "not-qualified"
    CLEARANCE_TOO_LOW = "clearance-too-low"
    HIDDEN = "hidden"
    NO_NEED_TO_KNOW = "no-need-to-know"
    GRANT_REQUIRED = "grant-required"
    GRANT_EXHAUSTED = "grant-exhausted"
    PURPOSE_NOT_COVERED = "purpose-not-covered"
    OUTSIDE_ZONE = "outside-zone"
    OUTSIDE_HOURS = "outside-hours"


class GrantFault(StrEnum):
    """Why a grant does not cover a use."""

    UNKNOWN = "unknown"
    ENDED = "ended"
    OTHER_HOLDER = "other-holder"
    OTHER_ACTION = "other-action"
    OTHER_RECORD = "other-record"
    OTHER_PURPOSE = "other-purpose"
    NOT_YET = "not-yet-valid"
    EXPIRED = "expired"
    EXHAUSTED = "exhausted"


@dataclass(frozen=True, slots=True)
class RecordFacts:
    """What the decision needs of a record; `fields` are those that it has."""

    id: UUID
    level: str
    unit: UUID
    custodian: UUID | None
    named: frozenset[UUID]
    purposes: frozenset[str]
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GrantFacts:
    """What the decision needs of a grant. No fields means all; `uses_left` None means no count."""

    id: UUID
    action: str
    records: frozenset[UUID]
    fields: frozenset[str]
    purpose: str
    not_before: datetime
    until: datetime
    uses_left: int | None
    active: bool
    holder_account: UUID
    zone: str | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """One rule, and how it ended."""

    rule: Rule
    passed: bool
    reason: Reason | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether, and which fields are open, masked, or (all others) absent; the first rule that failed says why."""

    allowed: bool
    checks: tuple[Check, ...]
    open: tuple[str, ...] = ()
    masked: tuple[str, ...] = ()
    watermark: bool = True

    @property
    def failed(self) -> Check | None:
        """The rule that refuses."""
        return next((check for check in self.checks if not check.passed), None)


def decide(
    policy: Policy,
    subject: Subject,
    record: RecordFacts,
    action: Action,
    purpose: str,
    grant: GrantFacts | None,
    now: datetime,
    *,
    grant_named: bool = False,
) -> Decision:
    """The access decision of ARCHITECTURE.md; asks the rules in their order and stops at the first that refuses.

    `grant_named` says that the caller named a grant: one that does not cover the use refuses it, rather than
    falling back to what is shown without a grant. Of a record that he may not know of, no rule but the scope tells
    him anything: the reason is then HIDDEN.
    """
    covered = _grant_fault(grant, subject, record, action, purpose, now) if grant_named else None
    relations = _relations(subject, record)
    known = (
        may_know_of(policy, record, relations)
        or policy.access_for(record.level).disclosure(relations) is not Disclosure.NOTHING
        or (grant is not None and grant.holder_account == subject.account and record.id in grant.records)
    )
    checks: list[Check] = []
    for check in (
        _scope(subject, action),
        _duty(policy, subject),
        _qualification(policy, subject, action),
        _clearance(policy, subject, record),
        _need_to_know(policy, record, action, relations, covered, grant_named=grant_named),
        _purpose(policy, record, purpose),
        _place_and_time(policy, subject, record, grant if grant_named else None, now),
    ):
        if not check.passed:
            told = known or check.rule is Rule.SCOPE
            checks.append(check if told else Check(check.rule, passed=False, reason=Reason.HIDDEN))
            return Decision(allowed=False, checks=tuple(checks))
        checks.append(check)
    shown = policy.access_for(record.level).disclosure(relations)
    opened = _opened_by(grant, record) if grant_named and grant is not None else frozenset[str]()
    if action is Action.VIEW and shown is Disclosure.OPEN:
        opened = frozenset(record.fields)
    masked = record.fields if action is Action.VIEW and shown is not Disclosure.NOTHING else ()
    return Decision(
        allowed=True,
        checks=tuple(checks),
        open=tuple(name for name in record.fields if name in opened),
        masked=tuple(name for name in masked if name not in opened),
        watermark=policy.access_for(record.level).watermark,
    )


def _opened_by(grant: GrantFacts, record: RecordFacts) -> frozenset[str]:
    return grant.fields or frozenset(record.fields)


def _relations(subject: Subject, record: RecordFacts) -> frozenset[Relation]:
    found = set()
    if subject.person is not None and subject.person == record.custodian:
        found.add(Relation.CUSTODIAN)
    if subject.person in record.named:
        found.add(Relation.NAMED)
    if record.unit in subject.units:
        found.add(Relation.UNIT)
    return frozenset(found)


def _scope(subject: Subject, action: Action) -> Check:
    needed = SCOPES[action]
    passed = needed in subject.scopes
    return Check(Rule.SCOPE, passed, None if passed else Reason.INSUFFICIENT_SCOPE, needed)


def _duty(policy: Policy, subject: Subject) -> Check:
    officer = any(policy.role(held.role).officer for held in subject.roles if _known_role(policy, held.role))
    return Check(Rule.DUTY, not officer, Reason.DUTY_CONFLICT if officer else None)


def _known_role(policy: Policy, role: str) -> bool:
    try:
        policy.role(role)
    except UnknownNameError:
        return False
    return True


def _qualification(policy: Policy, subject: Subject, action: Action) -> Check:
    needed = policy.qualifications_for(SCOPES[action])
    missing = next((item.id for item in needed if item.id not in subject.qualifications), None)
    return Check(Rule.QUALIFICATION, missing is None, Reason.NOT_QUALIFIED if missing else None, missing)


def _clearance(policy: Policy, subject: Subject, record: RecordFacts) -> Check:
    passed = policy.clears(subject.clearance, record.level)
    return Check(Rule.CLEARANCE, passed, None if passed else Reason.CLEARANCE_TOO_LOW, record.level)


def _grant_fault(
    grant: GrantFacts | None, subject: Subject, record: RecordFacts, action: Action, purpose: str, now: datetime
) -> GrantFault | None:
    if grant is None:
        return GrantFault.UNKNOWN
    faults = (
        (subject.account != grant.holder_account, GrantFault.OTHER_HOLDER),
        (not grant.active, GrantFault.ENDED),
        (grant.action != action, GrantFault.OTHER_ACTION),
        (record.id not in grant.records, GrantFault.OTHER_RECORD),
        (grant.purpose != purpose, GrantFault.OTHER_PURPOSE),
        (now < grant.not_before, GrantFault.NOT_YET),
        (now >= grant.until, GrantFault.EXPIRED),
        (grant.uses_left is not None and grant.uses_left <= 0, GrantFault.EXHAUSTED),
    )
    return next((fault for holds, fault in faults if holds), None)


def _need_to_know(
    policy: Policy,
    record: RecordFacts,
    action: Action,
    relations: frozenset[Relation],
    covered: GrantFault | None,
    *,
    grant_named: bool,
) -> Check:
    if grant_named:
        if covered is None:
            return Check(Rule.NEED_TO_KNOW, passed=True, detail="grant")
        reason = Reason.GRANT_EXHAUSTED if covered is GrantFault.EXHAUSTED else Reason.GRANT_REQUIRED
        return Check(Rule.NEED_TO_KNOW, passed=False, reason=reason, detail=covered)
    shown = policy.access_for(record.level).disclosure(relations)
    if action is Action.VIEW and shown is not Disclosure.NOTHING:
        return Check(Rule.NEED_TO_KNOW, passed=True, detail=shown)
    return Check(Rule.NEED_TO_KNOW, passed=False, reason=Reason.GRANT_REQUIRED)


def may_know_of(policy: Policy, record: RecordFacts, relations: frozenset[Relation]) -> bool:
    """Whether the record may be listed to someone who stands in these relations to it (A8.22)."""
    return policy.level(record.level).listed_to == "all" or bool(relations & {Relation.CUSTODIAN, Relation.NAMED})


def may_list(policy: Policy, subject: Subject, record: RecordFacts) -> bool:
    """Whether the caller may know that the record exists."""
    return may_know_of(policy, record, _relations(subject, record))


def _purpose(policy: Policy, record: RecordFacts, purpose: str) -> Check:
    try:
        passed = policy.purpose(purpose).basis is Basis.LAW or purpose in record.purposes
    except UnknownNameError:
        passed = False
    return Check(Rule.PURPOSE, passed, None if passed else Reason.PURPOSE_NOT_COVERED)


def _place_and_time(
    policy: Policy, subject: Subject, record: RecordFacts, grant: GrantFacts | None, now: datetime
) -> Check:
    access = policy.access_for(record.level)
    zones = [*([access.zones] if access.zones else []), *([(grant.zone,)] if grant and grant.zone else [])]
    if any(subject.zone not in allowed for allowed in zones):
        return Check(Rule.PLACE_AND_TIME, passed=False, reason=Reason.OUTSIDE_ZONE)
    if access.hours is not None and not access.hours.cover(now):
        return Check(Rule.PLACE_AND_TIME, passed=False, reason=Reason.OUTSIDE_HOURS)
    return Check(Rule.PLACE_AND_TIME, passed=True)


def approvals_needed(policy: Policy, action: Action, level: str) -> list[dict[str, Any]]:
    """The flow that would lead to a grant, as the refusal and the explanation name it."""
    flow = policy.flow_for(action, level)
    if flow is None:
        return []
    stages = [
        {
            "name": stage.name,
            "title": (stage.title or policy.role(stage.approvers[0].role).title).model_dump(),
            "any_of": [{"role": approver.role, "of": approver.of.value} for approver in stage.approvers],
        }
        for stage in flow.stages
    ]
    return [{"action": action.value, "flow": flow.id, "stages": stages}]


def may_change(policy: Policy, subject: Subject, record: RecordFacts, *, in_office: bool) -> Check:
    """Who may write a new version: qualified, cleared, no officer, and one who answers for the record (B7.3.2).

    That is its custodian, who is named for it, and in its unit whoever is there `in_office`: holds a role that changes
    records. A role elsewhere is none here.
    """
    for check in (
        _duty(policy, subject),
        _qualification(policy, subject, Action.VIEW),
        _clearance(policy, subject, record),
    ):
        if not check.passed:
            return check
    relations = _relations(subject, record)
    known = bool(relations - {Relation.UNIT}) or (in_office and Relation.UNIT in relations)
    reason = Reason.NO_NEED_TO_KNOW if may_list(policy, subject, record) else Reason.HIDDEN
    return Check(Rule.NEED_TO_KNOW, known, None if known else reason)


def covered_purposes(policy: Policy, planned: Collection[str], consented: Collection[str]) -> list[str]:
    """The purposes that a record may be used for: what the plan names by contract or law, and what was agreed to."""
    return [name for name in planned if policy.purpose(name).basis is not Basis.CONSENT or name in consented]


def ring_of(level: str, record: UUID, buckets: int) -> str:
    """The key ring of a record: its level, and a bucket by its id's random end."""
    return f"{level}-{record.int % buckets:03d}"
