"""Shapes of the directory on the wire."""

from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Annotated, Any, TypeVar
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic.json_schema import SkipJsonSchema

from dossier_common.scopes import FOR_PEOPLE
from dossier_gateway.directory.rules import DisablingReason, UnitKind, WithdrawalReason

Words = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]
Code = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Username = Annotated[str, StringConstraints(min_length=2, max_length=64, pattern=r"^[a-z0-9][a-z0-9._-]*$")]
DisplayName = Annotated[str, StringConstraints(min_length=1, max_length=100, strip_whitespace=True)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[a-z][a-z0-9]*([-_][a-z0-9]+)*$")]
_SCOPES = {scope.name: scope.value for scope in sorted(FOR_PEOPLE)}
PersonScope = StrEnum("PersonScope", _SCOPES)  # type: ignore[misc]  # mypy wants the members in the call itself


FIRST, LAST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
_T = TypeVar("_T")


def _in_calendar(at: datetime) -> datetime:
    if not FIRST <= at <= LAST:
        raise ValueError("an instant between 2000 and 2200")
    return at.astimezone(UTC)


def _given(value: Any) -> Any:
    if value is None:
        raise ValueError("nothing of this can be taken away")
    return value


Instant = Annotated[AwareDatetime, AfterValidator(_in_calendar)]
Maybe = Annotated[
    _T | SkipJsonSchema[None],
    BeforeValidator(_given),
    Field(json_schema_extra=lambda schema: schema.pop("default", None)),
]
"""A field of a merge patch (RFC 7396) that may be left out, and not be null."""


class Wire(BaseModel):
    """Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class Title(Wire):
    """In both languages."""

    zh: Words
    en: Words


class NewUnit(Wire):
    """A unit to be made below another. Only the first ceremony makes one without a parent."""

    code: Code
    title: Title
    kind: UnitKind
    parent: UUID | None


class Unit(Wire):
    """A unit of the organisation tree."""

    id: UUID
    code: str
    title: Title
    kind: UnitKind
    parent: UUID | None
    version: int


class UnitPatch(Wire):
    """Another title, or another unit to stand under."""

    title: Maybe[Title] = None
    parent: Maybe[UUID] = None


class Units(Wire):
    """A page of units."""

    items: list[Unit]


class NewAccount(Wire):
    """An account to be made; `person` for a further account of a person who has one."""

    username: Username
    display_name: DisplayName
    unit: UUID
    person: UUID | None = None


class AccountState(StrEnum):
    """`invited` until the person has set a password."""

    INVITED = "invited"
    ACTIVE = "active"
    DISABLED = "disabled"


class Account(Wire):
    """An account of one person."""

    id: UUID
    person: UUID
    username: str
    display_name: str
    unit: UUID
    clearance: str
    state: AccountState
    version: int


class AccountDetails(Account):
    """With what it holds now: its roles, and the qualifications that its person has, whichever account they are of."""

    roles: list["Assignment"]
    qualifications: list[str]


class AccountPatch(Wire):
    """Another name that people see, or another home unit."""

    display_name: Maybe[DisplayName] = None
    unit: Maybe[UUID] = None


class Disabling(Wire):
    """Why an account or an application is disabled."""

    reason: DisablingReason


class CreatedAccount(Account):
    """With the code that the person sets his password with; it is shown this once."""

    enrolment_code: str


class Accounts(Wire):
    """A page of accounts."""

    items: list[Account]


class Enrolment(Wire):
    """A one-time code, and the password that the person chose."""

    code: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    password: Annotated[str, StringConstraints(min_length=1, max_length=256)]


class EnrolmentCode(Wire):
    """Shown this once; the code before it is void."""

    enrolment_code: str


class NewClearance(Wire):
    """A level of the policy."""

    clearance: Name


class NewAssignment(Wire):
    """A role of the policy, in one unit; with `valid_until` it ends by itself."""

    role: Name
    unit: UUID
    valid_until: Instant | None = None


class Assignment(Wire):
    """A role that an account holds."""

    id: UUID
    account: UUID
    role: str
    unit: UUID
    valid_until: datetime | None


class Assignments(Wire):
    """A page of the roles of an account."""

    items: list[Assignment]


class NewQualification(Wire):
    """What was signed or passed, with a reference to the evidence and its term."""

    qualification: Name
    evidence: Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True)]
    valid_from: date
    valid_until: date | None = None


class Qualification(Wire):
    """A qualification; its term ends at the latest when the policy says, and at once when it is withdrawn."""

    id: UUID
    account: UUID
    qualification: str
    evidence: str
    valid_from: date
    valid_until: date | None
    withdrawn_at: datetime | None
    withdrawn_for: WithdrawalReason | None


class NewWithdrawal(Wire):
    """Why a qualification counts no more."""

    reason: WithdrawalReason


class Qualifications(Wire):
    """A page of what was recorded for an account."""

    items: list[Qualification]


class Held(Wire):
    """A role in a unit."""

    role: str
    unit: UUID


class Me(Wire):
    """Who calls, and what he may."""

    account: UUID | None
    person: UUID | None
    username: str | None
    display_name: str | None
    client: str
    unit: UUID | None
    units: list[UUID]
    roles: list[Held]
    clearance: str
    qualifications: list[str]
    scopes: list[str]


class Role(Wire):
    """A bundle of scopes."""

    id: str
    title: Title
    scopes: list[str]
    officer: bool


class Roles(Wire):
    """The roles of the policy."""

    items: list[Role]


class ConflictSet(Wire):
    """Scopes of different sides are never in one hand."""

    id: str
    title: Title
    between: list[list[str]]


class RoleConflict(Wire):
    """Roles that one person never holds together, and the conflict sets that say so."""

    roles: tuple[str, str]
    conflicts: list[str]


class CaseConflict(Wire):
    """Acts that nobody does both in one case."""

    id: str
    title: Title
    scopes: list[str]


class Conflicts(Wire):
    """The matrix of duties: conflict sets of scopes, pairs of roles that break them, what is apart in a case."""

    items: list[ConflictSet]
    roles: list[RoleConflict]
    per_case: list[CaseConflict]
