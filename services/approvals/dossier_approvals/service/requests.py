"""Asking: preview, create, withdraw, and the requests that retention's disposals open."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import orjson
from pydantic import BaseModel, ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from dossier_approvals import repository, rules
from dossier_approvals.errors import NotTheRequester, RecordUnavailable, RequestClosed, VacantRole
from dossier_approvals.models import Request
from dossier_approvals.rules import RequestState, StepState, Wish
from dossier_approvals.service import cases, recipients
from dossier_approvals.service.offices import Place, Resolved, resolve
from dossier_common import directory, outbox
from dossier_common.contracts.approvals import RequestCreated, RequestImpossible, RequestWithdrawn
from dossier_common.contracts.retention import DisposalProposed
from dossier_common.identity import Subject
from dossier_common.ids import new_id
from dossier_common.peers import Peers
from dossier_common.policy import Action, Flow, Policy, UnknownNameError
from dossier_common.problems import Fault, Hidden, Invalid, NotFound, Unavailable, UpstreamUnavailable
from dossier_common.scopes import Scope
from dossier_common.texts import SealedTexts

AT_ONCE: Final = 8
"""Questions to the records service that run side by side."""
DISPOSAL: Final = "disposal"
"""Purpose of a grant that destroys."""


class Descriptor(BaseModel):
    """What the records service says of a record to another part; never content."""

    id: UUID
    level: str
    unit: UUID
    status: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A request that could be made."""

    flow: Flow
    records: tuple[Descriptor, ...]
    place: Place
    stages: list[Resolved]


async def preview_request(
    session: AsyncSession, peers: Peers, policy: Policy, wish: Wish, by: Subject, now: datetime
) -> Plan:
    """Which flow a wish would take and who would decide it. Raises as `create_request`, but for missing parts."""
    faults = rules.unknown_names(policy, wish)
    if faults:
        raise Invalid(errors=faults)
    return await _plan(session, peers, policy, wish, by, now)


async def create_request(
    session: AsyncSession, peers: Peers, policy: Policy, texts: SealedTexts, wish: Wish, by: Subject, now: datetime
) -> UUID:
    """The request, its stages and candidates frozen, its first stage open.

    Raises PersonNeeded; NotFound and RecordUnavailable for a record; Invalid for everything that is missing or wrong
    (A2.7, A8.17); PartnerNotQualified (B3.5); VacantRole for a stage that nobody could decide. Nothing is kept then.
    """
    plan = await _plan(session, peers, policy, wish, by, now)
    faults = rules.faults_of(policy, plan.flow, wish, now)
    if faults:
        raise Invalid(errors=faults)
    await recipients.ensure_may_ask(session, wish.recipient, plan.flow.recipient.needed, now)
    account, person = cases.person_of(by)
    request_id = new_id()
    sealed = texts.seal(orjson.dumps({"reason": wish.reason, "profile": dict(wish.profile or {})}).decode())
    created = RequestCreated(
        request=request_id,
        action=wish.action,
        flow=plan.flow.id,
        records=wish.records,
        purpose=wish.purpose,
        requester_account=account,
        requester_person=person,
        recipient=wish.recipient,
        policy=policy.digest,
    )
    await _open(session, created, plan, wish, sealed, by=by, now=now)
    return request_id


async def open_disposal(session: AsyncSession, policy: Policy, event: DisposalProposed, now: datetime) -> None:
    """Opens the request of a disposal for its proposer, who decides in none of its stages (A8.25).

    Where that cannot be, RequestImpossible says why. A disposal that has its request is left alone.
    """
    if await repository.request_of_disposal(session, event.disposal) is not None:
        return
    flow = _disposal_flow(policy, event)
    if flow is None:
        impossible = RequestImpossible(disposal=event.disposal, reason="no-flow")
        await outbox.add(session, impossible, by=None, at=now)
        return
    wish = Wish(action=Action.DESTROY.value, records=(event.record,), purpose=DISPOSAL)
    place = Place(await directory.unit_of(session, event.proposer_account), (event.unit,), now)
    try:
        stages = await resolve(session, flow, place, event.proposer_person)
    except VacantRole as vacant:
        impossible = RequestImpossible(disposal=event.disposal, reason=vacant.slug)
        await outbox.add(session, impossible, by=None, at=now)
        return
    created = RequestCreated(
        request=new_id(),
        action=wish.action,
        flow=flow.id,
        records=wish.records,
        purpose=wish.purpose,
        requester_account=event.proposer_account,
        requester_person=event.proposer_person,
        disposal=event.disposal,
        policy=policy.digest,
    )
    record = Descriptor(id=event.record, level=event.level, unit=event.unit, status="active")
    await _open(session, created, Plan(flow, (record,), place, stages), wish, None, by=None, now=now)


async def withdraw_request(session: AsyncSession, request_id: UUID, by: Subject, now: datetime) -> None:
    """The requester takes his request back. Raises NotFound, Hidden, NotTheRequester, RequestClosed."""
    _, person = cases.person_of(by)
    request = await repository.request(session, request_id, lock=True)
    if request is None:
        raise NotFound
    if request.requester_person != person:
        if await repository.takes_part(session, request_id, person):
            raise NotTheRequester
        raise Hidden
    if request.state != RequestState.OPEN:
        raise RequestClosed(request.state)
    loaded = await repository.loaded(session, request)
    ended = (RequestState.WITHDRAWN, StepState.CANCELLED)
    await cases.close_request(session, request, loaded.open_step(), ended, now)
    withdrawn = RequestWithdrawn(request=request.id, disposal=request.disposal)
    await outbox.add(session, withdrawn, by=by, at=now)


