"""Use cases of accounts. Every change is an event (A4.33), and nobody changes his own rights."""

import secrets
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common import outbox, preconditions
from dossier_common.clock import Clock
from dossier_common.contracts.gateway import (
    AccountChanged,
    AccountCreated,
    AccountDisabled,
    AccountEnabled,
    ClearanceChanged,
    EnrolmentIssued,
)
from dossier_common.identity import Subject
from dossier_common.ids import new_id
from dossier_common.policy import Operation, Policy, UnknownNameError
from dossier_common.problems import Conflict
from dossier_gateway.directory import access, repository
from dossier_gateway.directory.authorisations import authorised, authorised_on
from dossier_gateway.directory.known import of_another
from dossier_gateway.directory.offboarding_repository import held_by_others
from dossier_gateway.directory.repository import AccountRow, Reading
from dossier_gateway.directory.rules import DisablingReason
from dossier_gateway.errors import LastOfficer, Taken, UnknownReference
from dossier_gateway.oauth.clients import digest
from dossier_gateway.tokens import Terms


@dataclass(frozen=True, slots=True)
class AccountChange:
    """What is to be otherwise; None stays as it is."""

    display_name: str | None = None
    unit: UUID | None = None


def new(username: str, display_name: str, unit: UUID, person: UUID | None) -> AccountRow:
    """A new account, to be given to `create`."""
    return AccountRow(new_id(), person or new_id(), username, display_name, unit, "", "invited")


async def create(
    session: AsyncSession,
    policy: Policy,
    account: AccountRow,
    *,
    further: bool,
    by: Subject | None,
    clock: Clock,
    term: timedelta,
    authorisation: UUID | None = None,
) -> str:
    """An account that waits for its person; the one-time code for him.

    `further` says that the person has to have an account already. It is cleared for the lowest level. Raises Taken,
    UnknownReference, AuthorisationRequired.
    """
    reading = Reading(session)
    if await reading.unit(account.unit) is None:
        raise UnknownReference("unit", "There is no such unit.")
    if further and not await reading.person_known(account.person):
        raise UnknownReference("person", "There is no such person.")
    await authorised(
        session, policy, Operation.ACCOUNTS_CREATE, object_=None, authorisation=authorisation, by=by, clock=clock
    )
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


async def issue_enrolment(
    session: AsyncSession,
    policy: Policy,
    account_id: UUID,
    *,
    by: Subject,
    clock: Clock,
    term: timedelta,
    authorisation: UUID | None,
) -> str:
    """Another one-time code for a person who lost his password.

    Raises NotFound, SelfManagement, Conflict, AuthorisationRequired.
    """
    account = await of_another(session, account_id, by)
    if account.state == "disabled":
        raise Conflict("The account is disabled.")
    await authorised_on(
        session, policy, Operation.ENROLMENTS_ISSUE, account, authorisation=authorisation, by=by, clock=clock
    )
    code = await _enrolment(session, account.id, clock, term)
    await outbox.add(session, EnrolmentIssued(account=account.id, person=account.person), by=by, at=clock.now())
    return code


async def ensure_offices_kept(
    session: AsyncSession, policy: Policy, person: UUID, roles: Collection[str], now: datetime
) -> None:
    """Raises LastOfficer when one of the roles is an office of the three that nobody else holds now (A1.5)."""
    offices = {role.id for role in policy.roles if role.officer} & set(roles)
    if not offices:
        return
    await repository.lock_offices(session)
    vacant = offices - await held_by_others(session, offices, person, now)
    if vacant:
        raise LastOfficer(sorted(vacant))


