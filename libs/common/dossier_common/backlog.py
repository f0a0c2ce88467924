"""The backlog: events that the audit service has not acknowledged yet, and what is refused while there are too many.

Over the limit the part answers no reading that is recorded, over ten times the limit it changes nothing either: what
cannot reach the log must not go on for long. Refusals go on being recorded, and workers go on working. A backlog that
cannot be looked at refuses nobody by itself: then the database is away, and nothing can be recorded anyhow.
Source: ARCHITECTURE.md, "Events".
"""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common import telemetry
from dossier_common.database import Database
from dossier_common.problems import AuditUnavailable

EVERY_SECONDS: Final = 1.0
RETRY_AFTER: Final = 10
STEP: Final = 20_000
"""Rows without a number that one look counts at most; the next goes on from there."""

_STATE = text("""
SELECT s.epoch, s.seq, s.receipt_epoch, s.receipt_seq,
  (SELECT max(h.seq) FROM outbox_heads h WHERE h.epoch = s.receipt_epoch) AS end_of_receipted,
  (SELECT o.time FROM outbox o WHERE o.seq IS NOT NULL AND (o.epoch, o.seq) > (s.receipt_epoch, s.receipt_seq)
   ORDER BY o.epoch, o.seq LIMIT 1) AS oldest_numbered
FROM outbox_state s
""")
_FIRST_UNNUMBERED = text("SELECT id, time FROM outbox WHERE seq IS NULL ORDER BY id LIMIT 1")
_COUNT = text("""
SELECT count(*) AS rows, max(id::text) AS last
FROM (SELECT id FROM outbox WHERE seq IS NULL AND id > :after ORDER BY id LIMIT :step) AS few
""")
_START = UUID(int=0)


class Backlog:
    """What is known of one part's backlog: looked at every second by `run`, judged in memory by `ensure`."""

    def __init__(self, database: Database, now: Callable[[], datetime], *, seconds: int, rows: int) -> None:
        self._database, self._now = database, now
        self._most_seconds, self._most_rows = seconds, rows
        self._oldest: datetime | None = None
        self._first, self._counted_to, self._unnumbered = _START, _START, 0
        self._known = True
        self.rows = 0
        """Rows without a receipt, as far as they were counted."""

    def seconds(self) -> float:
        """Age of the oldest row without a receipt."""
        return 0.0 if self._oldest is None else max(0.0, (self._now() - self._oldest).total_seconds())

    def ensure(self, times: int) -> None:
        """Raises AuditUnavailable when the backlog is over so many times its limits, and says which it is."""
        said = "Too much waits for its audit record."
        if self.seconds() > times * self._most_seconds:
            most = times * self._most_seconds
            raise AuditUnavailable(said, retry_after=RETRY_AFTER, limit="backlog-seconds", most=most)
        if self.rows > times * self._most_rows:
            raise AuditUnavailable(said, retry_after=RETRY_AFTER, limit="backlog-rows", most=times * self._most_rows)

    async def run(self) -> None:
        """Looks every second until it is cancelled. While the database is away the last look holds, and ages."""
        while True:
            try:
                await self.look()
                self._known = True
            except Exception as error:  # noqa: BLE001  # whatever it meets, the next look comes
                if self._known:
                    telemetry.log().warning("backlog-unknown", error=type(error).__name__)
                self._known = False
            await asyncio.sleep(EVERY_SECONDS)

    async def look(self) -> None:
        """Asks the database: a few index lookups, and what was added without a number since the last look."""
        async with self._database.session() as session:
            state = (await session.execute(_STATE)).one()
            first = (await session.execute(_FIRST_UNNUMBERED)).one_or_none()
            await self._count_unnumbered(session, first.id if first else None)
        numbered = state.seq
        if state.epoch == state.receipt_epoch:
            numbered -= state.receipt_seq
        elif state.end_of_receipted is not None:
            numbered += max(0, state.end_of_receipted - state.receipt_seq)
        waiting = [time for time in (state.oldest_numbered, first.time if first else None) if time is not None]
        self.rows, self._oldest = max(0, numbered) + self._unnumbered, min(waiting, default=None)

    async def _count_unnumbered(self, session: AsyncSession, first: UUID | None) -> None:
        """Counts on while nothing is numbered, and begins anew when the first row has got its number."""
        if first is None or first != self._first:
            self._first, self._counted_to, self._unnumbered = first or _START, _START, 0
        if first is not None:
            found = (await session.execute(_COUNT, {"after": self._counted_to, "step": STEP})).one()
            self._unnumbered += found.rows
            self._counted_to = UUID(found.last) if found.last else self._counted_to
