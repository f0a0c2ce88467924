"""All SQL of the records service."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, case, delete, exists, func, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from dossier_common import tables
from dossier_common.contracts.approvals import GrantIssued
from dossier_common.paging import Page
from dossier_records.envelopes import Sealed
from dossier_records.models import (
    BlindIndex,
    Consent,
    Copy,
    DestructionOrder,
    Grant,
    Hold,
    Import,
    ImportRefusal,
    Plan,
    Record,
    RecordVersion,
    RingEpoch,
)

OUTSTANDING = ("issued", "receipted")


async def add(session: AsyncSession, row: object) -> None:
    """Adds one row and sends it, so that what the database generates is known."""
    session.add(row)
    await session.flush()


# ---- key rings


async def open_epoch(session: AsyncSession, ring: str) -> int | None:
    """The ring's open epoch, which cannot close before this transaction ends."""
    query = select(RingEpoch.epoch).where(RingEpoch.ring == ring, RingEpoch.state == "open")
    return (await session.execute(query.with_for_update(read=True, key_share=False))).scalar_one_or_none()


async def open_epochs(session: AsyncSession, rings: Collection[str]) -> dict[str, int]:
    """As `open_epoch`, for many rings at once."""
    query = select(RingEpoch.ring, RingEpoch.epoch).where(RingEpoch.ring.in_(rings), RingEpoch.state == "open")
    rows = await session.execute(query.order_by(RingEpoch.ring).with_for_update(read=True, key_share=False))
    return {row.ring: row.epoch for row in rows}


async def rings(connection: AsyncConnection) -> frozenset[str]:
    """The names of all rings that have, or had, an epoch."""
    return frozenset((await connection.execute(select(RingEpoch.ring).distinct())).scalars())


async def ring_is_known(session: AsyncSession, ring: str) -> bool:
    """Whether the ring has, or had, an epoch."""
    return bool((await session.execute(select(exists().where(RingEpoch.ring == ring)))).scalar_one())


async def add_first_epoch(session: AsyncSession, ring: str) -> None:
    """The first epoch of a ring; of two at once one wins, and both may use it."""
    await session.execute(insert(RingEpoch).values(ring=ring, epoch=1, state="open").on_conflict_do_nothing())


# ---- plans


async def plan(session: AsyncSession, plan_id: UUID) -> Plan | None:
    """One plan."""
    return await session.get(Plan, plan_id)


async def plans(session: AsyncSession, page: Page) -> list[Plan]:
    """Plans, newest first."""
    query = select(Plan).order_by(Plan.id.desc()).limit(page.limit + 1)
    if (last := page.after_id()) is not None:
        query = query.where(Plan.id < last)
    return list((await session.scalars(query)).all())


# ---- records


async def record(session: AsyncSession, record_id: UUID, *, lock: bool = False) -> Record | None:
    """One record, locked for a change if asked."""
    query = select(Record).where(Record.id == record_id)
    return (await session.scalars(query.with_for_update() if lock else query)).one_or_none()


async def version(session: AsyncSession, record_id: UUID, number: int) -> RecordVersion:
    """One version of a record."""
    return (
        await session.scalars(
            select(RecordVersion).where(RecordVersion.record_id == record_id, RecordVersion.version == number)
        )
    ).one()


async def existing_identifiers(session: AsyncSession, digests: Collection[bytes]) -> set[bytes]:
    """Which of these identifiers a record has already."""
    query = select(BlindIndex.digest).where(BlindIndex.field == "identifier", BlindIndex.digest.in_(digests))
    return set((await session.scalars(query)).all())


async def add_records(
    session: AsyncSession,
    records: Sequence[Mapping[str, Any]],
    versions: Sequence[Mapping[str, Any]],
    indexes: Sequence[Mapping[str, Any]],
) -> None:
    """Many records at once. Raises IntegrityError when an identifier was taken in between."""
    together = {"render_nulls": True}  # a row without a value would else need a statement of its own
    await session.execute(insert(Record), list(records), execution_options=together)
    await session.execute(insert(RecordVersion), list(versions), execution_options=together)
    if indexes:
        await session.execute(insert(BlindIndex), list(indexes))


async def add_version(session: AsyncSession, record: Record, kept: Sealed, author: UUID | None, at: datetime) -> None:
    """The record's present version is stored."""
    values = {"ring": kept.ring, "key_epoch": kept.key_epoch, "wrapped_key": kept.wrapped_key, "sealed": kept.sealed}
    row = RecordVersion(record_id=record.id, version=record.version, author=author, at=at, **values)
    await add(session, row)


async def replace_indexes(session: AsyncSession, record_id: UUID, indexes: Mapping[str, bytes]) -> None:
    """The record's blind indexes are these and no others."""
    await session.execute(delete(BlindIndex).where(BlindIndex.record_id == record_id))
    if indexes:
        rows = [{"record_id": record_id, "field": field, "digest": digest} for field, digest in indexes.items()]
        await session.execute(insert(BlindIndex), rows)


