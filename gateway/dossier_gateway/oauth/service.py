"""Use cases of people at the sign-in page: password, second factor, renewal; and codes for a first password.

An attempt is counted in a transaction of its own, before the password is looked at: so the count holds when the
answer never arrives, and many attempts at once get no more than the policy's number (A6.3.2). Wrong one-time codes
count towards the same lock, in the transaction that compares them. A session is opened when nothing more is due.
"""

import secrets
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common import outbox
from dossier_common.clock import Clock
from dossier_common.contracts.gateway import (
    AccountEnrolled,
    PasswordChanged,
    RecoveryCodeUsed,
    SecondFactorEnrolled,
    SignedIn,
    SignedOut,
    SignInFailed,
)
from dossier_common.database import Database
from dossier_common.identity import Subject
from dossier_common.policy import PasswordRules, Policy
from dossier_gateway import passwords, second_factor
from dossier_gateway.directory import repository as directory
from dossier_gateway.directory.repository import Reading
from dossier_gateway.errors import UnknownReference, WeakPassword, WrongPassword
from dossier_gateway.oauth import credentials, repository
from dossier_gateway.oauth.clients import CONSOLE
from dossier_gateway.oauth.credentials import Factor, Step
from dossier_gateway.oauth.repository import Password, SignedInUser, Term, User
from dossier_gateway.passwords import Hasher
from dossier_gateway.second_factor import ONE_TIME, PASSWORD, Seal
from dossier_gateway.sessions import repository as sessions
from dossier_gateway.sessions.service import Reason, end_sessions

STEP_TERM: Final = timedelta(minutes=5)
"""How long somebody may take between his password and his session."""
NEVER: Final = -1


class Due(StrEnum):
    """What a person has to do before his session opens."""

    CODE = "code"
    ENROL = "enrol"
    RECOVERY = "recovery"
    RENEW = "renew"


class Refusal(StrEnum):
    """Why a sign-in did not succeed, as far as the person may know."""

    WRONG = "wrong"
    WRONG_CODE = "wrong_code"
    WEAK = "weak"
    OVER = "form"


