"""SQL of the directory."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import ColumnElement, and_, delete, insert, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from dossier_gateway.models import (
    Account,
    Assignment,
    Credential,
    EnrolmentCode,
    Qualification,
    Revocation,
    Unit,
)

PERSON_LOCK = 0x0D055
CEREMONY_LOCK = 0x0D05501
TREE_LOCK = 0x0D05502
OFFICE_LOCK = 0x0D05503


@dataclass(frozen=True, slots=True)
class UnitRow:
    """A unit."""

    id: UUID
    code: str
    title_zh: str
    title_en: str
    kind: str
    parent: UUID | None
    version: int = 1


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
    version: int = 1


@dataclass(frozen=True, slots=True)
class AssignmentRow:
    """A role in a unit."""

    id: UUID
    account: UUID
    person: UUID
    role: str
    unit: UUID
    valid_until: datetime | None = None


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
    withdrawn_at: datetime | None = None
    withdrawn_for: str | None = None


@dataclass(frozen=True, slots=True)
class AccountFilter:
    """Which accounts are asked for; None is all."""

    unit: UUID | None = None
    state: str | None = None
    person: UUID | None = None


_UNIT = (Unit.id, Unit.code, Unit.title_zh, Unit.title_en, Unit.kind, Unit.parent, Unit.version)
_ACCOUNT = (
    Account.id,
    Account.person,
    Account.username,
    Account.display_name,
    Account.unit,
    Account.clearance,
    Account.state,
    Account.version,
)
_ASSIGNMENT = (
    Assignment.id,
    Assignment.account,
    Assignment.person,
    Assignment.role,
    Assignment.unit,
    Assignment.valid_until,
)
_QUALIFICATION = (
    Qualification.id,
    Qualification.account,
    Qualification.person,
    Qualification.qualification,
    Qualification.evidence,
    Qualification.valid_from,
    Qualification.valid_until,
    Qualification.withdrawn_at,
    Qualification.withdrawn_for,
)


def live(now: datetime) -> ColumnElement[bool]:
    """Assignments whose term is not over."""
    return or_(Assignment.valid_until.is_(None), Assignment.valid_until > now)


def in_force(on: date) -> ColumnElement[bool]:
    """Qualifications that count on this day."""
    return and_(
        Qualification.withdrawn_at.is_(None),
        Qualification.valid_from <= on,
        or_(Qualification.valid_until.is_(None), Qualification.valid_until >= on),
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

    async def accounts(self, limit: int, after: UUID | None, wanted: AccountFilter) -> list[AccountRow]:
        """Accounts in the order of their making."""
        query = select(*_ACCOUNT).order_by(Account.id).limit(limit)
        if after:
            query = query.where(Account.id > after)
        for name in ("unit", "state", "person"):
            value = getattr(wanted, name)
            if value is not None:
                query = query.where(getattr(Account, name) == value)
        return [AccountRow(*row) for row in await self._session.execute(query)]

    async def person_known(self, person: UUID) -> bool:
        """Whether the person has an account."""
        return (
            await self._session.execute(select(Account.id).where(Account.person == person).limit(1))
        ).first() is not None

    async def any_account(self) -> bool:
        """Whether there is any account at all."""
        return (await self._session.execute(select(Account.id).limit(1))).first() is not None

    async def assignments(self, account: UUID, now: datetime) -> list[AssignmentRow]:
        """The roles of an account, without those whose term is over."""
        query = select(*_ASSIGNMENT).where(Assignment.account == account, live(now)).order_by(Assignment.id)
        return [AssignmentRow(*row) for row in await self._session.execute(query)]

    async def assignment_page(
        self, account: UUID, now: datetime, limit: int, after: UUID | None
    ) -> list[AssignmentRow]:
        """As `assignments`, in pages."""
        query = select(*_ASSIGNMENT).where(Assignment.account == account, live(now))
        if after:
            query = query.where(Assignment.id > after)
        rows = await self._session.execute(query.order_by(Assignment.id).limit(limit))
        return [AssignmentRow(*row) for row in rows]

    async def roles_of_person(self, person: UUID, now: datetime) -> frozenset[str]:
        """The roles that a person holds in all of his accounts, disabled ones too: they can be enabled again."""
        query = select(Assignment.role).where(Assignment.person == person, live(now))
        return frozenset((await self._session.execute(query)).scalars())

    async def qualifications(self, account: UUID, limit: int, after: UUID | None) -> list[QualificationRow]:
        """What was recorded for an account, with what is over or withdrawn."""
        query = select(*_QUALIFICATION).where(Qualification.account == account)
        if after:
            query = query.where(Qualification.id > after)
        rows = await self._session.execute(query.order_by(Qualification.id).limit(limit))
        return [QualificationRow(*row) for row in rows]

    async def valid_qualifications(self, person: UUID, on: date) -> frozenset[str]:
        """The qualifications that a person has on this day, whichever account they were recorded for."""
        query = select(Qualification.qualification).where(Qualification.person == person, in_force(on))
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
    await void_enrolments(session, [account], now)
    await session.execute(insert(EnrolmentCode).values(digest=digest, account=account, expires_at=until))


async def void_enrolments(session: AsyncSession, accounts: Collection[UUID], now: datetime) -> None:
    """Enrolment codes of these accounts that nobody used are of no use any more."""
    await session.execute(
        update(EnrolmentCode)
        .where(EnrolmentCode.account.in_(accounts), EnrolmentCode.used_at.is_(None))
        .values(used_at=now)
    )


async def accounts_in_use(session: AsyncSession, person: UUID) -> Sequence[UUID]:
    """The accounts of a person, without those that still wait for their first password."""
    query = select(Account.id).where(Account.person == person, Account.state != "invited")
    return (await session.execute(query)).scalars().all()


async def change_account(session: AsyncSession, account: UUID, **values: object) -> None:
    """Keeps other values, as the next version."""
    await session.execute(update(Account).where(Account.id == account).values(**values, version=Account.version + 1))


async def has_password(session: AsyncSession, account: UUID) -> bool:
    """Whether the person has ever set one."""
    return (await session.execute(select(Credential.account).where(Credential.account == account))).first() is not None


async def change_unit(session: AsyncSession, unit: UUID, **values: object) -> None:
    """Keeps other values, as the next version."""
    await session.execute(update(Unit).where(Unit.id == unit).values(**values, version=Unit.version + 1))


async def lock_tree(session: AsyncSession) -> None:
    """One move within the tree of units at a time, until the transaction ends."""
    await session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": TREE_LOCK})


async def lock_offices(session: AsyncSession) -> None:
    """One at a time gives an office of the three away, until the transaction ends."""
    await session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": OFFICE_LOCK})


async def unit_for_update(session: AsyncSession, unit: UUID) -> UnitRow | None:
    """One unit, locked."""
    row = (await session.execute(select(*_UNIT).where(Unit.id == unit).with_for_update())).one_or_none()
    return UnitRow(*row) if row else None


async def stands_under(session: AsyncSession, unit: UUID, above: UUID) -> bool:
    """Whether the unit is `above`, or somewhere below it."""
    path = select(Unit.id, Unit.parent).where(Unit.id == unit).cte(recursive=True)
    path = path.union(select(Unit.id, Unit.parent).join_from(Unit, path, Unit.id == path.c.parent))
    return (await session.execute(select(path.c.id).where(path.c.id == above))).first() is not None


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
            valid_until=assignment.valid_until,
        )
        .on_conflict_do_nothing()
        .returning(Assignment.id)
    )
    return kept.first() is not None


async def remove_assignment(
    session: AsyncSession, account: UUID, assignment: UUID, now: datetime
) -> AssignmentRow | None:
    """Ends a role of this account; None when it has none of this id, or its term is over (see `remove_ended`)."""
    ended = delete(Assignment).where(Assignment.id == assignment, Assignment.account == account, live(now))
    row = (await session.execute(ended.returning(*_ASSIGNMENT))).one_or_none()
    return AssignmentRow(*row) if row else None


async def remove_ended(session: AsyncSession, now: datetime, account: UUID | None = None) -> list[AssignmentRow]:
    """Removes roles whose term is over, of one account or of all; a few hundred at a time."""
    over = select(Assignment.id).where(Assignment.valid_until <= now).limit(500)
    if account:
        over = over.where(Assignment.account == account)
    removed = await session.execute(delete(Assignment).where(Assignment.id.in_(over)).returning(*_ASSIGNMENT))
    return [AssignmentRow(*row) for row in removed]


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


async def qualification_for_update(
    session: AsyncSession, account: UUID, qualification: UUID
) -> QualificationRow | None:
    """A qualification of this account, locked."""
    query = select(*_QUALIFICATION).where(Qualification.id == qualification, Qualification.account == account)
    row = (await session.execute(query.with_for_update())).one_or_none()
    return QualificationRow(*row) if row else None


async def withdraw_qualification(session: AsyncSession, qualification: UUID, reason: str, now: datetime) -> None:
    """It counts no more."""
    await session.execute(
        update(Qualification).where(Qualification.id == qualification).values(withdrawn_at=now, withdrawn_for=reason)
    )