def _disposal_flow(policy: Policy, event: DisposalProposed) -> Flow | None:
    try:
        return policy.flow(event.flow)
    except UnknownNameError:
        return policy.flow_for(Action.DESTROY, event.level)


async def _plan(session: AsyncSession, peers: Peers, policy: Policy, wish: Wish, by: Subject, now: datetime) -> Plan:
    account, person = cases.person_of(by)
    records = await describe(peers, wish.records)
    for record in records:
        ensure_usable(record)
    flow = rules.flow_of(policy, wish.action, [record.level for record in records])
    unit = await directory.unit_of(session, account)
    if unit is None:
        raise Unavailable("The directory has not told of this account yet.")
    place = Place(unit, tuple(dict.fromkeys(record.unit for record in records)), now)
    return Plan(flow, records, place, await resolve(session, flow, place, person))


async def describe(peers: Peers, records: Sequence[UUID]) -> tuple[Descriptor, ...]:
    """What the records service says of each, in whatever state it is. Raises NotFound, UpstreamUnavailable."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number: int, record: UUID) -> Descriptor:
        async with gate:
            answer = await peers.get("records", f"/internal/v1/records/{record}/descriptor", Scope.RECORDS_DESCRIBE)
        if answer.status_code == 404:
            pointer = f"/body/records/{number}"
            raise NotFound(errors=[Fault(pointer=pointer, code="not-found", detail="There is no such record.")])
        if answer.status_code != 200:
            raise UpstreamUnavailable("The records service does not describe the record now.")
        try:
            return Descriptor.model_validate_json(answer.content)
        except ValidationError as error:
            raise UpstreamUnavailable("The records service describes the record in another shape.") from error

    first = await one(0, records[0])  # alone, so that one token is fetched and not eight
    return (first, *await asyncio.gather(*(one(n, record) for n, record in enumerate(records) if n)))


def ensure_usable(record: Descriptor) -> None:
    """Raises RecordUnavailable for a record that is not in use. Ask first whether the caller may know of it."""
    if record.status not in rules.USABLE:
        raise RecordUnavailable(record.id, record.status)


async def _open(
    session: AsyncSession,
    created: RequestCreated,
    plan: Plan,
    wish: Wish,
    sealed: bytes | None,
    *,
    by: Subject | None,
    now: datetime,
) -> None:
    request = Request(
        id=created.request,
        state=RequestState.OPEN.value,
        action=created.action,
        flow=created.flow,
        policy=created.policy,
        purpose=created.purpose,
        fields=list(wish.fields),
        not_before=wish.not_before,
        until=wish.until,
        uses=wish.uses,
        recipient=wish.recipient,
        recipient_needs=list(plan.flow.recipient.needed),
        limits=plan.flow.grant.model_dump(mode="json"),
        requester_account=created.requester_account,
        requester_person=created.requester_person,
        requester_unit=plan.place.requester_unit,
        disposal=created.disposal,
        texts=sealed,
        round=1,
        position=0,
        created_at=now,
    )
    row = {column.key: getattr(request, column.key) for column in Request.__table__.columns if column.key != "ended_at"}
    await repository.add_request(session, row, *_rows(created.request, plan))
    await cases.open_step(session, request, _limit(plan.stages[0]), now)
    await outbox.add(session, created, by=by, at=now)


def _limit(resolved: Resolved) -> str | None:
    return str(resolved.stage.time_limit) if resolved.stage.time_limit else None


def _rows(request: UUID, plan: Plan) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    names = [resolved.stage.name for resolved in plan.stages]
    records = [
        {"request": request, "record": record.id, "position": n, "unit": record.unit, "level": record.level}
        for n, record in enumerate(plan.records)
    ]
    stages = [
        {
            "request": request,
            "position": n,
            "name": resolved.stage.name,
            "title": resolved.stage.title.model_dump() if resolved.stage.title else None,
            "offices": [{"role": role, "unit": str(unit)} for role, unit in resolved.offices],
            "quorum": resolved.quorum,
            "needed": resolved.needed,
            "doing": resolved.stage.doing.value if resolved.stage.doing else None,
            "return_to": names.index(resolved.stage.return_to) if resolved.stage.return_to else 0,
            "time_limit": _limit(resolved),
            "on_timeout": resolved.stage.on_timeout.value,
            "escalate_role": resolved.stage.escalate_to.role if resolved.stage.escalate_to else None,
            "escalate_of": resolved.stage.escalate_to.of.value if resolved.stage.escalate_to else None,
        }
        for n, resolved in enumerate(plan.stages)
    ]
    candidates = [
        {"request": request, "position": n, "account": holder.account, "person": holder.person, "escalated": False}
        for n, resolved in enumerate(plan.stages)
        for holder in resolved.holders
    ]
    return records, stages, candidates
