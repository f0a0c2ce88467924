"""SQL of browsers' sessions."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, literal, or_, select, union, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from dossier_gateway.models import Account, AuthorizationCode, BrowserSession, RefreshToken, Revocation


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A live session."""

    id: UUID
    account: UUID
    person: UUID
    amr: tuple[str, ...]
    zone: str
    signed_in_at: datetime
    last_seen_at: datetime
    idle_ends_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Ended:
    """A session that was ended, and whose it was."""

    id: UUID
    account: UUID
    person: UUID


_SESSION = (
    BrowserSession.id,
    BrowserSession.account,
    Account.person,
    BrowserSession.amr,
    BrowserSession.zone,
    BrowserSession.signed_in_at,
    BrowserSession.last_seen_at,
    BrowserSession.idle_ends_at,
    BrowserSession.expires_at,
)


def _live(now: datetime) -> ColumnElement[bool]:
    return BrowserSession.ended_at.is_(None) & (BrowserSession.expires_at > now) & (BrowserSession.idle_ends_at > now)


async def live(session: AsyncSession, account: UUID, now: datetime) -> list[SessionRow]:
    """The live sessions of an account, the oldest first."""
    query = (
        select(*_SESSION)
        .join(Account, Account.id == BrowserSession.account)
        .where(BrowserSession.account == account, _live(now))
        .order_by(BrowserSession.id)
    )
    return [SessionRow(row[0], row[1], row[2], tuple(row[3]), *row[4:]) for row in await session.execute(query)]


async def clients(
    session: AsyncSession, sessions: Collection[UUID], now: datetime, access: timedelta
) -> dict[UUID, list[str]]:
    """For each session the clients that have tokens from it: refresh tokens, or access tokens of `access` at most."""
    refreshing = select(RefreshToken.session, RefreshToken.client, RefreshToken.family).where(
        RefreshToken.session.in_(sessions),
        or_(
            RefreshToken.used_at.is_(None) & (RefreshToken.expires_at > now),
            RefreshToken.used_at > now - access,  # what it was exchanged for
        ),
    )
    exchanged = select(AuthorizationCode.session, AuthorizationCode.client, AuthorizationCode.family).where(
        AuthorizationCode.session.in_(sessions), AuthorizationCode.used_at > now - access
    )
    both = union(refreshing, exchanged).subquery()
    query = select(both.c.session, both.c.client).where(both.c.family.not_in(select(Revocation.id))).distinct()
    found: dict[UUID, list[str]] = {}
    for row in await session.execute(query.order_by(both.c.client)):
        found.setdefault(row[0], []).append(row[1])
    return found


async def of_family(session: AsyncSession, family: UUID) -> UUID | None:
    """The session that a family of tokens came from."""
    query = select(AuthorizationCode.session).where(AuthorizationCode.family == family)
    found: UUID | None = (await session.execute(query.limit(1))).scalar_one_or_none()
    if found is None:
        again = select(RefreshToken.session).where(RefreshToken.family == family).limit(1)
        found = (await session.execute(again)).scalar_one_or_none()
    return found


async def end(
    session: AsyncSession,
    accounts: Collection[UUID],
    *,
    only: UUID | None,
    keep: UUID | None,
    now: datetime,
    until: datetime,
) -> list[Ended]:
    """Ends live sessions of these accounts, with the tokens that came from them; the oldest first."""
    query = (
        update(BrowserSession)
        .where(BrowserSession.account.in_(accounts), Account.id == BrowserSession.account, _live(now))
        .values(ended_at=now)
        .returning(BrowserSession.id, BrowserSession.account, Account.person)
    )
    if only is not None:
        query = query.where(BrowserSession.id == only)
    if keep is not None:
        query = query.where(BrowserSession.id != keep)
    rows = await session.execute(query, execution_options={"synchronize_session": False})
    ended = [Ended(*row) for row in rows]
    await revoke(session, [each.id for each in ended], until)
    return sorted(ended, key=lambda each: each.id)


async def revoke(session: AsyncSession, sessions: Collection[UUID], until: datetime) -> None:
    """Every family of tokens that came from these sessions is refused."""
    families = union(
        select(RefreshToken.family).where(RefreshToken.session.in_(sessions)),
        select(AuthorizationCode.family).where(AuthorizationCode.session.in_(sessions)),
    ).subquery()
    refused = select(families.c.family, literal(until))
    if sessions:
        await session.execute(upsert(Revocation).from_select(["id", "until"], refused).on_conflict_do_nothing())
