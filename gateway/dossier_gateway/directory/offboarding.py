"""Leaving and moving as one act (A4.38, A2.6, A6.2.2.5): what a person could do ends with the transaction.

The other parts follow the events: approvals ends his grants and replaces him where he would have decided, records
hands his custody over to the successor.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common import outbox
from dossier_common.clock import Clock
from dossier_common.contracts.gateway import (
    AccountChanged,
    AccountDisabled,
    ClearanceChanged,
    PersonOffboarded,
    RoleRevoked,
)
from dossier_common.events import Event
from dossier_common.identity import Subject
from dossier_common.ids import new_id
from dossier_common.policy import Operation, Policy
from dossier_common.problems import Conflict
from dossier_gateway.directory import access, rules
from dossier_gateway.directory import offboarding_repository as repository
from dossier_gateway.directory import repository as directory
from dossier_gateway.directory.accounts import ensure_offices_kept
from dossier_gateway.directory.authorisations import authorised
from dossier_gateway.directory.known import known
from dossier_gateway.directory.offboarding_repository import Held, OffboardingRow
from dossier_gateway.directory.offboarding_schemas import REASONS, Kind, Reason
from dossier_gateway.directory.repository import AssignmentRow
from dossier_gateway.errors import UnknownReference
from dossier_gateway.tokens import Terms

WHY = "offboarding"
"""What the events of the single changes say as their reason."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for; `unit` is the new home unit of a transfer."""

    kind: Kind
    reason: Reason
    successor: UUID
    unit: UUID | None


async def offboard(
    session: AsyncSession,
    policy: Policy,
    account: UUID,
    wish: Wish,
    *,
    by: Subject,
    clock: Clock,
    terms: Terms,
    authorisation: UUID | None,
) -> OffboardingRow:
    """The person of this account has left, or works in another unit, with all of his accounts.

    Leaving disables the accounts; a transfer moves them. Both end the roles outside the new unit, set the clearance to
    the lowest level and end every session, code and token, so that whoever comes back or goes on begins anew.

    Raises NotFound, SelfManagement, UnknownReference, LastOfficer, AuthorisationRequired; Conflict when he left or
    moved there before.
    """
    now = clock.now()
    person = (await known(session, account)).person
    rules.ensure_not_himself(by, person)
    held = await repository.locked(session, person, wish.successor)
    await directory.lock_person(session, person)
    own = [each for each in held if each.person == person]
    live = [each for each in own if each.state != "disabled"]
    successor = _successor(held, person, wish.successor)
    await _check(session, wish, person, live)
    roles = await repository.assignments_of(session, person, now)
    ended = [each for each in roles if each.unit != wish.unit]
    await ensure_offices_kept(session, policy, person, [each.role for each in ended], now)
    await authorised(
        session,
        policy,
        Operation.ACCOUNTS_OFFBOARD,
        object_=account,
        person=person,
        authorisation=authorisation,
        by=by,
        clock=clock,
    )
    units = {each.unit for each in live or own} | {each.unit for each in roles}
    row = OffboardingRow(
        id=new_id(),
        kind=wish.kind.value,
        reason=wish.reason.value,
        person=person,
        accounts=[each.id for each in own],
        units_left=sorted(units - {wish.unit}),
        unit_to=wish.unit,
        successor_account=successor.id,
        successor_person=successor.person,
        by_account=by.account,
        at=now,
    )
    lowest = policy.levels[0].id
    await repository.add(session, row)
    await repository.end_assignments(session, [each.id for each in ended])
    moved = {"unit": wish.unit} if wish.unit else {"state": "disabled"}
    await repository.change_accounts(session, [each.id for each in live], clearance=lowest, **moved)
    await outbox.add_all(session, _single_changes(live, ended, wish.unit, lowest), by=by, at=now)
    await access.end_access(session, row.accounts, WHY, by=by, now=now, terms=terms)
    offboarded = PersonOffboarded(
        offboarding=row.id,
        kind=row.kind,
        person=person,
        accounts=tuple(row.accounts),
        units_left=tuple(row.units_left),
        unit_to=row.unit_to,
        successor_account=successor.id,
        successor_person=successor.person,
        successor_clearance=successor.clearance,
    )
    await outbox.add(session, offboarded, by=by, at=now)
    return row


def _successor(held: Sequence[Held], person: UUID, account: UUID) -> Held:
    found = next((each for each in held if each.id == account), None)
    if found is None or found.state != "active":
        raise UnknownReference("successor", "There is no such active account.")
    if found.person == person:
        raise UnknownReference("successor", "The successor is another person.")
    return found


async def _check(session: AsyncSession, wish: Wish, person: UUID, live: Sequence[Held]) -> None:
    """Whether there is anything left to end, and a place to go to."""
    if wish.reason not in REASONS[wish.kind]:
        raise UnknownReference("reason", f"This is no reason for a {wish.kind}.")
    if wish.kind is Kind.LEAVING:
        if wish.unit is not None:
            raise UnknownReference("unit", "Who leaves has no new unit.")
        before = await repository.latest(session, person)
        if not live and before is not None and before.kind == Kind.LEAVING:
            raise Conflict("The person has left.", offboarding=str(before.id))
        return
    if wish.unit is None or await directory.Reading(session).unit(wish.unit) is None:
        raise UnknownReference("unit", "There is no such unit.")
    if not live:
        raise Conflict("All accounts of the person are disabled.")
    if all(each.unit == wish.unit for each in live):
        raise Conflict("The person works in this unit.")


def _single_changes(
    live: Sequence[Held], ended: Sequence[AssignmentRow], unit: UUID | None, lowest: str
) -> list[Event]:
    """What each account and role lost, as when it is done one by one."""
    events: list[Event] = [
        RoleRevoked(assignment=each.id, account=each.account, person=each.person, role=each.role, unit=each.unit)
        for each in ended
    ]
    for each in live:
        marks = {"account": each.id, "person": each.person}
        if each.clearance != lowest:
            changed = ClearanceChanged(**marks, clearance_from=each.clearance, clearance_to=lowest)
            events.append(changed)
        if unit is None:
            events.append(AccountDisabled(**marks, reason=WHY))
        elif each.unit != unit:
            events.append(AccountChanged(**marks, changed=("unit",), unit_from=each.unit, unit_to=unit))
    return events
