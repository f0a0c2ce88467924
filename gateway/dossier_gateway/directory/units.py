"""Use cases of the organisation tree: group → company → department → project. Every change is an event."""

from dataclasses import dataclass, replace
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common import outbox, preconditions
from dossier_common.clock import Clock
from dossier_common.contracts.gateway import UnitChanged, UnitCreated, UnitMoved
from dossier_common.identity import Subject
from dossier_common.policy import Operation, Policy
from dossier_common.problems import Conflict, NotFound
from dossier_gateway.directory import repository, rules
from dossier_gateway.directory.authorisations import authorised
from dossier_gateway.directory.repository import Reading, UnitRow
from dossier_gateway.errors import Taken, UnknownReference


@dataclass(frozen=True, slots=True)
class UnitChange:
    """What is to be otherwise; None stays as it is."""

    title: tuple[str, str] | None = None
    parent: UUID | None = None


async def create(
    session: AsyncSession,
    policy: Policy,
    unit: UnitRow,
    *,
    by: Subject | None,
    clock: Clock,
    authorisation: UUID | None = None,
) -> UnitRow:
    """A unit below another. Raises Taken, UnknownReference, AuthorisationRequired; Conflict for a second root."""
    if unit.parent is None:
        if by is not None:
            raise Conflict("There is a root already; a unit stands under another.")
    else:
        parent = await Reading(session).unit(unit.parent)
        if parent is None:
            raise UnknownReference("parent", "There is no such unit.")
        if not rules.may_stand_under(unit.kind, parent.kind):
            raise UnknownReference("kind", f"A {unit.kind} does not stand under a {parent.kind}.")
    await authorised(
        session,
        policy,
        Operation.UNITS_CHANGE,
        object_=unit.parent,
        authorisation=authorisation,
        by=by,
        clock=clock,
    )
    now = clock.now()
    if not await repository.add_unit(session, unit, now):
        raise Taken("A unit has this code.")
    created = UnitCreated(unit=unit.id, parent=unit.parent, kind=unit.kind, code=unit.code)
    await outbox.add(session, created, by=by, at=now)
    return unit


async def change(
    session: AsyncSession,
    policy: Policy,
    unit_id: UUID,
    wanted: UnitChange,
    *,
    if_match: str | None,
    by: Subject,
    clock: Clock,
    authorisation: UUID | None,
) -> UnitRow:
    """Another title, or another place in the tree; all that is below goes with it.

    Raises NotFound, PreconditionMissing, Stale, UnknownReference, Conflict for the root and for a circle,
    AuthorisationRequired.
    """
    await repository.lock_tree(session)
    unit = await repository.unit_for_update(session, unit_id)
    if unit is None:
        raise NotFound("There is no such unit.")
    preconditions.require_match(if_match, unit.version)
    title = (unit.title_zh, unit.title_en) if wanted.title is None else wanted.title
    parent = wanted.parent or unit.parent
    if (title, parent) == ((unit.title_zh, unit.title_en), unit.parent):
        return unit
    if parent != unit.parent:
        await _ensure_may_move(session, unit, parent)
    await authorised(
        session, policy, Operation.UNITS_CHANGE, object_=unit.id, authorisation=authorisation, by=by, clock=clock
    )
    await repository.change_unit(session, unit.id, title_zh=title[0], title_en=title[1], parent=parent)
    now = clock.now()
    if title != (unit.title_zh, unit.title_en):
        await outbox.add(session, UnitChanged(unit=unit.id), by=by, at=now)
    if parent != unit.parent and parent is not None and unit.parent is not None:
        moved = UnitMoved(unit=unit.id, parent_from=unit.parent, parent_to=parent)
        await outbox.add(session, moved, by=by, at=now)
    return replace(unit, title_zh=title[0], title_en=title[1], parent=parent, version=unit.version + 1)


async def _ensure_may_move(session: AsyncSession, unit: UnitRow, parent: UUID | None) -> None:
    if unit.parent is None:
        raise Conflict("The root stands under no other unit.")
    above = await Reading(session).unit(parent) if parent else None
    if above is None:
        raise UnknownReference("parent", "There is no such unit.")
    if not rules.may_stand_under(unit.kind, above.kind):
        raise UnknownReference("parent", f"A {unit.kind} does not stand under a {above.kind}.")
    if await repository.stands_under(session, above.id, unit.id):
        raise Conflict("A unit does not stand under itself, or under one that is below it.")
