"""HTTP in and out of the records service. No SQL, no rules."""

from dataclasses import replace
from typing import Annotated, Any, cast
from uuid import UUID

from fastapi import Header, Query, Request, Response
from pydantic import StringConstraints

from dossier_common import preconditions
from dossier_common.app import router
from dossier_common.database import READINGS, Read, Write, recorded
from dossier_common.paging import Paged
from dossier_common.policy import Action
from dossier_common.problems import NotFound
from dossier_common.reach import ALL_OBJECTS, Reach, objects
from dossier_records import auth, copies, faults, imports, repository, rules, schemas, service
from dossier_records.grants import Grants
from dossier_records.models import Copy, Record
from dossier_records.reading import Ask, Reader, UnconfirmedGrant
from dossier_records.service import Desk

api = router(tags=["records"])
internal = router(tags=["services"])

OWN = objects(Reach.OWN, otherwise=404)
KNOWN = objects(Reach.KNOWN, otherwise=404)
INTO_UNIT = objects(Reach.UNIT, otherwise=403)
OF_UNIT = objects(Reach.OWN, Reach.UNIT, otherwise=403, visible=Reach.LISTED)
GRANTED = objects(Reach.GRANTED, otherwise=403, visible=Reach.KNOWN)

KEY_PATTERN = r"[!-~](?:[ -~]{0,198}[!-~])?"
Key = Annotated[str, StringConstraints(pattern=f"^{KEY_PATTERN}$")]
Purpose = Annotated[schemas.Id, Query(description="What for; every use names a purpose (B5.2)")]


def desk_of(request: Request) -> Desk:
    """The process's desk."""
    return cast("Desk", request.app.state.desk)


def grants_of(request: Request) -> Grants:
    """How the process learns how a grant stands."""
    return cast("Grants", request.app.state.grants)


# ---- collection plans


@api.post("/v1/collection-plans", status_code=201, openapi_extra=INTO_UNIT)
async def create_plan(request: Request, session: Write, new: schemas.NewPlan, actor: auth.Planner) -> schemas.Plan:
    """A collection plan takes effect."""
    return schemas.Plan.model_validate(await service.create_plan(session, desk_of(request), new, actor))


@api.get("/v1/collection-plans", openapi_extra=ALL_OBJECTS)
async def list_plans(session: Read, page: Paged, _actor: auth.Cataloguer) -> schemas.Plans:
    """Collection plans, newest first."""
    found = await repository.plans(session, page)
    if len(found) > page.limit:
        page.more(str(found[page.limit - 1].id))
    return schemas.Plans(items=[schemas.Plan.model_validate(plan) for plan in found[: page.limit]])


@api.get("/v1/collection-plans/{plan_id}", openapi_extra=ALL_OBJECTS)
async def show_plan(session: Read, plan_id: UUID, _actor: auth.Cataloguer) -> schemas.Plan:
    """One collection plan."""
    plan = await repository.plan(session, plan_id)
    if plan is None:
        raise NotFound("There is no such collection plan.")
    return schemas.Plan.model_validate(plan)


# ---- records


@api.post("/v1/records", status_code=201, openapi_extra=INTO_UNIT)
async def register_record(
    request: Request, response: Response, session: Write, new: schemas.NewRecord, actor: auth.Registrar
) -> schemas.Descriptor:
    """Registers a customer record; the answer describes it, and does not repeat its content."""
    record = await service.register(session, desk_of(request), new, actor)
    response.headers["Location"] = f"/v1/records/{record.id}"
    return _descriptor(request, response, record)


@api.get("/v1/records", openapi_extra=objects(Reach.LISTED, otherwise=200))
async def list_records(
    request: Request,
    session: Read,
    page: Paged,
    actor: auth.Cataloguer,
    level: Annotated[schemas.Id | None, Query()] = None,
    unit: Annotated[UUID | None, Query()] = None,
    status: Annotated[schemas.Status | None, Query()] = None,
) -> schemas.Descriptors:
    """The catalogue: descriptors, never content."""
    desk = desk_of(request)
    found = await service.catalogue(session, desk, page, actor, level=level, unit=unit, status=status)
    if len(found) > page.limit:
        page.more(str(found[page.limit - 1].id))
    return schemas.Descriptors(items=[described(desk, record) for record in found[: page.limit]])


