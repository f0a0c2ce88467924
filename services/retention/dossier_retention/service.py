"""Use cases that people start: holds and disposals. Every decision over a record locks its row first."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common import directory, outbox
from dossier_common.clock import Clock
from dossier_common.contracts.retention import (
    DestructionOrdered,
    DisposalExecuted,
    DisposalFailed,
    DisposalProposed,
    HoldPlaced,
    HoldReleased,
)
from dossier_common.identity import Subject
from dossier_common.ids import new_id
from dossier_common.policy import Policy, RetentionRule, UnknownNameError
from dossier_common.problems import Hidden, PersonNeeded, SamePerson
from dossier_common.reach import reaches, units_reached
from dossier_common.scopes import Scope
from dossier_common.texts import SealedTexts
from dossier_retention import errors, repository, rules
from dossier_retention.models import Certificate, Disposal, Hold, Record
from dossier_retention.rules import DisposalState, Duty


@dataclass(frozen=True, slots=True)
class Means:
    """What every use case decides and acts with."""

    policy: Policy
    texts: SealedTexts
    clock: Clock


async def place_hold(session: AsyncSession, record_id: UUID, reason: str, actor: Subject, means: Means) -> Hold:
    """Freezes the record's disposal.

    Raises RecordUnknown, RecordHidden, RecordDestroyed, DestructionUnderWay, PersonNeeded.
    """
    person, now = _person(actor), means.clock.now()
    record = await _record(session, record_id, actor, means, Scope.HOLDS_PLACE)
    await _close_expired(session, record, now)
    case = await repository.open_disposal(session, record_id)
    rules.ensure_holdable(
        destroyed=record.destroyed_at is not None, open_state=DisposalState(case.state) if case else None
    )
    hold = Hold(id=new_id(), record=record_id, reason=means.texts.seal(reason), placed_by=person, placed_at=now)
    session.add(hold)
    await outbox.add(session, HoldPlaced(hold=hold.id, record=record_id), by=actor, at=now)
    await session.flush()
    return hold


async def release_hold(session: AsyncSession, hold_id: UUID, reason: str, actor: Subject, means: Means) -> Hold:
    """Lifts a hold, by another person than placed it.

    Raises HoldUnknown, HoldHidden, HoldReleased, SamePerson, PersonNeeded.
    """
    person, now = _person(actor), means.clock.now()
    hold = await _hold(session, hold_id, actor, means, Scope.HOLDS_RELEASE, lock=True)
    rules.ensure_distinct(person, {hold.placed_by})
    if hold.released_at is not None:
        raise errors.HoldReleased
    hold.released_by, hold.released_at, hold.release_reason = person, now, means.texts.seal(reason)
    await outbox.add(session, HoldReleased(hold=hold.id, record=hold.record), by=actor, at=now)
    await session.flush()
    return hold


async def propose_disposal(
    session: AsyncSession, record_id: UUID, reason: str, actor: Subject, means: Means
) -> Disposal:
    """Opens a case, which approvals then decides by the flow that the rule names (A8.25).

    Raises RecordUnknown, RecordHidden, RecordDestroyed, NotDue, Held, OutstandingCopies, DisposalOpen, PersonNeeded.
    """
    person, now = _person(actor), means.clock.now()
    record = await _record(session, record_id, actor, means, Scope.DISPOSALS_PROPOSE)
    rules.ensure_disposable(await repository.standing(session, record), now.date())
    rule = means.policy.retention_for(record.customer_type, record.level)
    if rule is None:
        raise errors.NotDue(None)
    await _close_expired(session, record, now)
    if await repository.open_disposal(session, record_id) is not None:
        raise errors.DisposalOpen
    case = Disposal(
        id=new_id(),
        record=record_id,
        rule=rule.id,
        state=DisposalState.PROPOSED,
        round=1,
        reason=means.texts.seal(reason),
        policy=means.policy.digest,
        proposed_at=now,
    )
    session.add(case)
    await session.flush()
    await repository.add_participant(session, case, person, Duty.PROPOSER)
    proposed = DisposalProposed(
        disposal=case.id,
        record=record_id,
        unit=record.unit,
        level=record.level,
        proposer_account=actor.account,
        proposer_person=person,
        flow=rule.disposal.flow,
        policy=case.policy,
    )
    await outbox.add(session, proposed, by=actor, at=now)
    return case


async def execute_disposal(
    session: AsyncSession, disposal_id: UUID, method: str, note: str | None, actor: Subject, means: Means
) -> Disposal:
    """Turns the first key: from here on new holds are refused.

    Raises DisposalUnknown, DisposalHidden, WrongState, GrantEnded, SamePerson, AnotherOffice, MethodNotAllowed, Held,
    OutstandingCopies, RuleGone, PersonNeeded.
    """
    person, now = _person(actor), means.clock.now()
    record, case = await _case(session, disposal_id, actor, means, Scope.DISPOSALS_EXECUTE)
    rule = _rule(case, means)
    rules.ensure_transition(DisposalState(case.state), DisposalState.EXECUTING)
    rules.ensure_granted(DisposalState(case.state), case.grant_until, now)
    await _ensure_may(session, case, record, person, actor, rule.disposal.executor)
    rules.ensure_method(rule, method)
    rules.ensure_disposable(await repository.standing(session, record), now.date())
    if not await repository.add_participant(session, case, person, Duty.EXECUTOR):
        raise SamePerson
    case.state, case.method, case.executed_at, case.failure = DisposalState.EXECUTING, method, now, None
    case.note = means.texts.seal(note) if note else None
    executed = DisposalExecuted(disposal=case.id, record=record.id, executor_person=person, method=method)
    await outbox.add(session, executed, by=actor, at=now)
    await session.flush()
    return case


async def witness_disposal(
    session: AsyncSession, disposal_id: UUID, statement: str, actor: Subject, means: Means
) -> Disposal:
    """Turns the second key: the records service is ordered to destroy (A1.5.2.2.3).

    Raises DisposalUnknown, DisposalHidden, WrongState, GrantEnded, SamePerson, AnotherOffice, Held,
    OutstandingCopies, RuleGone, PersonNeeded.
    """
    person, now = _person(actor), means.clock.now()
    record, case = await _case(session, disposal_id, actor, means, Scope.DISPOSALS_WITNESS)
    if case.state != DisposalState.EXECUTING or case.ordered_at is not None:
        raise errors.WrongState("ordered" if case.ordered_at else case.state)
    rules.ensure_granted(DisposalState(case.state), case.grant_until, now)
    role = _rule(case, means).disposal.witness
    executors = await _ensure_may(session, case, record, person, actor, role)
    rules.ensure_disposable(await repository.standing(session, record), now.date())
    if not await repository.add_participant(session, case, person, Duty.WITNESS):
        raise SamePerson
    case.statement, case.ordered_at = means.texts.seal(statement), now
    assert case.grant is not None
    assert case.method is not None
    ordered = DestructionOrdered(
        disposal=case.id,
        record=record.id,
        grant=case.grant,
        method=case.method,
        executor_person=executors[Duty.EXECUTOR],
        witness_person=person,
    )
    await outbox.add(session, ordered, by=actor, at=now)
    await session.flush()
    return case


async def units_read(session: AsyncSession, reader: Subject, means: Means) -> frozenset[UUID] | None:
    """The units whose terms, holds and disposals the caller reads; None for all."""
    return await units_reached(session, means.policy, reader, Scope.RETENTION_READ)


async def show_hold(session: AsyncSession, hold_id: UUID, reader: Subject, means: Means) -> Hold:
    """Raises HoldUnknown, HoldHidden."""
    return await _hold(session, hold_id, reader, means, Scope.RETENTION_READ)


async def show_disposal(session: AsyncSession, disposal_id: UUID, reader: Subject, means: Means) -> Disposal:
    """Raises DisposalUnknown, DisposalHidden."""
    case = await repository.disposal(session, disposal_id)
    if case is None:
        raise errors.DisposalUnknown
    await _ensure_reached(session, case.record, reader, means, Scope.RETENTION_READ, errors.DisposalHidden)
    return case


async def show_certificate(session: AsyncSession, certificate_id: UUID, reader: Subject, means: Means) -> Certificate:
    """Raises CertificateUnknown, CertificateHidden."""
    certificate = await repository.certificate(session, certificate_id)
    if certificate is None:
        raise errors.CertificateUnknown
    case = await repository.disposal(session, certificate.disposal)
    assert case is not None
    await _ensure_reached(session, case.record, reader, means, Scope.RETENTION_READ, errors.CertificateHidden)
    return certificate


def _person(actor: Subject) -> UUID:
    if actor.person is None or actor.account is None:
        raise PersonNeeded
    return actor.person


async def _ensure_reached(
    session: AsyncSession, of: UUID | Record, actor: Subject, means: Means, scope: Scope, hidden: type[Hidden]
) -> None:
    """The caller has an office with the scope in the unit of the record, or above it (A4.34). Raises `hidden`."""
    record = of if isinstance(of, Record) else await repository.record(session, of)
    assert record is not None
    if not await reaches(session, means.policy, actor, scope, record.unit):
        raise hidden


async def _record(session: AsyncSession, record_id: UUID, actor: Subject, means: Means, scope: Scope) -> Record:
    record = await repository.record(session, record_id, lock=True)
    if record is None:
        raise errors.RecordUnknown
    await _ensure_reached(session, record, actor, means, scope, errors.RecordHidden)
    return record


async def _hold(
    session: AsyncSession, hold_id: UUID, actor: Subject, means: Means, scope: Scope, *, lock: bool = False
) -> Hold:
    hold = await repository.hold(session, hold_id, lock=lock)
    if hold is None:
        raise errors.HoldUnknown
    await _ensure_reached(session, hold.record, actor, means, scope, errors.HoldHidden)
    return hold


async def _case(
    session: AsyncSession, disposal_id: UUID, actor: Subject, means: Means, scope: Scope
) -> tuple[Record, Disposal]:
    found = await repository.disposal_for_update(session, disposal_id)
    if found is None:
        raise errors.DisposalUnknown
    await _ensure_reached(session, found[0], actor, means, scope, errors.DisposalHidden)
    return found


def _rule(case: Disposal, means: Means) -> RetentionRule:
    try:
        return means.policy.retention_rule(case.rule)
    except UnknownNameError as error:
        raise errors.RuleGone from error


async def _ensure_may(
    session: AsyncSession, case: Disposal, record: Record, person: UUID, actor: Subject, role: str
) -> dict[str, UUID]:
    """Distinct from all others of the round, and of the office that the pack names. Who they are, by duty."""
    others = (await repository.participants(session, [case]))[case.id]
    rules.ensure_distinct(person, {each.person for each in others})
    path = [unit.id for unit in await directory.path_to_root(session, record.unit)]
    rules.ensure_office(actor.roles, role, path or [record.unit])
    return {each.duty: each.person for each in others}


async def _close_expired(session: AsyncSession, record: Record, now: datetime) -> None:
    """Ends an open case whose approval ran out before the order: it can only be proposed anew."""
    case = await repository.open_disposal(session, record.id)
    if case is None:
        return
    ordered = case.ordered_at is not None
    if rules.grant_ended(DisposalState(case.state), case.grant_until, ordered=ordered, now=now):
        case.state, case.closed_at, case.failure = DisposalState.FAILED, now, "grant-ended"
        failed = DisposalFailed(disposal=case.id, record=record.id, reason="grant-ended")
        await outbox.add(session, failed, by=None, at=now)
        await session.flush()
