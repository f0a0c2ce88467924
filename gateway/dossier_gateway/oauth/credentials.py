"""SQL of second factors, of recovery codes, and of sign-ins that are not complete yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from dossier_gateway.models import BrowserSession, Credential, RecoveryCode, SecondFactor, SignInStep
from dossier_gateway.oauth.clients import digest


@dataclass(frozen=True, slots=True)
class Factor:
    """The second factor of an account."""

    secret: bytes
    step: int


@dataclass(frozen=True, slots=True)
class Step:
    """A sign-in that is not complete, or an enrolment by someone who is signed in."""

    digest: bytes
    account: UUID
    amr: tuple[str, ...]
    secret: bytes | None
    session: UUID | None


async def factor_for_update(session: AsyncSession, account: UUID) -> Factor | None:
    """The second factor, locked until the transaction ends, so that of two with the same code one is second."""
    query = select(SecondFactor.secret, SecondFactor.step).where(SecondFactor.account == account).with_for_update()
    row = (await session.execute(query)).one_or_none()
    return Factor(*row) if row else None


async def use_step(session: AsyncSession, account: UUID, step: int) -> None:
    """No code of this half minute, or of one before it, is taken again."""
    await session.execute(update(SecondFactor).where(SecondFactor.account == account).values(step=step))


async def set_factor(session: AsyncSession, account: UUID, factor: Factor, codes: Sequence[str], now: datetime) -> None:
    """Enrols a second factor; one before it, and its recovery codes, are gone."""
    values = {"secret": factor.secret, "step": factor.step, "enrolled_at": now}
    await session.execute(
        upsert(SecondFactor)
        .values(account=account, **values)
        .on_conflict_do_update(index_elements=["account"], set_=values)
    )
    await session.execute(delete(RecoveryCode).where(RecoveryCode.account == account))
    await session.execute(insert(RecoveryCode), [{"digest": digest(code), "account": account} for code in codes])


async def remove_factor(session: AsyncSession, account: UUID) -> None:
    """Removes it with its recovery codes, and what was about to be enrolled."""
    await session.execute(delete(RecoveryCode).where(RecoveryCode.account == account))
    await session.execute(delete(SignInStep).where(SignInStep.account == account))
    await session.execute(delete(SecondFactor).where(SecondFactor.account == account))


async def use_recovery_code(session: AsyncSession, account: UUID, code: str, now: datetime) -> int | None:
    """How many recovery codes remain after this one; None when it is none of the account's, or was used."""
    used = await session.execute(
        update(RecoveryCode)
        .where(RecoveryCode.digest == digest(code), RecoveryCode.account == account, RecoveryCode.used_at.is_(None))
        .values(used_at=now)
        .returning(RecoveryCode.account)
    )
    if used.first() is None:
        return None
    return await recovery_codes_left(session, account)


async def has_factor(session: AsyncSession, account: UUID) -> bool:
    """Whether the account has a second factor."""
    found = await session.execute(select(SecondFactor.account).where(SecondFactor.account == account))
    return found.first() is not None


async def recovery_codes_left(session: AsyncSession, account: UUID) -> int:
    """How many were not used yet."""
    query = select(func.count()).where(RecoveryCode.account == account, RecoveryCode.used_at.is_(None))
    left: int = (await session.execute(query)).scalar_one()
    return left


async def add_step(session: AsyncSession, secret: str, step: Step, until: datetime) -> None:
    """Somebody is between his password and his session; `secret` is what his browser has in a cookie."""
    await session.execute(
        insert(SignInStep).values(
            digest=digest(secret),
            account=step.account,
            amr=list(step.amr),
            secret=step.secret,
            session=step.session,
            expires_at=until,
        )
    )


async def account_of_step(session: AsyncSession, secret: str, now: datetime) -> UUID | None:
    """Whose step this is. Whoever acts on it locks the account first and then the step, as a reset does."""
    query = select(SignInStep.account).where(SignInStep.digest == digest(secret), SignInStep.expires_at > now)
    found: UUID | None = (await session.execute(query)).scalar_one_or_none()
    return found


async def step_for_update(session: AsyncSession, secret: str, now: datetime) -> Step | None:
    """The step of this cookie, while it lasts; locked, so that it opens one session."""
    query = select(SignInStep.digest, SignInStep.account, SignInStep.amr, SignInStep.secret, SignInStep.session).where(
        SignInStep.digest == digest(secret), SignInStep.expires_at > now
    )
    row = (await session.execute(query.with_for_update())).one_or_none()
    return Step(row[0], row[1], tuple(row[2]), row[3], row[4]) if row else None


async def change_step(session: AsyncSession, step: Step) -> None:
    """Keeps what was proved meanwhile, and what is being enrolled."""
    await session.execute(
        update(SignInStep).where(SignInStep.digest == step.digest).values(amr=list(step.amr), secret=step.secret)
    )


async def end_step(session: AsyncSession, step: Step) -> None:
    """It led to a session, or to nothing."""
    await session.execute(delete(SignInStep).where(SignInStep.digest == step.digest))


async def add_method(session: AsyncSession, browser: UUID, amr: Sequence[str]) -> None:
    """The person of a session proved more of himself."""
    await session.execute(update(BrowserSession).where(BrowserSession.id == browser).values(amr=list(amr)))


async def require_change(session: AsyncSession, account: UUID) -> bool:
    """The next sign-in asks for another password; False when there is none to be changed."""
    found = await session.execute(
        update(Credential).where(Credential.account == account).values(must_change=True).returning(Credential.account)
    )
    return found.first() is not None
