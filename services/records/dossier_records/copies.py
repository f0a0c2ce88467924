"""Controlled copies: numbered, stamped, receipted, and followed to their end (A1.5.2.1.1, A3.4.2.3)."""

from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common import outbox
from dossier_common.contracts.records import (
    CopyDestroyed,
    CopyIssued,
    CopyLost,
    CopyReceipted,
    CopyRendered,
    CopyReturned,
)
from dossier_common.events import Event
from dossier_common.identity import Subject
from dossier_common.ids import new_id
from dossier_common.policy import Action
from dossier_common.problems import Hidden, NotFound
from dossier_records import custody_repository, envelopes, errors, reading, refusals, repository, rules
from dossier_records.envelopes import Sealed
from dossier_records.models import Copy, Grant, Record, RecordVersion
from dossier_records.service import Desk, facts, grant_row

STAMP: Final = "受控文件 CONTROLLED COPY"
_NEXT: Final[dict[str, tuple[tuple[str, ...], type[Event]]]] = {
    "receipted": (("issued",), CopyReceipted),
    "returned": (("issued", "receipted"), CopyReturned),
    "destroyed": (("issued", "receipted"), CopyDestroyed),
    "lost": (("issued", "receipted"), CopyLost),
}


async def issue(
    session: AsyncSession,
    desk: Desk,
    record_id: UUID,
    grant_id: UUID,
    action: Action,
    actor: Subject,
    *,
    known: bool,
) -> Copy:
    """A numbered copy under a grant; one use of it is counted. Its content is rendered by `render`.

    The record is locked, so that its destruction sees the copy, or the copy the destruction. `known` says that there
    is such a grant, and that the projection has it as it stands now. Raises NotFound, a refusal.
    """
    record = await _readable(session, record_id, lock=True)
    grant = await repository.grant(session, grant_id, lock=True) if known else None
    version = await repository.version(session, record_id, record.version)
    decision = _decide(desk, record, version, action, grant, grant.used if grant else 0, actor)
    assert grant is not None
    assert actor.person is not None
    now = desk.clock.now()
    grant.used += 1
    copy = Copy(
        id=new_id(),
        record_id=record_id,
        version=record.version,
        grant_id=grant_id,
        action=action.value,
        fields=list(decision.open),
        holder=actor.person,
        state="issued",
        issued_at=now,
        changed_at=now,
    )
    await repository.add(session, copy)
    event = CopyIssued(
        copy_id=copy.id,
        number=number(copy),
        record=record_id,
        grant=grant_id,
        action=action.value,
        use=grant.used,
        fields=decision.open,
        policy=desk.policy.digest,
    )
    await outbox.add(session, event, by=actor, at=now)
    return copy


def _decide(
    desk: Desk, record: Record, version: RecordVersion, action: Action, grant: Grant | None, used: int, actor: Subject
) -> rules.Decision:
    known = facts(record, envelopes.names(version.sealed))
    decision = rules.decide(
        desk.policy,
        actor,
        known,
        action,
        grant.purpose if grant else "",
        reading.grant_facts(grant_row(grant), used) if grant else None,
        desk.clock.now(),
        grant_named=True,
    )
    if not decision.allowed:
        raise refusals.problem(desk.policy, decision, action, known)
    return decision


async def grant_of(session: AsyncSession, copy_id: UUID, actor: Subject) -> UUID:
    """The grant of one of the caller's copies; nothing is locked. Raises NotFound, Hidden."""
    copy = await held(session, copy_id, actor)
    session.expunge(copy)  # it is read again under its lock
    return copy.grant_id


async def render(
    session: AsyncSession, desk: Desk, copy_id: UUID, actor: Subject, *, known: bool
) -> tuple[Copy, Sealed]:
    """Records that the content of a copy is rendered; the caller commits, and then opens what is returned.

    Only the holder renders it, only while it is issued (a receipt ends it) and while its grant covers it; the use of
    the grant was counted when the copy was issued. `known` as with `issue`. Raises NotFound, Hidden, WrongState, a
    refusal.
    """
    copy = await held(session, copy_id, actor, lock=True)
    if copy.state != "issued":
        raise errors.WrongState(f"The copy is {copy.state}; its content was handed over.")
    record = await _readable(session, copy.record_id)
    version = await repository.version(session, copy.record_id, copy.version)
    grant = await repository.grant(session, copy.grant_id) if known else None
    _decide(desk, record, version, Action(copy.action), grant, grant.used - 1 if grant else 0, actor)
    event = CopyRendered(copy_id=copy.id, record=copy.record_id, policy=desk.policy.digest)
    await outbox.add(session, event, by=actor, at=desk.clock.now())
    return copy, Sealed(version.ring, version.key_epoch, version.wrapped_key, version.sealed)


def content(desk: Desk, copy: Copy, kept: Sealed) -> dict[str, str]:
    """The fields of a copy; call it after the commit of `render` (invariant 1)."""
    return desk.vault.open(copy.record_id, copy.version, kept, copy.fields)


async def settle(session: AsyncSession, desk: Desk, copy_id: UUID, state: str, actor: Subject) -> Copy:
    """The receiver's receipt, or the copy's end: returned, destroyed, lost. Raises NotFound, Hidden, WrongState.

    The end of a copy that a leaver had is noted by his successor (A4.38).
    """
    copy = await held(session, copy_id, actor, lock=True, for_leaver=state != "receipted")
    before, event_type = _NEXT[state]
    if copy.state not in before:
        raise errors.WrongState(f"The copy is {copy.state}.")
    copy.state, copy.changed_at = state, desk.clock.now()
    await session.flush()
    event = event_type.model_validate({"copy_id": copy.id, "record": copy.record_id})
    await outbox.add(session, event, by=actor, at=desk.clock.now())
    return copy


async def held(
    session: AsyncSession, copy_id: UUID, actor: Subject, *, lock: bool = False, for_leaver: bool = False
) -> Copy:
    """A copy of the caller, or, if asked, of somebody whom he succeeds. Raises NotFound, and Hidden for another's."""
    copy = await repository.copy(session, copy_id, lock=lock)
    if copy is None:
        raise NotFound("There is no such copy.")
    if copy.holder == actor.person:
        return copy
    if for_leaver and actor.person and await custody_repository.succeeds(session, copy.holder, actor.person):
        return copy
    raise Hidden("There is no such copy.")


async def _readable(session: AsyncSession, record_id: UUID, *, lock: bool = False) -> Record:
    record = await repository.record(session, record_id, lock=lock)
    if record is None or record.status not in {"active", "ended"}:
        raise NotFound("There is no such record.")
    return record


def number(copy: Copy) -> str:
    """The number on the copy: year of issue and running number."""
    return f"C{copy.issued_at:%Y}-{copy.number:06d}"


def watermark(copy: Copy) -> str:
    """What stands across each page."""
    return f"{STAMP} {number(copy)} {copy.holder}"
