"""All SQL of the approvals service. Ids are UUIDv7, so their order is that of making."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, exists, func, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from dossier_approvals.models import (
    Candidate,
    Decision,
    Grant,
    GrantRecord,
    Participant,
    Request,
    RequestRecord,
    RequestStage,
    Step,
)

FRESH = {"populate_existing": True}
UNTRACKED = {"synchronize_session": False}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A request with all that belongs to it; stages by position, decisions by time, steps by opening."""

    request: Request
    records: list[RequestRecord]
    stages: list[RequestStage]
    candidates: list[Candidate]
    steps: list[Step]
    decisions: list[Decision]

    def persons(self, position: int) -> frozenset[UUID]:
        """Who may decide a stage."""
        here = (each for each in self.candidates if each.position == position)
        return frozenset(each.person for each in here if each.removed_at is None)

    def open_step(self) -> Step:
        """The step that waits; there is exactly one while the request is open."""
        return next(step for step in self.steps if step.state == "open")


# ---- requests


async def add_request(
    session: AsyncSession,
    request: dict[str, Any],
    records: Sequence[dict[str, Any]],
    stages: Sequence[dict[str, Any]],
    candidates: Sequence[dict[str, Any]],
) -> None:
    """The request with its frozen stages and candidates, and its requester as a participant of the first round."""
    await session.execute(insert(Request).values(request))
    await session.execute(insert(RequestRecord), list(records))
    await session.execute(insert(RequestStage), list(stages))
    await session.execute(insert(Candidate), list(candidates))
    await join_round(session, request["id"], 1, request["requester_person"], "requester")


async def add_candidates(session: AsyncSession, candidates: Sequence[dict[str, Any]]) -> None:
    """More who may decide; who is there already stays as he is."""
    await session.execute(insert(Candidate).on_conflict_do_nothing(), list(candidates))


async def remove_candidates(session: AsyncSession, candidates: Sequence[Candidate], at: datetime) -> None:
    """These may decide no more."""
    keys = [(each.request, each.position, each.account) for each in candidates]
    key = tuple_(Candidate.request, Candidate.position, Candidate.account)
    await session.execute(update(Candidate).where(key.in_(keys)).values(removed_at=at), execution_options=UNTRACKED)


async def restore_candidates(session: AsyncSession, candidates: Sequence[dict[str, Any]]) -> None:
    """These may decide; who was taken out before is there again."""
    added = insert(Candidate)
    key = [Candidate.request, Candidate.position, Candidate.account]
    await session.execute(added.on_conflict_do_update(index_elements=key, set_={"removed_at": None}), list(candidates))


async def change_stage(session: AsyncSession, request_id: UUID, position: int, **values: Any) -> None:
    """How many are needed, or since when nobody is there."""
    stage = update(RequestStage).where(RequestStage.request == request_id, RequestStage.position == position)
    await session.execute(stage.values(**values), execution_options=UNTRACKED)


async def request(session: AsyncSession, request_id: UUID, *, lock: bool = False) -> Request | None:
    """The request; locked for a change, which then comes one at a time."""
    query = select(Request).where(Request.id == request_id).execution_options(**FRESH)
    return (await session.execute(query.with_for_update() if lock else query)).scalar_one_or_none()


async def loaded(session: AsyncSession, request: Request) -> Loaded:
    """The request with all that belongs to it, read anew."""
    key = request.id

    async def of(model: Any, *order: Any) -> list[Any]:
        query = select(model).where(model.request == key).order_by(*order).execution_options(**FRESH)
        return list((await session.execute(query)).scalars())

    return Loaded(
        request,
        await of(RequestRecord, RequestRecord.position),
        await of(RequestStage, RequestStage.position),
        await of(Candidate, Candidate.position, Candidate.account),
        await of(Step, Step.id),
        await of(Decision, Decision.at, Decision.person),
    )


async def request_of_disposal(session: AsyncSession, disposal: UUID) -> UUID | None:
    """The request that was opened for this case of retention."""
    return (await session.execute(select(Request.id).where(Request.disposal == disposal))).scalar_one_or_none()


def _takes_part(person: UUID) -> ColumnElement[bool]:
    candidate = exists().where(
        Candidate.request == Request.id, Candidate.person == person, Candidate.removed_at.is_(None)
    )
    decided = exists().where(Decision.request == Request.id, Decision.person == person)
    return or_(Request.requester_person == person, candidate, decided)


async def takes_part(session: AsyncSession, request_id: UUID, person: UUID) -> bool:
    """Whether the person asked, has decided, or is a candidate of any stage."""
    query = select(Request.id).where(Request.id == request_id, _takes_part(person))
    return (await session.execute(query)).first() is not None


