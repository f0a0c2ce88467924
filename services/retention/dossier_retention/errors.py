"""Why the retention service says no.

Problem
├── Forbidden 403
│   ├── SamePerson           (of all services) proposer, approvers, executor, witness; placer and releaser
│   ├── AnotherOffice        the pack names another office for this
│   └── PersonNeeded         (of all services) an application without a person neither holds nor disposes
├── NotFound 404
│   ├── RecordUnknown        and RecordHidden: it is there, in a unit in which the caller has no such office
│   ├── HoldUnknown          and HoldHidden
│   ├── DisposalUnknown      and DisposalHidden
│   └── CertificateUnknown   and CertificateHidden
├── Conflict 409
│   ├── NotDue               the term runs, or has not begun
│   ├── Held
│   ├── OutstandingCopies
│   ├── DisposalOpen         a case over this record is open already
│   ├── DestructionUnderWay  the first key was turned: no new hold
│   ├── RecordDestroyed
│   ├── HoldReleased
│   ├── WrongState           the case is in a state that does not allow it; `state` says which
│   ├── GrantEnded           the approval of the case has run out
│   └── RuleGone             the policy has no such retention rule any more
└── Invalid 422
    └── MethodNotAllowed     the pack names other methods
"""

from collections.abc import Iterable
from datetime import date
from typing import Any

from dossier_common.problems import Conflict, Fault, Forbidden, Hidden, Invalid, NotFound, Words


class AnotherOffice(Forbidden):
    """The pack's rule names the office that executes, and the one that witnesses (A1.5.2.2.3)."""

    slug = "another-office"
    words = Words("该职责由其他岗位承担", "Another office does this")

    def __init__(self, role: str) -> None:
        super().__init__(f"The policy names the role {role} in the unit of the record, or above it.", role=role)


class RecordUnknown(NotFound):
    """No record with this id was registered."""

    words = Words("没有该客户档案", "No such record")


class RecordHidden(RecordUnknown, Hidden):
    """The record of a unit that the caller's office does not reach: answered as an unknown one, and on record."""


class HoldUnknown(NotFound):
    """No hold with this id."""

    words = Words("没有该法律保留", "No such hold")


class HoldHidden(HoldUnknown, Hidden):
    """A hold on such a record."""


class DisposalUnknown(NotFound):
    """No disposal with this id."""

    words = Words("没有该处置事项", "No such disposal")


class DisposalHidden(DisposalUnknown, Hidden):
    """A disposal of such a record."""


class CertificateUnknown(NotFound):
    """No certificate with this id."""

    words = Words("没有该销毁证明", "No such certificate")


class CertificateHidden(CertificateUnknown, Hidden):
    """The certificate of such a record."""


class NotDue(Conflict):
    """What was promised to the customer is a minimum: nothing is disposed of before (A4.26)."""

    slug = "not-due"
    words = Words("未到保存期限", "The retention term is not over")

    def __init__(self, due_on: date | None) -> None:
        members: dict[str, Any] = {"due_on": due_on.isoformat()} if due_on else {}
        super().__init__("The term runs." if due_on else "The term has not begun.", **members)


class Held(Conflict):
    """A hold freezes disposal until someone else lifts it."""

    slug = "held"
    words = Words("档案处于法律保留", "The record is held")


class OutstandingCopies(Conflict):
    """Copies are out that would outlive the record (A3.4.2.3)."""

    slug = "outstanding-copies"
    words = Words("尚有副本未收回", "Copies are outstanding")

    def __init__(self, numbers: Iterable[str]) -> None:
        copies = list(numbers)
        super().__init__(f"{len(copies)} controlled copies are neither returned nor destroyed.", copies=copies)


class DisposalOpen(Conflict):
    """One case at a time over a record."""

    slug = "disposal-open"
    words = Words("该档案已有未结处置事项", "A disposal of this record is open")


class DestructionUnderWay(Conflict):
    """The first key was turned: a hold would come too late."""

    slug = "destruction-under-way"
    words = Words("销毁正在执行，不能再设保留", "Destruction is under way")


class RecordDestroyed(Conflict):
    """There is nothing left to hold or to dispose of."""

    slug = "record-destroyed"
    words = Words("档案已销毁", "The record is destroyed")


class HoldReleased(Conflict):
    """The hold was lifted before."""

    slug = "hold-released"
    words = Words("该法律保留已解除", "The hold is released")


class WrongState(Conflict):
    """The case is in a state that does not allow this step."""

    slug = "wrong-state"
    words = Words("当前状态不允许此操作", "The case is in another state")

    def __init__(self, state: str) -> None:
        super().__init__(f"The disposal is {state}.", state=state)


class GrantEnded(Conflict):
    """The approval of this case has run out: it has to be proposed anew."""

    slug = "grant-ended"
    words = Words("批准已过期", "The approval has run out")


class RuleGone(Conflict):
    """The policy that is in force does not have the rule that the case was opened under."""

    slug = "rule-gone"
    words = Words("现行制度中已无该保存规则", "The policy has this retention rule no more")


class MethodNotAllowed(Invalid):
    """The pack names the method for each medium (A8.25, D.4.4)."""

    words = Words("不允许的销毁方式", "Not a method that the policy allows")

    def __init__(self, allowed: Iterable[str]) -> None:
        detail = "The policy allows: " + ", ".join(sorted(allowed))
        super().__init__(errors=[Fault(pointer="/body/method", code="method-not-allowed", detail=detail)])
