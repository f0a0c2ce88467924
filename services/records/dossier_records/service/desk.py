"""What every use case of this service works with, and how faults of input are named."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common.clock import Clock
from dossier_common.identity import Subject
from dossier_common.policy import Form, Policy, UnknownNameError
from dossier_common.problems import Fault, Invalid
from dossier_common.reach import reaches
from dossier_common.scopes import Scope
from dossier_records import errors, faults
from dossier_records.vault import Vault


@dataclass(frozen=True, slots=True)
class Desk:
    """What every use case of this service works with."""

    policy: Policy
    vault: Vault
    clock: Clock


async def ensure_office(session: AsyncSession, desk: Desk, actor: Subject, scope: Scope, unit: UUID) -> None:
    """Who puts something into a unit holds a role with this scope in it, or above it. Raises AnotherUnit."""
    if not await reaches(session, desk.policy, actor, scope, unit):
        raise errors.AnotherUnit


def known(lookup: Any, name: str) -> bool:
    """Whether the policy has this name."""
    try:
        lookup(name)
    except UnknownNameError:
        return False
    return True


def faults_of(found: Sequence[faults.Fault]) -> list[Fault]:
    """The refusing faults, with pointers into the body; never with the value."""
    return [
        Fault(pointer=f"/fields/{fault.field}", code=fault.code.value, detail=f"{fault.title.zh} · {fault.title.en}")
        for fault in found
        if fault.severity is faults.Severity.ERROR
    ]


def form_of(policy: Policy, customer_type: str) -> Form:
    """The form of a customer type. Raises Invalid."""
    try:
        return policy.form_for(customer_type)
    except UnknownNameError as error:
        fault = Fault(pointer="/customer_type", code="unknown-name", detail="The policy has no such name.")
        raise Invalid(errors=[fault]) from error
