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
from dossier_common.problems import Hidden, NotFound
from dossier_common.scopes import Scope
from dossier_common.texts import SealedTexts


def state_of(grant: Grant, now: datetime) -> GrantState:
    """How the grant stands now."""
    return rules.grant_state(GrantState(grant.state), grant.until, grant.uses, grant.uses_counted, now)


def _may_see(grant: Grant, by: Subject) -> bool:
    """The holder, the deciders of the case, and whoever may revoke (`persons` holds the first two)."""
    return Scope.GRANTS_REVOKE in by.scopes or (by.person is not None and by.person in grant.persons)


async def _seen(session: AsyncSession, grant_id: UUID, by: Subject, *, lock: bool = False) -> Grant:
    grant = await repository.grant(session, grant_id, lock=lock)
    if grant is None:
        raise NotFound
    if not _may_see(grant, by):
        raise Hidden
    return grant


async def list_grants(
    session: AsyncSession, by: Subject, now: datetime, *, limit: int, before: UUID | None
) -> list[GrantShown]:
    """A page of what the caller may see, the newest first; one more than the limit when there is a next page."""
    everything = Scope.GRANTS_REVOKE in by.scopes
    if not everything and by.person is None:
        return []
    person = None if everything else by.person
    grants = await repository.grants_of(session, person, limit=limit + 1, before=before)
    records = await repository.granted_records(session, [grant.id for grant in grants])
    return [_shown(grant, records[grant.id], now) for grant in grants]


async def show_grant(session: AsyncSession, grant_id: UUID, by: Subject, now: datetime) -> GrantShown:
    """The grant. Raises NotFound, Hidden."""
    grant = await _seen(session, grant_id, by)
    return _shown(grant, (await repository.granted_records(session, [grant.id]))[grant.id], now)


async def return_grant(session: AsyncSession, grant_id: UUID, by: Subject, now: datetime) -> None:
    """The holder gives the grant back before its end. Raises NotFound, Hidden, NotTheHolder, GrantEnded."""
    _, person = cases.person_of(by)
    grant = await _seen(session, grant_id, by, lock=True)
    if grant.holder_person != person:
        raise NotTheHolder
    if grant.state != GrantState.ACTIVE:
        raise GrantEnded(grant.state)
    await repository.end_grant(session, grant.id, GrantState.RETURNED, now, None)
    await outbox.add(session, GrantReturned(grant=grant.id), by=by, at=now)


async def revoke_grant(
    session: AsyncSession, texts: SealedTexts, grant_id: UUID, reason: str, by: Subject, now: datetime
) -> None:
    """The grant ends at once, wherever it is used. The reason stays here. Raises NotFound, GrantEnded."""
    grant = await _seen(session, grant_id, by, lock=True)
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
    shown = _shown(grant, records, now).model_dump(exclude={"id", "issued_at", "ended_at"})
    return GrantResolved(grant=grant.id, **shown)


async def count_use(session: AsyncSession, grant_id: UUID, use: int) -> None:
    """Keeps the number that records counted, for display; approvals owns the limit, records the count."""
    await repository.count_use(session, grant_id, use)


async def end_record(session: AsyncSession, record: UUID, now: datetime) -> None:
    """The record is destroyed: grants on it end, and open requests for it are rejected."""
    await repository.end_grants_on(session, record, now)
    for request in await repository.open_requests_on(session, record):
        loaded = await repository.loaded(session, request)
        await cases.reject(session, loaded, StepState.CANCELLED, by=None, now=now)


def _shown(grant: Grant, records: list[UUID], now: datetime) -> GrantShown:
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
