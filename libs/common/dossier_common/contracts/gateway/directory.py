"""The directory: units, accounts, what persons hold, partners."""

from datetime import date, datetime
from typing import ClassVar
from uuid import UUID

from dossier_common.events import Event


class UnitCreated(Event):
    """A unit of the organisation tree: group, company, department or project."""

    TYPE: ClassVar[str] = "gateway.v1.unit.created"

    unit: UUID
    parent: UUID | None = None
    kind: str
    code: str


class UnitChanged(Event):
    """A unit has another title."""

    TYPE: ClassVar[str] = "gateway.v1.unit.changed"

    unit: UUID


class UnitMoved(Event):
    """A unit stands under another, with all that is below it."""

    TYPE: ClassVar[str] = "gateway.v1.unit.moved"

    unit: UUID
    parent_from: UUID
    parent_to: UUID


class AccountCreated(Event):
    """An account of one person, in its home unit."""

    TYPE: ClassVar[str] = "gateway.v1.account.created"

    account: UUID
    person: UUID
    unit: UUID
    clearance: str


class AccountChanged(Event):
    """Which fields of an account are others now; of the home unit also before and after, of a name never."""

    TYPE: ClassVar[str] = "gateway.v1.account.changed"

    account: UUID
    person: UUID
    changed: tuple[str, ...]
    unit_from: UUID
    unit_to: UUID


class AccountEnabled(Event):
    """A disabled account may be signed in to again; what it had open stays ended."""

    TYPE: ClassVar[str] = "gateway.v1.account.enabled"

    account: UUID
    person: UUID
    state: str


class AccountDisabled(Event):
    """The account may do nothing any more; `reason` is one of a closed list."""

    TYPE: ClassVar[str] = "gateway.v1.account.disabled"

    account: UUID
    person: UUID
    reason: str


class PersonOffboarded(Event):
    """A person left, or moved to another unit, with all of his accounts (A4.38, A2.6).

    It comes after the events of what ended with it: accounts, roles, clearance, sessions, tokens. `kind` is `leaving`
    or `transfer`; `units_left` are those in which he worked or held a role. Why he left stays in the directory.
    """

    TYPE: ClassVar[str] = "gateway.v1.person.offboarded"

    offboarding: UUID
    kind: str
    person: UUID
    accounts: tuple[UUID, ...]
    units_left: tuple[UUID, ...]
    unit_to: UUID | None = None
    successor_account: UUID
    successor_person: UUID
    successor_clearance: str


class ClearanceChanged(Event):
    """What an account may be cleared for, before and after."""

    TYPE: ClassVar[str] = "gateway.v1.clearance.changed"

    account: UUID
    person: UUID
    clearance_from: str
    clearance_to: str


class RoleAssigned(Event):
    """A role in a unit (A4.34); with `valid_until` it counts no longer from then on."""

    TYPE: ClassVar[str] = "gateway.v1.role.assigned"

    assignment: UUID
    account: UUID
    person: UUID
    role: str
    unit: UUID
    valid_until: datetime | None = None


class RoleRevoked(Event):
    """The end of a role assignment; without an actor its term was over."""

    TYPE: ClassVar[str] = "gateway.v1.role.revoked"

    assignment: UUID
    account: UUID
    person: UUID
    role: str
    unit: UUID


class QualificationRecorded(Event):
    """An agreement was signed, a training passed (B2.5.4)."""

    TYPE: ClassVar[str] = "gateway.v1.qualification.recorded"

    account: UUID
    person: UUID
    qualification: str
    valid_from: date | None = None
    valid_until: date | None = None
    record: UUID | None = None


class QualificationWithdrawn(Event):
    """What was recorded of a person counts no more."""

    TYPE: ClassVar[str] = "gateway.v1.qualification.withdrawn"

    account: UUID
    person: UUID
    qualification: str
    record: UUID
    reason: str


class PartnerRegistered(Event):
    """Another company, to which information may be handed (B3.5)."""

    TYPE: ClassVar[str] = "gateway.v1.partner.registered"

    partner: UUID
    state: str


class PartnerChanged(Event):
    """Which fields of a partner are others now; of its state also before and after."""

    TYPE: ClassVar[str] = "gateway.v1.partner.changed"

    partner: UUID
    changed: tuple[str, ...]
    state_from: str
    state_to: str


class PartnerQualified(Event):
    """A partner signed an agreement, or was assessed; with the term."""

    TYPE: ClassVar[str] = "gateway.v1.partner.qualified"

    partner: UUID
    record: UUID
    qualification: str
    valid_from: date
    valid_until: date | None = None


class PartnerQualificationWithdrawn(Event):
    """An agreement or an assessment of a partner counts no more."""

    TYPE: ClassVar[str] = "gateway.v1.partner.qualification-withdrawn"

    partner: UUID
    record: UUID
    qualification: str
    reason: str
