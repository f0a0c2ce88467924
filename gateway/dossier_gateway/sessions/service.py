"""Use cases of sessions: ending them ends every token that came from them, at every replica within two seconds."""

from collections.abc import Collection
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common import outbox
from dossier_common.clock import Clock
from dossier_common.contracts.gateway import PasswordExpired, SecondFactorReset, SessionEnded
from dossier_common.identity import Subject
from dossier_common.policy import Operation, Policy
from dossier_common.problems import Conflict, NotFound
from dossier_gateway.directory.authorisations import authorised_on
from dossier_gateway.directory.known import of_another
from dossier_gateway.oauth import credentials
from dossier_gateway.sessions import repository


class Reason(StrEnum):
    """Why a session was ended before its time."""

    HOLDER = "ended-by-holder"
    OFFICER = "ended-by-officer"
    PASSWORD = "password-changed"  # noqa: S105  # a reason
    SUSPICION = "password-expired"
    SECOND_FACTOR = "second-factor-reset"


async def end_sessions(
    session: AsyncSession,
    accounts: Collection[UUID],
    *,
    reason: str,
    by: Subject | None,
    now: datetime,
    term: timedelta,
    only: UUID | None = None,
    keep: UUID | None = None,
) -> int:
    """Ends all sessions of these accounts, with their tokens; how many it were.

    `term` is how long a token can still be about (`Terms.family`). `only` ends one, `keep` spares one.
    """
    ended = await repository.end(session, accounts, only=only, keep=keep, now=now, until=now + term)
    events = [SessionEnded(session=each.id, account=each.account, person=each.person, reason=reason) for each in ended]
    await outbox.add_all(session, events, by=by, at=now)
    return len(ended)


async def end_by_officer(
    session: AsyncSession,
    policy: Policy,
    account_id: UUID,
    only: UUID | None,
    *,
    by: Subject,
    clock: Clock,
    term: timedelta,
    authorisation: UUID | None,
) -> None:
    """Ends one session of an account, or all. Raises NotFound, SelfManagement, AuthorisationRequired."""
    account = await of_another(session, account_id, by)
    await authorised_on(
        session, policy, Operation.SESSIONS_END, account, authorisation=authorisation, by=by, clock=clock
    )
    now = clock.now()
    ended = await end_sessions(session, [account.id], reason=Reason.OFFICER, by=by, now=now, term=term, only=only)
    if only is not None and not ended:
        raise NotFound("The account has no such session.")


async def end_own(session: AsyncSession, only: UUID, *, by: Subject, now: datetime, term: timedelta) -> None:
    """Ends a session of the caller's account. Raises NotFound."""
    accounts = [by.account] if by.account else []
    if not await end_sessions(session, accounts, reason=Reason.HOLDER, by=by, now=now, term=term, only=only):
        raise NotFound("You have no such session.")


async def expire_password(
    session: AsyncSession, account_id: UUID, *, by: Subject, now: datetime, term: timedelta
) -> None:
    """The next sign-in asks for another password, and sessions end (A6.3.2).

    Raises NotFound, SelfManagement, Conflict.
    """
    account = await of_another(session, account_id, by)
    if not await credentials.require_change(session, account.id):
        raise Conflict("The account has no password yet.")
    await outbox.add(session, PasswordExpired(account=account.id, person=account.person), by=by, at=now)
    await end_sessions(session, [account.id], reason=Reason.SUSPICION, by=by, now=now, term=term)


async def reset_second_factor(
    session: AsyncSession,
    policy: Policy,
    account_id: UUID,
    *,
    by: Subject,
    clock: Clock,
    term: timedelta,
    authorisation: UUID | None,
) -> None:
    """Removes the second factor of a person who lost it; sessions end.

    Raises NotFound, SelfManagement, AuthorisationRequired.
    """
    account = await of_another(session, account_id, by)
    if not await credentials.has_factor(session, account.id):
        raise NotFound("The account has no second factor.")
    await authorised_on(
        session, policy, Operation.SECOND_FACTOR_RESET, account, authorisation=authorisation, by=by, clock=clock
    )
    now = clock.now()
    await credentials.remove_factor(session, account.id)
    await outbox.add(session, SecondFactorReset(account=account.id, person=account.person), by=by, at=now)
    await end_sessions(session, [account.id], reason=Reason.SECOND_FACTOR, by=by, now=now, term=term)


async def listed(
    session: AsyncSession, account: UUID, now: datetime, access: timedelta
) -> list[tuple[repository.SessionRow, Collection[str]]]:
    """The live sessions of an account, with the clients that have tokens from each."""
    rows = await repository.live(session, account, now)
    clients = await repository.clients(session, [row.id for row in rows], now, access)
    return [(row, clients.get(row.id, [])) for row in rows]
