"""What the approvals service does at the events of others. Each is handled once, with the cursor (see inbox)."""

from sqlalchemy.ext.asyncio import AsyncSession

from dossier_approvals import service
from dossier_common import directory
from dossier_common.clock import Clock
from dossier_common.contracts.gateway import PersonOffboarded, RoleAssigned
from dossier_common.contracts.records import CopyIssued, RecordShredded, RecordViewed
from dossier_common.contracts.retention import DisposalProposed
from dossier_common.events import Envelope
from dossier_common.inbox import Handlers
from dossier_common.policy import Policy


def handlers(policy: Policy, clock: Clock) -> Handlers:
    """The handlers of this part; the directory's own among them."""
    found = Handlers()
    found.include(directory.handlers)

    @found.also(RoleAssigned)
    async def _role_assigned(session: AsyncSession, event: RoleAssigned, _envelope: Envelope) -> None:
        await service.fill_vacancies(session, event, clock.now())

    @found.on(PersonOffboarded)
    async def _person_offboarded(session: AsyncSession, event: PersonOffboarded, _envelope: Envelope) -> None:
        await service.offboard(session, event, clock.now())

    @found.on(DisposalProposed)
    async def _disposal_proposed(session: AsyncSession, event: DisposalProposed, _envelope: Envelope) -> None:
        await service.open_disposal(session, policy, event, clock.now())

    @found.on(RecordViewed, repeatable=True)  # an older number of a use changes nothing
    async def _record_viewed(session: AsyncSession, event: RecordViewed, _envelope: Envelope) -> None:
        if event.grant is not None and event.use is not None:
            await service.count_use(session, event.grant, event.use)

    @found.on(CopyIssued)
    async def _copy_issued(session: AsyncSession, event: CopyIssued, _envelope: Envelope) -> None:
        await service.count_use(session, event.grant, event.use)

    @found.on(RecordShredded)
    async def _record_shredded(session: AsyncSession, event: RecordShredded, _envelope: Envelope) -> None:
        await service.end_record(session, event.record, clock.now())

    return found
