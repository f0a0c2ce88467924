"""The access matrix: what each caller is answered at each operation, for objects in and out of his reach.

Computed from the packs and the OpenAPI files alone, never from a run: `docs/access-matrix.md` is written from it, and
a test calls every cell of it on a running stack.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from dossier_common.policy import Disclosure, Policy, Relation, load_policy
from dossier_common.reach import ObjectRule, Reach, rule_of
from dossier_common.scopes import FOR_PEOPLE, ONLY_PERSONS
from dossier_common.topology import PARTS
from dossier_gateway.console.documents import METHODS, is_public, needed
from dossier_local.environment import API_DIR, POLICIES

NOBODY: Final = "no-token"
APPLICATION: Final = "application"
SEVERAL: Final = "several-duties"


class Whose(StrEnum):
    """Whose the object of a call is."""

    OWN = "own"
    COLLEAGUE = "colleague"
    """Another person's, in a unit in which the caller holds his role."""
    ELSEWHERE = "elsewhere"
    """Another person's, in a unit that the caller's roles do not reach."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What people and applications can call through the gateway."""

    part: str
    method: str
    path: str
    id: str
    scopes: tuple[frozenset[str], ...] | None
    """Alternatives, of which a caller needs all of one; None where no token is needed."""
    rule: ObjectRule | None
    body: Mapping[str, Any] | None
    """Schema of the JSON body."""

    @property
    def address(self) -> str:
        """Verb and path."""
        return f"{self.method} {self.path}"

    @property
    def has_objects(self) -> bool:
        """Whether the address names an object."""
        return "{" in self.path

    def opens(self, held: Collection[str]) -> bool:
        """Whether these scopes suffice."""
        return self.scopes is None or any(each <= set(held) for each in self.scopes)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call is answered: a status and a slug that are certain, or that the door is open."""

    status: HTTPStatus | None = None
    slug: str | None = None

    @property
    def passes(self) -> bool:
        """Whether neither the caller's scopes nor the object's place refuse him; the operation decides the rest."""
        return self.status is None


PASSES: Final = Answer()
UNAUTHENTICATED: Final = Answer(HTTPStatus.UNAUTHORIZED, "unauthenticated")
NO_SCOPE: Final = Answer(HTTPStatus.FORBIDDEN, "insufficient-scope")


@dataclass(frozen=True, slots=True)
class Caller:
    """A column of the matrix."""

    id: str
    zh: str
    en: str
    scopes: frozenset[str] | None
    """None without a token."""
    person: bool = True


@dataclass(frozen=True)
class Matrix:
    """All cells, under one policy."""

    policy: Policy
    operations: tuple[Operation, ...]

    @cached_property
    def callers(self) -> tuple[Caller, ...]:
        """Nobody, each role of the policy, an application, and who holds as many duties as one may."""
        roles = [
            Caller(role.id, role.title.zh, role.title.en, frozenset(map(str, role.scopes)))
            for role in self.policy.roles
        ]
        together = frozenset(map(str, self.policy.scopes_of(compatible_roles(self.policy))))
        everything = frozenset(map(str, FOR_PEOPLE - ONLY_PERSONS))
        return (
            Caller(NOBODY, "未登录", "No token", None, person=False),
            *roles,
            Caller(SEVERAL, "兼任多职", "Several duties", together),
            Caller(APPLICATION, "应用程序", "Application", everything, person=False),
        )

    def answer(self, operation: Operation, caller: Caller, whose: Whose, level: str | None = None) -> Answer:
        """What a call is answered. `level` is that of the record, where the rule asks for it."""
        if operation.scopes is None:
            return PASSES
        if caller.scopes is None:
            return UNAUTHENTICATED
        if not operation.opens(caller.scopes):
            return NO_SCOPE
        return self.beyond(operation, caller, whose, level)

    def beyond(self, operation: Operation, caller: Caller, whose: Whose, level: str | None = None) -> Answer:
        """The answer behind the door of the scope."""
        rule, scopes = operation.rule, caller.scopes or frozenset()
        if rule is None or rule.otherwise is None or (whose is Whose.OWN and caller.person):
            return PASSES
        if rule.visible is not None and not self._within(rule.visible, caller, whose, level):
            return Answer(HTTPStatus.NOT_FOUND)
        if any(self._within(reach, caller, whose, level) for reach in rule.of(scopes)):
            return PASSES
        return Answer(HTTPStatus(rule.otherwise))

    def _within(self, reach: Reach, caller: Caller, whose: Whose, level: str | None) -> bool:
        match reach:
            case Reach.ANY:
                return True
            case Reach.UNIT:
                return whose is Whose.COLLEAGUE or not caller.person
            case Reach.LISTED | Reach.KNOWN:
                assert level is not None
                return self._knows(level, caller, whose, listed=reach is Reach.LISTED)
            case Reach.OWN | Reach.PARTY | Reach.GRANTED:
                return False

    def _knows(self, level: str, caller: Caller, whose: Whose, *, listed: bool) -> bool:
        """Whether the policy lists a record of this level to him, or else shows him something of it."""
        if self.policy.level(level).listed_to == "all":
            return True
        of_the_unit = caller.person and whose is Whose.COLLEAGUE
        relations = frozenset({Relation.UNIT} if of_the_unit else ())
        return not listed and self.policy.access_for(level).disclosure(relations) is not Disclosure.NOTHING

    def cases(self, operation: Operation) -> list[tuple[Whose, str | None]]:
        """The objects that tell the cells of an operation apart: whose, and of which level where that counts."""
        rule = operation.rule
        if rule is None or rule.otherwise is None:
            return [(Whose.ELSEWHERE, None)]
        by_level = rule.visible is not None or not {Reach.LISTED, Reach.KNOWN}.isdisjoint(rule.reach)
        levels = [level.id for level in self.policy.levels] if by_level else [None]
        return [(whose, level) for whose in Whose for level in levels]


def compatible_roles(policy: Policy) -> list[str]:
    """As many roles as one person may hold, in the policy's order: each that conflicts with none before it."""
    held: list[str] = []
    for role in policy.roles:
        if not policy.conflicts_in(map(str, policy.scopes_of([*held, role.id]))):
            held.append(role.id)
    return held


