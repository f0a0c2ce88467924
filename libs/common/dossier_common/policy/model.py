"""The policy: what a regulation says, merged, checked and frozen."""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from itertools import combinations
from typing import Annotated, Any, Protocol, Self, TypeVar

import rfc8785
from pydantic import BeforeValidator, ConfigDict, PlainSerializer
from pydantic import Field as Constrained

from dossier_common.policy.flows import EmergencyRule, Flow
from dossier_common.policy.sections import (
    CaseConflict,
    Classification,
    ClassificationRule,
    Clause,
    Column,
    Conflict,
    CustomerClass,
    CustomerType,
    DetectionRule,
    Duty,
    Field,
    Form,
    Importance,
    IncidentRule,
    Level,
    LevelAccess,
    MaintenanceRule,
    PasswordRules,
    Purpose,
    Qualification,
    RetentionRule,
    Role,
    SuspicionRule,
)
from dossier_common.policy.vocabulary import Action, Concerning, Id, Item, Recipient, Requester, Text, Title
from dossier_common.scopes import Scope, expand


class UnknownNameError(KeyError):
    """The policy has no such item; the name that was looked up may be input and is not repeated."""


class _Named(Protocol):
    @property
    def id(self) -> str: ...


_ItemT = TypeVar("_ItemT")
_NamedT = TypeVar("_NamedT", bound=_Named)


def _clauses_in(value: Any) -> Any:
    if isinstance(value, Mapping):
        return [{"id": key, **body} if isinstance(body, Mapping) else body for key, body in value.items()]
    return value


def _clauses_out(clauses: Iterable[Clause]) -> dict[str, Any]:
    return {clause.id: {"gist": clause.gist, "keys": list(clause.keys)} for clause in clauses}


class _ClauseBody(Item):
    gist: Text
    keys: list[Text] = Constrained(min_length=1)


Clauses = Annotated[
    tuple[Clause, ...],
    BeforeValidator(_clauses_in, json_schema_input_type=dict[str, _ClauseBody]),
    PlainSerializer(_clauses_out, return_type=dict[str, Any]),
]


