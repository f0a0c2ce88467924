"""Shapes of the directory on the wire."""

from datetime import date
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, StringConstraints

from dossier_common.scopes import FOR_PEOPLE
from dossier_gateway.directory.rules import UnitKind

Words = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]
Code = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Username = Annotated[str, StringConstraints(min_length=2, max_length=64, pattern=r"^[a-z0-9][a-z0-9._-]*$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[a-z][a-z0-9]*([-_][a-z0-9]+)*$")]
PersonScope = StrEnum("PersonScope", {scope.name: scope.value for scope in sorted(FOR_PEOPLE)})  # type: ignore[misc]


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


class Units(Wire):
    """A page of units."""

    items: list[Unit]


class NewAccount(Wire):
    """An account to be made; `person` for a further account of a person who has one."""

    username: Username
    display_name: Annotated[str, StringConstraints(min_length=1, max_length=100, strip_whitespace=True)]
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
    """A role of the policy, in one unit."""

    role: Name
    unit: UUID


class Assignment(Wire):
    """A role that an account holds."""

    id: UUID
    account: UUID
    role: str
    unit: UUID


class Assignments(Wire):
    """The roles of an account."""

    items: list[Assignment]


class NewQualification(Wire):
    """What was signed or passed, with a reference to the evidence and its term."""

    qualification: Name
    evidence: Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True)]
    valid_from: date
    valid_until: date | None = None


class Qualification(Wire):
    """A qualification; its term ends at the latest when the policy says."""

    id: UUID
    account: UUID
    qualification: str
    evidence: str
    valid_from: date
    valid_until: date | None


class Qualifications(Wire):
    """What was recorded for an account."""

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


class CaseConflict(Wire):
    """Acts that nobody does both in one case."""

    id: str
    title: Title
    scopes: list[str]


class Conflicts(Wire):
    """The matrix of duties."""

    items: list[ConflictSet]
    per_case: list[CaseConflict]