def documents(folder: Path = API_DIR) -> dict[str, dict[str, Any]]:
    """The OpenAPI files, by part."""
    return {part: json.loads((folder / f"{part}.json").read_bytes()) for part in PARTS}


def operations(read: Mapping[str, Mapping[str, Any]]) -> Iterator[Operation]:
    """All that the gateway serves to people and applications, in the order of the files."""
    for part, document in read.items():
        for path, item in document["paths"].items():
            for method in METHODS:
                declared = item.get(method)
                if declared is None or not is_public(path, declared):
                    continue
                alternatives = needed(declared)
                content = declared.get("requestBody", {}).get("content", {})
                yield Operation(
                    part,
                    method.upper(),
                    path,
                    declared["operationId"],
                    None if alternatives is None else tuple(alternatives),
                    rule_of(declared),
                    content.get("application/json", {}).get("schema"),
                )


def packs() -> dict[str, Policy]:
    """The packs that the product brings, by name."""
    return {path.stem: load_policy(path) for path in sorted(POLICIES.glob("*.yaml"))}


def matrices(read: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Matrix]:
    """The matrix of each pack."""
    found = tuple(operations(read or documents()))
    return {name: Matrix(policy, found) for name, policy in packs().items()}


def undeclared(found: Sequence[Operation], read: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Operations that name an object, or answer a list, and do not say whose their objects are."""
    lists = {
        operation["operationId"]
        for document in read.values()
        for item in document["paths"].values()
        for operation in item.values()
        if any(each["name"] == "cursor" for each in operation.get("parameters", ()))
    }
    return [
        each.address
        for each in found
        if each.rule is None and each.scopes is not None and (each.has_objects or each.id in lists)
    ]
