"""Use cases of what a person holds: roles in units, and qualifications. Every change is an event (A4.33, A4.34)."""

from dataclasses import replace
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common import outbox
from dossier_common.clock import Clock
from dossier_common.contracts.gateway import (
    QualificationRecorded,
    QualificationWithdrawn,
    RoleAssigned,
    RoleRevoked,
)
from dossier_common.identity import Subject
from dossier_common.policy import Policy, UnknownNameError
from dossier_common.problems import Conflict, NotFound
from dossier_gateway.directory import repository, rules
from dossier_gateway.directory.accounts import ensure_offices_kept
from dossier_gateway.directory.known import locked, of_another
from dossier_gateway.directory.repository import AssignmentRow, QualificationRow, Reading
from dossier_gateway.directory.rules import WithdrawalReason
from dossier_gateway.errors import Taken, UnknownReference


async def assign_role(
    session: AsyncSession, policy: Policy, assignment: AssignmentRow, *, by: Subject | None, clock: Clock
) -> AssignmentRow:
    """Gives a role in a unit, to an end where there is one; all accounts of a person count together (invariant 4).

    With an office, codes that are out for a lost password of his are void: another one needs another person's word.
    Raises NotFound, SelfManagement, UnknownReference, DutyConflict, Taken.
    """
    account = await (locked(session, assignment.account) if by is None else of_another(session, assignment.account, by))
    await repository.lock_person(session, account.person)
    now = clock.now()
    if assignment.valid_until is not None and assignment.valid_until <= now:
        raise UnknownReference("valid_until", "A role ends after it began.")
    try:
        policy.role(assignment.role)
    except UnknownNameError as error:
        raise UnknownReference("role", "The policy has no such role.") from error
    reading = Reading(session)
    if await reading.unit(assignment.unit) is None:
        raise UnknownReference("unit", "There is no such unit.")
    rules.ensure_no_conflict(policy, await reading.roles_of_person(account.person, now), assignment.role)
    assignment = replace(assignment, person=account.person)
    await end_roles(session, clock, account.id)
    if not await repository.add_assignment(session, assignment, now):
        raise Taken("The account holds this role in this unit.")
    assigned = RoleAssigned(
        assignment=assignment.id,
        account=account.id,
        person=account.person,
        role=assignment.role,
        unit=assignment.unit,
        valid_until=assignment.valid_until,
    )
    await outbox.add(session, assigned, by=by, at=now)
    if policy.is_office([assignment.role]):  # a way in that nobody authorised does not outlive the appointment
        await repository.void_enrolments(session, await repository.accounts_in_use(session, account.person), now)
    return assignment


async def revoke_role(
    session: AsyncSession, policy: Policy, account_id: UUID, assignment_id: UUID, *, by: Subject, clock: Clock
) -> None:
    """Ends a role. Raises NotFound, SelfManagement, LastOfficer."""
    await of_another(session, account_id, by)
    now = clock.now()
    ended = await repository.remove_assignment(session, account_id, assignment_id, now)
    if ended is None:
        raise NotFound("The account has no such role.")
    await ensure_offices_kept(session, policy, ended.person, [ended.role], now)
    await outbox.add(session, _revoked(ended), by=by, at=now)


async def end_roles(session: AsyncSession, clock: Clock, account: UUID | None = None) -> int:
    """Removes roles whose term is over, which count nowhere since then; how many. Nobody acts: time does."""
    now = clock.now()
    ended = await repository.remove_ended(session, now, account)
    await outbox.add_all(session, map(_revoked, ended), by=None, at=now)
    return len(ended)


def _revoked(row: AssignmentRow) -> RoleRevoked:
    return RoleRevoked(assignment=row.id, account=row.account, person=row.person, role=row.role, unit=row.unit)


async def record_qualification(
    session: AsyncSession, policy: Policy, qualification: QualificationRow, *, by: Subject, clock: Clock
) -> QualificationRow:
    """Records what a person signed or passed (B2.5.4). Raises NotFound, SelfManagement, UnknownReference."""
    account = await of_another(session, qualification.account, by)
    try:
        rule = policy.qualification(qualification.qualification)
    except UnknownNameError as error:
        raise UnknownReference("qualification", "The policy has no such qualification.") from error
    until = rules.ensure_term(qualification.valid_from, qualification.valid_until)
    try:
        until = rules.term_of(rule, qualification.valid_from, until)
    except (ValueError, OverflowError) as error:
        raise UnknownReference("valid_from", "The term would end after the calendar does.") from error
    qualification = replace(qualification, person=account.person, valid_until=until)
    now = clock.now()
    await repository.add_qualification(session, qualification, now)
    recorded = QualificationRecorded(
        account=account.id,
        person=account.person,
        qualification=qualification.qualification,
        valid_from=qualification.valid_from,
        valid_until=qualification.valid_until,
        record=qualification.id,
    )
    await outbox.add(session, recorded, by=by, at=now)
    return qualification


async def withdraw_qualification(
    session: AsyncSession,
    account_id: UUID,
    qualification_id: UUID,
    reason: WithdrawalReason,
    *,
    by: Subject,
    clock: Clock,
) -> QualificationRow:
    """What was recorded counts no more, from now on. Raises NotFound, SelfManagement, Conflict."""
    account = await of_another(session, account_id, by)
    row = await repository.qualification_for_update(session, account_id, qualification_id)
    if row is None:
        raise NotFound("The account has no such qualification.")
    if row.withdrawn_at is not None:
        raise Conflict("It was withdrawn before.")
    now = clock.now()
    await repository.withdraw_qualification(session, row.id, reason.value, now)
    withdrawn = QualificationWithdrawn(
        account=account.id,
        person=account.person,
        qualification=row.qualification,
        record=row.id,
        reason=reason.value,
    )
    await outbox.add(session, withdrawn, by=by, at=now)
    return replace(row, withdrawn_at=now, withdrawn_for=reason.value)
