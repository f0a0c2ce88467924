"""SQL of the directory."""

from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import delete, insert, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from dossier_gateway.models import (
    Account,
    Assignment,
    EnrolmentCode,
    Qualification,
    Revocation,
    Unit,
)

PERSON_LOCK = 0x0D055
CEREMONY_LOCK = 0x0D05501


@dataclass(frozen=True, slots=True)
class UnitRow:
    """A unit."""

    id: UUID
    code: str
    title_zh: str
    title_en: str
    kind: str
    parent: UUID | None


@dataclass(frozen=True, slots=True)
class AccountRow:
    """An account, without its credential."""

    id: UUID
    person: UUID
    username: str
    display_name: str
    unit: UUID
    clearance: str
    state: str


@dataclass(frozen=True, slots=True)
class AssignmentRow:
    """A role in a unit."""

    id: UUID
    account: UUID
    person: UUID
    role: str
    unit: UUID


@dataclass(frozen=True, slots=True)
class QualificationRow:
    """A qualification of a person."""

    id: UUID
    account: UUID
    person: UUID
    qualification: str
    evidence: str
    valid_from: date
    valid_until: date | None


_UNIT = (Unit.id, Unit.code, Unit.title_zh, Unit.title_en, Unit.kind, Unit.parent)
_ACCOUNT = (
    Account.id,
    Account.person,
    Account.username,
    Account.display_name,
    Account.unit,
    Account.clearance,
    Account.state,
)
_ASSIGNMENT = (Assignment.id, Assignment.account, Assignment.person, Assignment.role, Assignment.unit)
_QUALIFICATION = (
    Qualification.id,
    Qualification.account,
    Qualification.person,
    Qualification.qualification,
    Qualification.evidence,
    Qualification.valid_from,
    Qualification.valid_until,
)


