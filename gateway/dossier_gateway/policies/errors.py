"""Why a version of the policy is refused.

Problem
├── Forbidden 403
│   ├── SamePerson         who proposes does not approve
│   └── PersonNeeded       an application without a person proposes and approves nothing
├── Conflict 409
│   ├── DutiesMeet         one person could hold what nobody may; names roles and numbers, not persons
│   ├── VersionKnown       a version that means the same is there
│   └── VersionDecided     it is decided, or in force
└── Invalid 422
    └── FaultyPack         all that is wrong with the text
"""

from collections.abc import Sequence
from typing import Any

from dossier_common.policy import Fault as PackFault
from dossier_common.problems import Conflict, Fault, Forbidden, Invalid, Words


class SamePerson(Forbidden):
    """Who proposes a policy does not approve it, by whichever of his accounts (invariant 4)."""

    slug = "same-person"
    words = Words("制度提出人不得批准", "Who proposes a policy does not approve it")


class PersonNeeded(Forbidden):
    """Policies are proposed and approved by persons."""

    slug = "person-needed"
    words = Words("须由本人办理", "This needs a person")


class DutiesMeet(Conflict):
    """The policy would let one person hold what nobody may hold together (invariant 4, A4.34)."""

    slug = "duty-conflict"
    words = Words("职责冲突", "Conflicting duties")


class VersionKnown(Conflict):
    """There is a version with this digest, so it means the same."""

    slug = "version-known"
    words = Words("该制度版本已存在", "This version of the policy is known")

    def __init__(self, digest: str, state: str) -> None:
        super().__init__(f"The version is {state}.", digest=digest, state=state)


class VersionDecided(Conflict):
    """Only a version that was proposed and not yet decided can be."""

    slug = "already-decided"
    words = Words("该制度版本已决定", "The version is decided already")

    def __init__(self, state: str) -> None:
        super().__init__(f"The version is {state}.", state=state)


class FaultyPack(Invalid):
    """The text is no policy that may be used."""


def refused(faults: Sequence[PackFault]) -> DutiesMeet | FaultyPack:
    """The problem of a pack with these faults, all of them named; duties that meet give it its name."""
    errors = [
        Fault(pointer="/body/text", code="duty-conflict" if each.duty else "policy", detail=str(each))
        for each in faults
    ]
    findings: list[dict[str, Any]] = [
        {"file": each.file, "line": each.line, "key": each.key, "message": each.message} for each in faults
    ]
    if any(each.duty for each in faults):
        return DutiesMeet("One person could hold two duties.", errors=errors, findings=findings)
    return FaultyPack(errors=errors, findings=findings)
