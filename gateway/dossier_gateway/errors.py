"""Problems of the gateway.

Problem
├── Forbidden 403
│   └── SelfManagement       nobody manages his own accounts
├── Conflict 409
│   ├── DutyConflict         names both sides (三员分立)
│   └── Taken
└── Invalid 422
    ├── UnknownReference
    └── WeakPassword
"""

from dossier_common.policy import Conflict as Duties
from dossier_common.problems import Conflict, Fault, Forbidden, Invalid, Words


class SelfManagement(Forbidden):
    """Nobody gives rights to an account of himself, or takes them (invariant 4)."""

    slug = "same-person"
    words = Words("不得管理本人账号", "Nobody manages his own accounts")


class DutyConflict(Conflict):
    """One person would hold what nobody may hold together (invariant 4, A4.34)."""

    slug = "duty-conflict"
    words = Words("职责冲突", "Conflicting duties")

    def __init__(self, conflicts: list[Duties], held: list[str], wanted: list[str]) -> None:
        super().__init__(
            "These may not be held together.",
            conflicts=[
                {"id": each.id, "title": each.title.model_dump(), "between": [list(side) for side in each.between]}
                for each in conflicts
            ],
            held=held,
            wanted=wanted,
        )


class Taken(Conflict):
    """A name that is in use."""

    slug = "conflict"


class UnknownReference(Invalid):
    """A field names something that there is not."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(errors=[Fault(pointer=f"/body/{field}", code="unknown", detail=detail)])


class WeakPassword(Invalid):
    """The policy's rules for passwords refuse it (A6.3.2, C2.3.3)."""

    def __init__(self, faults: list[tuple[str, str]]) -> None:
        super().__init__(errors=[Fault(pointer="/body/password", code=code, detail=text) for code, text in faults])
