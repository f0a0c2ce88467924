"""Ends what is out in the name of accounts: sessions with browsers, tokens, codes; felt within two seconds."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self
from uuid import UUID

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common import outbox
from dossier_common.contracts.gateway import SessionEnded, TokensRevoked
from dossier_common.identity import Subject
from dossier_gateway.models import Account, AuthorizationCode, BrowserSession, EnrolmentCode, RefreshToken, Revocation
from dossier_gateway.settings import Settings


@dataclass(frozen=True, slots=True)
class Terms:
    """How long an access token lives, and a family of tokens at most."""

    access: timedelta
    family: timedelta

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """As the settings say."""
        access = timedelta(minutes=settings.access_token_minutes)
        return cls(access, timedelta(days=settings.refresh_days) + access)


async def end_access(
    session: AsyncSession, accounts: Collection[UUID], reason: str, *, by: Subject | None, now: datetime, terms: Terms
) -> None:
    """No session, code or token of these accounts holds any more; an event for each session and family of tokens.

    Whoever disables an account, or moves its person, calls it in the same transaction.
    """
    await _end_sessions(session, accounts, reason, by=by, now=now)
    await session.execute(
        update(EnrolmentCode)
        .where(EnrolmentCode.account.in_(accounts), EnrolmentCode.used_at.is_(None))
        .values(used_at=now)
    )
    await _end_families(
        session,
        AuthorizationCode.account.in_(accounts),
        RefreshToken.account.in_(accounts),
        reason,
        by=by,
        now=now,
        terms=terms,
    )


async def _end_sessions(
    session: AsyncSession, accounts: Collection[UUID], reason: str, *, by: Subject | None, now: datetime
) -> None:
    live = update(BrowserSession).where(
        BrowserSession.account.in_(accounts),
        BrowserSession.account == Account.id,
        BrowserSession.ended_at.is_(None),
        BrowserSession.expires_at > now,
    )
    ended = live.values(ended_at=now).returning(BrowserSession.id, BrowserSession.account, Account.person)
    rows = (await session.execute(ended, execution_options={"synchronize_session": False})).all()
    events = [SessionEnded(session=row[0], account=row[1], person=row[2], reason=reason) for row in rows]
    await outbox.add_all(session, events, by=by, at=now)


async def end_client_access(
    session: AsyncSession, client: str, reason: str, *, by: Subject | None, now: datetime, terms: Terms
) -> None:
    """No code or token that a person got by this application holds any more; one event for each family of tokens."""
    mine = (AuthorizationCode.client == client, RefreshToken.client == client)
    await _end_families(session, *mine, reason, by=by, now=now, terms=terms)


async def _end_families(
    session: AsyncSession,
    of_codes: ColumnElement[bool],
    of_refresh: ColumnElement[bool],
    reason: str,
    *,
    by: Subject | None,
    now: datetime,
    terms: Terms,
) -> None:
    families = await _live_families(session, of_codes, of_refresh, now - terms.access)
    if families:
        rows = [{"id": family, "until": now + terms.family} for family, _, _ in families]
        await session.execute(upsert(Revocation).on_conflict_do_nothing(), rows)
    revoked = [
        TokensRevoked(family=family, client_id=client, account=account, reason=reason)
        for family, client, account in families
    ]
    await outbox.add_all(session, revoked, by=by, at=now)


async def _live_families(
    session: AsyncSession, of_codes: ColumnElement[bool], of_refresh: ColumnElement[bool], since: datetime
) -> Sequence[tuple[UUID, str, UUID]]:
    """Families of which a token may be out: each began with a code, and lives as long as its refresh tokens."""
    revoked = select(Revocation.id)
    by_code = select(AuthorizationCode.family, AuthorizationCode.client, AuthorizationCode.account).where(
        of_codes,
        AuthorizationCode.expires_at > since,
        AuthorizationCode.family.not_in(revoked),
    )
    by_refresh = select(RefreshToken.family, RefreshToken.client, RefreshToken.account).where(
        of_refresh, RefreshToken.expires_at > since, RefreshToken.family.not_in(revoked)
    )
    found = await session.execute(by_code.union(by_refresh))
    return [(row[0], row[1], row[2]) for row in found]
