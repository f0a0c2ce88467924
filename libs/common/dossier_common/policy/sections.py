"""The items of a pack's sections, each as a frozen value."""

from collections.abc import Collection
from datetime import datetime, time
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field as Constrained
from pydantic import NonNegativeInt, PositiveInt, field_validator, model_validator

from dossier_common.policy.period import Period
from dossier_common.policy.vocabulary import (
    Basis,
    Concerning,
    Detection,
    Disclosure,
    DisposalAction,
    DisposalMethod,
    DutyScope,
    FieldKind,
    Id,
    Ids,
    Item,
    Kinds,
    Mask,
    Operation,
    Relation,
    Representation,
    ScopePattern,
    Suspicion,
    Text,
    Title,
    Trigger,
    UnitExpression,
    Validator,
)
from dossier_common.scopes import Scope

ANY = "any"


class Level(Item):
    """A secrecy level; its place in the list is its rank, the lowest first."""

    id: Id
    title: Title
    catalogue_mark: bool = False
    listed_to: Literal["all", "named"] = "all"
    separate_storage: bool = False
    secrecy_term: Period | None = None


class Accepted(Item):
    """A value of a closed set, with the spellings that a spreadsheet may use for it."""

    id: Id
    title: Title
    values: tuple[Text, ...] = Constrained(min_length=1)


class CustomerType(Accepted):
    """Person or organisation, or what a pack adds."""


class Importance(Accepted):
    """How much the customer matters; some packs draw the level from it (B9)."""


class CustomerClass(Accepted):
    """General or special customer (A8.3), or what a pack adds."""


class Column(Item):
    """A spreadsheet column that describes the record itself and is no field of it."""

    id: Literal["customer_type", "importance", "opened_on", "relationship_ended_on"]
    title: Title
    headers: tuple[Text, ...] = Constrained(min_length=1)
    required: bool = False


class Field(Item):
    """A field of a customer record; `headers` are the spreadsheet headers that mean it."""

    id: Id
    kind: FieldKind
    title: Title
    mask: Mask
    validator: Validator
    max_length: PositiveInt = Constrained(le=10_000)
    headers: tuple[Text, ...] = Constrained(min_length=1)
    indexed: bool = False


class Form(Item):
    """Which fields a record of a customer type and class must, may and must not have."""

    id: Id
    title: Title | None = None
    customer: Id
    classes: tuple[Id, ...] = Constrained(min_length=1)
    required: tuple[Id, ...] = Constrained(min_length=1)
    optional: tuple[Id, ...] = ()
    forbidden: tuple[Id, ...] = ()


class ClassificationWhen(Item):
    """What a record must be for a rule; what is left out holds for all. One of the kinds is enough."""

    customer_type: Ids | None = None
    importance: Ids | None = None
    kinds: Kinds | None = None


class ClassificationRule(Item):
    """Gives the records that match at least this level and class."""

    id: Id
    when: ClassificationWhen = ClassificationWhen()
    level: Id
    information_class: Literal[1, 2, 3]


class Classification(Item):
    """What a record is; class 1 has the highest grade of protection (B1.5)."""

    level: Id
    information_class: Literal[1, 2, 3]


class SuspicionRule(Item):
    """Flags a record; the list of flags stands after `due_working_days` (A7.7: T+1)."""

    id: Id
    title: Title
    detect: Suspicion
    fields: tuple[Id, ...] = ()
    due_working_days: NonNegativeInt


class Purpose(Item):
    """A use, and what covers it."""

    id: Id
    title: Title
    basis: Basis


class Hours(Item):
    """Hours of a day in which content may be read, on the named days (1 is Monday), in a time zone."""

    start: time
    end: time
    days: tuple[Annotated[int, Constrained(ge=1, le=7)], ...] = (1, 2, 3, 4, 5, 6, 7)
    timezone: str = "Asia/Shanghai"

    @field_validator("timezone")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError("unknown time zone") from error
        return value

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.start >= self.end:
            raise ValueError("hours start before they end")
        return self

    def cover(self, instant: datetime) -> bool:
        """Whether the aware instant lies within; the end does not."""
        local = instant.astimezone(ZoneInfo(self.timezone))
        return local.isoweekday() in self.days and self.start <= local.time() < self.end


class LevelAccess(Item):
    """What a level shows to qualified and cleared staff before any grant, and under which conditions.

    No zones means any zone. `need_to_know` names those who see what `need_to_know_sees` says; all others see what
    `without_grant` says. Use `disclosure` and both are kept.
    """

    level: Id
    without_grant: Disclosure
    need_to_know: tuple[Relation, ...] = ()
    need_to_know_sees: Disclosure = Disclosure.OPEN
    zones: tuple[Id, ...] = ()
    hours: Hours | None = None
    watermark: bool = True
    representations: tuple[Representation, ...] = (Representation.VIEW,)

    def disclosure(self, relations: frozenset[Relation]) -> Disclosure:
        """What someone who stands in these relations to a record of this level sees of it without a grant."""
        return self.need_to_know_sees if relations & frozenset(self.need_to_know) else self.without_grant


class Role(Item):
    """A bundle of scopes, held inside one unit. An officer (三员) sees no content, whatever else he holds."""

    id: Id
    title: Title
    scopes: tuple[Scope, ...] = ()
    second_factor: bool = False
    officer: bool = False


