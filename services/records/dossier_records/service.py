"""Use cases of the records service: load, decide, change, emit. `reading`, `copies` and `imports` have theirs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common import directory, outbox, telemetry
from dossier_common.clock import Clock
from dossier_common.contracts.records import (
    PlanCreated,
    RecordRegistered,
    RecordsSearched,
    RecordUpdated,
    RelationshipEnded,
)
from dossier_common.identity import Subject
from dossier_common.ids import new_id
from dossier_common.paging import Page
from dossier_common.policy import Action, Form, Policy, UnknownNameError
from dossier_common.problems import Fault, Hidden, Invalid, NotFound
from dossier_records import envelopes, errors, faults, reading, refusals, repository, rules, schemas, validators
from dossier_records.envelopes import Sealed
from dossier_records.models import Consent, Plan, Record
from dossier_records.vault import Vault

MOST_MATCHES = 50
EVIDENCE = "consent-evidence"
"""What a sealed reference to a consent's document is bound to; no field of a policy can have this name."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What every use case of this service works with."""

    policy: Policy
    vault: Vault
    clock: Clock


# ---- collection plans


async def create_plan(session: AsyncSession, desk: Desk, new: schemas.NewPlan, actor: Subject) -> Plan:
    """A plan takes effect. Raises Invalid for names that the pack does not know."""
    await _ensure_unit(session, new.unit)
    unknown = [
        Fault(pointer=f"/{section}/{place}", code="unknown-name", detail="The policy has no such name.")
        for section, names, lookup in (
            ("purposes", new.purposes, desk.policy.purpose),
            ("fields", new.fields, desk.policy.field),
            ("customer_types", new.customer_types, desk.policy.customer_type),
        )
        for place, name in enumerate(names)
        if not _known(lookup, name)
    ]
    if unknown:
        raise Invalid(errors=unknown)
    plan = Plan(**new.model_dump(), id=new_id(), created_by=actor.account, created_at=desk.clock.now())
    await repository.add(session, plan)
    event = PlanCreated(plan=plan.id, unit=plan.unit, purposes=tuple(plan.purposes))
    await outbox.add(session, event, by=actor, at=desk.clock.now())
    return plan


def _known(lookup: Any, name: str) -> bool:
    try:
        lookup(name)
    except UnknownNameError:
        return False
    return True


async def usable_plan(session: AsyncSession, plan_id: UUID, today: date) -> Plan:
    """The plan, while it is open. Raises Invalid, PlanClosed."""
    plan = await repository.plan(session, plan_id)
    if plan is None:
        raise Invalid(errors=[Fault(pointer="/plan", code="unknown", detail="There is no such collection plan.")])
    if plan.until is not None and plan.until < today:
        raise errors.PlanClosed(f"It ended on {plan.until}.")
    return plan


async def _ensure_unit(session: AsyncSession, unit: UUID) -> None:
    if not await directory.path_to_root(session, unit):
        raise Invalid(errors=[Fault(pointer="/unit", code="unknown", detail="There is no such unit.")])


async def ensure_custodian(session: AsyncSession, unit: UUID, custodian: UUID) -> None:
    """A record without a custodian is refused (A2.3, A8.22). Raises Invalid."""
    await _ensure_unit(session, unit)
    if not await directory.knows_person(session, custodian):
        raise Invalid(errors=[Fault(pointer="/custodian", code="unknown", detail="There is no such person.")])


# ---- registering