async def requests_of(session: AsyncSession, person: UUID, *, limit: int, before: UUID | None) -> list[Request]:
    """Requests that the person takes part in, the newest first."""
    query = select(Request).where(_takes_part(person)).order_by(Request.id.desc()).limit(limit)
    if before is not None:
        query = query.where(Request.id < before)
    return list((await session.execute(query)).scalars())


async def open_requests_on(session: AsyncSession, record: UUID) -> list[Request]:
    """Open requests about a record, locked, in the order of their ids."""
    about = exists().where(RequestRecord.request == Request.id, RequestRecord.record == record)
    query = select(Request).where(Request.state == "open", about).order_by(Request.id).with_for_update()
    return list((await session.execute(query.execution_options(**FRESH))).scalars())


async def open_requests_of(session: AsyncSession, person: UUID) -> list[Request]:
    """Open requests that the person made, locked, in the order of their ids."""
    query = select(Request).where(Request.state == "open", Request.requester_person == person)
    query = query.order_by(Request.id).with_for_update().execution_options(**FRESH)
    return list((await session.execute(query)).scalars())


async def open_requests_before(session: AsyncSession, person: UUID) -> list[Request]:
    """Open requests in which the person may decide a stage, locked, in the order of their ids."""
    candidate = exists().where(
        Candidate.request == Request.id, Candidate.person == person, Candidate.removed_at.is_(None)
    )
    query = select(Request).where(Request.state == "open", candidate).order_by(Request.id).with_for_update()
    return list((await session.execute(query.execution_options(**FRESH))).scalars())


async def open_requests_lacking(session: AsyncSession, role: str) -> list[Request]:
    """Open requests with a vacant stage that this role decides, locked, in the order of their ids."""
    vacant = exists().where(
        RequestStage.request == Request.id,
        RequestStage.vacant_since.is_not(None),
        RequestStage.offices.contains([{"role": role}]),
    )
    query = select(Request).where(Request.state == "open", vacant).order_by(Request.id).with_for_update()
    return list((await session.execute(query.execution_options(**FRESH))).scalars())


async def records_of(session: AsyncSession, requests: Iterable[UUID]) -> dict[UUID, list[UUID]]:
    """The records of several requests, in the order that was asked."""
    query = select(RequestRecord).where(RequestRecord.request.in_(list(requests))).order_by(RequestRecord.position)
    found: dict[UUID, list[UUID]] = {}
    for row in (await session.execute(query)).scalars():
        found.setdefault(row.request, []).append(row.record)
    return found


# ---- rounds, steps, decisions


async def join_round(session: AsyncSession, request_id: UUID, at_round: int, person: UUID, capacity: str) -> bool:
    """Makes the person a participant of the round; False when he is one already (invariant 4)."""
    values = {"request": request_id, "round": at_round, "person": person, "capacity": capacity}
    joined = insert(Participant).values(values).on_conflict_do_nothing().returning(Participant.person)
    return (await session.execute(joined)).first() is not None


async def add_decision(session: AsyncSession, values: dict[str, Any]) -> None:
    """A verdict of a participant."""
    await session.execute(insert(Decision).values(values))


async def add_step(session: AsyncSession, values: dict[str, Any]) -> None:
    """A stage of a round is reached."""
    await session.execute(insert(Step).values(state="open", **values))


async def step(session: AsyncSession, step_id: UUID) -> Step | None:
    """A step, as it is now."""
    query = select(Step).where(Step.id == step_id).execution_options(**FRESH)
    return (await session.execute(query)).scalar_one_or_none()


async def close_step(session: AsyncSession, step_id: UUID, state: str, at: datetime) -> None:
    """The step waits no more."""
    await session.execute(update(Step).where(Step.id == step_id).values(state=state, closed_at=at))


async def extend_step(session: AsyncSession, step_id: UUID, escalated_at: datetime, due_at: datetime | None) -> None:
    """The step was escalated, and has a new time limit."""
    await session.execute(update(Step).where(Step.id == step_id).values(escalated_at=escalated_at, due_at=due_at))


async def tasks_of(
    session: AsyncSession, person: UUID, *, limit: int, after: UUID | None
) -> list[tuple[Step, RequestStage, Request]]:
    """Open steps that the person may still decide, the oldest first."""
    query = (
        select(Step, RequestStage, Request)
        .join(RequestStage, and_(RequestStage.request == Step.request, RequestStage.position == Step.position))
        .join(Request, Request.id == Step.request)
        .where(
            Step.state == "open",
            exists().where(
                Candidate.request == Step.request,
                Candidate.position == Step.position,
                Candidate.person == person,
                Candidate.removed_at.is_(None),
            ),
            ~exists().where(
                Participant.request == Step.request, Participant.round == Step.round, Participant.person == person
            ),
        )
        .order_by(Step.id)
        .limit(limit)
    )
    if after is not None:
        query = query.where(Step.id > after)
    return [(found[0], found[1], found[2]) for found in await session.execute(query)]


