"""What the records service does at the events of others: grants, holds, destruction orders, the directory."""

from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common import directory
from dossier_common.contracts.approvals import GrantIssued, GrantReturned, GrantRevoked
from dossier_common.contracts.gateway import AccountCreated, AccountEnabled, PersonOffboarded
from dossier_common.contracts.retention import DestructionOrdered, HoldPlaced, HoldReleased
from dossier_common.events import Envelope
from dossier_common.inbox import Handlers
from dossier_records import custody_repository, repository

handlers: Final = Handlers()
handlers.include(directory.handlers)


@handlers.on(GrantIssued)
async def _grant_issued(session: AsyncSession, event: GrantIssued, _envelope: Envelope) -> None:
    await repository.put_grant(session, event)


@handlers.on(GrantRevoked)
async def _grant_revoked(session: AsyncSession, event: GrantRevoked, _envelope: Envelope) -> None:
    await repository.end_grant(session, event.grant, "revoked")


@handlers.on(GrantReturned)
async def _grant_returned(session: AsyncSession, event: GrantReturned, _envelope: Envelope) -> None:
    await repository.end_grant(session, event.grant, "returned")


@handlers.on(HoldPlaced)
async def _hold_placed(session: AsyncSession, event: HoldPlaced, _envelope: Envelope) -> None:
    await repository.put_hold(session, event.hold, event.record)


@handlers.on(HoldReleased)
async def _hold_released(session: AsyncSession, event: HoldReleased, _envelope: Envelope) -> None:
    await repository.lift_hold(session, event.hold)


@handlers.on(DestructionOrdered)
async def _destruction_ordered(session: AsyncSession, event: DestructionOrdered, envelope: Envelope) -> None:
    await repository.put_order(session, event.disposal, event.record, envelope.time)


@handlers.on(PersonOffboarded)
async def _person_offboarded(session: AsyncSession, event: PersonOffboarded, envelope: Envelope) -> None:
    await custody_repository.open_handover(
        session,
        id=event.offboarding,
        kind=event.kind,
        person_from=event.person,
        person_to=event.successor_person,
        successor_account=event.successor_account,
        clearance=event.successor_clearance,
        units=list(event.units_left),
        opened_at=envelope.time,
    )


@handlers.also(AccountEnabled)
async def _account_enabled(session: AsyncSession, event: AccountEnabled, envelope: Envelope) -> None:
    await custody_repository.come_back(session, event.person, envelope.time)


@handlers.also(AccountCreated)
async def _account_created(session: AsyncSession, event: AccountCreated, envelope: Envelope) -> None:
    await custody_repository.come_back(session, event.person, envelope.time)