@api.get("/v1/records/{record_id}", response_model=schemas.Content, openapi_extra=KNOWN)
async def read_record(
    request: Request,
    response: Response,
    record_id: UUID,
    actor: auth.Reader,
    purpose: Purpose,
    grant: Annotated[UUID | None, Query(description="Uses this grant once")] = None,
    idempotency_key: Annotated[Key | None, Header()] = None,
) -> dict[str, Any]:
    """The content, as the decision opens or masks it. The reading is on record before it is answered.

    A reading that uses a grant counts: it is not idempotent without an Idempotency-Key, which holds for one version of
    one record, and for 24 hours.
    """
    _not_kept(response)
    return await read(request.app.state, Ask(record_id, actor, purpose, grant, idempotency_key))


async def read(state: Any, ask: Ask) -> dict[str, Any]:
    """Reads through the group commit; a grant of which the projection is not sure is asked of approvals, once.

    Raises AuditUnavailable while too much waits for its audit record.
    """
    reader: Reader = state.reader
    state.backlog.ensure(READINGS)
    try:
        return await reader.read(ask)
    except UnconfirmedGrant:
        assert ask.grant is not None
        return await reader.read(replace(ask, confirmed=await state.grants.resolve(ask.grant)))


def _not_kept(response: Response) -> None:
    """No cache keeps content, masked or open (RFC 9111)."""
    response.headers["Cache-Control"] = "no-store"


@api.patch("/v1/records/{record_id}", openapi_extra=OF_UNIT)
async def change_record(
    request: Request,
    response: Response,
    session: Write,
    record_id: UUID,
    patch: schemas.Change,
    actor: auth.Editor,
    if_match: Annotated[str | None, Header(max_length=200, description="ETag of the version changed")] = None,
) -> schemas.Descriptor:
    """Merge patch (RFC 7396) with If-Match: a new version, sealed with a new key."""
    desk = desk_of(request)
    record = await service.known_record(session, desk, record_id, actor, lock=True)
    preconditions.require_match(if_match, record.version)
    record = await service.change(session, desk, record, patch, actor)
    return _descriptor(request, response, record)


@api.post("/v1/records/search", openapi_extra=objects(Reach.KNOWN, otherwise=200))
async def search_records(
    request: Request, response: Response, query: schemas.Search, actor: auth.Reader
) -> schemas.Matches:
    """Exact match on one field by its blind index; what is found is shown masked, whoever looks."""
    _not_kept(response)
    desk = desk_of(request)
    async with recorded(request) as session:
        found = await service.search(session, desk, query, actor)
    items = [
        schemas.Match(
            record=described(desk, each.record),
            fields={name: schemas.ShownField.model_validate(shown) for name, shown in service.show(desk, each).items()},
            access=_access(desk, each.decision, each.record.level),
        )
        for each in found
    ]
    return schemas.Matches(items=items)


@api.get("/v1/records/{record_id}/access", openapi_extra=KNOWN)
async def explain_access(
    request: Request,
    session: Read,
    record_id: UUID,
    actor: auth.Reader,
    action: schemas.OpeningAction,
    purpose: Purpose,
    grant: Annotated[UUID | None, Query()] = None,
) -> schemas.Explanation:
    """The access decision rule by rule, without using anything, and the approvals that would be needed."""
    desk = desk_of(request)
    known = grant is None or (await grants_of(request).confirmed(session, grant)).known
    decision, record = await service.explain(
        session, desk, record_id, Action(action), purpose, grant, actor, known=known
    )
    access = _access(desk, decision, record.level, Action(action))
    return schemas.Explanation(
        **access.model_dump(),
        rules=[
            schemas.RuleChecked(rule=check.rule, passed=check.passed, reason=check.reason, detail=check.detail)
            for check in decision.checks
        ],
        open=list(decision.open),
        masked=list(decision.masked),
    )