class Reading:
    """Reads the directory within one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def unit(self, unit: UUID) -> UnitRow | None:
        """One unit."""
        row = (await self._session.execute(select(*_UNIT).where(Unit.id == unit))).one_or_none()
        return UnitRow(*row) if row else None

    async def units(self, limit: int, after: UUID | None) -> list[UnitRow]:
        """Units in the order of their making."""
        query = select(*_UNIT).order_by(Unit.id).limit(limit)
        rows = await self._session.execute(query.where(Unit.id > after) if after else query)
        return [UnitRow(*row) for row in rows]

    async def account(self, account: UUID) -> AccountRow | None:
        """One account."""
        row = (await self._session.execute(select(*_ACCOUNT).where(Account.id == account))).one_or_none()
        return AccountRow(*row) if row else None

    async def accounts(self, limit: int, after: UUID | None) -> list[AccountRow]:
        """Accounts in the order of their making."""
        query = select(*_ACCOUNT).order_by(Account.id).limit(limit)
        rows = await self._session.execute(query.where(Account.id > after) if after else query)
        return [AccountRow(*row) for row in rows]

    async def person_known(self, person: UUID) -> bool:
        """Whether the person has an account."""
        return (
            await self._session.execute(select(Account.id).where(Account.person == person).limit(1))
        ).first() is not None

    async def any_account(self) -> bool:
        """Whether there is any account at all."""
        return (await self._session.execute(select(Account.id).limit(1))).first() is not None

    async def assignments(self, account: UUID) -> list[AssignmentRow]:
        """The roles of an account."""
        query = select(*_ASSIGNMENT).where(Assignment.account == account).order_by(Assignment.id)
        return [AssignmentRow(*row) for row in await self._session.execute(query)]

    async def roles_of_person(self, person: UUID) -> frozenset[str]:
        """The roles that a person holds in all of his accounts."""
        query = select(Assignment.role).where(Assignment.person == person)
        return frozenset((await self._session.execute(query)).scalars())

    async def qualifications(self, account: UUID) -> list[QualificationRow]:
        """What was recorded for an account."""
        query = select(*_QUALIFICATION).where(Qualification.account == account).order_by(Qualification.id)
        return [QualificationRow(*row) for row in await self._session.execute(query)]

    async def valid_qualifications(self, person: UUID, on: date) -> frozenset[str]:
        """The qualifications that a person has on this day, whichever account they were recorded for."""
        query = select(Qualification.qualification).where(
            Qualification.person == person,
            Qualification.valid_from <= on,
            or_(Qualification.valid_until.is_(None), Qualification.valid_until >= on),
        )
        return frozenset((await self._session.execute(query)).scalars())


async def revoked(session: AsyncSession, now: datetime) -> frozenset[UUID]:
    """Tokens and families that are refused."""
    return frozenset((await session.execute(select(Revocation.id).where(Revocation.until > now))).scalars())


async def lock_person(session: AsyncSession, person: UUID) -> None:
    """One change at a time to the roles of a person, over all of his accounts, until the transaction ends."""
    await session.execute(
        text("SELECT pg_advisory_xact_lock(:space, hashtext(:person))"), {"space": PERSON_LOCK, "person": str(person)}
    )


async def lock_ceremony(session: AsyncSession) -> None:
    """One ceremony at a time, until the transaction ends."""
    await session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": CEREMONY_LOCK})


async def add_unit(session: AsyncSession, unit: UnitRow, now: datetime) -> bool:
    """Keeps a new unit; False when its code is taken."""
    kept = await session.execute(
        upsert(Unit)
        .values(
            id=unit.id,
            code=unit.code,
            title_zh=unit.title_zh,
            title_en=unit.title_en,
            kind=unit.kind,
            parent=unit.parent,
            created_at=now,
        )
        .on_conflict_do_nothing()
        .returning(Unit.id)
    )
    return kept.first() is not None


async def add_account(session: AsyncSession, account: AccountRow, now: datetime) -> bool:
    """Keeps a new account; False when its name is taken."""
    kept = await session.execute(
        upsert(Account)
        .values(
            id=account.id,
            person=account.person,
            username=account.username,
            display_name=account.display_name,
            unit=account.unit,
            clearance=account.clearance,
            state=account.state,
            created_at=now,
        )
        .on_conflict_do_nothing()
        .returning(Account.id)
    )
    return kept.first() is not None


async def add_enrolment(session: AsyncSession, digest: bytes, account: UUID, now: datetime, until: datetime) -> None:
    """Keeps a new enrolment code; those before it are void."""
    await session.execute(
        update(EnrolmentCode)
        .where(EnrolmentCode.account == account, EnrolmentCode.used_at.is_(None))
        .values(used_at=now)
    )
    await session.execute(insert(EnrolmentCode).values(digest=digest, account=account, expires_at=until))


async def set_clearance(session: AsyncSession, account: UUID, clearance: str) -> None:
    """Keeps another clearance."""
    await session.execute(update(Account).where(Account.id == account).values(clearance=clearance))


async def account_for_update(session: AsyncSession, account: UUID) -> AccountRow | None:
    """One account, locked."""
    row = (await session.execute(select(*_ACCOUNT).where(Account.id == account).with_for_update())).one_or_none()
    return AccountRow(*row) if row else None


async def add_assignment(session: AsyncSession, assignment: AssignmentRow, now: datetime) -> bool:
    """Keeps a new role of an account; False when it holds the role in this unit."""
    kept = await session.execute(
        upsert(Assignment)
        .values(
            id=assignment.id,
            account=assignment.account,
            person=assignment.person,
            role=assignment.role,
            unit=assignment.unit,
            assigned_at=now,
        )
        .on_conflict_do_nothing()
        .returning(Assignment.id)
    )
    return kept.first() is not None


async def remove_assignment(session: AsyncSession, account: UUID, assignment: UUID) -> AssignmentRow | None:
    """Ends a role of this account; None when it has none of this id."""
    row = (
        await session.execute(
            delete(Assignment).where(Assignment.id == assignment, Assignment.account == account).returning(*_ASSIGNMENT)
        )
    ).one_or_none()
    return AssignmentRow(*row) if row else None


async def add_qualification(session: AsyncSession, qualification: QualificationRow, now: datetime) -> None:
    """Keeps a qualification."""
    await session.execute(
        insert(Qualification).values(
            id=qualification.id,
            account=qualification.account,
            person=qualification.person,
            qualification=qualification.qualification,
            evidence=qualification.evidence,
            valid_from=qualification.valid_from,
            valid_until=qualification.valid_until,
            recorded_at=now,
        )
    )
