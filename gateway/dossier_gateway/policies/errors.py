"""Why a version of the policy is refused.

Problem
├── Forbidden 403
│   ├── SamePerson         (of all services) who proposes does not approve
│   └── PersonNeeded       (of all services) an application without a person proposes and approves nothing
├── Conflict 409
│   ├── DutyConflict       (of the gateway) one person could hold what nobody may; names roles and numbers, not persons
│   ├── VersionKnown       a version that means the same is there
│   └── VersionDecided     it is decided, or in force
└── Invalid 422
    └── FaultyPack         all that is wrong with the text
"""

from collections.abc import Sequence
from typing import Any

from dossier_common.policy import Fault as PackFault
from dossier_common.problems import Conflict, Fault, Invalid, Words
from dossier_gateway.errors import DutyConflict


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


def refused(faults: Sequence[PackFault]) -> DutyConflict | FaultyPack:
    """The problem of a pack with these faults, all of them named; duties that meet give it its name."""
    errors = [
        Fault(pointer="/body/text", code="duty-conflict" if each.duty else "policy", detail=str(each))
        for each in faults
    ]
    findings: list[dict[str, Any]] = [
        {"file": each.file, "line": each.line, "key": each.key, "message": each.message} for each in faults
    ]
    if any(each.duty for each in faults):
        return DutyConflict("One person could hold two duties.", errors=errors, findings=findings)
    return FaultyPack(errors=errors, findings=findings)
