"""Collection plans: what is collected of whom, and what for (E.采集流程)."""

from datetime import date
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common import directory, outbox
from dossier_common.contracts.records import PlanCreated
from dossier_common.identity import Subject
from dossier_common.ids import new_id
from dossier_common.problems import Fault, Invalid
from dossier_common.scopes import Scope
from dossier_records import custody_repository, errors, repository, schemas
from dossier_records.models import Plan
from dossier_records.service.desk import Desk, ensure_office, known


async def create_plan(session: AsyncSession, desk: Desk, new: schemas.NewPlan, actor: Subject) -> Plan:
    """A plan takes effect. Raises Invalid for names that the pack does not know, AnotherUnit."""
    await _ensure_unit(session, new.unit)
    await ensure_office(session, desk, actor, Scope.PLANS_MANAGE, new.unit)
    unknown = [
        Fault(pointer=f"/{section}/{place}", code="unknown-name", detail="The policy has no such name.")
        for section, names, lookup in (
            ("purposes", new.purposes, desk.policy.purpose),
            ("fields", new.fields, desk.policy.field),
            ("customer_types", new.customer_types, desk.policy.customer_type),
        )
        for place, name in enumerate(names)
        if not known(lookup, name)
    ]
    if unknown:
        raise Invalid(errors=unknown)
    plan = Plan(**new.model_dump(), id=new_id(), created_by=actor.account, created_at=desk.clock.now())
    await repository.add(session, plan)
    event = PlanCreated(plan=plan.id, unit=plan.unit, purposes=tuple(plan.purposes))
    await outbox.add(session, event, by=actor, at=desk.clock.now())
    return plan


async def usable_plan(session: AsyncSession, plan_id: UUID, today: date) -> Plan:
    """The plan, while it is open. Raises Invalid, PlanClosed."""
    plan = await repository.plan(session, plan_id)
    if plan is None:
        raise Invalid(errors=[Fault(pointer="/plan", code="unknown", detail="There is no such collection plan.")])
    if plan.until is not None and plan.until < today:
        raise errors.PlanClosed(f"It ended on {plan.until}.")
    return plan


async def _ensure_unit(session: AsyncSession, unit: UUID) -> None:
    if not await directory.path_to_root(session, unit):
        raise Invalid(errors=[Fault(pointer="/unit", code="unknown", detail="There is no such unit.")])


async def ensure_custodian(session: AsyncSession, unit: UUID, custodian: UUID) -> None:
    """A record without a custodian is refused (A2.3, A8.22), and one who has left. Raises Invalid.

    While this transaction lasts, no list of what he had is closed (see `handing_over`).
    """
    await _ensure_unit(session, unit)
    if not await directory.knows_person(session, custodian):
        raise Invalid(errors=[Fault(pointer="/custodian", code="unknown", detail="There is no such person.")])
    await custody_repository.hold_custodian(session, custodian)
    leaving = await custody_repository.leaving(session, custodian)
    if leaving is not None:
        detail = "The person has left." if leaving == "left" else "The person moves; his records are being handed over."
        raise Invalid(errors=[Fault(pointer="/custodian", code=leaving, detail=detail)])
