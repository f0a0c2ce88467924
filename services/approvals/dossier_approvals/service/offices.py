"""Who holds the offices of a flow: each stage resolved over the organisation tree.

An office is a role of a unit; where the unit has no holder, the nearest unit above it that has one decides.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from dossier_approvals import rules
from dossier_approvals.errors import VacantRole, invalid
from dossier_common import directory
from dossier_common.directory import Holder
from dossier_common.policy import Approver, Flow, Stage, UnitExpression


@dataclass(frozen=True, slots=True)
class Place:
    """From where offices are looked for, and when: a role may end by itself."""

    requester_unit: UUID | None
    record_units: tuple[UUID, ...]
    at: datetime


@dataclass(frozen=True, slots=True)
class Resolved:
    """A stage of the policy with the offices that were found, and their holders without the requester."""

    stage: Stage
    offices: tuple[tuple[str, UUID], ...]
    holders: tuple[Holder, ...]

    @property
    def persons(self) -> frozenset[UUID]:
        """Who may decide."""
        return frozenset(holder.person for holder in self.holders)

    @property
    def quorum(self) -> rules.Quorum:
        """All, any, or a number of them."""
        return self.stage.quorum if isinstance(self.stage.quorum, str) else "n"

    @property
    def needed(self) -> int:
        """How many distinct persons."""
        return self.stage.needed(len(self.persons))


async def resolve(session: AsyncSession, flow: Flow, place: Place, requester: UUID) -> list[Resolved]:
    """All stages of the flow with their candidates.

    Raises VacantRole for the first stage that nobody could decide: no holder up to the root, none but the requester,
    fewer than the quorum, or none who is not needed in another stage.
    """
    resolved = [await _stage(session, stage, place, requester) for stage in flow.stages]
    stages = [rules.Stage(each.stage.name, each.persons, each.needed) for each in resolved]
    vacant = rules.undecidable(stages, {requester})
    if vacant is not None:
        role, unit = resolved[vacant].offices[0]
        raise VacantRole(resolved[vacant].stage.name, role, unit)
    return resolved


async def _stage(session: AsyncSession, stage: Stage, place: Place, requester: UUID) -> Resolved:
    found = [office for approver in stage.approvers for office in [await office_of(session, approver, place)] if office]
    if not found:
        first = stage.approvers[0]
        starts = await _starts(session, first.of, place)
        raise VacantRole(stage.name, first.role, starts[0] if starts else None)
    offices = tuple(dict.fromkeys((holders[0].role, holders[0].unit) for holders in found))
    everyone = {holder.account: holder for holders in found for holder in holders if holder.person != requester}
    return Resolved(stage, offices, tuple(everyone.values()))


async def office_of(session: AsyncSession, approver: Approver, place: Place) -> list[Holder] | None:
    """The holders of one office, None when it is vacant up to the root.

    Raises Invalid when the records lead to different offices: nobody could decide for all of them.
    """
    starts = await _starts(session, approver.of, place)
    offices = [await nearest(session, approver.role, start, place.at) for start in starts]
    if not offices or any(not holders for holders in offices):
        return None
    if len({holders[0].unit for holders in offices}) > 1:
        detail = "The records lead to different offices: ask for them apart."
        raise invalid("/body/records", "other-office", detail)
    return offices[0]


async def nearest(session: AsyncSession, role: str, start: UUID, now: datetime) -> list[Holder]:
    """The holders of the role in this unit, or else in the nearest above it that has one; none up to the root."""
    path = [unit.id for unit in await directory.path_to_root(session, start)]
    found = await directory.holders(session, role, path, now)
    for unit in path:
        here = [holder for holder in found if holder.unit == unit]
        if here:
            return here
    return []


async def _starts(session: AsyncSession, expression: UnitExpression, place: Place) -> list[UUID]:
    """The units where the search begins: the company and the group are those of the records."""
    if expression is UnitExpression.REQUESTER_UNIT:
        return [place.requester_unit] if place.requester_unit else []
    if expression is UnitExpression.RECORD_UNIT:
        return list(place.record_units)
    return await _above(session, place.record_units, expression.value)


async def _above(session: AsyncSession, units: Collection[UUID], kind: str) -> list[UUID]:
    """The nearest unit of this kind above each, or the root where there is none."""
    found: dict[UUID, None] = {}
    for start in units:
        path = await directory.path_to_root(session, start)
        if path:
            found[next((unit.id for unit in path if unit.kind == kind), path[-1].id)] = None
    return list(found)