def _access(desk: Desk, decision: rules.Decision, level: str, action: Action = Action.VIEW) -> schemas.Access:
    failed = decision.failed
    short = failed is not None and failed.reason in {rules.Reason.GRANT_REQUIRED, rules.Reason.GRANT_EXHAUSTED}
    needed = rules.approvals_needed(desk.policy, action, level) if short or decision.masked else []
    return schemas.Access(
        allowed=decision.allowed,
        reason=failed.reason if failed else None,
        approvals_needed=[schemas.ApprovalNeeded.model_validate(each) for each in needed],
    )


def described(desk: Desk, record: Record) -> schemas.Descriptor:
    """The descriptor, with the mark of its level where the finding aid must show it (A8.22)."""
    level = desk.policy.level(record.level)
    shown = schemas.Descriptor.model_validate(record)
    return shown.model_copy(update={"mark": level.title.model_dump()}) if level.catalogue_mark else shown


def _descriptor(request: Request, response: Response, record: Record) -> schemas.Descriptor:
    response.headers["ETag"] = preconditions.etag(record.version)
    return described(desk_of(request), record)


@internal.get("/internal/v1/records/{record_id}/descriptor")
async def describe_record(
    request: Request, response: Response, session: Read, record_id: UUID, _actor: auth.Describer
) -> schemas.Descriptor:
    """The descriptor of a record, for other parts."""
    record = await repository.record(session, record_id)
    if record is None:
        raise NotFound("There is no such record.")
    return _descriptor(request, response, record)


# ---- spreadsheets

_FILE = {
    "requestBody": {
        "required": True,
        "content": {name: {"schema": {"type": "string", "format": "binary"}} for name in imports.MEDIA_TYPES},
    }
}


@api.post("/v1/imports", status_code=202, openapi_extra=_FILE | INTO_UNIT)
async def start_import(
    request: Request,
    response: Response,
    session: Write,
    actor: auth.Importer,
    plan: Annotated[UUID, Query()],
    unit: Annotated[UUID, Query()],
    custodian: Annotated[UUID, Query(description="The person who answers for the records")],
) -> schemas.ImportState:
    """Takes a spreadsheet in (CSV in UTF-8 or GB18030, or XLSX); its rows are judged one by one."""
    job = await imports.receive(
        session,
        desk_of(request),
        content=await request.body(),
        content_type=request.headers.get("content-type", ""),
        plan_id=plan,
        unit=unit,
        custodian=custodian,
        limit=request.app.state.settings.max_import,
        actor=actor,
    )
    response.headers["Location"] = f"/v1/imports/{job.id}"
    return schemas.ImportState.model_validate(job)


@api.get("/v1/imports/{import_id}", openapi_extra=objects(Reach.OWN, Reach.UNIT, otherwise=404))
async def show_import(
    request: Request, session: Read, page: Paged, import_id: UUID, actor: auth.Importer
) -> schemas.ImportReport:
    """How far an import has come, and its refused rows, page by page."""
    job = await imports.seen(session, desk_of(request), import_id, actor)
    refused = await repository.refusals(session, import_id, page)
    if len(refused) > page.limit:
        page.more(refused[page.limit - 1].row)
    rows = [
        schemas.RefusedRow(row=row.row, faults=[_row_fault(fault) for fault in row.faults])
        for row in refused[: page.limit]
    ]
    state = schemas.ImportState.model_validate(job)
    return schemas.ImportReport(**state.model_dump(), errors=rows)


def _row_fault(fault: dict[str, str]) -> schemas.RowFault:
    title = faults.TITLES[faults.FaultCode(fault["code"])]
    return schemas.RowFault(field=fault["field"], code=fault["code"], title=title._asdict())


# ---- controlled copies