async def catalogue(
    session: AsyncSession,
    page: Page,
    *,
    level: str | None,
    unit: UUID | None,
    status: str | None,
    open_levels: Collection[str],
    person: UUID | None,
) -> list[Record]:
    """Descriptors, newest first; levels that are listed to named people only are shown to those (A8.22)."""
    listed: ColumnElement[bool] = Record.level.in_(open_levels)
    if person is not None:
        listed = or_(listed, Record.custodian == person, Record.named.contains([person]))
    query = select(Record).where(listed).order_by(Record.id.desc()).limit(page.limit + 1)
    for column, wanted in ((Record.level, level), (Record.unit, unit), (Record.status, status)):
        if wanted is not None:
            query = query.where(column == wanted)
    if (last := page.after_id()) is not None:
        query = query.where(Record.id < last)
    return list((await session.scalars(query)).all())


def with_version() -> Select[Record, RecordVersion]:
    """Records beside their present version."""
    return select(Record, RecordVersion).join(
        RecordVersion, (RecordVersion.record_id == Record.id) & (RecordVersion.version == Record.version)
    )


async def matching(session: AsyncSession, field: str, digest: bytes, limit: int) -> list[tuple[Record, RecordVersion]]:
    """Records whose field has this blind index, with their present version."""
    query = (
        with_version()
        .join(BlindIndex, BlindIndex.record_id == Record.id)
        .where(BlindIndex.field == field, BlindIndex.digest == digest, Record.status.in_(("active", "ended")))
        .order_by(Record.id)
        .limit(limit)
    )
    return [(found, version) for found, version in await session.execute(query)]


# ---- grants, copies, holds


async def grant(session: AsyncSession, grant_id: UUID, *, lock: bool = False) -> Grant | None:
    """One grant of the projection."""
    query = select(Grant).where(Grant.id == grant_id)
    return (await session.scalars(query.with_for_update() if lock else query)).one_or_none()


async def grant_fresh_at(session: AsyncSession, grant_id: UUID, owner: str) -> datetime | None:
    """Before which instant nothing of the owner's is missing, for a grant that the projection has."""
    cursors = tables.cursors
    query = select(cursors.c.fresh_at).join(Grant, Grant.id == grant_id).where(cursors.c.producer == owner)
    return (await session.execute(query)).scalar_one_or_none()


async def put_grant(session: AsyncSession, event: GrantIssued) -> None:
    """A grant enters the projection; one that is there stays as it is."""
    await session.execute(insert(Grant).values(**_grant_values(event), state="active").on_conflict_do_nothing())


async def confirm_grant(session: AsyncSession, event: GrantIssued, state: str, *, used: int) -> None:
    """The grant as its owner says that it stands. One that has ended here stays ended, and no use is forgotten."""
    new = insert(Grant).values(**_grant_values(event), state=state, used=used)
    ends = and_(Grant.state == "active", new.excluded.state != "active")
    await session.execute(
        new.on_conflict_do_update(
            index_elements=[Grant.id],
            set_={
                "state": case((ends, new.excluded.state), else_=Grant.state),
                "used": func.greatest(Grant.used, new.excluded.used),
            },
            where=or_(ends, Grant.used < new.excluded.used),
        )
    )


def _grant_values(event: GrantIssued) -> dict[str, Any]:
    conditions = event.conditions.model_dump(mode="json", exclude_none=True)
    return {"id": event.grant, **event.model_dump(include=GRANT_COLUMNS), "conditions": conditions}


GRANT_COLUMNS = {
    "action",
    "records",
    "fields",
    "purpose",
    "not_before",
    "until",
    "uses",
    "holder_account",
    "holder_person",
}


async def end_grant(session: AsyncSession, grant_id: UUID, state: str) -> None:
    """The grant covers nothing any more."""
    await session.execute(update(Grant).where(Grant.id == grant_id).values(state=state))


async def copy(session: AsyncSession, copy_id: UUID, *, lock: bool = False) -> Copy | None:
    """One controlled copy."""
    query = select(Copy).where(Copy.id == copy_id)
    return (await session.scalars(query.with_for_update() if lock else query)).one_or_none()


async def copies(session: AsyncSession, page: Page, record_id: UUID | None, holder: UUID) -> list[Copy]:
    """The holder's controlled copies, newest first."""
    query = select(Copy).where(Copy.holder == holder).order_by(Copy.id.desc()).limit(page.limit + 1)
    if record_id is not None:
        query = query.where(Copy.record_id == record_id)
    if (last := page.after_id()) is not None:
        query = query.where(Copy.id < last)
    return list((await session.scalars(query)).all())


async def outstanding(session: AsyncSession, record_id: UUID) -> str | None:
    """What keeps a record from being destroyed: `held` or `outstanding-copies`."""
    if (await session.execute(select(exists().where(Hold.record_id == record_id)))).scalar_one():
        return "held"
    copies_out = exists().where(Copy.record_id == record_id, Copy.state.in_(OUTSTANDING))
    return "outstanding-copies" if (await session.execute(select(copies_out))).scalar_one() else None


async def put_hold(session: AsyncSession, hold_id: UUID, record_id: UUID) -> None:
    """A hold is in force."""
    await session.execute(insert(Hold).values(id=hold_id, record_id=record_id).on_conflict_do_nothing())