async def register(session: AsyncSession, desk: Desk, new: schemas.NewRecord, actor: Subject) -> Record:
    """A record exists, sealed, indexed, with level and custodian.

    Raises IncompleteRecord, OutsidePlan, DuplicateRecord, PlanClosed, Invalid.
    """
    plan = await usable_plan(session, new.plan, desk.clock.now().date())
    await ensure_custodian(session, new.unit, new.custodian)
    fields = _judge(desk, new)
    _ensure_planned(desk.policy, plan, new, fields)
    record_id = new_id()
    prepared = prepare(
        desk, plan, record_id, fields, new.consent.purposes if new.consent else (), columns_of(new), actor, None
    )
    version = prepared.seal(desk.vault, await desk.vault.open_epoch(session, prepared.ring))
    try:
        async with session.begin_nested():
            await repository.add_records(session, [prepared.record], [version], prepared.index_rows())
    except IntegrityError as error:
        raise errors.DuplicateRecord("A record with this identifier exists.") from error
    if new.consent is not None:
        kept = Sealed(version["ring"], version["key_epoch"], version["wrapped_key"], version["sealed"])
        evidence = desk.vault.seal_beside(kept, record_id, version["version"], {EVIDENCE: new.consent.evidence})
        await repository.add(
            session,
            Consent(
                id=new_id(),
                record_id=record_id,
                purposes=new.consent.purposes,
                given_on=new.consent.given_on,
                version=version["version"],
                evidence=evidence,
            ),
        )
    await outbox.add(session, prepared.event, by=actor, at=desk.clock.now())
    record = await repository.record(session, record_id)
    assert record is not None
    return record


def _judge(desk: Desk, new: schemas.NewRecord) -> dict[str, str]:
    definitions = {field.id: field for field in desk.policy.fields}
    fields = {
        name: validators.normalise(definitions[name], value) if name in definitions else value
        for name, value in new.fields.items()
        if value.strip()
    }
    if not _known(desk.policy.importance, new.importance):
        raise Invalid(errors=[Fault(pointer="/importance", code="unknown-name", detail="The policy has no such name.")])
    form = form_of(desk.policy, new.customer_type)
    found = faults_of(validators.faults(fields, form, definitions, desk.clock.now().date()))
    today = desk.clock.now().date()
    if new.opened_on > today:
        found.append(Fault(pointer="/opened_on", code="date-in-future", detail="日期在将来 · in the future"))
    if new.relationship_ended_on and new.relationship_ended_on < new.opened_on:
        found.append(
            Fault(pointer="/relationship_ended_on", code="ended-before-opening", detail="早于建档 · before the opening")
        )
    if found:
        raise errors.IncompleteRecord(errors=found)
    return fields


def faults_of(found: Sequence[faults.Fault]) -> list[Fault]:
    """The refusing faults, with pointers into the body; never with the value."""
    return [
        Fault(pointer=f"/fields/{fault.field}", code=fault.code.value, detail=f"{fault.title.zh} · {fault.title.en}")
        for fault in found
        if fault.severity is faults.Severity.ERROR
    ]


def form_of(policy: Policy, customer_type: str) -> Form:
    """The form of a customer type. Raises Invalid."""
    try:
        return policy.form_for(customer_type)
    except UnknownNameError as error:
        fault = Fault(pointer="/customer_type", code="unknown-name", detail="The policy has no such name.")
        raise Invalid(errors=[fault]) from error


def _ensure_planned(policy: Policy, plan: Plan, new: schemas.NewRecord, fields: Mapping[str, str]) -> None:
    outside = [
        Fault(pointer=f"/fields/{name}", code="outside-plan", detail="The plan does not name this field.")
        for name in fields
        if name not in plan.fields
    ]
    if new.customer_type not in plan.customer_types:
        outside.append(Fault(pointer="/customer_type", code="outside-plan", detail="The plan does not name it."))
    for place, purpose in enumerate(new.consent.purposes if new.consent else ()):
        if purpose not in plan.purposes:
            detail = "The plan does not name this purpose."
            outside.append(Fault(pointer=f"/consent/purposes/{place}", code="outside-plan", detail=detail))
    if new.source.kind == "indirect" and not (
        new.source.third_party and new.source.agreement and new.source.capability_check
    ):
        detail = "An indirect source names the third party, its agreement and its capability check (A4.14)."
        outside.append(Fault(pointer="/source", code="incomplete-source", detail=detail))
    if outside:
        raise errors.OutsidePlan(errors=outside)
    if not rules.covered_purposes(policy, plan.purposes, new.consent.purposes if new.consent else ()):
        fault = Fault(pointer="/consent", code="consent-needed", detail="No purpose of the plan is covered without it.")
        raise errors.OutsidePlan(errors=[fault])


