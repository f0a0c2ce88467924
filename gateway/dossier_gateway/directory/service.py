"""Use cases of the directory. Every change is an event (A4.33), and nobody changes his own rights."""

import secrets
from dataclasses import replace
from datetime import date, timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common import outbox
from dossier_common.clock import Clock
from dossier_common.contracts.gateway import (
    AccountCreated,
    ClearanceChanged,
    EnrolmentIssued,
    QualificationRecorded,
    RoleAssigned,
    RoleRevoked,
    UnitCreated,
)
from dossier_common.identity import Subject
from dossier_common.ids import new_id
from dossier_common.policy import Policy, UnknownNameError
from dossier_common.problems import Conflict, NotFound
from dossier_gateway.directory import repository, rules
from dossier_gateway.directory.repository import (
    AccountRow,
    AssignmentRow,
    QualificationRow,
    Reading,
    UnitRow,
)
from dossier_gateway.errors import Taken, UnknownReference
from dossier_gateway.oauth.clients import digest


async def create_unit(session: AsyncSession, unit: UnitRow, *, by: Subject | None, clock: Clock) -> UnitRow:
    """A unit below another. Raises Taken, UnknownReference, and Conflict for a second root."""
    reading = Reading(session)
    if unit.parent is None:
        if by is not None:
            raise Conflict("There is a root already; a unit stands under another.")
    else:
        parent = await reading.unit(unit.parent)
        if parent is None:
            raise UnknownReference("parent", "There is no such unit.")
        if not rules.may_stand_under(unit.kind, parent.kind):
            raise UnknownReference("kind", f"A {unit.kind} does not stand under a {parent.kind}.")
    now = clock.now()
    if not await repository.add_unit(session, unit, now):
        raise Taken("A unit has this code.")
    created = UnitCreated(unit=unit.id, parent=unit.parent, kind=unit.kind, code=unit.code)
    await outbox.add(session, created, by=by, at=now)
    return unit


async def create_account(
    session: AsyncSession,
    policy: Policy,
    account: AccountRow,
    *,
    further: bool,
    by: Subject | None,
    clock: Clock,
    term: timedelta,
) -> str:
    """An account that waits for its person; the one-time code for him. Raises Taken, UnknownReference.

    `further` says that the person has to have an account already. It is cleared for the lowest level.
    """
    reading = Reading(session)
    if await reading.unit(account.unit) is None:
        raise UnknownReference("unit", "There is no such unit.")
    if further and not await reading.person_known(account.person):
        raise UnknownReference("person", "There is no such person.")
    now = clock.now()
    account = replace(account, clearance=policy.levels[0].id)
    if not await repository.add_account(session, account, now):
        raise Taken("An account has this name.")
    code = await _enrolment(session, account.id, clock, term)
    created = AccountCreated(account=account.id, person=account.person, unit=account.unit, clearance=account.clearance)
    issued = EnrolmentIssued(account=account.id, person=account.person)
    await outbox.add_all(session, [created, issued], by=by, at=now)
    return code


async def _enrolment(session: AsyncSession, account: UUID, clock: Clock, term: timedelta) -> str:
    code = secrets.token_urlsafe(24)
    now = clock.now()
    await repository.add_enrolment(session, digest(code), account, now, now + term)
    return code


async def issue_enrolment(session: AsyncSession, account_id: UUID, by: Subject, clock: Clock, term: timedelta) -> str:
    """Another one-time code for a person who lost his password. Raises NotFound, SelfManagement, Conflict."""
    account = await _account(session, account_id)
    rules.ensure_not_himself(by, account.person)
    if account.state == "disabled":
        raise Conflict("The account is disabled.")
    code = await _enrolment(session, account.id, clock, term)
    await outbox.add(session, EnrolmentIssued(account=account.id, person=account.person), by=by, at=clock.now())
    return code


async def _account(session: AsyncSession, account_id: UUID) -> AccountRow:
    account = await repository.account_for_update(session, account_id)
    if account is None:
        raise NotFound("There is no such account.")
    return account


