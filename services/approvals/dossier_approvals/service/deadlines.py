"""Time limits: a stage that is not decided in time is escalated or expires. It is never approved by that."""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from dossier_approvals import repository
from dossier_approvals.models import RequestStage, Step
from dossier_approvals.repository import Loaded
from dossier_approvals.rules import StepState
from dossier_approvals.service import cases, vacancies
from dossier_approvals.service.offices import Place, office_of
from dossier_common import outbox
from dossier_common.contracts.approvals import StepEscalated
from dossier_common.policy import Approver, OnTimeout, UnitExpression
from dossier_common.problems import Invalid


async def enforce_time_limit(session: AsyncSession, now: datetime) -> bool:
    """Escalates or expires one overdue step; False when there is none (or another worker has it)."""
    request = await repository.overdue_request(session, now)
    if request is None:
        return False
    loaded = await repository.loaded(session, request)
    step = loaded.open_step()
    stage = loaded.stages[step.position]
    asked_for = request.until is None or now < request.until
    if asked_for and stage.on_timeout == OnTimeout.ESCALATE and step.escalated_at is None:
        added = await _escalate(session, loaded, stage, step, now)
        if added:
            return True
    await cases.reject(session, loaded, StepState.EXPIRED, by=None, now=now)
    return True


async def _escalate(session: AsyncSession, loaded: Loaded, stage: RequestStage, step: Step, now: datetime) -> bool:
    """Adds the holders of the office that the stage escalates to; False when there is nobody new."""
    request = loaded.request
    if stage.escalate_role is None or stage.escalate_of is None:
        return False
    approver = Approver(role=stage.escalate_role, of=UnitExpression(stage.escalate_of))
    place = Place(request.requester_unit, tuple(dict.fromkeys(record.unit for record in loaded.records)), now)
    try:
        holders = await office_of(session, approver, place) or []
    except Invalid:  # the records lead to different offices: nobody can decide for all of them
        return False
    known = loaded.persons(stage.position) | {request.requester_person}
    new = [holder for holder in holders if holder.person not in known]
    if not new:
        return False
    rows = [
        {
            "request": request.id,
            "position": stage.position,
            "account": holder.account,
            "person": holder.person,
            "escalated": True,
        }
        for holder in new
    ]
    await repository.add_candidates(session, rows)
    await repository.extend_step(session, step.id, now, cases.due_at(stage.time_limit, request.until, now))
    persons = tuple(sorted({holder.person for holder in new}))
    escalated = StepEscalated(request=request.id, round=step.round, stage=stage.name, added_persons=persons)
    await outbox.add(session, escalated, by=None, at=now)
    await vacancies.notice(session, request, now)
    return True
