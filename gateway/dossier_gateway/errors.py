"""Problems of the gateway.

Problem
├── Forbidden 403
│   ├── SelfManagement       nobody manages his own accounts
│   ├── SelfApproval         who asks does not decide
│   └── AuthorisationRequired  the policy wants another person's word first
├── Conflict 409
│   ├── DutyConflict         names both sides (三员分立)
│   ├── LastOfficer          an office of the three would have nobody
│   └── Taken
└── Invalid 422
    ├── UnknownReference
    ├── WeakPassword
    └── WrongPassword
"""

from collections.abc import Collection, Sequence

from dossier_common.policy import MaintenanceRule, Policy
from dossier_common.problems import Conflict, Fault, Forbidden, Invalid, Words
from dossier_common.scopes import Scope


class SelfManagement(Forbidden):
    """Nobody gives rights to an account of himself, or takes them (invariant 4)."""

    slug = "same-person"
    words = Words("不得管理本人账号", "Nobody manages his own accounts")


class SelfApproval(Forbidden):
    """Who asks for an authorisation does not decide it, by whichever of his accounts (invariant 4)."""

    slug = "self-approval"
    words = Words("不得审批本人的申请", "Nobody decides what he asked for himself")


class AuthorisationRequired(Forbidden):
    """The policy wants another person to authorise this operation first; the detail says what is missing."""

    slug = "authorisation-required"
    words = Words("该操作需事先授权", "This operation needs an authorisation")

    def __init__(self, rule: MaintenanceRule, deciders: Sequence[Scope], detail: str) -> None:
        super().__init__(
            detail,
            operation=rule.operation.value,
            rule={"id": rule.id, "title": rule.title.model_dump()},
            authorised_by=rule.authorised_by.value,
            deciders=list(map(str, deciders)),
            ask="POST /v1/authorisations",
        )


class DutyConflict(Conflict):
    """One person, or one application, would hold what nobody may hold together (invariant 4, A4.34).

    A policy that would allow it is refused by the same name.
    """

    slug = "duty-conflict"
    words = Words("职责冲突", "Conflicting duties")

    @classmethod
    def between(
        cls, policy: Policy, scopes: Collection[str], held: Collection[str], wanted: Collection[str]
    ) -> "DutyConflict":
        """Names each set that these scopes break, with those on its sides; held and wanted are roles, or scopes."""
        return cls(
            "These may not be held together.",
            conflicts=[
                {
                    "id": each.id,
                    "title": each.title.model_dump(),
                    "between": [list(side) for side in each.between],
                    "sides": policy.sides_of(each.id, scopes),
                }
                for each in policy.conflicts_in(scopes)
            ],
            held=sorted(held),
            wanted=sorted(wanted),
        )


class LastOfficer(Conflict):
    """Nobody else holds an office of the three: without a holder, another could never be appointed (A1.5)."""

    slug = "last-officer"
    words = Words("该安全岗位将无人任职", "An office would have nobody")

    def __init__(self, roles: list[str]) -> None:
        super().__init__("Appoint another person first.", roles=roles)


class Taken(Conflict):
    """A name that is in use."""

    slug = "conflict"


class UnknownReference(Invalid):
    """A field names something that there is not."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(errors=[Fault(pointer=f"/body/{field}", code="unknown", detail=detail)])


class WeakPassword(Invalid):
    """The policy's rules for passwords refuse it (A6.3.2, C2.3.3)."""

    def __init__(self, faults: list[tuple[str, str]], pointer: str = "/body/password") -> None:
        super().__init__(errors=[Fault(pointer=pointer, code=code, detail=text) for code, text in faults])
        self.codes = tuple(code for code, _ in faults)


class WrongPassword(Invalid):
    """The present password that was given is not the account's, or the account is locked; counted as a sign-in is."""

    def __init__(self) -> None:
        wrong = "The password is wrong, or the account is locked for a while."
        super().__init__(errors=[Fault(pointer="/body/password", code="wrong", detail=wrong)])
