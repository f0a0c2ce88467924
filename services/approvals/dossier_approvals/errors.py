"""Why the approvals service says no.

Problem
├── Forbidden 403
│   ├── SelfApproval         who asked does not decide (A1.5)
│   ├── SamePerson           (of all services) who has decided in this round does not decide again
│   │   └── SameUser         who used emergency access does not review it
│   ├── NotYourStage         another stage of the case is yours, not this one
│   ├── NotTheRequester      only who asked withdraws
│   ├── NotTheHolder         only the holder gives a grant back
│   ├── NoEmergencyAccess    the policy has none, or not for this level
│   ├── DutyConflict         an officer (三员) asks for content
│   ├── NotQualified         no valid agreement, training or vetting
│   ├── PartnerNotQualified  no valid agreement or assessment of the partner that it is for
│   ├── ClearanceTooLow      the record's level is above the caller's clearance
│   └── PersonNeeded         (of all services) an application without a person asks for nothing
├── Conflict 409
│   ├── RequestClosed        decided, withdrawn, ended
│   ├── StageClosed          another approver, another round or the time limit was quicker
│   ├── TermPassed           the end that was asked for is over: no grant could begin
│   ├── NeededLater          nobody else could decide a later stage
│   ├── RecordUnavailable    the record is not in use
│   ├── EmergencyOpen        the last emergency access to the record waits for its review
│   ├── AlreadyReviewed      there is one review
│   └── GrantEnded           revoked, returned, ended
└── Invalid 422
    └── VacantRole           a stage that nobody could decide; names unit and role
"""

from collections.abc import Collection
from typing import Any
from uuid import UUID

from dossier_common.problems import Conflict, Fault, Forbidden, Invalid, SamePerson, Words


class SelfApproval(Forbidden):
    """Who asks does not decide (三员分立, A1.5)."""

    slug = "self-approval"
    words = Words("申请人不得审批自己的申请", "Who asks does not decide")


class NotYourStage(Forbidden):
    """The caller decides in another stage of this case."""

    slug = "not-your-stage"
    words = Words("该环节不由您处理", "This stage is not yours")


class NotTheRequester(Forbidden):
    """Only who asked takes a request back."""

    slug = "not-the-requester"
    words = Words("仅申请人可以撤回", "Only the requester withdraws")


class NotTheHolder(Forbidden):
    """A grant is given back by its holder and nobody else (A1.5.2.1.2)."""

    slug = "not-the-holder"
    words = Words("仅持有人可以退回", "Only the holder returns a grant")


class NoEmergencyAccess(Forbidden):
    """The policy's section `emergency` is absent, or does not name the record's level."""

    slug = "no-emergency-access"
    words = Words("制度未规定此类应急访问", "The policy has no emergency access for this")


class SameUser(SamePerson):
    """Who used emergency access does not review it, by whichever of his accounts (invariant 4)."""

    words = Words("应急使用人不得复核", "Who used emergency access does not review it")


class DutyConflict(Forbidden):
    """Officers see no content, whatever else they hold (三员分立, A4.34)."""

    slug = "duty-conflict"
    words = Words("职责冲突：三员不得接触客户信息内容", "Officers see no content")


class NotQualified(Forbidden):
    """No access without a valid agreement and a passed training (B2.5.4), in an emergency either."""

    slug = "not-qualified"
    words = Words("未签保密协议或未通过培训", "A qualification is missing or has expired")

    def __init__(self, qualification: str) -> None:
        super().__init__(f"Missing or expired: {qualification}.", qualification=qualification)


class PartnerNotQualified(Forbidden):
    """Nothing is handed to a partner without a valid agreement and assessment, where the flow asks for them (B3.5)."""

    slug = "not-qualified"
    words = Words("合作方未签协议或未通过评估", "The partner lacks a valid agreement or assessment")

    def __init__(self, missing: Collection[str]) -> None:
        super().__init__(f"The partner lacks: {', '.join(sorted(missing))}.", missing=sorted(missing))


class ClearanceTooLow(Forbidden):
    """The record's level is above the caller's clearance."""

    slug = "clearance-too-low"
    words = Words("涉密等级不足", "The clearance is too low")

    def __init__(self, level: str) -> None:
        super().__init__(f"The record's level is {level}.", level=level)


class RequestClosed(Conflict):
    """The request is open no more."""

    slug = "request-closed"
    words = Words("申请已结束", "The request is closed")

    def __init__(self, state: str) -> None:
        super().__init__(f"The request is {state}.", state=state)


class StageClosed(Conflict):
    """This stage of this round is decided, or its time is over."""

    slug = "stage-closed"
    words = Words("该环节已结束", "The stage is closed")

    def __init__(self, state: str) -> None:
        super().__init__(f"The stage is {state}.", state=state)


class TermPassed(Conflict):
    """A grant would end before it begins."""

    slug = "term-passed"
    words = Words("申请的使用期限已过", "The term that was asked for is over")


class NeededLater(Conflict):
    """If the caller decided here, nobody would be left who may decide a later stage."""

    slug = "needed-for-later-stage"
    words = Words("后续环节只能由您审批", "A later stage could be decided by nobody else")

    def __init__(self, stage: str) -> None:
        super().__init__(f"Let another approver decide here: the stage {stage} needs you.", stage=stage)


class RecordUnavailable(Conflict):
    """Only a record that is active or ended can be asked for."""

    slug = "record-unavailable"
    words = Words("档案不在使用状态，不可申请", "The record is not in use")

    def __init__(self, record: UUID, status: str) -> None:
        super().__init__(f"The record is {status}.", record=str(record), state=status)


class EmergencyOpen(Conflict):
    """Nobody takes emergency access to a record again before the last was reviewed."""

    slug = "emergency-open"
    words = Words("上一次应急访问尚未复核", "The last emergency access waits for its review")


class AlreadyReviewed(Conflict):
    """An emergency access is reviewed once."""

    slug = "already-reviewed"
    words = Words("应急访问已复核", "The emergency access is reviewed already")

    def __init__(self) -> None:
        super().__init__("Another reviewer was quicker.", state="reviewed")


class GrantEnded(Conflict):
    """The grant has ended already."""

    slug = "grant-ended"
    words = Words("授权已终止", "The grant has ended")

    def __init__(self, state: str) -> None:
        super().__init__(f"The grant is {state}.", state=state)


class VacantRole(Invalid):
    """Nobody could decide this stage: shown with unit and role, never skipped."""

    slug = "vacant-role"
    words = Words("审批岗位无人可以审批", "Nobody can decide this stage")

    def __init__(self, stage: str, role: str, unit: UUID | None) -> None:
        where = f" in unit {unit} or above" if unit else ""
        members: dict[str, Any] = {"stage": stage, "role": role, "unit": str(unit) if unit else None}
        super().__init__(
            f"The stage {stage} needs a {role}{where} who is neither the requester nor needed in another stage.",
            **members,
        )


def invalid(pointer: str, code: str, detail: str) -> Invalid:
    """One fault in the body."""
    return Invalid(errors=[Fault(pointer=pointer, code=code, detail=detail)])
