"""SQL of browsers' sessions."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, Select, or_, select, union, update
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


@dataclass(frozen=True, slots=True)
class Family:
    """Tokens that came from one code, and to whom they were given."""

    id: UUID
    client: str
    account: UUID


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
    await revoke(session, await _families_of(session, [each.id for each in ended]), until)
    return sorted(ended, key=lambda each: each.id)


async def _families_of(session: AsyncSession, sessions: Collection[UUID]) -> Sequence[UUID]:
    """Every family of tokens that came from these sessions."""
    families = union(
        select(RefreshToken.family).where(RefreshToken.session.in_(sessions)),
        select(AuthorizationCode.family).where(AuthorizationCode.session.in_(sessions)),
    )
    return (await session.execute(families)).scalars().all()


async def live_families(
    session: AsyncSession, since: datetime, *, accounts: Collection[UUID] = (), client: str | None = None
) -> list[Family]:
    """Families of these accounts, or of this client, of which a token may be out that was issued after `since`.

    Each began with a code, and lives as long as its refresh tokens. What was revoked is out of it: ask before you end.
    """

    def out(kind: type[AuthorizationCode | RefreshToken]) -> Select[UUID, str, UUID]:
        mine = kind.account.in_(accounts) if client is None else kind.client == client
        query = select(kind.family, kind.client, kind.account).where(mine, kind.expires_at > since)
        return query.where(kind.family.not_in(select(Revocation.id)))

    rows = await session.execute(union(out(AuthorizationCode), out(RefreshToken)))
    return [Family(row[0], row[1], row[2]) for row in rows]


async def revoke(session: AsyncSession, families: Collection[UUID], until: datetime) -> None:
    """No token of these families holds any more; `until` is when the last of them would have ended."""
    if families:
        rows = [{"id": family, "until": until} for family in families]
        await session.execute(upsert(Revocation).on_conflict_do_nothing(), rows)