async def change(
    session: AsyncSession,
    account_id: UUID,
    wanted: AccountChange,
    *,
    if_match: str | None,
    by: Subject,
    clock: Clock,
) -> AccountRow:
    """Another name that people see, or another home unit; roles stay where they are.

    A person who moves for good is transferred (see offboarding). Raises NotFound, SelfManagement,
    PreconditionMissing, Stale, UnknownReference.
    """
    account = await of_another(session, account_id, by)
    preconditions.require_match(if_match, account.version)
    after = replace(
        account,
        display_name=wanted.display_name or account.display_name,
        unit=wanted.unit or account.unit,
    )
    changed = tuple(name for name in ("display_name", "unit") if getattr(after, name) != getattr(account, name))
    if not changed:
        return account
    if "unit" in changed and await Reading(session).unit(after.unit) is None:
        raise UnknownReference("unit", "There is no such unit.")
    await repository.change_account(session, account.id, display_name=after.display_name, unit=after.unit)
    event = AccountChanged(
        account=account.id, person=account.person, changed=changed, unit_from=account.unit, unit_to=after.unit
    )
    await outbox.add(session, event, by=by, at=clock.now())
    return replace(after, version=account.version + 1)


async def disable(
    session: AsyncSession,
    policy: Policy,
    account_id: UUID,
    reason: DisablingReason,
    *,
    by: Subject,
    clock: Clock,
    terms: Terms,
    authorisation: UUID | None,
) -> AccountRow:
    """From now on the account is of no use: sessions, tokens and codes end with the transaction.

    Its roles stay and count in conflicts, since it can be enabled again; as a candidate for new tasks it counts
    nowhere. Raises NotFound, SelfManagement, Conflict, LastOfficer, AuthorisationRequired.
    """
    account = await of_another(session, account_id, by)
    if account.state == "disabled":
        raise Conflict("The account is disabled already.")
    now = clock.now()
    held = await Reading(session).assignments(account.id, now)
    await ensure_offices_kept(session, policy, account.person, [each.role for each in held], now)
    await authorised_on(
        session, policy, Operation.ACCOUNTS_DISABLE, account, authorisation=authorisation, by=by, clock=clock
    )
    await repository.change_account(session, account.id, state="disabled")
    disabled = AccountDisabled(account=account.id, person=account.person, reason=reason.value)
    await outbox.add(session, disabled, by=by, at=now)
    await access.end_access(session, [account.id], "account-disabled", by=by, now=now, terms=terms)
    return replace(account, state="disabled", version=account.version + 1)


async def enable(
    session: AsyncSession,
    policy: Policy,
    account_id: UUID,
    *,
    by: Subject,
    clock: Clock,
    authorisation: UUID | None,
) -> AccountRow:
    """The account may be signed in to again: with its password, or it waits for its person as a new one does.

    Raises NotFound, SelfManagement, Conflict, AuthorisationRequired.
    """
    account = await of_another(session, account_id, by)
    if account.state != "disabled":
        raise Conflict("The account is not disabled.")
    await authorised_on(
        session, policy, Operation.ACCOUNTS_ENABLE, account, authorisation=authorisation, by=by, clock=clock
    )
    state = "active" if await repository.has_password(session, account.id) else "invited"
    await repository.change_account(session, account.id, state=state)
    enabled = AccountEnabled(account=account.id, person=account.person, state=state)
    await outbox.add(session, enabled, by=by, at=clock.now())
    return replace(account, state=state, version=account.version + 1)


async def change_clearance(
    session: AsyncSession,
    policy: Policy,
    account_id: UUID,
    clearance: str,
    *,
    if_match: str | None,
    by: Subject,
    clock: Clock,
) -> AccountRow:
    """Clears an account for a level (roles:assign).

    Raises NotFound, SelfManagement, PreconditionMissing, Stale, UnknownReference.
    """
    account = await of_another(session, account_id, by)
    preconditions.require_match(if_match, account.version)
    try:
        policy.level(clearance)
    except UnknownNameError as error:
        raise UnknownReference("clearance", "The policy has no such level.") from error
    if clearance == account.clearance:
        return account
    await repository.change_account(session, account.id, clearance=clearance)
    changed = ClearanceChanged(
        account=account.id, person=account.person, clearance_from=account.clearance, clearance_to=clearance
    )
    await outbox.add(session, changed, by=by, at=clock.now())
    return replace(account, clearance=clearance, version=account.version + 1)
