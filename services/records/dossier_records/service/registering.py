"""Registering: judged, classified, sealed, indexed, with level and custodian."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common import outbox
from dossier_common.contracts.records import RecordRegistered
from dossier_common.identity import Subject
from dossier_common.ids import new_id
from dossier_common.policy import Policy
from dossier_common.problems import Fault, Invalid
from dossier_common.scopes import Scope
from dossier_records import errors, repository, rules, schemas, validators
from dossier_records.envelopes import Sealed
from dossier_records.models import Consent, Plan, Record
from dossier_records.service.desk import Desk, ensure_office, faults_of, form_of, known
from dossier_records.service.plans import ensure_custodian, usable_plan
from dossier_records.vault import Vault

EVIDENCE = "consent-evidence"
"""What a sealed reference to a consent's document is bound to; no field of a policy can have this name."""


async def register(session: AsyncSession, desk: Desk, new: schemas.NewRecord, actor: Subject) -> Record:
    """A record exists, sealed, indexed, with level and custodian.

    Raises IncompleteRecord, OutsidePlan, DuplicateRecord, PlanClosed, AnotherUnit, Invalid.
    """
    plan = await usable_plan(session, new.plan, desk.clock.now().date())
    await ensure_custodian(session, new.unit, new.custodian)
    await ensure_office(session, desk, actor, Scope.RECORDS_REGISTER, new.unit)
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
    if not known(desk.policy.importance, new.importance):
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
