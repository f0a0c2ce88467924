"""Maintenance authorisations: what an administrator may do only after another person has allowed it (A4, A6).

The policy's section `maintenance` says for which operations. Without an entry nothing is needed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common import outbox
from dossier_common.clock import Clock
from dossier_common.contracts.gateway import AuthorisationDecided, AuthorisationRequested, AuthorisationUsed
from dossier_common.identity import Subject
from dossier_common.ids import new_id
from dossier_common.policy import ON_ACCOUNTS, MaintenanceRule, Operation, Policy
from dossier_common.problems import Conflict, Forbidden, Hidden, InsufficientScope, NotFound
from dossier_common.scopes import Scope
from dossier_common.texts import SealedTexts
from dossier_gateway.directory import authorisation_repository as repository
from dossier_gateway.directory import client_repository
from dossier_gateway.directory.authorisation_repository import AuthorisationRow, Seen
from dossier_gateway.directory.repository import AccountRow, Reading, lock_person
from dossier_gateway.directory.rules import ensure_not_himself, scopes_of_known
from dossier_gateway.errors import AuthorisationRequired, SelfApproval, UnknownReference

DONE_WITH: Final[Mapping[Operation, Scope]] = {
    **dict.fromkeys(Operation, Scope.ACCOUNTS_MANAGE),
    Operation.CLIENTS_REGISTER: Scope.CLIENTS_MANAGE,
    Operation.CLIENTS_CHANGE: Scope.CLIENTS_MANAGE,
    Operation.CLIENTS_ENABLE: Scope.CLIENTS_MANAGE,
}
"""The scope of who does the operation, and so of who asks."""

WITHOUT_OBJECT: Final = frozenset({Operation.ACCOUNTS_CREATE})
"""What makes something that has no name yet. A new application is named by the id that it will have, a new unit by the
one that it will stand under; everything else by the account, application or unit that it is done to."""


async def authorised(
    session: AsyncSession,
    policy: Policy,
    operation: Operation,
    *,
    object_: UUID | str | None,
    person: UUID | None = None,
    authorisation: UUID | None,
    by: Subject | None,
    clock: Clock,
) -> None:
    """Lets a maintenance operation pass, and uses its authorisation up in the transaction of `session`.

    Call it in the transaction of the act, before the act is done; when that fails, nothing was used. `object_` is the
    account, client or unit that the operation is done to (see WITHOUT_OBJECT), `person` whose account that is,
    `authorisation` what the caller named by `?authorisation=<id>` (`parameters.ByAuthorisation`), `by` who does it:
    None is Dossier itself, which needs none. Raises AuthorisationRequired (403) unless the policy wants none, or
    another person approved exactly this operation on this object for this account, its term is not over and it was
    not used before.
    """
    if by is None:
        return
    now = clock.now()
    if person is not None:  # what he holds stays as it is until the act is done
        await lock_person(session, person)
    concern = await _concern(session, policy, operation, person, now)
    if concern is None:
        return
    if authorisation is None:
        raise AuthorisationRequired(concern.rule, concern.deciders, "Name an approved one by ?authorisation=<id>.")
    row = await repository.found(session, authorisation, lock=True)
    fault = _fault(row, concern.rule, None if object_ is None else str(object_), by, now)
    if row is None or fault:
        raise AuthorisationRequired(concern.rule, concern.deciders, fault)
    await repository.use(session, row.id, now)
    used = AuthorisationUsed(authorisation=row.id, operation=row.operation, object=row.object)
    await outbox.add(session, used, by=by, at=now)


async def authorised_on(
    session: AsyncSession,
    policy: Policy,
    operation: Operation,
    account: AccountRow,
    *,
    authorisation: UUID | None,
    by: Subject,
    clock: Clock,
) -> None:
    """As `authorised`, for an operation on an account: whose it is cannot be left out, so officers stay guarded."""
    await authorised(
        session,
        policy,
        operation,
        object_=account.id,
        person=account.person,
        authorisation=authorisation,
        by=by,
        clock=clock,
    )


@dataclass(frozen=True, slots=True)
class _Concern:
    """The rule for an operation on what somebody has, and the scopes of which one decides it now."""

    rule: MaintenanceRule
    deciders: tuple[Scope, ...]


async def _concern(
    session: AsyncSession, policy: Policy, operation: str, person: UUID | None, now: datetime
) -> _Concern | None:
    """None where the policy wants nobody's word; `person` is whom it concerns, by whichever account."""
    roles = await Reading(session).roles_of_person(person, now) if person else frozenset[str]()
    rule = policy.maintenance_for(operation, roles)
    return _Concern(rule, rule.deciders(scopes_of_known(policy, roles))) if rule else None


def _fault(row: AuthorisationRow | None, rule: MaintenanceRule, object_: str | None, by: Subject, now: datetime) -> str:
    """What keeps the authorisation from being of use; empty when it is."""
    if row is None or by.account is None or row.requester_account != by.account:
        return "You have no such authorisation."
    if (row.operation, row.object) != (rule.operation.value, object_):
        return "The authorisation is for another operation, or for another object."
    if row.state != "approved":
        return f"The authorisation is {row.state}."
    if row.used_at is not None:
        return "The authorisation was used."
    if row.valid_until is None or row.valid_until <= now:
        return "The term of the authorisation is over."
    return ""


