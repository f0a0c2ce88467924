"""Ends what is out in the name of accounts: sessions with browsers, tokens, codes; felt within two seconds."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common import outbox
from dossier_common.contracts.gateway import TokensRevoked
from dossier_common.identity import Subject
from dossier_gateway.directory import repository
from dossier_gateway.sessions import repository as sessions
from dossier_gateway.sessions.repository import Family
from dossier_gateway.sessions.service import end_sessions
from dossier_gateway.tokens import Terms


async def end_access(
    session: AsyncSession, accounts: Collection[UUID], reason: str, *, by: Subject | None, now: datetime, terms: Terms
) -> None:
    """No session, code or token of these accounts holds any more; an event for each session and family of tokens.

    Whoever disables an account, or moves its person, calls it in the same transaction.
    """
    families = await sessions.live_families(session, now - terms.access, accounts=accounts)
    await end_sessions(session, accounts, reason=reason, by=by, now=now, term=terms.family)
    await repository.void_enrolments(session, accounts, now)
    await _revoke(session, families, reason, by=by, now=now, terms=terms)


async def end_client_access(
    session: AsyncSession, client: str, reason: str, *, by: Subject | None, now: datetime, terms: Terms
) -> None:
    """No code or token that a person got by this application holds any more; one event for each family of tokens."""
    families = await sessions.live_families(session, now - terms.access, client=client)
    await _revoke(session, families, reason, by=by, now=now, terms=terms)


async def _revoke(
    session: AsyncSession,
    families: Collection[Family],
    reason: str,
    *,
    by: Subject | None,
    now: datetime,
    terms: Terms,
) -> None:
    await sessions.revoke(session, [each.id for each in families], now + terms.family)
    revoked = [
        TokensRevoked(family=each.id, client_id=each.client, account=each.account, reason=reason) for each in families
    ]
    await outbox.add_all(session, revoked, by=by, at=now)