class Policy(Item):
    """One regulation as all services apply it. Lookups by id raise UnknownNameError.

    An instance that did not come from `load_policy` or `policy_from_content` has the right shape only: references,
    conflicts and ambiguities are what those two refuse.
    """

    model_config = ConfigDict(ignored_types=(cached_property,))

    pack: Id
    title: Title
    source: Text
    clauses: Clauses = ()
    levels: tuple[Level, ...] = Constrained(min_length=1)
    customer_types: tuple[CustomerType, ...] = Constrained(min_length=1)
    customer_classes: tuple[CustomerClass, ...] = Constrained(min_length=1)
    importances: tuple[Importance, ...] = Constrained(min_length=1)
    columns: tuple[Column, ...] = ()
    fields: tuple[Field, ...] = Constrained(min_length=1)
    forms: tuple[Form, ...] = Constrained(min_length=1)
    classification: tuple[ClassificationRule, ...] = Constrained(min_length=1)
    suspicion: tuple[SuspicionRule, ...] = ()
    purposes: tuple[Purpose, ...] = Constrained(min_length=1)
    access: tuple[LevelAccess, ...] = Constrained(min_length=1)
    flows: tuple[Flow, ...] = ()
    emergency: EmergencyRule | None = None
    roles: tuple[Role, ...] = Constrained(min_length=1)
    conflicts: tuple[Conflict, ...] = Constrained(min_length=1)
    case_conflicts: tuple[CaseConflict, ...] = Constrained(min_length=1)
    qualifications: tuple[Qualification, ...] = ()
    maintenance: tuple[MaintenanceRule, ...] = ()
    passwords: PasswordRules
    retention: tuple[RetentionRule, ...] = ()
    duties: tuple[Duty, ...] = ()
    detection: tuple[DetectionRule, ...] = ()
    incidents: tuple[IncidentRule, ...] = ()

    # ---- identity

    def content(self) -> dict[str, Any]:
        """The merged content in its normal form: every default written out, one spelling of each value."""
        return self.model_dump(mode="json")

    @cached_property
    def digest(self) -> str:
        """``sha256:`` and the hash of the content's RFC 8785 canonical JSON; equal for policies that mean the same."""
        return "sha256:" + hashlib.sha256(rfc8785.dumps(self.content())).hexdigest()

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """JSON Schema (2020-12) of a merged policy, as it is written in a pack."""
        schema = cls.model_json_schema(mode="validation")
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy that keeps nothing of what was worked out for the original, its digest least of all."""
        copy = super().model_copy(update=update, deep=deep)
        for known in ("_tables", "digest"):
            copy.__dict__.pop(known, None)
        return copy

    # ---- lookups

    @cached_property
    def _tables(self) -> dict[str, dict[Any, Any]]:
        def by_id(items: Iterable[_NamedT]) -> dict[Any, _NamedT]:
            return {item.id: item for item in items}

        return {
            "levels": {level.id: rank for rank, level in enumerate(self.levels)},
            "customer_types": by_id(self.customer_types),
            "importances": by_id(self.importances),
            "fields": by_id(self.fields),
            "purposes": by_id(self.purposes),
            "access": {access.level: access for access in self.access},
            "flows": by_id(self.flows),
            "roles": by_id(self.roles),
            "retention": by_id(self.retention),
            "qualifications": by_id(self.qualifications),
            "qualifications_for": {
                scope: tuple(item for item in self.qualifications if scope in expand(item.required_for))
                for scope in Scope
            },
            "maintenance": {(rule.operation, rule.concerning): rule for rule in self.maintenance},
            "forms": {(form.customer, name): form for form in self.forms for name in form.classes},
            "conflicts": {
                conflict.id: (conflict, [expand(patterns) for patterns in conflict.between])
                for conflict in self.conflicts
            },
        }

    def _find(self, table: str, key: Any, _kind: type[_ItemT]) -> _ItemT:
        try:
            found: _ItemT = self._tables[table][key]
        except KeyError:
            raise UnknownNameError(table) from None
        return found

    def rank(self, level_id: str) -> int:
        """Place of the level, 0 for the lowest."""
        return self._find("levels", level_id, int)

    def clears(self, clearance: str, level: str) -> bool:
        """Whether this clearance reaches this level; a name that the policy does not have reaches nothing."""
        try:
            return self.rank(clearance) >= self.rank(level)
        except UnknownNameError:
            return False

    def level(self, level_id: str) -> Level:
        """The level of this id."""
        return self.levels[self.rank(level_id)]

    def customer_type(self, type_id: str) -> CustomerType:
        """The customer type of this id."""
        return self._find("customer_types", type_id, CustomerType)

    def importance(self, importance_id: str) -> Importance:
        """The importance of this id."""
        return self._find("importances", importance_id, Importance)

    def field(self, field_id: str) -> Field:
        """The field of this id."""
        return self._find("fields", field_id, Field)

    def form_for(self, customer_type: str, customer_class: str = "general") -> Form:
        """The form for a customer type and class."""
        return self._find("forms", (customer_type, customer_class), Form)

    def purpose(self, purpose_id: str) -> Purpose:
        """The purpose of this id."""
        return self._find("purposes", purpose_id, Purpose)

    def access_for(self, level: str) -> LevelAccess:
        """What the level shows without a grant."""
        return self._find("access", level, LevelAccess)

    def flow(self, flow_id: str) -> Flow:
        """The flow of this id."""
        return self._find("flows", flow_id, Flow)

    def role(self, role_id: str) -> Role:
        """The role of this id."""
        return self._find("roles", role_id, Role)

    def qualification(self, qualification_id: str) -> Qualification:
        """The qualification of this id."""
        return self._find("qualifications", qualification_id, Qualification)

    def retention_rule(self, rule_id: str) -> RetentionRule:
        """The retention rule of this id."""
        return self._find("retention", rule_id, RetentionRule)

    def maintenance_for(self, operation: str, roles: Iterable[str] = ()) -> MaintenanceRule | None:
        """The rule for an administrator's operation, None where it needs no authorisation.

        `roles` are those of the person whom it concerns: where one is an office, the rule for officers counts first.
        """
        rules: dict[tuple[str, Concerning], MaintenanceRule] = self._tables["maintenance"]
        everybodys = rules.get((operation, Concerning.ANYONE))
        return rules.get((operation, Concerning.OFFICERS), everybodys) if self.is_office(roles) else everybodys

    def is_office(self, roles: Iterable[str]) -> bool:
        """Whether one of these roles is an officer's, or asks for a second factor; unknown ones are none."""
        held = frozenset(roles)
        return any(role.id in held for role in self.roles if role.officer or role.second_factor)

    # ---- decisions

    def classify(self, customer_type: str, importance: str, kinds: Collection[str]) -> Classification:
        """The highest level that a matching rule gives, and among those the class with the most protection.

        Raises UnknownNameError where no rule matches; the loader refuses packs that leave such a gap.
        """
        given = [
            rule
            for rule in self.classification
            if (rule.when.customer_type is None or customer_type in rule.when.customer_type)
            and (rule.when.importance is None or importance in rule.when.importance)
            and (rule.when.kinds is None or not frozenset(rule.when.kinds).isdisjoint(kinds))
        ]
        if not given:
            raise UnknownNameError("classification")
        rule = max(given, key=lambda rule: (self.rank(rule.level), -rule.information_class))
        return Classification(level=rule.level, information_class=rule.information_class)

    def flow_for(
        self, action: str, level: str, requester: str = Requester.INSIDER, recipient: str | None = None
    ) -> Flow | None:
        """The flow with the most specific `when` that matches, None where the action is not provided for.

        Raises ValueError for an action, requester or recipient outside the vocabulary.
        """
        case = (Action(action), level, Requester(requester), None if recipient is None else Recipient(recipient))
        matching = [flow for flow in self.flows if flow.when.matches(*case)]
        return max(matching, key=lambda flow: flow.when.specificity, default=None)

    def retention_for(self, customer_type: str, level: str) -> RetentionRule | None:
        """The retention rule with the most specific `when` that matches, None where the pack keeps no schedule."""
        matching = [rule for rule in self.retention if rule.when.matches(customer_type, level)]
        return max(matching, key=lambda rule: rule.when.specificity, default=None)

    def scopes_of(self, role_ids: Iterable[str]) -> frozenset[Scope]:
        """All scopes that the roles bundle."""
        return frozenset(scope for role_id in role_ids for scope in self.role(role_id).scopes)

    def conflicts_in(self, scopes: Iterable[str]) -> list[Conflict]:
        """The static conflicts of someone who holds the scopes, in the pack's order (invariant 4).

        Scopes that are for services only, or unknown, conflict with nothing.
        """
        held = frozenset(scopes)
        return [conflict for conflict, sets in self._tables["conflicts"].values() if _two_of(sets, held)]

    def sides_of(self, conflict_id: str, scopes: Iterable[str]) -> list[list[str]]:
        """Which of the scopes stand on which side of a conflict set; a side with none of them is left out."""
        held = frozenset(scopes)
        _, sides = self._tables["conflicts"][conflict_id]
        return [sorted(map(str, held & side)) for side in sides if held & side]

    def qualifications_for(self, scope: str) -> tuple[Qualification, ...]:
        """What a person needs before he uses the scope."""
        found: tuple[Qualification, ...] = self._tables["qualifications_for"].get(scope, ())
        return found


def _two_of(sets: Iterable[frozenset[Scope]], held: frozenset[str]) -> bool:
    """Whether two different scopes that are held stand in two different sets."""
    present = [held & scopes for scopes in sets]
    return any(left and right and len(left | right) > 1 for left, right in combinations(present, 2))
