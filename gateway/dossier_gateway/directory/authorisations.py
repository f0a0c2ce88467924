"""Maintenance authorisations: what an administrator may do only after another person has allowed it (A4, A6).

The policy's section `maintenance` says for which operations. Without an entry nothing is needed.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common import outbox
from dossier_common.clock import Clock
from dossier_common.contracts.gateway import AuthorisationDecided, AuthorisationRequested, AuthorisationUsed
from dossier_common.identity import Subject
from dossier_common.ids import new_id
from dossier_common.policy import MaintenanceRule, Operation, Policy
from dossier_common.problems import Conflict, Forbidden, Hidden, InsufficientScope, NotFound
from dossier_common.scopes import Scope
from dossier_common.texts import SealedTexts
from dossier_gateway.directory import authorisation_repository as repository
from dossier_gateway.directory import client_repository
from dossier_gateway.directory.authorisation_repository import AuthorisationRow, Seen
from dossier_gateway.directory.repository import Reading
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
    authorisation: UUID | None,
    by: Subject | None,
    clock: Clock,
) -> None:
    """Lets a maintenance operation pass, and uses its authorisation up in the transaction of `session`.

    Call it in the transaction of the act, before the act is done; when that fails, nothing was used. `object_` is the
    account, client or unit that the operation is done to (see WITHOUT_OBJECT), `authorisation` what the caller named
    by `?authorisation=<id>` (`parameters.ByAuthorisation`), `by` who does it; None is Dossier itself, which needs none.
    Raises AuthorisationRequired (403) unless the policy wants none, or another person approved exactly this
    operation on this object for this account, its term is not over and it was not used before.
    """
    rule = policy.maintenance_for(operation)
    if rule is None or by is None:
        return
    if authorisation is None:
        raise AuthorisationRequired(rule, "Name an approved authorisation by ?authorisation=<id>.")
    row = await repository.found(session, authorisation, lock=True)
    fault = _fault(row, rule, None if object_ is None else str(object_), by, clock)
    if row is None or fault:
        raise AuthorisationRequired(rule, fault)
    now = clock.now()
    await repository.use(session, row.id, now)
    used = AuthorisationUsed(authorisation=row.id, operation=row.operation, object=row.object)
    await outbox.add(session, used, by=by, at=now)


def _fault(row: AuthorisationRow | None, rule: MaintenanceRule, object_: str | None, by: Subject, clock: Clock) -> str:
    """What keeps the authorisation from being of use; empty when it is."""
    if row is None or by.account is None or row.requester_account != by.account:
        return "You have no such authorisation."
    if (row.operation, row.object) != (rule.operation.value, object_):
        return "The authorisation is for another operation, or for another object."
    if row.state != "approved":
        return f"The authorisation is {row.state}."
    if row.used_at is not None:
        return "The authorisation was used."
    if row.valid_until is None or row.valid_until <= clock.now():
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
    """Asks for an authorisation. Raises Forbidden, InsufficientScope, Conflict, UnknownReference."""
    if by.account is None or by.person is None:
        raise Forbidden("A person asks, and does it himself.")
    if DONE_WITH[operation] not in by.scopes:
        raise InsufficientScope(DONE_WITH[operation])
    if policy.maintenance_for(operation) is None:
        raise Conflict("The policy wants no authorisation for this.")
    row = AuthorisationRow(
        id=new_id(),
        operation=operation.value,
        object=await _object(session, operation, object_),
        reason=texts.seal(reason),
        requester_account=by.account,
        requester_person=by.person,
        requested_at=clock.now(),
        state="pending",
    )
    await repository.add(session, row)
    requested = AuthorisationRequested(authorisation=row.id, operation=row.operation, object=row.object)
    await outbox.add(session, requested, by=by, at=row.requested_at)
    return row


async def _object(session: AsyncSession, operation: Operation, named: str | None) -> str | None:
    """The object in the spelling that the act will name it with. Raises UnknownReference."""
    if operation in WITHOUT_OBJECT:
        if named is not None:
            raise UnknownReference("object", "This operation has no object.")
        return None
    if named is None:
        raise UnknownReference("object", "The operation is authorised for one object: name it.")
    if operation is Operation.CLIENTS_REGISTER:
        return named
    if DONE_WITH[operation] is Scope.CLIENTS_MANAGE:
        if await client_repository.client(session, named) is None:
            raise UnknownReference("object", "There is no such client.")
        return named
    try:
        found = UUID(named)
    except ValueError as error:
        raise UnknownReference("object", "The object is named by its id.") from error
    reading = Reading(session)
    known = reading.unit(found) if operation is Operation.UNITS_CHANGE else reading.account(found)
    if await known is None:
        raise UnknownReference("object", "There is nothing of this id.")
    return str(found)


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
    """Another person's word. Raises NotFound, Hidden, InsufficientScope, SelfApproval, Conflict, Forbidden."""
    row = await repository.found(session, authorisation, lock=True)
    row = _visible(row, seen_by(policy, by))
    rule = policy.maintenance_for(row.operation)
    if rule is None:
        raise Conflict("The policy wants no authorisation for this any more.")
    if by.person is None or by.account is None:
        raise Forbidden("A person decides.")
    if rule.authorised_by not in by.scopes:
        raise InsufficientScope(rule.authorised_by)
    if by.person == row.requester_person:
        raise SelfApproval("Another person has to decide this.")
    if row.state != "pending":
        raise Conflict(f"The authorisation is {row.state} already.")
    now = clock.now()
    row = replace(
        row,
        state="approved" if approve else "refused",
        decider_account=by.account,
        decider_person=by.person,
        comment=texts.seal(comment),
        decided_at=now,
        valid_until=rule.valid.after(now) if approve else None,
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


async def show(session: AsyncSession, policy: Policy, authorisation: UUID, by: Subject) -> AuthorisationRow:
    """One that the caller asked for or may decide. Raises NotFound, Hidden."""
    return _visible(await repository.found(session, authorisation), seen_by(policy, by))


def seen_by(policy: Policy, by: Subject) -> Seen:
    """What the caller sees."""
    decides = {rule.operation.value for rule in policy.maintenance if rule.authorised_by in by.scopes}
    return Seen(by.account, frozenset(decides))


def _visible(row: AuthorisationRow | None, seen: Seen) -> AuthorisationRow:
    if row is None:
        raise NotFound("There is no such authorisation.")
    if row.requester_account != seen.account and row.operation not in seen.decides:
        raise Hidden("There is no such authorisation.")
    return row
