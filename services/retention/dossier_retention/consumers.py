"""What the retention service does at which event of records, approvals and the gateway."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common import directory, outbox, telemetry
from dossier_common.clock import Clock
from dossier_common.contracts.approvals import (
    GrantIssued,
    GrantReturned,
    GrantRevoked,
    RequestImpossible,
    RequestRejected,
    RequestWithdrawn,
)
from dossier_common.contracts.records import (
    CopyDestroyed,
    CopyIssued,
    CopyLost,
    CopyReturned,
    DestructionRefused,
    RecordRegistered,
    RecordShredded,
    RelationshipEnded,
)
from dossier_common.contracts.retention import (
    CertificateIssued,
    ClockStarted,
    DisposalApproved,
    DisposalFailed,
    DisposalRejected,
)
from dossier_common.events import Envelope
from dossier_common.ids import new_id
from dossier_common.inbox import Handlers
from dossier_common.keys import SigningKey
from dossier_common.policy import Action, Policy
from dossier_retention import certificates, repository, rules
from dossier_retention.models import Certificate, Disposal, Record
from dossier_retention.rules import CopyState, DisposalState, Duty

REFUSED_LENGTH = 64


@dataclass(frozen=True, slots=True)
class Follower:
    """Applies events. Those that do not fit the state of a case any more change nothing."""

    policy: Policy
    clock: Clock
    key: SigningKey
    backup_days: int

    # -- records: clocks and copies

    async def record_registered(self, session: AsyncSession, event: RecordRegistered, _envelope: Envelope) -> None:
        """A record is there; its clock starts where its trigger has happened."""
        await repository.insert_record(
            session,
            id=event.record,
            unit=event.unit,
            level=event.level,
            customer_type=event.customer_type,
            opened_on=event.opened_on,
            relationship_ended_on=event.relationship_ended_on,
        )
        record = await repository.record(session, event.record, lock=True)
        assert record is not None
        await self._start_clock(session, record)

    async def relationship_ended(self, session: AsyncSession, event: RelationshipEnded, _envelope: Envelope) -> None:
        """The term begins, or begins anew when the relationship went on."""
        record = await repository.record(session, event.record, lock=True)
        if record is not None:
            record.relationship_ended_on = event.on
            await self._start_clock(session, record)

    async def _start_clock(self, session: AsyncSession, record: Record) -> None:
        """What was promised is a minimum: a clock that runs is never set back (A4.26).

        A term that the calendar cannot hold never ends: no clock, and so no disposal.
        """
        rule = self.policy.retention_for(record.customer_type, record.level)
        if rule is None:
            return
        started_on = rules.clock_start(rule.trigger, record.opened_on, record.relationship_ended_on)
        if started_on is None:
            return
        try:
            due_on = rules.term_end(started_on, rule.term)
        except rules.TermUndefined:
            telemetry.log().warning("term-undefined", record=str(record.id), rule=rule.id)
            return
        running = await repository.clock_of(session, record.id)
        if running is not None and running.due_on >= due_on:
            return
        digest = self.policy.digest
        await repository.set_clock(
            session, record.id, rule=rule.id, started_on=started_on, due_on=due_on, policy=digest
        )
        started = ClockStarted(record=record.id, rule=rule.id, started_on=started_on, due_on=due_on, policy=digest)
        await outbox.add(session, started, by=None, at=self.clock.now())

    async def copy_issued(self, session: AsyncSession, event: CopyIssued, _envelope: Envelope) -> None:
        """A copy is out, and blocks disposal until it is back or destroyed."""
        await repository.insert_copy(session, event.copy_id, event.record, event.number)

    async def copy_returned(self, session: AsyncSession, event: CopyReturned, _envelope: Envelope) -> None:
        """The copy blocks no more."""
        await repository.close_copy(session, event.copy_id, CopyState.RETURNED)

    async def copy_destroyed(self, session: AsyncSession, event: CopyDestroyed, _envelope: Envelope) -> None:
        """The copy blocks no more."""
        await repository.close_copy(session, event.copy_id, CopyState.DESTROYED)

    async def copy_lost(self, session: AsyncSession, event: CopyLost, _envelope: Envelope) -> None:
        """An incident of its own; nobody can return it, so the certificate names it."""
        await repository.close_copy(session, event.copy_id, CopyState.LOST)

    # -- approvals: the case is decided

    async def grant_issued(self, session: AsyncSession, event: GrantIssued, _envelope: Envelope) -> None:
        """The case is approved; the persons of it can be neither executor nor witness."""
        if event.disposal is None or event.action != Action.DESTROY:
            return
        found = await repository.disposal_for_update(session, event.disposal)
        if found is None or found[1].state != DisposalState.PROPOSED or found[0].id not in event.records:
            return
        record, case = found
        now = self.clock.now()
        case.state, case.approved_at, case.grant, case.grant_until = (
            DisposalState.APPROVED,
            now,
            event.grant,
            event.until,
        )
        for person in event.persons:
            await repository.add_participant(session, case, person, Duty.APPROVER)
        approved = DisposalApproved(disposal=case.id, record=record.id, grant=event.grant)
        await outbox.add(session, approved, by=None, at=now)

    async def request_rejected(self, session: AsyncSession, event: RequestRejected, _envelope: Envelope) -> None:
        """The case ends without destruction."""
        await self._reject(session, event.disposal, "rejected")

    async def request_withdrawn(self, session: AsyncSession, event: RequestWithdrawn, _envelope: Envelope) -> None:
        """The case ends without destruction."""
        await self._reject(session, event.disposal, "withdrawn")

    async def request_impossible(self, session: AsyncSession, event: RequestImpossible, _envelope: Envelope) -> None:
        """The case ends without destruction."""
        await self._reject(session, event.disposal, event.reason)

    async def _reject(self, session: AsyncSession, disposal: UUID | None, reason: str) -> None:
        if disposal is None:
            return
        found = await repository.disposal_for_update(session, disposal)
        if found is None or found[1].state != DisposalState.PROPOSED:
            return
        record, case = found
        now, reason = self.clock.now(), reason[:REFUSED_LENGTH]
        case.state, case.closed_at, case.failure = DisposalState.REJECTED, now, reason
        rejected = DisposalRejected(disposal=case.id, record=record.id, reason=reason)
        await outbox.add(session, rejected, by=None, at=now)

    async def grant_revoked(self, session: AsyncSession, event: GrantRevoked, _envelope: Envelope) -> None:
        """The approval is gone; an order that was given already stands."""
        await self._grant_gone(session, event.grant, "grant-revoked")

    async def grant_returned(self, session: AsyncSession, event: GrantReturned, _envelope: Envelope) -> None:
        """The approval is gone; an order that was given already stands."""
        await self._grant_gone(session, event.grant, "grant-returned")

    async def _grant_gone(self, session: AsyncSession, grant: UUID, reason: str) -> None:
        disposal = await repository.disposal_of_grant(session, grant)
        found = await repository.disposal_for_update(session, disposal) if disposal else None
        if found is None:
            return
        record, case = found
        if case.state not in rules.OPEN or case.ordered_at is not None:
            return
        now = self.clock.now()
        case.state, case.closed_at, case.failure = DisposalState.FAILED, now, reason
        await outbox.add(session, DisposalFailed(disposal=case.id, record=record.id, reason=reason), by=None, at=now)

    # -- records: the order is carried out, or refused

    async def record_shredded(self, session: AsyncSession, event: RecordShredded, envelope: Envelope) -> None:
        """The register of destruction gets its entry, if the evidence holds (invariant 5)."""
        case = await self._ordered(session, event.disposal, event.record)
        if case is None:
            return
        if not rules.evidence_suffices(
            decryption_failed=event.decryption_failed, remaining=event.remaining_under_old_epoch
        ):
            await self._reopen(session, case, "evidence-insufficient")
            return
        record = await repository.record(session, event.record)
        assert record is not None
        await self._certify(session, record, case, certificates.Destruction(envelope.id, envelope.time, event))

    async def _certify(
        self, session: AsyncSession, record: Record, case: Disposal, destruction: certificates.Destruction
    ) -> None:
        now = self.clock.now()
        document = certificates.describe(
            new_id(),
            record=record,
            clock=await repository.clock_of(session, record.id),
            case=case,
            participants=(await repository.participants(session, [case]))[case.id],
            lost=await repository.copies_in(session, record.id, CopyState.LOST),
            destruction=destruction,
            backup_days=self.backup_days,
            issued_at=now,
        )
        text, signature = certificates.sign(document, self.key)
        certificate = Certificate(
            id=UUID(document["id"]), disposal=case.id, document=text, signature=signature, issued_at=now
        )
        session.add(certificate)
        case.state, case.closed_at, record.destroyed_at = DisposalState.DESTROYED, now, destruction.at
        assert case.method is not None
        issued = CertificateIssued(certificate=certificate.id, disposal=case.id, record=record.id, method=case.method)
        await outbox.add(session, issued, by=None, at=now)

    async def destruction_refused(self, session: AsyncSession, event: DestructionRefused, _envelope: Envelope) -> None:
        """Something outstanding was found in the shredding transaction: the case is open for another try."""
        case = await self._ordered(session, event.disposal, event.record)
        if case is not None:
            await self._reopen(session, case, event.reason[:REFUSED_LENGTH])

    async def _ordered(self, session: AsyncSession, disposal: UUID, record: UUID) -> Disposal | None:
        found = await repository.disposal_for_update(session, disposal)
        if found is None or found[0].id != record:
            return None
        case = found[1]
        return case if case.state == DisposalState.EXECUTING and case.ordered_at is not None else None

    async def _reopen(self, session: AsyncSession, case: Disposal, reason: str) -> None:
        """Approved again, in a new round: proposer and approvers stay, executor and witness act anew."""
        now = self.clock.now()
        case.state, case.round, case.failure = DisposalState.APPROVED, case.round + 1, reason
        case.method = case.note = case.statement = None
        case.executed_at = case.ordered_at = None
        await session.flush()
        await repository.carry_over(session, case, {Duty.PROPOSER, Duty.APPROVER})
        failed = DisposalFailed(disposal=case.id, record=case.record, reason=reason)
        await outbox.add(session, failed, by=None, at=now)


def handlers(policy: Policy, clock: Clock, key: SigningKey, backup_days: int) -> Handlers:
    """All handlers of this part, those of the directory's projection included."""
    follower = Follower(policy, clock, key, backup_days)
    found = Handlers()
    found.include(directory.handlers)
    found.on(RecordRegistered)(follower.record_registered)
    found.on(RelationshipEnded)(follower.relationship_ended)
    found.on(CopyIssued)(follower.copy_issued)
    found.on(CopyReturned)(follower.copy_returned)
    found.on(CopyDestroyed)(follower.copy_destroyed)
    found.on(CopyLost)(follower.copy_lost)
    found.on(GrantIssued)(follower.grant_issued)
    found.on(RequestRejected)(follower.request_rejected)
    found.on(RequestWithdrawn)(follower.request_withdrawn)
    found.on(RequestImpossible)(follower.request_impossible)
    found.on(GrantRevoked)(follower.grant_revoked)
    found.on(GrantReturned)(follower.grant_returned)
    found.on(RecordShredded)(follower.record_shredded)
    found.on(DestructionRefused)(follower.destruction_refused)
    return found