def columns_of(new: schemas.NewRecord) -> dict[str, Any]:
    """What describes the record, for `prepare`."""
    return new.model_dump(
        include={"customer_type", "importance", "unit", "custodian", "opened_on", "relationship_ended_on"}
    ) | {"source": new.source.model_dump(exclude_none=True)}


@dataclass(frozen=True, slots=True)
class Prepared:
    """A record ready to be sealed and stored, with its event."""

    record: dict[str, Any]
    fields: Mapping[str, str]
    indexes: Mapping[str, bytes]
    ring: str
    event: RecordRegistered
    author: UUID | None

    def seal(self, vault: Vault, epoch: int) -> dict[str, Any]:
        """The row of its first version, under an epoch that is open."""
        kept = vault.seal_under(self.ring, epoch, self.record["id"], 1, self.fields)
        return {
            "record_id": self.record["id"],
            "version": 1,
            "ring": kept.ring,
            "key_epoch": kept.key_epoch,
            "wrapped_key": kept.wrapped_key,
            "sealed": kept.sealed,
            "author": self.author,
            "at": self.record["registered_at"],
        }

    def index_rows(self) -> list[dict[str, Any]]:
        """The rows of its blind indexes."""
        return [{"record_id": self.record["id"], "field": f, "digest": d} for f, d in self.indexes.items()]


def prepare(
    desk: Desk,
    plan: Plan,
    record_id: UUID,
    fields: Mapping[str, str],
    consented: Sequence[str],
    columns: Mapping[str, Any],
    actor: Subject,
    import_id: UUID | None,
) -> Prepared:
    """Classifies a judged record and makes its rows; pure but for the keys of the blind index."""
    policy = desk.policy
    kinds = {policy.field(name).kind for name in fields}
    classification = policy.classify(columns["customer_type"], columns["importance"], kinds)
    record = {
        "id": record_id,
        **columns,
        "level": classification.level,
        "information_class": classification.information_class,
        "purposes": rules.covered_purposes(policy, plan.purposes, consented),
        "status": "ended" if columns["relationship_ended_on"] else "active",
        "version": 1,
        "plan_id": plan.id,
        "import_id": import_id,
        "policy": policy.digest,
        "registered_at": desk.clock.now(),
    }
    event = RecordRegistered(
        record=record_id,
        **{name: record[name] for name in _EVENT_COLUMNS},
        plan=plan.id,
        import_id=import_id,
        policy=policy.digest,
    )
    return Prepared(
        record,
        fields,
        desk.vault.indexes(fields),
        desk.vault.ring_of(classification.level, record_id),
        event,
        actor.account,
    )


_EVENT_COLUMNS = (
    "unit",
    "custodian",
    "customer_type",
    "importance",
    "level",
    "information_class",
    "opened_on",
    "relationship_ended_on",
)


