"""Grants after they were issued: who sees them, their return and revocation, and what records tells of them."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from dossier_approvals import repository, rules
from dossier_approvals.errors import GrantEnded, NotTheHolder
from dossier_approvals.models import Grant
from dossier_approvals.rules import GrantState, StepState
from dossier_approvals.schemas import GrantResolved, GrantShown
from dossier_approvals.service import cases
from dossier_common import outbox
from dossier_common.contracts.approvals import Conditions, GrantReturned, GrantRevoked
from dossier_common.identity import Subject
from dossier_common.policy import Policy
from dossier_common.problems import Hidden, NotFound
from dossier_common.reach import units_reached
from dossier_common.scopes import Scope
from dossier_common.texts import SealedTexts


def state_of(grant: Grant, now: datetime) -> GrantState:
    """How the grant stands now."""
    return rules.grant_state(GrantState(grant.state), grant.until, grant.uses, grant.uses_counted, now)


async def _units_revoked(session: AsyncSession, policy: Policy, by: Subject) -> frozenset[UUID] | None:
    """The units over whose records the caller may revoke grants; None for all."""
    if Scope.GRANTS_REVOKE not in by.scopes:
        return frozenset()
    return await units_reached(session, policy, by, Scope.GRANTS_REVOKE)


async def _of_case(session: AsyncSession, grant_id: UUID, by: Subject, *, lock: bool = False) -> tuple[Grant, bool]:
    """The grant, and whether the caller holds it or has decided on it. Raises NotFound."""
    grant = await repository.grant(session, grant_id, lock=lock)
    if grant is None:
        raise NotFound
    return grant, by.person is not None and by.person in grant.persons


async def _seen(session: AsyncSession, policy: Policy, grant_id: UUID, by: Subject, *, lock: bool = False) -> Grant:
    """The grant, for its holder, the deciders of its case, and whoever may revoke in the unit of each of its records.

    Raises NotFound, Hidden.
    """
    grant, takes_part = await _of_case(session, grant_id, by, lock=lock)
    if not takes_part:
        units = await _units_revoked(session, policy, by)
        those = await repository.units_of_request(session, grant.request)
        if units is not None and not (those and those <= units):
            raise Hidden
    return grant


async def list_grants(
    session: AsyncSession, policy: Policy, by: Subject, now: datetime, *, limit: int, before: UUID | None
) -> list[GrantShown]:
    """A page of what the caller may see, the newest first; one more than the limit when there is a next page."""
    units = await _units_revoked(session, policy, by)
    grants = await repository.grants_of(session, by.person, units, limit=limit + 1, before=before)
    records = await repository.granted_records(session, [grant.id for grant in grants])
    return [shown(grant, records[grant.id], now) for grant in grants]


async def show_grant(session: AsyncSession, policy: Policy, grant_id: UUID, by: Subject, now: datetime) -> GrantShown:
    """The grant. Raises NotFound, Hidden."""
    grant = await _seen(session, policy, grant_id, by)
    return shown(grant, (await repository.granted_records(session, [grant.id]))[grant.id], now)


async def return_grant(session: AsyncSession, grant_id: UUID, by: Subject, now: datetime) -> None:
    """The holder gives the grant back before its end. Raises NotFound, Hidden, NotTheHolder, GrantEnded."""
    _, person = cases.person_of(by)
    grant, takes_part = await _of_case(session, grant_id, by, lock=True)
    if not takes_part:
        raise Hidden
    if grant.holder_person != person:
        raise NotTheHolder
    if grant.state != GrantState.ACTIVE:
        raise GrantEnded(grant.state)
    await repository.end_grant(session, grant.id, GrantState.RETURNED, now, None)
    await outbox.add(session, GrantReturned(grant=grant.id), by=by, at=now)


async def revoke_grant(
    session: AsyncSession, policy: Policy, texts: SealedTexts, grant_id: UUID, reason: str, by: Subject, now: datetime
) -> None:
    """The grant ends at once, wherever it is used. The reason stays here. Raises NotFound, Hidden, GrantEnded."""
    grant = await _seen(session, policy, grant_id, by, lock=True)
    if grant.state != GrantState.ACTIVE:
        raise GrantEnded(grant.state)
    sealed = texts.seal(reason)
    await repository.end_grant(session, grant.id, GrantState.REVOKED, now, sealed)
    await outbox.add(session, GrantRevoked(grant=grant.id), by=by, at=now)


async def resolve_grant(session: AsyncSession, grant_id: UUID, now: datetime) -> GrantResolved:
    """The grant as records needs it when its event has not come yet. Raises NotFound."""
    grant = await repository.grant(session, grant_id)
    if grant is None:
        raise NotFound
    records = (await repository.granted_records(session, [grant.id]))[grant.id]
    found = shown(grant, records, now).model_dump(exclude={"id", "issued_at", "ended_at"})
    return GrantResolved(grant=grant.id, **found)


async def count_use(session: AsyncSession, grant_id: UUID, use: int) -> None:
    """Keeps the number that records counted, for display; approvals owns the limit, records the count."""
    await repository.count_use(session, grant_id, use)


async def end_record(session: AsyncSession, record: UUID, now: datetime) -> None:
    """The record is destroyed: grants on it end, and open requests for it are rejected."""
    await repository.end_grants_on(session, record, now)
    for request in await repository.open_requests_on(session, record):
        loaded = await repository.loaded(session, request)
        await cases.reject(session, loaded, StepState.CANCELLED, by=None, now=now)


def shown(grant: Grant, records: list[UUID], now: datetime) -> GrantShown:
    """A grant over these records, as it stands now."""
    return GrantShown.model_validate(
        {
            "id": grant.id,
            "request": grant.request,
            "state": state_of(grant, now),
            "action": grant.action,
            "records": records,
            "fields": grant.fields,
            "purpose": grant.purpose,
            "not_before": grant.not_before,
            "until": grant.until,
            "uses": grant.uses,
            "uses_counted": grant.uses_counted,
            "conditions": Conditions.model_validate(grant.conditions),
            "holder_account": grant.holder_account,
            "holder_person": grant.holder_person,
            "persons": grant.persons,
            "disposal": grant.disposal,
            "policy": grant.policy,
            "issued_at": grant.issued_at,
            "ended_at": grant.ended_at,
        }
    )
