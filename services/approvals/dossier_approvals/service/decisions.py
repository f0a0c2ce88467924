"""Deciding: a verdict on a task, and what it does to the case."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from dossier_approvals import repository, rules
from dossier_approvals.errors import StageClosed
from dossier_approvals.models import Step
from dossier_approvals.repository import Loaded
from dossier_approvals.rules import Move, RequestState, StepState, Verdict
from dossier_approvals.service import cases, recipients, vacancies
from dossier_common import outbox
from dossier_common.contracts.approvals import RequestReturned, StepDecided
from dossier_common.identity import Subject
from dossier_common.policy import OnTimeout
from dossier_common.problems import Hidden, NotFound, SamePerson
from dossier_common.texts import SealedTexts


async def decide_task(
    session: AsyncSession, texts: SealedTexts, step_id: UUID, verdict: Verdict, comment: str, by: Subject, now: datetime
) -> UUID:
    """Counts the caller's verdict; with the last one that is needed the grant is there. Returns the request's id.

    Decisions on one request come one at a time. Raises NotFound, Hidden, SelfApproval (A1.5), SamePerson,
    NotYourStage, RequestClosed, StageClosed, NeededLater, TermPassed, PartnerNotQualified, Invalid.
    """
    account, person = cases.person_of(by)
    known = await repository.step(session, step_id)
    if known is None:
        raise NotFound
    request = await repository.request(session, known.request, lock=True)
    if request is None:
        raise NotFound
    if not await repository.takes_part(session, request.id, person):
        raise Hidden
    loaded = await repository.loaded(session, request)
    step = next(each for each in loaded.steps if each.id == step_id)
    case = cases.case_of(loaded)
    voters = {decision.person for decision in loaded.decisions if decision.round == step.round}
    rules.ensure_may_decide(case, person, step.round, step.position, voters)
    _ensure_in_time(loaded, step, now)
    after, move = rules.decide(case, person, verdict)
    if not await repository.join_round(session, request.id, step.round, person, "decider"):
        raise SamePerson
    decision = {
        "request": request.id,
        "round": step.round,
        "person": person,
        "account": account,
        "step": step.id,
        "position": step.position,
        "verdict": verdict.value,
        "comment": texts.seal(comment) if comment else None,
        "at": now,
    }
    await repository.add_decision(session, decision)
    decided = StepDecided(
        request=request.id,
        round=step.round,
        stage=loaded.stages[step.position].name,
        verdict=verdict.value,
        decider_account=account,
        decider_person=person,
        records=tuple(each.record for each in loaded.records),
    )
    await outbox.add(session, decided, by=by, at=now)
    await _move(session, loaded, after, move, by, now)
    return request.id


def _ensure_in_time(loaded: Loaded, step: Step, now: datetime) -> None:
    """The time limit holds before the worker has come by; a stage that will be escalated can still be decided."""
    if step.due_at is None or now < step.due_at:
        return
    stage, until = loaded.stages[step.position], loaded.request.until
    may_escalate = stage.on_timeout == OnTimeout.ESCALATE and step.escalated_at is None
    if not may_escalate or (until is not None and now >= until):
        raise StageClosed(StepState.EXPIRED)


async def _move(
    session: AsyncSession, loaded: Loaded, after: rules.Case, move: Move, by: Subject, now: datetime
) -> None:
    request, step = loaded.request, loaded.open_step()
    stage = loaded.stages[step.position]
    passed = StepState.DONE if stage.doing else StepState.APPROVED
    match move:
        case Move.WAIT:
            return
        case Move.REJECT:
            await cases.reject(session, loaded, StepState.REJECTED, by=by, now=now)
        case Move.GRANT:
            await recipients.ensure_qualified(session, request.recipient, request.recipient_needs, now)
            await cases.close_request(session, request, step, (RequestState.GRANTED, passed), now)
            await cases.issue_grant(session, loaded, by=by, last=_last(by), now=now)
        case Move.ADVANCE | Move.RETURN:
            closed = StepState.RETURNED if move is Move.RETURN else passed
            await repository.close_step(session, step.id, closed.value, now)
            request.round, request.position = after.round, after.position
            await session.flush()
            if move is Move.RETURN:
                await repository.join_round(session, request.id, after.round, request.requester_person, "requester")
                returned = RequestReturned(request=request.id, round=after.round, stage=stage.name)
                await outbox.add(session, returned, by=by, at=now)
            await cases.open_step(session, request, loaded.stages[after.position].time_limit, now)
            if move is Move.RETURN:
                await vacancies.notice(session, request, now)


def _last(by: Subject) -> UUID:
    return cases.person_of(by)[1]