async def request(
    session: AsyncSession,
    policy: Policy,
    texts: SealedTexts,
    *,
    operation: Operation,
    object_: str | None,
    reason: str,
    by: Subject,
    clock: Clock,
) -> AuthorisationRow:
    """Asks for an authorisation. Raises Forbidden, InsufficientScope, Conflict, UnknownReference, SelfManagement."""
    if by.account is None or by.person is None:
        raise Forbidden("A person asks, and does it himself.")
    if DONE_WITH[operation] not in by.scopes:
        raise InsufficientScope(DONE_WITH[operation])
    if not any(rule.operation is operation for rule in policy.maintenance):
        raise Conflict("The policy wants no authorisation for this.")
    object_, person = await _object(session, operation, object_)
    ensure_not_himself(by, person)
    now = clock.now()
    concern = await _concern(session, policy, operation, person, now)
    if concern is None:
        raise Conflict("The policy wants no authorisation for this object.")
    row = AuthorisationRow(
        id=new_id(),
        operation=operation.value,
        object=object_,
        concerned_person=person,
        deciders=concern.deciders,
        reason=texts.seal(reason),
        requester_account=by.account,
        requester_person=by.person,
        requested_at=now,
        state="pending",
    )
    await repository.add(session, row)
    requested = AuthorisationRequested(authorisation=row.id, operation=row.operation, object=row.object)
    await outbox.add(session, requested, by=by, at=row.requested_at)
    return row


async def _object(session: AsyncSession, operation: Operation, named: str | None) -> tuple[str | None, UUID | None]:
    """The object in the spelling that the act will name it with, and the person whose account it is.

    Raises UnknownReference.
    """
    if operation in WITHOUT_OBJECT:
        if named is not None:
            raise UnknownReference("object", "This operation has no object.")
        return None, None
    if named is None:
        raise UnknownReference("object", "The operation is authorised for one object: name it.")
    if operation is Operation.CLIENTS_REGISTER:
        return named, None
    if DONE_WITH[operation] is Scope.CLIENTS_MANAGE:
        if await client_repository.client(session, named) is None:
            raise UnknownReference("object", "There is no such client.")
        return named, None
    try:
        found = UUID(named)
    except ValueError as error:
        raise UnknownReference("object", "The object is named by its id.") from error
    reading, person = Reading(session), None
    if operation in ON_ACCOUNTS:
        account = await reading.account(found)
        person = account.person if account else None
    if person is None and (operation in ON_ACCOUNTS or await reading.unit(found) is None):
        raise UnknownReference("object", "There is nothing of this id.")
    return str(found), person


async def decide(
    session: AsyncSession,
    policy: Policy,
    texts: SealedTexts,
    authorisation: UUID,
    *,
    approve: bool,
    comment: str,
    by: Subject,
    clock: Clock,
) -> AuthorisationRow:
    """The word of another person than who asked, and than whom it is about.

    Raises NotFound, Hidden, InsufficientScope, SelfApproval, Conflict, Forbidden.
    """
    row = _visible(await repository.found(session, authorisation, lock=True), seen_by(by))
    now = clock.now()
    concern = await _concern(session, policy, row.operation, row.concerned_person, now)
    if concern is None:
        raise Conflict("The policy wants no authorisation for this any more.")
    if by.person is None or by.account is None:
        raise Forbidden("A person decides.")
    if by.scopes.isdisjoint(concern.deciders):
        raise InsufficientScope(concern.rule.authorised_by)
    if by.person in {row.requester_person, row.concerned_person}:
        raise SelfApproval("Another person has to decide this.")
    if row.state != "pending":
        raise Conflict(f"The authorisation is {row.state} already.")
    row = replace(
        row,
        state="approved" if approve else "refused",
        decider_account=by.account,
        decider_person=by.person,
        comment=texts.seal(comment),
        decided_at=now,
        valid_until=concern.rule.valid.after(now) if approve else None,
    )
    await repository.decide(
        session,
        row.id,
        state=row.state,
        account=by.account,
        person=by.person,
        comment=row.comment or b"",
        at=now,
        valid_until=row.valid_until,
    )
    decided = AuthorisationDecided(
        authorisation=row.id,
        operation=row.operation,
        object=row.object,
        requester_account=row.requester_account,
        requester_person=row.requester_person,
        verdict=row.state,
        valid_until=row.valid_until,
    )
    await outbox.add(session, decided, by=by, at=now)
    return row


async def show(session: AsyncSession, authorisation: UUID, by: Subject) -> AuthorisationRow:
    """One that the caller asked for, or that one of his scopes decides. Raises NotFound, Hidden."""
    return _visible(await repository.found(session, authorisation), seen_by(by))


def seen_by(by: Subject) -> Seen:
    """What the caller sees."""
    return Seen(by.account, by.scopes)


def _visible(row: AuthorisationRow | None, seen: Seen) -> AuthorisationRow:
    if row is None:
        raise NotFound("There is no such authorisation.")
    if row.requester_account != seen.account and seen.scopes.isdisjoint(row.deciders):
        raise Hidden("There is no such authorisation.")
    return row