@api.post("/v1/records/{record_id}/copies", status_code=201, openapi_extra=GRANTED)
async def issue_copy(
    request: Request, response: Response, session: Write, record_id: UUID, new: schemas.NewCopy, actor: auth.Copyist
) -> schemas.Copy:
    """Issues a numbered, stamped copy under a grant, which counts as one use of it."""
    known = (await grants_of(request).confirmed(session, new.grant)).known
    copy = await copies.issue(session, desk_of(request), record_id, new.grant, Action(new.action), actor, known=known)
    response.headers["Location"] = f"/v1/copies/{copy.id}"
    return _copy(copy)


@api.get("/v1/copies", openapi_extra=objects(Reach.OWN, otherwise=200))
async def list_copies(
    session: Read, page: Paged, actor: auth.Copyist, record: Annotated[UUID | None, Query()] = None
) -> schemas.Copies:
    """The caller's controlled copies, newest first; an application that acts for itself holds none."""
    if actor.person is None:
        return schemas.Copies(items=[])
    found = await repository.copies(session, page, record, actor.person)
    if len(found) > page.limit:
        page.more(str(found[page.limit - 1].id))
    return schemas.Copies(items=[_copy(copy) for copy in found[: page.limit]])


@api.get("/v1/copies/{copy_id}", openapi_extra=OWN)
async def show_copy(session: Read, copy_id: UUID, actor: auth.Copyist) -> schemas.Copy:
    """One controlled copy of the caller."""
    return _copy(await copies.held(session, copy_id, actor))


@api.get("/v1/copies/{copy_id}/content", openapi_extra=OWN)
async def render_copy(request: Request, response: Response, copy_id: UUID, actor: auth.Copyist) -> schemas.CopyContent:
    """What stands on the copy, for its holder, until he has signed for it; on record before it is answered."""
    _not_kept(response)
    desk = desk_of(request)
    async with recorded(request) as session:
        grant = await copies.grant_of(session, copy_id, actor)
        known = (await grants_of(request).confirmed(session, grant)).known
        copy, kept = await copies.render(session, desk, copy_id, actor, known=known)
    return schemas.CopyContent(
        copy_id=copy.id,
        number=copies.number(copy),
        stamp=copies.STAMP,
        watermark=copies.watermark(copy),
        fields=copies.content(desk, copy, kept),
    )


@api.post("/v1/copies/{copy_id}/receipt", openapi_extra=OWN)
async def receipt_copy(request: Request, session: Write, copy_id: UUID, actor: auth.Copyist) -> schemas.Copy:
    """The receiver signs for the copy."""
    return _copy(await copies.settle(session, desk_of(request), copy_id, "receipted", actor))


@api.post("/v1/copies/{copy_id}/return", openapi_extra=OWN)
async def return_copy(request: Request, session: Write, copy_id: UUID, actor: auth.Copyist) -> schemas.Copy:
    """The copy came back."""
    return _copy(await copies.settle(session, desk_of(request), copy_id, "returned", actor))


@api.post("/v1/copies/{copy_id}/destruction", openapi_extra=OWN)
async def destroy_copy(request: Request, session: Write, copy_id: UUID, actor: auth.Copyist) -> schemas.Copy:
    """The copy was destroyed."""
    return _copy(await copies.settle(session, desk_of(request), copy_id, "destroyed", actor))


@api.post("/v1/copies/{copy_id}/loss", openapi_extra=OWN)
async def lose_copy(request: Request, session: Write, copy_id: UUID, actor: auth.Copyist) -> schemas.Copy:
    """The copy is lost, which is an incident (A1.5.3.4)."""
    return _copy(await copies.settle(session, desk_of(request), copy_id, "lost", actor))


def _copy(copy: Copy) -> schemas.Copy:
    return schemas.Copy(
        id=copy.id,
        number=copies.number(copy),
        record=copy.record_id,
        version=copy.version,
        grant=copy.grant_id,
        action=copy.action,
        fields=copy.fields,
        holder=copy.holder,
        state=copy.state,
        stamp=copies.STAMP,
        issued_at=copy.issued_at,
    )