@dataclass(frozen=True, slots=True)
class SignIn:
    """What came of a step: a session's secret for the cookie, or what is due, or why it failed.

    `step` is the cookie of a sign-in that goes on, `enrolling` a secret to be shown, `codes` those for recovery.
    """

    secret: str | None = None
    step: str | None = None
    due: Due | None = None
    username: str = ""
    enrolling: str | None = None
    codes: tuple[str, ...] = ()
    refusal: Refusal | None = None
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class SignInDesk:
    """What signing in needs. `family_term` is how long a token of a session that ended can still be about."""

    database: Database
    hasher: Hasher
    policy: Policy
    clock: Clock
    term: Term
    family_term: timedelta
    seal: Seal

    @property
    def rules(self) -> PasswordRules:
        """The policy's rules for passwords."""
        return self.policy.passwords

    async def sign_in(self, username: str, password: str, zone: str) -> SignIn:
        """Opens a session, or says what is due. Wrong name, wrong password and lock have one answer, as late."""
        now = self.clock.now()
        async with self.database.transaction() as session:
            user = await session.run_sync(repository.user_named, username)
        if not await self._is(user, password, now) or user is None:
            return SignIn(refusal=Refusal.WRONG)
        async with self.database.transaction() as session:
            user = await session.run_sync(repository.user_to_act, user.id)
            if user is None:
                return SignIn(refusal=Refusal.WRONG)
            await self._forgive(session, user)
            return await self._advance(session, user, Step(b"", user.id, (PASSWORD,), None, None), zone, now)

    async def go_on(self, secret: str, zone: str, *, code: str, new_password: str) -> SignIn:
        """Goes on with a sign-in whose password was right, by what is due; `secret` is the cookie of its step."""
        now = self.clock.now()
        async with self.database.transaction() as session:
            user, step = await self._step(session, secret, now)
            if step is None or user is None or step.session is not None:
                return SignIn(refusal=Refusal.OVER)
            credential = await self._credential(session, user)
            match await self._due(session, user, step, credential, now):
                case Due.CODE:
                    if not code or not await self._proves(session, user, credential, code, now):
                        return SignIn(step=secret, due=Due.CODE, refusal=Refusal.WRONG_CODE if code else None)
                    step = replace(step, amr=(*step.amr, ONE_TIME))
                case Due.ENROL if step.secret is not None:
                    return await self._enrol_factor(session, user, step, secret, code, now)
                case Due.RENEW:
                    if not new_password:
                        return SignIn(step=secret, due=Due.RENEW)
                    found = await self.faults(session, user, new_password)
                    if found:
                        faults = tuple(each for each, _ in found)
                        return SignIn(step=secret, due=Due.RENEW, refusal=Refusal.WEAK, faults=faults)
                    await self._replace(session, user, new_password, now, by=_as(user))
            return await self._advance(session, user, step, zone, now, secret=secret)

    async def _step(self, session: AsyncSession, secret: str, now: datetime) -> tuple[User | None, Step | None]:
        """The step of this cookie and its person, both locked; None for what is over."""
        account = await credentials.account_of_step(session, secret, now)
        user = await session.run_sync(repository.user_to_act, account) if account else None
        return user, await credentials.step_for_update(session, secret, now) if user else None

    async def _is(self, user: User | None, password: str, now: datetime) -> bool:
        """Whether it is the password; a locked account has none that is right, and no account takes as long."""
        async with self.database.transaction() as session:
            encoded = await self._begin(session, user, now) if user else None
        matches = await self.hasher.matches(encoded, password)
        if user is not None and encoded is not None and not matches:
            await self._failed(user, now)  # at a locked door nothing was tried: counted with the anonymous ones
        return matches

    async def _begin(self, session: AsyncSession, user: User, now: datetime) -> str | None:
        """Counts an attempt; the hash to compare with, or None while the account is locked."""
        found = await session.run_sync(repository.password_for_update, user.id)
        if found is None or _locked(found, now):
            return None
        await self._count(session, user, found, now)
        return found.hash

    async def _count(self, session: AsyncSession, user: User, found: Password, now: datetime) -> bool:
        """One failure more; whether the account is locked now."""
        failures = (0 if found.locked_until is not None else found.failures) + 1
        until = self.rules.lockout_for.after(now) if failures >= self.rules.lockout_after else None
        await session.run_sync(repository.count_attempt, user.id, failures, until)
        return until is not None

    async def _failed(self, user: User, now: datetime) -> None:
        async with self.database.transaction() as session:
            found = await session.run_sync(repository.password_for_update, user.id)
            locked = found is not None and found.locked_until is not None
            await outbox.add(session, SignInFailed(account=user.id, locked=locked), by=None, at=now)

    async def _forgive(self, session: AsyncSession, user: User) -> None:
        """The attempt that was counted was none that failed.

        Those before it stay until a session opens: a right password must not give fresh tries at the code.
        """
        found = await self._credential(session, user)
        failures = max(found.failures - 1, 0)
        until = found.locked_until if failures >= self.rules.lockout_after else None
        await session.run_sync(repository.count_attempt, user.id, failures, until)

    async def _credential(self, session: AsyncSession, user: User) -> Password:
        found = await session.run_sync(repository.password_for_update, user.id)
        assert found is not None, "only an account with a password comes so far"
        return found

    async def _due(
        self, session: AsyncSession, user: User, step: Step, credential: Password, now: datetime
    ) -> Due | None:
        if ONE_TIME not in step.amr:
            if await credentials.factor_for_update(session, user.id) is not None:
                return Due.CODE
            if await self.needs_factor(session, user, now):
                return Due.ENROL
        changing = credential.must_change or passwords.outdated(self.rules, credential.changed_at, now)
        return Due.RENEW if changing else None

    async def needs_factor(self, session: AsyncSession, user: User, now: datetime) -> bool:
        """Whether a role of the person, by whichever of his accounts, asks for a second factor."""
        return second_factor.needed(self.policy, await Reading(session).roles_of_person(user.person, now))

    async def _advance(
        self, session: AsyncSession, user: User, step: Step, zone: str, now: datetime, *, secret: str | None = None
    ) -> SignIn:
        """Opens the session when nothing more is due; else keeps the step, and says what is."""
        due = await self._due(session, user, step, await self._credential(session, user), now)
        if due is None:
            opened = secrets.token_urlsafe(32)
            await session.run_sync(repository.count_attempt, user.id, 0, None)
            await credentials.end_step(session, step)
            browser = await session.run_sync(
                lambda sync: repository.open_session(
                    sync, user.id, opened, amr=step.amr, zone=zone, now=now, term=self.term
                )
            )
            signed_in = SignedIn(account=user.id, person=user.person, session=browser, amr=step.amr)
            await outbox.add(session, signed_in, by=_as(user), at=now)
            return SignIn(secret=opened)
        shown = None
        if due is Due.ENROL:
            shown = second_factor.new_secret()
            step = replace(step, secret=self.seal.seal(shown, user.id))
        if secret is None:
            secret = secrets.token_urlsafe(32)
            await credentials.add_step(session, secret, step, now + STEP_TERM)
        else:
            await credentials.change_step(session, step)
        return SignIn(step=secret, due=due, username=user.username, enrolling=shown)

    async def _proves(self, session: AsyncSession, user: User, credential: Password, code: str, now: datetime) -> bool:
        """Whether it is a one-time code or a recovery code of the account, which is used up by this."""
        factor = await credentials.factor_for_update(session, user.id)
        if factor is None or _locked(credential, now):
            return False
        used = second_factor.used_step(self.seal.open(factor.secret, user.id), code, now, factor.step)
        if used is not None:
            await credentials.use_step(session, user.id, used)
            return True
        spoken = second_factor.read_recovery_code(code)
        left = await credentials.use_recovery_code(session, user.id, spoken, now)
        if left is not None:
            told = RecoveryCodeUsed(account=user.id, person=user.person, left=left)
            await outbox.add(session, told, by=_as(user), at=now)
            return True
        if code:
            locked = await self._count(session, user, credential, now)
            await outbox.add(session, SignInFailed(account=user.id, locked=locked), by=None, at=now)
        return False

    async def _enrol_factor(
        self, session: AsyncSession, user: User, step: Step, secret: str, code: str, now: datetime
    ) -> SignIn:
        """Keeps the second factor when the code shows that the person has it; the codes for recovery, once."""
        assert step.secret is not None, "whoever enrols was shown a secret"
        shown = self.seal.open(step.secret, user.id)
        used = second_factor.used_step(shown, code, now, NEVER)
        if used is None:
            refusal = Refusal.WRONG_CODE if code else None
            return SignIn(step=secret, due=Due.ENROL, username=user.username, enrolling=shown, refusal=refusal)
        codes = second_factor.new_recovery_codes()
        read = [second_factor.read_recovery_code(each) for each in codes]
        await credentials.set_factor(session, user.id, Factor(step.secret, used), read, now)
        enrolled = SecondFactorEnrolled(account=user.id, person=user.person)
        await outbox.add(session, enrolled, by=_as(user), at=now)
        await credentials.change_step(session, replace(step, amr=(*step.amr, ONE_TIME), secret=None))
        return SignIn(step=secret, due=Due.RECOVERY, codes=tuple(codes))

    # ---- people who are signed in

    async def begin_enrolment(self, signed_in: SignedInUser, password: str, code: str) -> SignIn:
        """Shows a secret to be enrolled to whoever proves anew that he is the person of the session."""
        now, user = self.clock.now(), signed_in.user
        if not await self._is(user, password, now):
            return SignIn(refusal=Refusal.WRONG)
        async with self.database.transaction() as session:
            await self._forgive(session, user)
            credential = await self._credential(session, user)
            there = await credentials.factor_for_update(session, user.id)
            if there is not None and not await self._proves(session, user, credential, code, now):
                return SignIn(refusal=Refusal.WRONG_CODE)
            secret, shown = secrets.token_urlsafe(32), second_factor.new_secret()
            step = Step(b"", user.id, (), self.seal.seal(shown, user.id), signed_in.session)
            await credentials.add_step(session, secret, step, now + STEP_TERM)
            return SignIn(step=secret, due=Due.ENROL, username=user.username, enrolling=shown)

    async def confirm_enrolment(self, signed_in: SignedInUser, secret: str, code: str) -> SignIn:
        """Keeps the second factor; the session counts as one that had it from now on."""
        now = self.clock.now()
        async with self.database.transaction() as session:
            user, step = await self._step(session, secret, now)
            if user is None or step is None or step.session != signed_in.session or step.secret is None:
                return SignIn(refusal=Refusal.OVER)
            done = await self._enrol_factor(session, user, step, secret, code, now)
            if done.due is Due.RECOVERY:
                await credentials.end_step(session, step)
                methods = tuple(dict.fromkeys((*signed_in.amr, ONE_TIME)))
                await credentials.add_method(session, signed_in.session, methods)
            return done

    async def change_password(
        self, user: User, current: str, new_password: str, *, keep: UUID | None, by: Subject | None = None
    ) -> None:
        """Replaces the password, and ends all sessions but `keep`. Raises WrongPassword, WeakPassword."""
        now = self.clock.now()
        if not await self._is(user, current, now):
            raise WrongPassword
        async with self.database.transaction() as session:
            await self._forgive(session, user)
            found = await self.faults(session, user, new_password)
            if not found:
                await self._replace(session, user, new_password, now, by=by or _as(user), keep=keep)
        if found:
            raise WeakPassword(found, "/body/new_password")

    async def _replace(
        self,
        session: AsyncSession,
        user: User,
        password: str,
        now: datetime,
        *,
        by: Subject,
        keep: UUID | None = None,
    ) -> None:
        encoded = await self.hasher.hash(password)
        await session.run_sync(repository.set_password, user.id, encoded, now)
        await outbox.add(session, PasswordChanged(account=user.id, person=user.person), by=by, at=now)
        await self._end_all(session, user, now, keep)

    async def _end_all(self, session: AsyncSession, user: User, now: datetime, keep: UUID | None) -> None:
        reason, term = Reason.PASSWORD, self.family_term
        await end_sessions(session, [user.id], reason=reason, by=_as(user), now=now, term=term, keep=keep)

    async def faults(self, session: AsyncSession, user: User, password: str) -> list[tuple[str, str]]:
        """What the policy has against a new password of this person, the last ones included."""
        found = passwords.faults(self.rules, password, user.username)
        former = await session.run_sync(repository.former_passwords, user.id, max(self.rules.history, 1))
        if not found and await self.hasher.any_matches(former, password):
            found.append(("used_before", f"The last {max(self.rules.history, 1)} passwords may not come again."))
        return found

    async def enrol(self, session: AsyncSession, code: str, password: str) -> None:
        """Sets the first password, and makes the account active. Raises UnknownReference, WeakPassword.

        A password that is refused leaves the code as it is; one that is taken uses it up, and ends what was open.
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
        await directory.void_enrolments(session, [user.id], now)
        await session.run_sync(repository.activate, user.id)
        await outbox.add(session, AccountEnrolled(account=user.id, person=user.person), by=_as(user), at=now)
        await self._end_all(session, user, now, None)

    async def sign_out(self, secret: str) -> None:
        """Ends the browser's session, and every token that came from it."""
        now = self.clock.now()
        async with self.database.transaction() as session:
            found = await session.run_sync(repository.signed_in, secret, now)
            if found is None:
                return
            await sessions.end(
                session, [found.user.id], only=found.session, keep=None, now=now, until=now + self.family_term
            )
            ended = SignedOut(account=found.user.id, person=found.user.person)
            await outbox.add(session, ended, by=_as(found.user), at=now)


def _locked(credential: Password, now: datetime) -> bool:
    return credential.locked_until is not None and credential.locked_until > now


def _as(user: User) -> Subject:
    return Subject(client=CONSOLE, scopes=frozenset(), account=user.id, person=user.person)