class Conflict(Item):
    """Nobody may hold a scope of one set and another scope of a second set together."""

    id: Id
    title: Title
    between: tuple[tuple[ScopePattern, ...], ...] = Constrained(min_length=2)


class CaseConflict(Item):
    """Nobody may use both scopes in one case; the same scope twice means two acts of it in one round."""

    id: Id
    title: Title
    scopes: tuple[Scope, Scope]


class Qualification(Item):
    """What a person must have before a scope is of use; `term` is how long it lasts at most."""

    id: Id
    title: Title
    term: Period | None = None
    required_for: tuple[ScopePattern, ...] = Constrained(min_length=1)


class MaintenanceRule(Item):
    """An administrator's operation that another person, with a scope, authorises first; once, and for so long.

    Nobody decides about himself: where the person concerned holds `authorised_by`, who holds `otherwise_by` may decide
    too, so that the only holder of an office can be helped as well.
    """

    id: Id
    title: Title
    operation: Operation
    concerning: Concerning = Concerning.ANYONE
    authorised_by: Scope = Scope.ROLES_ASSIGN
    otherwise_by: Scope = Scope.AUDIT_READ
    valid: Period

    def deciders(self, concerned: Collection[str]) -> tuple[Scope, ...]:
        """The scopes of which one is needed to decide, where the person concerned holds these scopes."""
        return (self.authorised_by, self.otherwise_by) if self.authorised_by in concerned else (self.authorised_by,)

    @field_validator("valid")
    @classmethod
    def _lasts(cls, value: Period) -> Period:
        if value.is_zero:
            raise ValueError("an authorisation lasts longer than nothing")
        return value


class PasswordRules(Item):
    """Rules for the passwords of people (A6.3.2, C2.3.3); `history` is how many earlier ones are refused."""

    min_length: PositiveInt = Constrained(ge=8, le=128)
    letters_and_digits: bool
    max_age: Period | None = None
    history: NonNegativeInt
    lockout_after: PositiveInt
    lockout_for: Period


class RetentionWhen(Item):
    """The records that a rule is for: customer types or `any`, and levels."""

    customer: Ids = (ANY,)
    level: Ids | None = None

    @property
    def specificity(self) -> int:
        """How many conditions are narrower than everything."""
        return (ANY not in self.customer) + (self.level is not None)

    def matches(self, customer_type: str, level: str) -> bool:
        """Whether the record is one of these."""
        return (ANY in self.customer or customer_type in self.customer) and (self.level is None or level in self.level)

    def overlaps(self, other: Self) -> bool:
        """Whether some record matches both."""
        return (
            ANY in self.customer or ANY in other.customer or not frozenset(self.customer).isdisjoint(other.customer)
        ) and (self.level is None or other.level is None or not frozenset(self.level).isdisjoint(other.level))


class DisposalMethods(Item):
    """The method by medium (A8.25, D.4.4)."""

    electronic: Literal[DisposalMethod.CRYPTO_SHRED, DisposalMethod.OVERWRITING]
    paper: Literal[DisposalMethod.SHREDDING, DisposalMethod.PULPING, DisposalMethod.BURNING]
    disk: Literal[DisposalMethod.DEGAUSSING, DisposalMethod.OVERWRITING, DisposalMethod.PHYSICAL_DESTRUCTION]


class Disposal(Item):
    """Who approves, executes and witnesses the end of a record, and how it is done."""

    action: DisposalAction
    flow: Id
    executor: Id
    witness: Id
    methods: DisposalMethods


class RetentionRule(Item):
    """How long records are kept after what. The texts name no years: a rule without a term is refused (A4.26)."""

    id: Id
    title: Title | None = None
    when: RetentionWhen = RetentionWhen()
    trigger: Trigger
    term: Period
    disposal: Disposal


class Duty(Item):
    """What has to be done again and again, by whom, on which form; `due_day` is a day of the month (A5.4)."""

    id: Id
    title: Title | None = None
    every: Period
    per: DutyScope
    assignee: Id
    form: Id
    due_day: PositiveInt | None = Constrained(default=None, le=31)

    @field_validator("every")
    @classmethod
    def _recurs(cls, value: Period) -> Period:
        if value.is_zero:
            raise ValueError("a cycle lasts longer than nothing")
        return value


class DetectionRule(Item):
    """Raises an alarm when one person's acts reach `threshold` within `window` (B3.4.2)."""

    id: Id
    title: Title
    detect: Detection
    threshold: PositiveInt
    window: Period
    hours: Hours | None = None
    opens_incident: bool = False


class Notice(Item):
    """An office that is told, and within which time."""

    role: Id
    of: UnitExpression
    within: Period


class IncidentRule(Item):
    """Who is told of a leak, found or suspected; what its closing must say (A8.27, B6.14)."""

    id: Id
    title: Title
    level: Ids | None = None
    tell: tuple[Notice, ...] = Constrained(min_length=1)
    closing_needs: tuple[Literal["cause", "remedy"], ...] = ("cause", "remedy")


class Clause(Item):
    """A clause of the regulation and the keys of the policy that keep it, as ``flows`` or ``flows.borrow``."""

    id: Annotated[str, Constrained(pattern=r"^[A-Z][0-9]?\.\S+$", max_length=64)]
    gist: Text
    keys: tuple[Text, ...] = Constrained(min_length=1)
