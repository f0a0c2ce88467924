"""Use cases of people at the sign-in page, and of codes with which a first password is set.

An attempt is counted in a transaction of its own, before the password is looked at: so the count holds when the
answer never arrives, and many attempts at once get no more than the policy's number (A6.3.2).
"""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common import outbox
from dossier_common.backlog import Backlog
from dossier_common.clock import Clock
from dossier_common.contracts.gateway import (
    AccountEnrolled,
    PasswordChanged,
    SignedIn,
    SignedOut,
    SignInFailed,
    TokenIssued,
)
from dossier_common.database import WRITES, Database
from dossier_common.events import Event
from dossier_common.identity import Subject
from dossier_common.policy import PasswordRules
from dossier_common.topology import PARTS
from dossier_gateway import passwords
from dossier_gateway.errors import UnknownReference, WeakPassword
from dossier_gateway.oauth import repository
from dossier_gateway.oauth.clients import CONSOLE
from dossier_gateway.oauth.server import Asked, Server
from dossier_gateway.passwords import Hasher


class Refusal(StrEnum):
    """Why a sign-in did not succeed, as far as the person may know."""

    WRONG = "wrong"
    OUTDATED = "outdated"
    WEAK = "weak"


@dataclass(frozen=True, slots=True)
class SignIn:
    """A session's secret for the cookie, or why there is none."""

    secret: str | None = None
    refusal: Refusal | None = None
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class SignInDesk:
    """What signing in needs."""

    database: Database
    hasher: Hasher
    rules: PasswordRules
    clock: Clock
    term: timedelta

    async def sign_in(self, username: str, password: str, new_password: str | None) -> SignIn:
        """Opens a session. Wrong name, wrong password and lock have one answer, which takes the same time."""
        now = self.clock.now()
        async with self.database.transaction() as session:
            user = await session.run_sync(repository.user_named, username)
            encoded = await self._begin(session, user, now) if user else None
        matches = await self.hasher.matches(encoded, password)
        if user is None:
            return SignIn(refusal=Refusal.WRONG)
        if not matches:
            if encoded is not None:  # at a locked door nothing was tried: counted with the anonymous ones
                await self._failed(user, now)
            return SignIn(refusal=Refusal.WRONG)
        return await self._succeeded(user, new_password, now)

    async def _begin(self, session: AsyncSession, user: repository.User, now: datetime) -> str | None:
        """Counts an attempt; the hash to compare with, or None while the account is locked."""
        found = await session.run_sync(repository.password_for_update, user.id)
        if found is None or (found.locked_until is not None and found.locked_until > now):
            return None
        failures = (0 if found.locked_until is not None else found.failures) + 1
        locked = self.rules.lockout_for.after(now) if failures >= self.rules.lockout_after else None
        await session.run_sync(repository.count_attempt, user.id, failures, locked)
        return found.hash

    async def _failed(self, user: repository.User, now: datetime) -> None:
        async with self.database.transaction() as session:
            found = await session.run_sync(repository.password_for_update, user.id)
            locked = found is not None and found.locked_until is not None
            await outbox.add(session, SignInFailed(account=user.id, locked=locked), by=None, at=now)

    async def _succeeded(self, user: repository.User, new_password: str | None, now: datetime) -> SignIn:
        async with self.database.transaction() as session:
            found = await session.run_sync(repository.password_for_update, user.id)
            assert found is not None
            await session.run_sync(repository.count_attempt, user.id, 0, None)
            if passwords.outdated(self.rules, found.changed_at, now):
                if not new_password:
                    return SignIn(refusal=Refusal.OUTDATED)
                faults = await self.faults(session, user, new_password)
                if faults:
                    return SignIn(refusal=Refusal.WEAK, faults=tuple(code for code, _ in faults))
                encoded = await self.hasher.hash(new_password)
                await session.run_sync(repository.set_password, user.id, encoded, now)
                changed = PasswordChanged(account=user.id, person=user.person)
                await outbox.add(session, changed, by=_as(user), at=now)
            secret = secrets.token_urlsafe(32)
            await session.run_sync(repository.open_session, user.id, secret, now, now + self.term)
            await outbox.add(session, SignedIn(account=user.id, person=user.person), by=_as(user), at=now)
            return SignIn(secret=secret)

    async def faults(self, session: AsyncSession, user: repository.User, password: str) -> list[tuple[str, str]]:
        """What the policy has against a new password of this person, the last ones included."""
        found = passwords.faults(self.rules, password, user.username)
        former = await session.run_sync(repository.former_passwords, user.id, max(self.rules.history, 1))
        if not found and await self.hasher.any_matches(former, password):
            found.append(("used_before", f"The last {max(self.rules.history, 1)} passwords may not come again."))
        return found

    async def enrol(self, session: AsyncSession, code: str, password: str) -> None:
        """Sets the first password, and makes the account active. Raises UnknownReference, WeakPassword.

        A password that is refused leaves the code as it is; one that is taken uses it up.
        """
        now = self.clock.now()
        user = await session.run_sync(repository.enrolment_for_update, code, now)
        if user is None:
            raise UnknownReference("code", "The code is unknown, used or over.")
        found = await self.faults(session, user, password)
        if found:
            raise WeakPassword(found)
        encoded = await self.hasher.hash(password)
        await session.run_sync(repository.set_password, user.id, encoded, now)
        await session.run_sync(repository.use_enrolments, user.id, now)
        await outbox.add(session, AccountEnrolled(account=user.id, person=user.person), by=_as(user), at=now)

    async def sign_out(self, server: Server, secret: str) -> None:
        """Ends the browser's session, and every token that came from it."""
        now = self.clock.now()
        async with self.database.transaction() as session:
            found = await session.run_sync(repository.signed_in, secret, now)
            if found is None:
                return
            families = await session.run_sync(repository.end_session, found.session, now)
            for family in families:
                await session.run_sync(repository.revoke, family, now + server.family_term)
            ended = SignedOut(account=found.user.id, person=found.user.person)
            await outbox.add(session, ended, by=_as(found.user), at=now)


def _as(user: repository.User) -> Subject:
    return Subject(client=CONSOLE, scopes=frozenset(), account=user.id, person=user.person)


async def issue_token(
    session: AsyncSession, server: Server, asked: Asked, now: datetime, backlog: Backlog
) -> "tuple[int, bytes, dict[str, str]]":
    """The answer of the token endpoint; its events are in the same transaction.

    Raises AuditUnavailable while too much waits for its audit record. The parts get their tokens all the same, since
    the audit service pulls with them what waits; and a family of tokens that was used twice is revoked all the same.
    """
    answer, call = await session.run_sync(server.token, asked, now)
    for event in call.events:
        if isinstance(event, TokenIssued) and event.client_id not in PARTS:
            backlog.ensure(WRITES)
        await outbox.add(session, event, by=_holder(event), at=now)
    return answer.status, answer.body, answer.headers


def _holder(event: Event) -> Subject | None:
    """Who acted: the person or the application that got a token; nobody known, where a token came a second time."""
    if not isinstance(event, TokenIssued):
        return None
    return Subject(client=event.client_id, scopes=frozenset(), account=event.account, person=event.person)
