"""Whose objects an operation touches, and what a caller gets for one out of his reach (OWASP API1: BOLA).

Declared once, at the endpoint, as the OpenAPI extension `x-dossier-object`; `docs/access-matrix.md` and the test that
calls each of its cells are computed from the declarations.
"""

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Any, Final, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common import directory
from dossier_common.identity import Subject
from dossier_common.policy import Policy
from dossier_common.scopes import Scope

EXTENSION: Final = "x-dossier-object"


class Reach(StrEnum):
    """Which objects a caller reaches with the scope that the operation needs."""

    ANY = "any"
    """All of them: they belong to the whole organisation."""
    UNIT = "unit"
    """Those of the units in which he holds a role with that scope, and of all units below (A4.34, B3.4.1)."""
    OWN = "own"
    """His own: made for him, held by him, or in his custody."""
    PARTY = "party"
    """Those of a case in which he asks or may decide."""
    LISTED = "listed"
    """Records that the policy lists to him: by level to all, or to the custodian and the named alone (A8.22)."""
    KNOWN = "known"
    """Records that are listed to him, or of which their level shows him something, masked at least."""
    GRANTED = "granted"
    """Records that a grant of his covers."""


class ObjectRule(BaseModel):
    """Reaches of which one suffices, and the status for an object that is beyond all of them.

    404 where the caller may not know of it, 403 where he may, 200 where a list or a search leaves it out. `also` says
    which further scope widens the reach of those who hold it; beyond `visible`, if it is set, the answer is 404.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    reach: tuple[Reach, ...] = Field(min_length=1)
    otherwise: Literal[200, 403, 404] | None = None
    also: Mapping[Scope, tuple[Reach, ...]] = Field(default={})
    visible: Literal[Reach.LISTED, Reach.KNOWN] | None = None

    @model_validator(mode="after")
    def _has_an_otherwise(self) -> Self:
        everything = self.reach == (Reach.ANY,)
        if everything != (self.otherwise is None) or (Reach.ANY in self.reach and not everything):
            raise ValueError("a narrower reach than any, and no other, says what becomes of the rest")
        if len(set(self.reach)) != len(self.reach):
            raise ValueError("no reach is named twice")
        return self

    def of(self, scopes: Collection[str]) -> frozenset[Reach]:
        """The reaches of who holds these scopes."""
        wider = (reach for scope, reaches in self.also.items() if scope in scopes for reach in reaches)
        return frozenset((*self.reach, *wider))


def objects(
    *reach: Reach,
    otherwise: Literal[200, 403, 404] | None = None,
    also: Mapping[Scope, tuple[Reach, ...]] | None = None,
    visible: Literal[Reach.LISTED, Reach.KNOWN] | None = None,
) -> dict[str, Any]:
    """`openapi_extra` of an endpoint: the rule of its objects. Raises ValueError for a rule that says nothing."""
    rule = ObjectRule(reach=reach, otherwise=otherwise, also=also or {}, visible=visible)
    return {EXTENSION: rule.model_dump(mode="json", exclude_defaults=True)}


ALL_OBJECTS: Final[dict[str, Any]] = objects(Reach.ANY)
"""`openapi_extra` of an endpoint whose scope alone decides."""


def rule_of(operation: Mapping[str, Any]) -> ObjectRule | None:
    """The rule that an operation of an OpenAPI document declares. Raises ValueError for what is none."""
    declared = operation.get(EXTENSION)
    return None if declared is None else ObjectRule.model_validate(declared)


def offices(policy: Policy, subject: Subject, scope: Scope) -> frozenset[UUID]:
    """The units in which the caller holds a role that bundles the scope."""
    bundling = {role.id for role in policy.roles if scope in role.scopes}
    return frozenset(held.unit for held in subject.roles if held.role in bundling)


async def reaches(session: AsyncSession, policy: Policy, subject: Subject, scope: Scope, unit: UUID) -> bool:
    """Whether the caller may use the scope on what belongs to this unit.

    An application that acts for itself stands in no unit: its registration alone says what it may.
    """
    if subject.person is None:
        return True
    above = {each.id for each in await directory.path_to_root(session, unit)} | {unit}
    return not above.isdisjoint(offices(policy, subject, scope))


async def units_reached(
    session: AsyncSession, policy: Policy, subject: Subject, scope: Scope
) -> frozenset[UUID] | None:
    """The units on whose objects the caller may use the scope; None for all, as for an application (see `reaches`)."""
    if subject.person is None:
        return None
    at = offices(policy, subject, scope)
    unit, parent = directory.units.c.id, directory.units.c.parent
    below = select(unit).where(unit.in_(at)).cte(recursive=True)
    below = below.union(select(unit).join_from(directory.units, below, parent == below.c.id))
    return at | frozenset((await session.execute(select(below.c.id))).scalars())
