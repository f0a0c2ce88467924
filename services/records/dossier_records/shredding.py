"""Destruction on the order of two people: after it, nothing can open the record (invariant 5).

New epoch durable in the provider → writers switched → old epoch closing → the record's wrapped keys, blind indexes
and consents deleted, all others of the ring re-wrapped → none left under the old epoch, counted under lock → the
survivors' keys written to the backup set as a key supplement → old epoch destroyed in the provider → decryption
tried from the old row, and seen to fail. Each step can be repeated after a crash. Source: ARCHITECTURE.md,
"Secrets and destruction".
"""

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Final

import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common import outbox
from dossier_common.contracts.records import DestructionRefused, RecordShredded
from dossier_common.database import Database
from dossier_records import envelopes, repository
from dossier_records.envelopes import Sealed
from dossier_records.models import DestructionOrder
from dossier_records.service import Desk
from dossier_records.vault import bound_to

REWRAP_BATCH: Final = 500
IDLE_SECONDS: Final = 0.5


class NotGone(RuntimeError):
    """A key or a row was found where none may be; the order stays where it is, and the log says so."""


class Shredder:
    """Carries out destruction orders, one after the other."""

    def __init__(self, database: Database, desk: Desk, supplement_dir: Path) -> None:
        self._database, self._desk, self._supplements = database, desk, supplement_dir
        self._steps: dict[str, Callable[[AsyncSession, DestructionOrder], Awaitable[None]]] = {
            "ordered": self._accept,
            "closing": self._close_epoch,
            "rewrapping": self._rewrap,
            "supplement": self._write_supplement,
            "destroying": self._destroy,
        }

    async def run(self) -> None:
        """Works off orders until it is cancelled."""
        while True:
            if not await self.advance():
                await asyncio.sleep(IDLE_SECONDS)

    async def advance(self) -> bool:
        """Takes the oldest open order one step further, in one transaction; False when there is none."""
        async with self._database.transaction() as session:
            order = await repository.next_order(session)
            if order is None:
                return False
            await self._steps[order.step](session, order)
        return True

    async def _accept(self, session: AsyncSession, order: DestructionOrder) -> None:
        """Checks copies, loans and holds again, under the record's lock; keeps the old row for the last step."""
        record = await repository.record(session, order.record_id, lock=True)
        reason = "not-found" if record is None else await repository.outstanding(session, order.record_id)
        if record is not None and record.status not in {"active", "ended"}:
            reason = "wrong-state"
        if reason is not None or record is None:
            order.step = "refused"
            event = DestructionRefused(record=order.record_id, disposal=order.disposal_id, reason=reason or "not-found")
            await outbox.add(session, event, by=None, at=self._now())
            return
        version = await repository.version(session, record.id, record.version)
        record.status = "destroying"
        order.ring, order.epoch_old = version.ring, version.key_epoch
        order.old_version, order.old_wrapped_key, order.old_sealed = (
            version.version,
            version.wrapped_key,
            version.sealed,
        )
        order.step = "closing"

    async def _close_epoch(self, session: AsyncSession, order: DestructionOrder) -> None:
        """From here on nothing is wrapped under the old epoch: a trigger refuses it."""
        ring, old = _place(order)
        self._desk.vault.keyring.create(ring, old + 1)
        await repository.set_epoch_state(session, ring, old, "closing")
        await repository.set_epoch_state(session, ring, old + 1, "open")
        await repository.erase_content(session, order.record_id)
        order.step = "rewrapping"

    async def _rewrap(self, session: AsyncSession, order: DestructionOrder) -> None:
        """A batch of the survivors; the next step when none is left."""
        ring, old = _place(order)
        keyring = self._desk.vault.keyring
        rows = await repository.versions_under(session, ring, old, REWRAP_BATCH)
        for record_id, number, wrapped in rows:
            bound = bound_to(record_id, number)
            data_key = keyring.unwrap(ring, old, wrapped, bound)
            await repository.rewrap(session, record_id, number, old + 1, keyring.wrap(ring, old + 1, data_key, bound))
        order.rewrapped += len(rows)
        if not rows:
            order.step = "supplement"

    async def _write_supplement(self, session: AsyncSession, order: DestructionOrder) -> None:
        """The survivors' keys as wrapped now: with them an older backup stays readable, but for this record."""
        ring, old = _place(order)
        if await repository.count_under(session, ring, old):
            order.step = "rewrapping"
            return
        rows = await repository.wrapped_keys(session, ring, old + 1)
        content = orjson.dumps(
            {
                "ring": ring,
                "epoch": old + 1,
                "replaces": old,
                "keys": [{"record": str(r), "version": v, "wrapped": w.hex()} for r, v, w in rows],
            }
        )
        order.supplement = await asyncio.to_thread(_keep, self._supplements, f"{ring}.{old + 1}.json", content)
        order.step = "destroying"

    async def _destroy(self, session: AsyncSession, order: DestructionOrder) -> None:
        """Destroys the old epoch, tries to decrypt the old row, and reports."""
        ring, old = _place(order)
        remaining = await repository.count_under(session, ring, old)
        if remaining:
            raise NotGone(f"{remaining} versions are still under {ring}.{old}")
        self._desk.vault.keyring.destroy(ring, old)
        failed = self._cannot_open(order, ring, old)
        if not failed:
            raise NotGone(f"the old row of disposal {order.disposal_id} still opens")
        record = await repository.record(session, order.record_id, lock=True)
        assert record is not None
        record.status = "destroyed"
        await repository.set_epoch_state(session, ring, old, "destroyed")
        assert order.supplement is not None
        event = RecordShredded(
            record=order.record_id,
            disposal=order.disposal_id,
            ring=ring,
            epoch_destroyed=old,
            epoch_current=old + 1,
            rewrapped=order.rewrapped,
            remaining_under_old_epoch=remaining,
            decryption_failed=failed,
            supplement=order.supplement,
        )
        await outbox.add(session, event, by=None, at=self._now())
        order.step, order.old_wrapped_key, order.old_sealed = "done", None, None

    def _cannot_open(self, order: DestructionOrder, ring: str, old: int) -> bool:
        assert order.old_version is not None
        assert order.old_wrapped_key is not None
        assert order.old_sealed is not None
        kept = Sealed(ring, old, order.old_wrapped_key, order.old_sealed)
        try:
            self._desk.vault.open(order.record_id, order.old_version, kept, envelopes.names(order.old_sealed))
        except envelopes.CannotOpen:
            return True
        return False

    def _now(self) -> datetime:
        return self._desk.clock.now()


def _place(order: DestructionOrder) -> tuple[str, int]:
    assert order.ring is not None
    assert order.epoch_old is not None
    return order.ring, order.epoch_old


def _keep(folder: Path, name: str, content: bytes) -> str:
    """Writes the supplement, synced and read back; its name and SHA-256."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = folder / f".{name}"
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(folder / name)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    if digest != hashlib.sha256(content).hexdigest():
        raise NotGone("the key supplement was not kept as written")
    return f"{name} sha256:{digest}"