# ---- finding and changing


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
    definition = desk.policy.field(query.field) if _known(desk.policy.field, query.field) else None
    if definition is None or not definition.indexed:
        indexed = ", ".join(field.id for field in desk.policy.fields if field.indexed)
        fault = Fault(pointer="/field", code="not-indexed", detail=f"Fields that can be searched: {indexed}.")
        raise Invalid(errors=[fault])
    digest = desk.vault.index(query.field, validators.normalise(definition, query.value))
    found = []
    for record, version in await repository.matching(session, query.field, digest, MOST_MATCHES):
        kept = Sealed(version.ring, version.key_epoch, version.wrapped_key, version.sealed)
        known = facts(record, envelopes.names(version.sealed))
        decision = rules.decide(desk.policy, actor, known, Action.VIEW, query.purpose, None, desk.clock.now())
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
) -> tuple[rules.Decision, rules.RecordFacts]:
    """The decision as it would fall now, without using anything. Raises NotFound, Hidden."""
    record = await repository.record(session, record_id)
    if record is None or record.status in {"destroying", "destroyed"}:
        raise NotFound("There is no such record.")
    version = await repository.version(session, record_id, record.version)
    grant = await repository.grant(session, grant_id) if grant_id else None
    known = facts(record, envelopes.names(version.sealed))
    decision = rules.decide(
        desk.policy,
        actor,
        known,
        action,
        purpose,
        reading.grant_facts(grant_row(grant), grant.used) if grant else None,
        desk.clock.now(),
        grant_named=grant_id is not None,
    )
    if decision.failed is not None and decision.failed.reason is rules.Reason.HIDDEN:
        raise Hidden("There is no such record.")
    return decision, known


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


async def change(session: AsyncSession, desk: Desk, record: Record, patch: schemas.Change, actor: Subject) -> Record:
    """A new version of a locked record, whatever changed of it, sealed with a new data key (A2.4.3).

    Raises a refusal, IncompleteRecord, WrongState, DuplicateRecord.
    """
    check = rules.may_change(desk.policy, actor, facts(record, ()))
    if not check.passed:
        raise refusals.problem_of(desk.policy, check, Action.VIEW, facts(record, ()))
    if record.status not in {"active", "ended"}:
        raise errors.WrongState(f"The record is {record.status}.")
    columns = {
        name
        for name in ("custodian", "relationship_ended_on")
        if getattr(patch, name) not in {None, getattr(record, name)}
    }
    if not columns and not patch.fields:
        return record
    now = desk.clock.now()
    if "custodian" in columns and patch.custodian is not None:
        await ensure_custodian(session, record.unit, patch.custodian)
        record.custodian = patch.custodian
    if "relationship_ended_on" in columns and patch.relationship_ended_on is not None:
        if patch.relationship_ended_on < record.opened_on:
            detail = "早于建档 · before the opening"
            fault = Fault(pointer="/relationship_ended_on", code="ended-before-opening", detail=detail)
            raise errors.IncompleteRecord(errors=[fault])
        record.relationship_ended_on, record.status = patch.relationship_ended_on, "ended"
        ended = RelationshipEnded(record=record.id, on=patch.relationship_ended_on)
        await outbox.add(session, ended, by=actor, at=now)
    await _new_version(session, desk, record, patch.fields, actor)
    changed = tuple(sorted({*columns, *patch.fields}))
    event = RecordUpdated(record=record.id, version=record.version, fields=changed, policy=desk.policy.digest)
    await outbox.add(session, event, by=actor, at=now)
    await session.flush()
    return record


async def _new_version(
    session: AsyncSession, desk: Desk, record: Record, patch: Mapping[str, str | None], actor: Subject
) -> None:
    old = await repository.version(session, record.id, record.version)
    kept = Sealed(old.ring, old.key_epoch, old.wrapped_key, old.sealed)
    definitions = {field.id: field for field in desk.policy.fields}
    fields = desk.vault.open(record.id, old.version, kept, envelopes.names(old.sealed))
    for name, value in patch.items():
        if value is None or not value.strip():
            fields.pop(name, None)
        else:
            fields[name] = validators.normalise(definitions[name], value) if name in definitions else value
    form = form_of(desk.policy, record.customer_type)
    found = faults_of(validators.faults(fields, form, definitions, desk.clock.now().date()))
    if found:
        raise errors.IncompleteRecord(errors=found)
    record.version += 1
    sealed = await desk.vault.seal(session, record.level, record.id, record.version, fields)
    try:
        async with session.begin_nested():
            await repository.add_version(session, record, sealed, actor.account, desk.clock.now())
            await repository.replace_indexes(session, record.id, desk.vault.indexes(fields))
    except IntegrityError as error:
        raise errors.DuplicateRecord("A record with this identifier exists.") from error
