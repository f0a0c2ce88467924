"""Finding: the catalogue, the search by blind index, and the explanation of a decision."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common import outbox, telemetry
from dossier_common.contracts.records import RecordsSearched
from dossier_common.identity import Subject
from dossier_common.paging import Page
from dossier_common.policy import Action
from dossier_common.problems import Fault, Hidden, Invalid, NotFound
from dossier_records import envelopes, reading, repository, rules, schemas, validators
from dossier_records.envelopes import Sealed
from dossier_records.models import Record
from dossier_records.service.desk import Desk, known

MOST_MATCHES = 50


async def catalogue(
    session: AsyncSession,
    desk: Desk,
    page: Page,
    actor: Subject,
    *,
    level: str | None,
    unit: UUID | None,
    status: str | None,
) -> list[Record]:
    """Descriptors that the caller may know of."""
    open_levels = [each.id for each in desk.policy.levels if each.listed_to == "all"]
    return await repository.catalogue(
        session, page, level=level, unit=unit, status=status, open_levels=open_levels, person=actor.person
    )


async def known_record(
    session: AsyncSession, desk: Desk, record_id: UUID, actor: Subject, *, lock: bool = False
) -> Record:
    """A record that the caller may know of. Raises NotFound; Hidden for one that is listed to others only."""
    record = await repository.record(session, record_id, lock=lock)
    if record is None:
        raise NotFound("There is no such record.")
    if not rules.may_list(desk.policy, actor, facts(record, ())):
        raise Hidden("There is no such record.")
    return record


def facts(record: Record, fields: tuple[str, ...]) -> rules.RecordFacts:
    """What the decision needs of a record."""
    return rules.RecordFacts(
        id=record.id,
        level=record.level,
        unit=record.unit,
        custodian=record.custodian,
        named=frozenset(record.named),
        purposes=frozenset(record.purposes),
        fields=fields,
    )


@dataclass(frozen=True, slots=True)
class Found:
    """A match, before it is opened."""

    record: Record
    kept: Sealed
    decision: rules.Decision

    @property
    def version(self) -> int:
        """The version that was found."""
        return self.record.version


async def search(session: AsyncSession, desk: Desk, query: schemas.Search, actor: Subject) -> list[Found]:
    """Exact matches that the caller may know of, and the record of the search; nothing is decrypted here.

    Raises Invalid for a field that has no index.
    """
    definition = desk.policy.field(query.field) if known(desk.policy.field, query.field) else None
    if definition is None or not definition.indexed:
        indexed = ", ".join(field.id for field in desk.policy.fields if field.indexed)
        fault = Fault(pointer="/field", code="not-indexed", detail=f"Fields that can be searched: {indexed}.")
        raise Invalid(errors=[fault])
    digest = desk.vault.index(query.field, validators.normalise(definition, query.value))
    found = []
    for record, version in await repository.matching(session, query.field, digest, MOST_MATCHES):
        kept = Sealed(version.ring, version.key_epoch, version.wrapped_key, version.sealed)
        seen = facts(record, envelopes.names(version.sealed))
        decision = rules.decide(desk.policy, actor, seen, Action.VIEW, query.purpose, None, desk.clock.now())
        failed = decision.failed
        if failed is None or failed.reason is not rules.Reason.HIDDEN:
            found.append(Found(record, kept, decision))
    event = RecordsSearched(field=query.field, found=len(found), records=tuple(each.record.id for each in found))
    await outbox.add(session, event, by=actor, at=desk.clock.now())
    return found


def masked_only(decision: rules.Decision) -> rules.Decision:
    """A list of matches shows nothing open, whoever looks: content is read one by one."""
    return rules.Decision(allowed=decision.allowed, checks=decision.checks, masked=(*decision.open, *decision.masked))


def show(desk: Desk, found: Found) -> dict[str, dict[str, str | None]]:
    """The masked fields of a match; call it after the search's commit (invariant 1).

    A match whose content is damaged, or destroyed since, shows nothing, and the others are shown.
    """
    decision = masked_only(found.decision)
    if not decision.allowed:
        return {}
    try:
        values = desk.vault.open(found.record.id, found.version, found.kept, decision.masked)
    except envelopes.CannotOpen as error:
        telemetry.log().error("cannot-open", record=str(found.record.id), error=type(error).__name__)
        return {}
    return reading.shown_fields(desk.policy, decision, values, list(values))


async def explain(
    session: AsyncSession,
    desk: Desk,
    record_id: UUID,
    action: Action,
    purpose: str,
    grant_id: UUID | None,
    actor: Subject,
    *,
    known: bool,
) -> tuple[rules.Decision, rules.RecordFacts]:
    """The decision as it would fall now, without using anything. Raises NotFound, Hidden.

    `known` says that there is such a grant, and that the projection has it as it stands now.
    """
    record = await repository.record(session, record_id)
    if record is None or record.status in {"destroying", "destroyed"}:
        raise NotFound("There is no such record.")
    version = await repository.version(session, record_id, record.version)
    grant = await repository.grant(session, grant_id) if grant_id and known else None
    described = facts(record, envelopes.names(version.sealed))
    decision = rules.decide(
        desk.policy,
        actor,
        described,
        action,
        purpose,
        reading.grant_facts(grant_row(grant), grant.used) if grant else None,
        desk.clock.now(),
        grant_named=grant_id is not None,
    )
    if decision.failed is not None and decision.failed.reason is rules.Reason.HIDDEN:
        raise Hidden("There is no such record.")
    return decision, described


def grant_row(grant: Any) -> dict[str, Any]:
    """A grant's columns by name, as the statements of the hot path give them."""
    return {column: getattr(grant, column) for column in _GRANT_COLUMNS} | {"zone": grant.conditions.get("zone")}


_GRANT_COLUMNS = (
    "id",
    "action",
    "records",
    "fields",
    "purpose",
    "not_before",
    "until",
    "uses",
    "used",
    "state",
    "holder_account",
)
