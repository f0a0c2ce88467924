"""Why the approvals service says no.

Problem
├── Forbidden 403
│   ├── SelfApproval         who asked does not decide (A1.5)
│   ├── SamePerson           who has decided in this round does not decide again
│   ├── NotYourStage         another stage of the case is yours, not this one
│   ├── NotTheRequester      only who asked withdraws
│   ├── NotTheHolder         only the holder gives a grant back
│   └── PersonNeeded         an application without a person asks for nothing
├── Conflict 409
│   ├── RequestClosed        decided, withdrawn, ended
│   ├── StageClosed          another approver, another round or the time limit was quicker
│   ├── TermPassed           the end that was asked for is over: no grant could begin
│   ├── NeededLater          nobody else could decide a later stage
│   ├── RecordUnavailable    the record is not in use
│   └── GrantEnded           revoked, returned, ended
└── Invalid 422
    └── VacantRole           a stage that nobody could decide; names unit and role
"""

from typing import Any
from uuid import UUID

from dossier_common.problems import Conflict, Fault, Forbidden, Invalid, Words


class SelfApproval(Forbidden):
    """Who asks does not decide (三员分立, A1.5)."""

    slug = "self-approval"
    words = Words("申请人不得审批自己的申请", "Who asks does not decide")


class SamePerson(Forbidden):
    """Nobody decides twice in one round, whatever roles and accounts he has (invariant 4)."""

    slug = "same-person"
    words = Words("同一人在同一轮次中不得再次审批", "Nobody decides twice in one round")


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


class PersonNeeded(Forbidden):
    """Requests are made, decided and held by persons (A2.7)."""

    slug = "person-needed"
    words = Words("须由本人办理", "This needs a person")


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
    words = Words("档案当前不可申请", "The record cannot be asked for now")

    def __init__(self, record: UUID, status: str) -> None:
        super().__init__(f"The record is {status}.", record=str(record), state=status)


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
