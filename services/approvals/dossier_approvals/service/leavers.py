"""A person left or moved (A4.38, A2.6): his grants end, his requests are withdrawn, and others decide in his place.

Each step looks at what is still there, so that an event that comes again changes nothing.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from dossier_approvals import repository
from dossier_approvals.models import Request
from dossier_approvals.rules import RequestState, StepState
from dossier_approvals.service import cases, vacancies
from dossier_common import outbox
from dossier_common.contracts.approvals import GrantRevoked, RequestWithdrawn
from dossier_common.contracts.gateway import PersonOffboarded

REASON = "offboarding"


async def offboard(session: AsyncSession, event: PersonOffboarded, now: datetime) -> None:
    """Nothing here is in his hands any more. Whoever moved asks anew, for what he needs in his new unit."""
    revoked = await repository.revoke_grants_of(session, event.person, now)
    await outbox.add_all(session, [GrantRevoked(grant=grant, reason=REASON) for grant in revoked], by=None, at=now)
    for request in await repository.open_requests_of(session, event.person):
        await _withdraw(session, request, now)
    for request in await repository.open_requests_before(session, event.person):
        await _replace(session, request, event.person, now)


async def _withdraw(session: AsyncSession, request: Request, now: datetime) -> None:
    loaded = await repository.loaded(session, request)
    ended = (RequestState.WITHDRAWN, StepState.CANCELLED)
    await cases.close_request(session, request, loaded.open_step(), ended, now)
    withdrawn = RequestWithdrawn(request=request.id, disposal=request.disposal, reason=REASON)
    await outbox.add(session, withdrawn, by=None, at=now)


async def _replace(session: AsyncSession, request: Request, person: UUID, now: datetime) -> None:
    """Takes him out of every stage of which he does not hold the office any more, reached or not.

    The directory has told before which roles he lost.
    """
    loaded = await repository.loaded(session, request)
    for stage in loaded.stages:
        his = [
            each
            for each in loaded.candidates
            if each.position == stage.position and each.person == person and each.removed_at is None
        ]
        holders = await vacancies.holders_of(session, stage, now)
        stays = {each.account for each in holders}
        gone = [each for each in his if each.escalated or each.account not in stays]
        if gone:
            await vacancies.staff(session, loaded, stage, holders, gone, now)
    await vacancies.notice(session, request, now)
