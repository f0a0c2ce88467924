"""Who decides when somebody has left: the offices of a stage are looked for again, and what is vacant is said.

A case freezes the persons that it resolved. Only when one of them leaves or moves, or while a stage is vacant, those
are added who hold its office now.
"""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from dossier_approvals import repository, rules
from dossier_approvals.models import Candidate, Request, RequestStage
from dossier_approvals.repository import Loaded
from dossier_approvals.service import cases
from dossier_approvals.service.offices import nearest
from dossier_common import outbox
from dossier_common.contracts.approvals import CandidatesReplaced, StageStaffed, StageVacated
from dossier_common.contracts.gateway import RoleAssigned
from dossier_common.directory import Holder


async def fill(session: AsyncSession, event: RoleAssigned, now: datetime) -> None:
    """A role has a holder more: vacant stages that it decides get him, where he is competent."""
    for request in await repository.open_requests_lacking(session, event.role):
        loaded = await repository.loaded(session, request)
        for stage in loaded.stages:
            if stage.vacant_since is not None:
                await staff(session, loaded, stage, await holders_of(session, stage, now), (), now)
        await notice(session, request, now)


async def holders_of(session: AsyncSession, stage: RequestStage, now: datetime) -> list[Holder]:
    """Who holds the offices of a stage now, or those above them where they are vacant."""
    found = [await nearest(session, office["role"], UUID(office["unit"]), now) for office in stage.offices]
    return list({holder.account: holder for holders in found for holder in holders}.values())


async def staff(
    session: AsyncSession,
    loaded: Loaded,
    stage: RequestStage,
    holders: Collection[Holder],
    gone: Collection[Candidate],
    now: datetime,
) -> None:
    """Takes out who is gone, and adds who holds the office and is no candidate yet; the requester never decides."""
    request = loaded.request
    here = [each for each in loaded.candidates if each.position == stage.position and each.removed_at is None]
    staying = [each for each in here if each not in gone]
    present = {each.person for each in staying}
    added = [each for each in holders if each.person not in present and each.person != request.requester_person]
    if not gone and not added:
        return
    if gone:
        await repository.remove_candidates(session, list(gone), now)
    if added:
        marks = {"request": request.id, "position": stage.position, "escalated": False}
        rows = [marks | {"account": each.account, "person": each.person} for each in added]
        await repository.restore_candidates(session, rows)
    if stage.quorum == "all":
        holding = {each.person for each in staying if not each.escalated} | {each.person for each in added}
        await _count_all(session, loaded, stage, holding)
    replaced = CandidatesReplaced(
        request=request.id,
        stage=stage.name,
        removed_persons=tuple(sorted({each.person for each in gone})),
        added_persons=tuple(sorted({each.person for each in added})),
    )
    await outbox.add(session, replaced, by=None, at=now)


async def _count_all(session: AsyncSession, loaded: Loaded, stage: RequestStage, holding: Collection[UUID]) -> None:
    """All are all who hold the office now, and who has decided in this round; not whom an escalation added."""
    voted = {
        each.person
        for each in loaded.decisions
        if each.position == stage.position and each.round == loaded.request.round
    }
    needed = len({*holding, *voted} - {loaded.request.requester_person})
    if needed:
        await repository.change_stage(session, loaded.request.id, stage.position, needed=needed)


async def notice(session: AsyncSession, request: Request, now: datetime) -> None:
    """Says which stage of an open request nobody is left for, and which one has somebody again.

    It is never skipped for that: it waits until the office has a holder, or until its time limit.
    """
    loaded = await repository.loaded(session, request)
    stuck = rules.stuck_at(cases.case_of(loaded))
    for stage in loaded.stages:
        vacant = stage.position == stuck
        if vacant == (stage.vacant_since is not None):
            continue
        since = now if vacant else None
        await repository.change_stage(session, request.id, stage.position, vacant_since=since)
        if vacant:
            office = stage.offices[0]
            vacated = StageVacated(request=request.id, stage=stage.name, role=office["role"], unit=UUID(office["unit"]))
            await outbox.add(session, vacated, by=None, at=now)
        else:
            await outbox.add(session, StageStaffed(request=request.id, stage=stage.name), by=None, at=now)
