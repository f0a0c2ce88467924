"""Changing: a new version, sealed with a new data key (A2.4.3)."""

from collections.abc import Mapping

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common import outbox
from dossier_common.contracts.records import RecordUpdated, RelationshipEnded
from dossier_common.identity import Subject
from dossier_common.policy import Action
from dossier_common.problems import Fault
from dossier_common.reach import reaches
from dossier_common.scopes import Scope
from dossier_records import envelopes, errors, refusals, repository, rules, schemas, validators
from dossier_records.envelopes import Sealed
from dossier_records.models import Record
from dossier_records.service.desk import Desk, faults_of, form_of
from dossier_records.service.finding import facts
from dossier_records.service.plans import ensure_custodian


async def change(session: AsyncSession, desk: Desk, record: Record, patch: schemas.Change, actor: Subject) -> Record:
    """A new version of a locked record, whatever changed of it, sealed with a new data key (A2.4.3).

    Raises a refusal, IncompleteRecord, WrongState, DuplicateRecord.
    """
    in_office = await reaches(session, desk.policy, actor, Scope.RECORDS_UPDATE, record.unit)
    check = rules.may_change(desk.policy, actor, facts(record, ()), in_office=in_office)
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
    _ensure_same_level(desk, record, fields)
    record.version += 1
    epoch = await desk.vault.open_epoch(session, old.ring)
    sealed = desk.vault.seal_under(old.ring, epoch, record.id, record.version, fields)
    try:
        async with session.begin_nested():
            await repository.add_version(session, record, sealed, actor.account, desk.clock.now())
            await repository.replace_indexes(session, record.id, desk.vault.indexes(fields))
    except IntegrityError as error:
        raise errors.DuplicateRecord("A record with this identifier exists.") from error


def _ensure_same_level(desk: Desk, record: Record, fields: Mapping[str, str]) -> None:
    """A record stays in the key ring of its level: fields that the pack classifies higher cannot enter it."""
    policy = desk.policy
    kinds = {policy.field(name).kind for name in fields}
    needed = policy.classify(record.customer_type, record.importance, kinds)
    if policy.rank(needed.level) > policy.rank(record.level):
        raise errors.LevelTooLow(f"These fields are {needed.level}; the record is {record.level}.", level=needed.level)