async def overdue_request(session: AsyncSession, now: datetime) -> Request | None:
    """One open request whose open step is past its time limit, locked; passes by what somebody else holds."""
    due = exists().where(Step.request == Request.id, Step.state == "open", Step.due_at <= now)
    query = select(Request).where(Request.state == "open", due).limit(1).with_for_update(skip_locked=True)
    return (await session.execute(query.execution_options(**FRESH))).scalar_one_or_none()


# ---- grants


async def add_grant(session: AsyncSession, values: dict[str, Any], records: Sequence[UUID]) -> None:
    """A grant over these records."""
    await session.execute(insert(Grant).values(state="active", **values))
    rows = [{"grant": values["id"], "record": record, "position": n} for n, record in enumerate(records)]
    await session.execute(insert(GrantRecord), rows)


async def grant(session: AsyncSession, grant_id: UUID, *, lock: bool = False) -> Grant | None:
    """The grant; locked for a change."""
    query = select(Grant).where(Grant.id == grant_id).execution_options(**FRESH)
    return (await session.execute(query.with_for_update() if lock else query)).scalar_one_or_none()


async def grant_of(session: AsyncSession, request_id: UUID) -> UUID | None:
    """The grant that a request ended in."""
    return (await session.execute(select(Grant.id).where(Grant.request == request_id))).scalar_one_or_none()


async def units_of_request(session: AsyncSession, request_id: UUID) -> frozenset[UUID]:
    """The units of the records that were asked for, as they were then."""
    query = select(RequestRecord.unit).where(RequestRecord.request == request_id)
    return frozenset((await session.execute(query)).scalars())


async def grants_of(
    session: AsyncSession, person: UUID | None, units: Collection[UUID] | None, *, limit: int, before: UUID | None
) -> list[Grant]:
    """Grants that the person holds or had a part in, or whose records are all of the units, the newest first.

    All grants for None as units.
    """
    query = select(Grant).order_by(Grant.id.desc()).limit(limit)
    if units is not None:
        records = RequestRecord.request == Grant.request
        within = exists().where(records) & ~exists().where(records, RequestRecord.unit.not_in(units))
        decided = exists().where(Decision.request == Grant.request, Decision.person == person)
        query = query.where(or_(Grant.holder_person == person, decided, within))
    if before is not None:
        query = query.where(Grant.id < before)
    return list((await session.execute(query)).scalars())


async def granted_records(session: AsyncSession, grants: Collection[UUID]) -> dict[UUID, list[UUID]]:
    """The records of several grants, in their order."""
    query = select(GrantRecord).where(GrantRecord.grant.in_(list(grants))).order_by(GrantRecord.position)
    found: dict[UUID, list[UUID]] = {}
    for row in (await session.execute(query)).scalars():
        found.setdefault(row.grant, []).append(row.record)
    return found


async def end_grant(session: AsyncSession, grant_id: UUID, state: str, at: datetime, reason: bytes | None) -> None:
    """The grant ends by an act."""
    values = {"state": state, "ended_at": at, "end_reason": reason}
    await session.execute(update(Grant).where(Grant.id == grant_id).values(values))


async def revoke_grants_of(session: AsyncSession, person: UUID, at: datetime) -> list[UUID]:
    """No grant of this holder's covers anything any more; those that did until now."""
    held = update(Grant).where(Grant.holder_person == person, Grant.state == "active", Grant.until > at)
    ended = held.values(state="revoked", ended_at=at).returning(Grant.id)
    return sorted((await session.execute(ended, execution_options=UNTRACKED)).scalars())


async def count_use(session: AsyncSession, grant_id: UUID, use: int) -> None:
    """Records said that this was the use of that number; an older number changes nothing."""
    counted = func.greatest(Grant.uses_counted, use)
    await session.execute(update(Grant).where(Grant.id == grant_id).values(uses_counted=counted))


async def end_grants_on(session: AsyncSession, record: UUID, at: datetime) -> None:
    """The record is gone: a grant ends with the last of its records."""
    gone = update(GrantRecord).where(GrantRecord.record == record, GrantRecord.gone_at.is_(None)).values(gone_at=at)
    touched = (await session.execute(gone.returning(GrantRecord.grant))).scalars().all()
    left = exists().where(GrantRecord.grant == Grant.id, GrantRecord.gone_at.is_(None))
    ended = update(Grant).where(Grant.id.in_(touched), Grant.state == "active", ~left)
    await session.execute(ended.values(state="ended", ended_at=at), execution_options={"synchronize_session": False})
