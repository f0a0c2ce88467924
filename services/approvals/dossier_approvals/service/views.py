"""What people see of requests and tasks; free text is opened for those alone who take part."""

from typing import Any
from uuid import UUID

import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from dossier_approvals import repository
from dossier_approvals.emergency_rules import FLOW
from dossier_approvals.models import Decision, Request, RequestStage
from dossier_approvals.repository import Loaded
from dossier_approvals.rules import StepState
from dossier_approvals.schemas import RequestShown, RequestSummary, Task
from dossier_common.identity import Subject
from dossier_common.problems import Hidden, NotFound
from dossier_common.texts import SealedTexts


async def show_request(session: AsyncSession, texts: SealedTexts, request_id: UUID, by: Subject) -> RequestShown:
    """The request, to its requester and its candidates. Raises NotFound; Hidden for everybody else."""
    request = await repository.request(session, request_id)
    if request is None:
        raise NotFound
    if by.person is None or not await repository.takes_part(session, request_id, by.person):
        raise Hidden
    loaded = await repository.loaded(session, request)
    grant = await repository.grant_of(session, request.id)
    return RequestShown.model_validate(
        _summary(request)
        | opened(texts, request)
        | {
            "requester_account": request.requester_account,
            "records": [record.record for record in loaded.records],
            "fields": request.fields,
            "not_before": request.not_before,
            "until": request.until,
            "uses": request.uses,
            "recipient": request.recipient,
            "policy": request.policy,
            "grant": grant,
            "stages": [_stage(texts, loaded, stage) for stage in loaded.stages],
        }
    )


async def list_requests(session: AsyncSession, by: Subject, *, limit: int, before: UUID | None) -> list[RequestSummary]:
    """A page of the caller's own requests and those he may decide; one more than the limit for a next page."""
    if by.person is None:
        return []
    found = await repository.requests_of(session, by.person, limit=limit + 1, before=before)
    return [RequestSummary.model_validate(_summary(request)) for request in found]


async def list_tasks(
    session: AsyncSession, texts: SealedTexts, by: Subject, *, limit: int, after: UUID | None
) -> list[Task]:
    """A page of the open stages that wait for the caller; one more than the limit for a next page."""
    if by.person is None:
        return []
    found = await repository.tasks_of(session, by.person, limit=limit + 1, after=after)
    records = await repository.records_of(session, {request.id for _, _, request in found})
    return [
        Task.model_validate(
            opened(texts, request)
            | {
                "id": step.id,
                "request": request.id,
                "emergency": request.id if request.flow == FLOW else None,
                "action": request.action,
                "stage": stage.name,
                "title": stage.title,
                "doing": stage.doing,
                "records": records[request.id],
                "purpose": request.purpose,
                "requester_person": request.requester_person,
                "round": step.round,
                "disposal": request.disposal,
                "opened_at": step.opened_at,
                "due_at": step.due_at,
            }
        )
        for step, stage, request in found
    ]


def _summary(request: Request) -> dict[str, Any]:
    return {name: getattr(request, name) for name in RequestSummary.model_fields}


def opened(texts: SealedTexts, request: Request) -> dict[str, Any]:
    """The free texts of a request; without any for one that retention opened."""
    if request.texts is None:
        return {"reason": "", "requester_profile": {}}
    found = orjson.loads(texts.open(request.texts))
    return {"reason": found["reason"], "requester_profile": found["profile"]}


def _stage(texts: SealedTexts, loaded: Loaded, stage: RequestStage) -> dict[str, Any]:
    present = [s for s in loaded.steps if s.position == stage.position and s.round == loaded.request.round]
    skipped = [s for s in loaded.steps if s.position == stage.position and stage.position < loaded.request.position]
    step = present[-1] if present else (skipped[-1] if skipped else None)
    return {
        "name": stage.name,
        "title": stage.title,
        "role": stage.offices[0]["role"],
        "unit": stage.offices[0]["unit"],
        "offices": stage.offices,
        "candidates": len(loaded.persons(stage.position)),
        "needed": stage.needed,
        "doing": stage.doing,
        "time_limit": stage.time_limit,
        "state": step.state if step else StepState.WAITING,
        "due_at": step.due_at if step else None,
        "vacant_since": stage.vacant_since,
        "decisions": [_decision(texts, each) for each in loaded.decisions if each.position == stage.position],
    }


def _decision(texts: SealedTexts, decision: Decision) -> dict[str, Any]:
    return {
        "round": decision.round,
        "person": decision.person,
        "verdict": decision.verdict,
        "comment": texts.open(decision.comment) if decision.comment else "",
        "at": decision.at,
    }
