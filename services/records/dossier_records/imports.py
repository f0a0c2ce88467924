"""Imports: a spreadsheet is taken in at once, judged row by row in the worker, and reported on.

A wrong row never spoils the others. Progress moves in the transaction of its rows, so that a crash in the middle
goes on where it was; the same file sent twice finds its identifiers taken and adds nothing. The file is sealed
under a key of its own, which is destroyed when it is done.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common import outbox, telemetry
from dossier_common.contracts.records import ImportCompleted, ImportFailed, ImportReceived
from dossier_common.database import Database
from dossier_common.identity import Subject
from dossier_common.ids import new_id
from dossier_common.problems import Fault, Hidden, NotFound, TooLarge, UnsupportedMedia
from dossier_common.reach import reaches
from dossier_common.scopes import Scope
from dossier_records import envelopes, errors, repository, service, spreadsheets, workbooks
from dossier_records.faults import Fault as RowFault
from dossier_records.faults import FaultCode, Severity
from dossier_records.intake import ENDED_ON, IDENTIFIER, Candidate, Intake
from dossier_records.models import Import, Plan
from dossier_records.service import Desk
from dossier_records.validators import as_date

BATCH: Final = 500
TRIES: Final = 5
ABANDONED: Final = timedelta(hours=1)
IDLE_SECONDS: Final = 0.3
MEDIA_TYPES: Final = (spreadsheets.CSV, spreadsheets.XLSX)


async def receive(
    session: AsyncSession,
    desk: Desk,
    *,
    content: bytes,
    content_type: str,
    plan_id: UUID,
    unit: UUID,
    custodian: UUID,
    limit: int,
    actor: Subject,
) -> Import:
    """The file is sealed and waits for the worker.

    Raises UnsupportedMedia, TooLarge, Invalid, PlanClosed, AnotherUnit.
    """
    media_type, charset = _media_type(content_type)
    if len(content) > limit:
        raise TooLarge(f"A spreadsheet has at most {limit} bytes.")
    if not content:
        raise errors.UnreadableFile(errors=[Fault(pointer="", code="empty", detail="文件为空 · the file is empty")])
    await service.usable_plan(session, plan_id, desk.clock.now().date())
    await service.ensure_custodian(session, unit, custodian)
    await service.ensure_office(session, desk, actor, Scope.RECORDS_IMPORT, unit)
    import_id = new_id()
    job = Import(
        id=import_id,
        plan_id=plan_id,
        unit=unit,
        custodian=custodian,
        account=actor.account,
        person=actor.person,
        client=actor.client,
        media_type=media_type,
        charset=charset,
        received_at=desk.clock.now(),
        state="received",
        sealed=desk.vault.spool(import_id, content),
        rows=0,
        judged=0,
        accepted=0,
        refused=0,
        duplicates=0,
    )
    await repository.add(session, job)
    event = ImportReceived(import_id=import_id, digest=desk.vault.digest(content), bytes=len(content))
    await outbox.add(session, event, by=actor, at=desk.clock.now())
    return job


async def seen(session: AsyncSession, desk: Desk, import_id: UUID, actor: Subject) -> Import:
    """An import, for who sent it and for the offices of its unit. Raises NotFound, Hidden."""
    job = await repository.import_(session, import_id)
    if job is None:
        raise NotFound("There is no such import.")
    own = actor.person is not None and job.person == actor.person
    if not own and not await reaches(session, desk.policy, actor, Scope.RECORDS_IMPORT, job.unit):
        raise Hidden("There is no such import.")
    return job


def _media_type(content_type: str) -> tuple[str, str | None]:
    media_type, _, parameters = content_type.partition(";")
    media_type = media_type.strip().lower()
    if media_type not in MEDIA_TYPES:
        raise UnsupportedMedia(f"Send the file itself as {' or '.join(MEDIA_TYPES)}.")
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return media_type, value.strip().strip('"').lower()[:40] or None
    return media_type, None


# ---- the worker's side


async def run(database: Database, desk: Desk) -> None:
    """Works off imports until it is cancelled."""
    await forget_finished(database, desk)
    while True:
        if not await work_off(database, desk):
            await asyncio.sleep(IDLE_SECONDS)


async def forget_finished(database: Database, desk: Desk) -> None:
    """Destroys the keys of files that are done with, or were never stored, where a crash came before."""
    long_ago = desk.clock.now() - ABANDONED
    for import_id in desk.vault.spooled():
        async with database.session() as session:
            job = await repository.import_(session, import_id)
        if job.state in {"done", "failed"} if job else _made_at(import_id) < long_ago:
            desk.vault.forget(import_id)


def _made_at(import_id: UUID) -> datetime:
    """The instant in a UUIDv7 (RFC 9562)."""
    return datetime.fromtimestamp((import_id.int >> 80) / 1000, UTC)


async def work_off(database: Database, desk: Desk) -> bool:
    """Takes the oldest import to its end; False when there is none. One that cannot be read ends as `failed`."""
    async with database.transaction() as session:
        job = await repository.next_import(session)
        if job is None:
            return False
        import_id = job.id
        assert job.sealed is not None
        candidates: list[Candidate] | None = None
        try:
            content = desk.vault.unspool(job.id, job.sealed)
            candidates = await asyncio.to_thread(
                _judge, desk, content, job.media_type, job.charset, job.received_at.date()
            )
        except workbooks.UnreadableSpreadsheet as unreadable:
            where = [f"row {unreadable.row}"] if unreadable.row else []
            await _fail(session, desk, job, unreadable.reason.value, *where, *unreadable.places)
        except envelopes.CannotOpen:
            await _fail(session, desk, job, "key-lost")
        except Exception as error:  # noqa: BLE001  # a file that nobody foresaw must not block all others
            telemetry.log().error("import-not-judged", import_id=str(import_id), error=type(error).__name__)
            await _fail(session, desk, job, "unexpected")
        else:
            job.state, job.rows = "running", len(candidates)
    if candidates is not None:
        while await _next_batch(database, desk, import_id, candidates):
            pass
    desk.vault.forget(import_id)  # it is done, or failed: nobody reads the file again
    return True


def _judge(desk: Desk, content: bytes, media_type: str, charset: str | None, today: date) -> list[Candidate]:
    """All rows in their order; repeatable, so that a crash in the middle can go on at its row."""
    rows = spreadsheets.read(
        content,
        media_type,
        charset,
        meanings=spreadsheets.headers(desk.policy),
        required=spreadsheets.required_columns(desk.policy),
    )
    intake = Intake(desk.policy, today)
    return [intake.judge(row) for row in rows]


async def _fail(session: AsyncSession, desk: Desk, job: Import, reason: str, *where: str) -> None:
    job.state, job.sealed = "failed", None
    job.reason = ", ".join([reason, *where])[:500]
    await outbox.add(session, ImportFailed(import_id=job.id, reason=reason), by=_importer(job), at=desk.clock.now())


async def _next_batch(database: Database, desk: Desk, import_id: UUID, candidates: Sequence[Candidate]) -> bool:
    for again in range(TRIES, 0, -1):
        try:
            async with database.transaction() as session:
                return await _take_batch(session, desk, import_id, candidates)
        except IntegrityError:  # an identifier was taken in between: the next try finds it, and counts a duplicate
            if again == 1:
                raise
    raise AssertionError("unreachable")


async def _take_batch(session: AsyncSession, desk: Desk, import_id: UUID, candidates: Sequence[Candidate]) -> bool:
    job = await repository.import_(session, import_id, lock=True)
    if job is None or job.state != "running":
        return False
    plan = await repository.plan(session, job.plan_id)
    assert plan is not None
    batch = candidates[job.judged : job.judged + BATCH]
    refused = [_refusal(import_id, c.number, _all_faults(plan, c)) for c in batch if _all_faults(plan, c)]
    good = [candidate for candidate in batch if not _all_faults(plan, candidate)]
    new = await _new_ones(session, desk, good)
    await _store(session, desk, job, plan, new)
    await repository.add_refusals(session, refused)
    job.judged += len(batch)
    job.accepted += len(new)
    job.refused += len(refused)
    job.duplicates += len(good) - len(new)
    if job.judged < len(candidates):
        return True
    job.state, job.sealed = "done", None
    event = ImportCompleted(import_id=import_id, accepted=job.accepted, refused=job.refused, duplicates=job.duplicates)
    await outbox.add(session, event, by=_importer(job), at=desk.clock.now())
    return False


def _all_faults(plan: Plan, candidate: Candidate) -> list[RowFault]:
    """The faults that refuse a row, one a field: those of its values, and fields that the plan does not name."""
    found = [fault for fault in candidate.faults if fault.severity is Severity.ERROR]
    faulty = {fault.field for fault in found}
    outside = (name for name in candidate.fields if name not in plan.fields and name not in faulty)
    found += [RowFault(name, FaultCode.OUTSIDE_FORM) for name in outside]
    if candidate.columns.get("customer_type") not in {*plan.customer_types, None} and "customer_type" not in faulty:
        found.append(RowFault("customer_type", FaultCode.OUTSIDE_FORM))
    return found


def _refusal(import_id: UUID, row: int, found: Sequence[RowFault]) -> dict[str, Any]:
    return {
        "import_id": import_id,
        "row": row,
        "faults": [{"field": fault.field, "code": fault.code.value} for fault in found],
    }


async def _new_ones(session: AsyncSession, desk: Desk, good: Sequence[Candidate]) -> list[Candidate]:
    digests = {
        candidate.number: desk.vault.index(IDENTIFIER, candidate.fields[IDENTIFIER])
        for candidate in good
        if IDENTIFIER in candidate.fields
    }
    taken = await repository.existing_identifiers(session, digests.values())
    return [candidate for candidate in good if digests.get(candidate.number) not in taken]


async def _store(session: AsyncSession, desk: Desk, job: Import, plan: Plan, new: Sequence[Candidate]) -> None:
    if not new:
        return
    actor = _importer(job)
    prepared = [
        service.prepare(desk, plan, new_id(), each.fields, (), _columns(job, each), actor, job.id) for each in new
    ]
    epochs = await desk.vault.open_epochs(session, {each.ring for each in prepared})
    await repository.add_records(
        session,
        [each.record for each in prepared],
        [each.seal(desk.vault, epochs[each.ring]) for each in prepared],
        [row for each in prepared for row in each.index_rows()],
    )
    await outbox.add_all(session, [each.event for each in prepared], by=actor, at=desk.clock.now())


def _columns(job: Import, candidate: Candidate) -> dict[str, Any]:
    return {
        "customer_type": candidate.columns["customer_type"],
        "importance": candidate.columns["importance"],
        "opened_on": as_date(candidate.columns["opened_on"]),
        "relationship_ended_on": as_date(candidate.columns.get(ENDED_ON, "")),
        "unit": job.unit,
        "custodian": job.custodian,
        "source": {"kind": "direct"},
    }


def _importer(job: Import) -> Subject:
    return Subject(
        client=job.client, scopes=frozenset(), account=job.account, person=job.person, txn=f"import-{job.id}"
    )