async def lift_hold(session: AsyncSession, hold_id: UUID) -> None:
    """A hold is over."""
    await session.execute(delete(Hold).where(Hold.id == hold_id))


# ---- the spreadsheets


async def next_import(session: AsyncSession) -> Import | None:
    """The oldest import that is not finished, for the one worker that takes it."""
    query = select(Import).where(Import.state.in_(("received", "running"))).order_by(Import.id).limit(1)
    return (await session.scalars(query.with_for_update(skip_locked=True))).one_or_none()


async def import_(session: AsyncSession, import_id: UUID, *, lock: bool = False) -> Import | None:
    """One import, locked for its next batch if asked."""
    query = select(Import).where(Import.id == import_id)
    return (await session.scalars(query.with_for_update() if lock else query)).one_or_none()


async def refusals(session: AsyncSession, import_id: UUID, page: Page) -> list[ImportRefusal]:
    """Refused rows, in the order of the spreadsheet."""
    query = select(ImportRefusal).where(ImportRefusal.import_id == import_id)
    query = query.order_by(ImportRefusal.row).limit(page.limit + 1)
    if (row := page.starts(int)) is not None:
        query = query.where(ImportRefusal.row > row)
    return list((await session.scalars(query)).all())


async def add_refusals(session: AsyncSession, rows: Sequence[Mapping[str, Any]]) -> None:
    """Notes refused rows; a row that is noted already stays."""
    if rows:
        await session.execute(insert(ImportRefusal).on_conflict_do_nothing(), list(rows))


# ---- destruction


async def put_order(session: AsyncSession, disposal_id: UUID, record_id: UUID, at: datetime) -> None:
    """An order to destroy; one that was refused is open again, one that runs or is done stays."""
    await session.execute(
        insert(DestructionOrder)
        .values(disposal_id=disposal_id, record_id=record_id, step="ordered", ordered_at=at, rewrapped=0)
        .on_conflict_do_update(
            index_elements=["disposal_id"],
            set_={"step": "ordered", "ordered_at": at},
            where=DestructionOrder.step == "refused",
        )
    )


async def next_order(session: AsyncSession) -> DestructionOrder | None:
    """The order that was begun, or else the oldest new one; who asks meanwhile waits.

    Orders never overlap: a ring re-wrapped for two at once could leave keys under an epoch that is closed.
    """
    query = select(DestructionOrder).where(DestructionOrder.step.not_in(("done", "refused")))
    query = query.order_by(
        DestructionOrder.step == "ordered", DestructionOrder.ordered_at, DestructionOrder.disposal_id
    ).limit(1)
    return (await session.scalars(query.with_for_update())).one_or_none()


async def wrapped_keys(session: AsyncSession, ring: str, epoch: int) -> list[tuple[UUID, int, bytes]]:
    """All wrapped data keys of an epoch."""
    query = (
        select(RecordVersion.record_id, RecordVersion.version, RecordVersion.wrapped_key)
        .where(RecordVersion.ring == ring, RecordVersion.key_epoch == epoch)
        .order_by(RecordVersion.record_id, RecordVersion.version)
    )
    return [(record_id, number, wrapped) for record_id, number, wrapped in await session.execute(query)]


async def erase_content(session: AsyncSession, record_id: UUID) -> None:
    """Wrapped keys, sealed fields, blind indexes and consents of the record are gone from its tables."""
    for table in (RecordVersion, BlindIndex, Consent):
        await session.execute(delete(table).where(table.record_id == record_id))


async def versions_under(session: AsyncSession, ring: str, epoch: int, limit: int) -> Sequence[Row[UUID, int, bytes]]:
    """Versions whose data key is wrapped under the epoch, locked."""
    return (
        await session.execute(
            select(RecordVersion.record_id, RecordVersion.version, RecordVersion.wrapped_key)
            .where(RecordVersion.ring == ring, RecordVersion.key_epoch == epoch)
            .order_by(RecordVersion.record_id, RecordVersion.version)
            .limit(limit)
            .with_for_update()
        )
    ).all()


async def rewrap(session: AsyncSession, record_id: UUID, number: int, epoch: int, wrapped: bytes) -> None:
    """The version's data key is wrapped under another epoch of its ring."""
    await session.execute(
        update(RecordVersion)
        .where(tuple_(RecordVersion.record_id, RecordVersion.version) == tuple_(record_id, number))
        .values(key_epoch=epoch, wrapped_key=wrapped)
    )


async def count_under(session: AsyncSession, ring: str, epoch: int) -> int:
    """How many versions are wrapped under the epoch."""
    query = select(func.count()).where(RecordVersion.ring == ring, RecordVersion.key_epoch == epoch)
    return (await session.execute(query)).scalar_one()


async def set_epoch_state(session: AsyncSession, ring: str, epoch: int, state: str) -> None:
    """An epoch opens, closes or is destroyed; waits for the transactions that still write under it."""
    await session.execute(
        insert(RingEpoch)
        .values(ring=ring, epoch=epoch, state=state)
        .on_conflict_do_update(index_elements=["ring", "epoch"], set_={"state": state})
    )
