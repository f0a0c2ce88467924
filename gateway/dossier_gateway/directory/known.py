"""Accounts as use cases find them: there, locked for a change, of somebody else."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common.identity import Subject
from dossier_common.problems import NotFound
from dossier_gateway.directory import rules
from dossier_gateway.directory.repository import AccountRow, Reading, account_for_update


async def known(session: AsyncSession, account_id: UUID) -> AccountRow:
    """The account. Raises NotFound."""
    return _there(await Reading(session).account(account_id))


async def locked(session: AsyncSession, account_id: UUID) -> AccountRow:
    """The account, locked until the transaction ends. Raises NotFound."""
    return _there(await account_for_update(session, account_id))


async def of_another(session: AsyncSession, account_id: UUID, by: Subject) -> AccountRow:
    """The account, locked, when it is of another person than the actor. Raises NotFound, SelfManagement."""
    account = await locked(session, account_id)
    rules.ensure_not_himself(by, account.person)
    return account


def _there(account: AccountRow | None) -> AccountRow:
    if account is None:
        raise NotFound("There is no such account.")
    return account
