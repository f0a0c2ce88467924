"""Between the tables and the rules: the case of a request, and the steps that its moves open and close."""

from datetime import datetime
from typing import cast
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from dossier_approvals import repository, rules
from dossier_approvals.models import Request, Step
from dossier_approvals.repository import Loaded
from dossier_approvals.rules import Case, RequestState, StepState, Verdict, Vote
from dossier_common import outbox
from dossier_common.contracts.approvals import GrantIssued, RequestRejected
from dossier_common.identity import Subject
from dossier_common.ids import new_id
from dossier_common.policy import GrantTerms, Period
from dossier_common.problems import PersonNeeded


def person_of(by: Subject) -> tuple[UUID, UUID]:
    """Account and person of the caller. Raises PersonNeeded for an application that acts for itself."""
    if by.account is None or by.person is None:
        raise PersonNeeded("An application without a person cannot do this.")
    return by.account, by.person


def case_of(loaded: Loaded) -> Case:
    """The request as its rules see it."""
    request = loaded.request
    votes = [d for d in loaded.decisions if d.round == request.round]
    return Case(
        requester=request.requester_person,
        stages=tuple(
            rules.Stage(
                name=stage.name,
                persons=loaded.persons(stage.position) - {request.requester_person},
                needed=stage.needed,
                quorum=cast("rules.Quorum", stage.quorum),
                doing=stage.doing is not None,
                return_to=stage.return_to,
            )
            for stage in loaded.stages
        ),
        state=RequestState(request.state),
        round=request.round,
        position=request.position,
        votes=tuple(Vote(d.person, d.position, Verdict(d.verdict)) for d in votes),
    )


async def open_step(session: AsyncSession, request: Request, time_limit: str | None, now: datetime) -> None:
    """The stage at the request's position begins to wait; a request ends with the term that was asked for."""
    await repository.add_step(
        session,
        {
            "id": new_id(),
            "request": request.id,
            "round": request.round,
            "position": request.position,
            "opened_at": now,
            "due_at": due_at(time_limit, request.until, now),
        },
    )


def due_at(time_limit: str | None, until: datetime | None, now: datetime) -> datetime | None:
    """When a step has to be decided: its time limit, but not after the end of the term that was asked for."""
    ends = [Period.parse(time_limit).after(now)] if time_limit else []
    if until is not None:
        ends.append(until)
    return min(ends, default=None)


async def close_request(
    session: AsyncSession, request: Request, step: Step, ended: tuple[RequestState, StepState], now: datetime
) -> None:
    """The request ends, and with it the step that was open."""
    request.state, request.ended_at = ended[0].value, now
    await repository.close_step(session, step.id, ended[1].value, now)
    await session.flush()


async def reject(
    session: AsyncSession, loaded: Loaded, step_state: StepState, *, by: Subject | None, now: datetime
) -> None:
    """The request ends without a grant, by a verdict, by the time limit, or because its record is gone."""
    request = loaded.request
    await close_request(session, request, loaded.open_step(), (RequestState.REJECTED, step_state), now)
    stage = loaded.stages[request.position].name
    rejected = RequestRejected(request=request.id, stage=stage, disposal=request.disposal)
    await outbox.add(session, rejected, by=by, at=now)


async def issue_grant(session: AsyncSession, loaded: Loaded, last: UUID, *, by: Subject, now: datetime) -> None:
    """The grant that all stages approved, with its event in the same transaction. Raises TermPassed."""
    request = loaded.request
    wish = rules.Wish(
        action=request.action,
        records=tuple(record.record for record in loaded.records),
        not_before=request.not_before,
        until=request.until,
        uses=request.uses,
    )
    terms = rules.terms_of(GrantTerms.model_validate(request.limits), wish, now)
    issued = GrantIssued(
        grant=new_id(),
        request=request.id,
        action=request.action,
        records=wish.records,
        fields=tuple(request.fields),
        purpose=request.purpose,
        not_before=terms.not_before,
        until=terms.until,
        uses=terms.uses,
        conditions=terms.conditions,
        holder_account=request.requester_account,
        holder_person=request.requester_person,
        persons=rules.persons_of(request.requester_person, [*(d.person for d in loaded.decisions), last]),
        disposal=request.disposal,
        policy=request.policy,
    )
    await keep_grant(session, issued, now)
    await outbox.add(session, issued, by=by, at=now)


async def keep_grant(session: AsyncSession, issued: GrantIssued, now: datetime) -> None:
    """The grant as its event says it; the event is the caller's to add."""
    values = issued.model_dump(exclude={"grant", "records", "conditions", "fields", "persons"}) | {
        "id": issued.grant,
        "fields": list(issued.fields),
        "persons": list(issued.persons),
        "conditions": issued.conditions.model_dump(mode="json"),
        "issued_at": now,
    }
    await repository.add_grant(session, values, issued.records)