async def change_clearance(
    session: AsyncSession, policy: Policy, account_id: UUID, clearance: str, by: Subject, clock: Clock
) -> AccountRow:
    """Clears an account for a level (roles:assign). Raises NotFound, SelfManagement, UnknownReference."""
    account = await _account(session, account_id)
    rules.ensure_not_himself(by, account.person)
    try:
        policy.level(clearance)
    except UnknownNameError as error:
        raise UnknownReference("clearance", "The policy has no such level.") from error
    if clearance != account.clearance:
        await repository.set_clearance(session, account.id, clearance)
        changed = ClearanceChanged(
            account=account.id, person=account.person, clearance_from=account.clearance, clearance_to=clearance
        )
        await outbox.add(session, changed, by=by, at=clock.now())
    return replace(account, clearance=clearance)


async def assign_role(
    session: AsyncSession, policy: Policy, assignment: AssignmentRow, *, by: Subject | None, clock: Clock
) -> AssignmentRow:
    """Gives a role in a unit; all accounts of a person count together (invariant 4).

    Raises NotFound, SelfManagement, UnknownReference, DutyConflict, Taken.
    """
    account = await _account(session, assignment.account)
    if by is not None:
        rules.ensure_not_himself(by, account.person)
    await repository.lock_person(session, account.person)
    reading = Reading(session)
    try:
        policy.role(assignment.role)
    except UnknownNameError as error:
        raise UnknownReference("role", "The policy has no such role.") from error
    if await reading.unit(assignment.unit) is None:
        raise UnknownReference("unit", "There is no such unit.")
    rules.ensure_no_conflict(policy, await reading.roles_of_person(account.person), assignment.role)
    assignment = replace(assignment, person=account.person)
    now = clock.now()
    if not await repository.add_assignment(session, assignment, now):
        raise Taken("The account holds this role in this unit.")
    assigned = RoleAssigned(
        assignment=assignment.id,
        account=account.id,
        person=account.person,
        role=assignment.role,
        unit=assignment.unit,
    )
    await outbox.add(session, assigned, by=by, at=now)
    return assignment


async def revoke_role(session: AsyncSession, account_id: UUID, assignment_id: UUID, by: Subject, clock: Clock) -> None:
    """Ends a role. Raises NotFound, SelfManagement."""
    account = await _account(session, account_id)
    rules.ensure_not_himself(by, account.person)
    ended = await repository.remove_assignment(session, account_id, assignment_id)
    if ended is None:
        raise NotFound("The account has no such role.")
    revoked = RoleRevoked(
        assignment=ended.id, account=ended.account, person=ended.person, role=ended.role, unit=ended.unit
    )
    await outbox.add(session, revoked, by=by, at=clock.now())


async def record_qualification(
    session: AsyncSession, policy: Policy, qualification: QualificationRow, by: Subject, clock: Clock
) -> QualificationRow:
    """Records what a person signed or passed (B2.5.4). Raises NotFound, SelfManagement, UnknownReference."""
    account = await _account(session, qualification.account)
    rules.ensure_not_himself(by, account.person)
    try:
        rule = policy.qualification(qualification.qualification)
    except UnknownNameError as error:
        raise UnknownReference("qualification", "The policy has no such qualification.") from error
    until = _until(qualification.valid_from, qualification.valid_until)
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
        valid_until=qualification.valid_until,
    )
    await outbox.add(session, recorded, by=by, at=now)
    return qualification


def _until(valid_from: date, valid_until: date | None) -> date | None:
    if valid_until is not None and valid_until < valid_from:
        raise UnknownReference("valid_until", "A term ends after it began.")
    return valid_until


def new_account(username: str, display_name: str, unit: UUID, person: UUID | None) -> AccountRow:
    """An account that is yet to be kept."""
    return AccountRow(new_id(), person or new_id(), username, display_name, unit, "", "invited")
