"""Refusals at the edge: those of known callers one by one before they are answered, anonymous ones by the minute."""

import asyncio
from collections import Counter
from contextlib import suppress
from datetime import datetime
from uuid import UUID

from dossier_common import outbox, telemetry
from dossier_common.clock import Clock
from dossier_common.contracts.gateway import AccessRefused, RefusalsCounted
from dossier_common.database import Database, unreachable
from dossier_common.identity import Subject
from dossier_common.problems import AuditUnavailable
from dossier_gateway.proxy.routes import Match, Route

FLUSH_EVERY = 5.0


class Refusals:
    """Keeps the record of what was refused (invariant 1)."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock
        self._counts: dict[str, Counter[int]] = {}

    def count(self, status: int) -> None:
        """One more 401 or 429 of somebody unknown."""
        self._counts.setdefault(_minute(self._clock.now()), Counter())[status] += 1

    async def record(self, subject: Subject, route: Route, match: Match, slug: str, scope: str | None) -> None:
        """One event, durable when this returns. Raises AuditUnavailable."""
        identifiers: dict[str, UUID] = {}
        for name, value in match.values.items():
            with suppress(ValueError):
                identifiers["record" if name == "record_id" else "object"] = UUID(value)
        event = AccessRefused(operation=route.operation, slug=slug, scope=scope, **identifiers)
        try:
            async with self._database.transaction() as session:
                await outbox.add(session, event, by=subject, at=self._clock.now())
        except Exception as error:
            if not unreachable(error):
                raise
            raise AuditUnavailable("The refusal could not be recorded.") from error

    async def run(self) -> None:
        """Writes the counts of each minute that is over, until it is cancelled."""
        while True:
            await asyncio.sleep(FLUSH_EVERY)
            try:
                await self.flush(before=_minute(self._clock.now()))
            except Exception as error:  # noqa: BLE001  # the counts stay, and are written when the database is back
                telemetry.log().warning("refusals-not-counted", error=type(error).__name__)

    async def flush(self, *, before: str | None = None) -> None:
        """Writes the counts of all minutes, or of those before one."""
        for minute in sorted(each for each in self._counts if before is None or each < before):
            counts = self._counts[minute]
            event = RefusalsCounted(minute=minute, unauthenticated=counts[401], rate_limited=counts[429])
            async with self._database.transaction() as session:
                await outbox.add(session, event, by=None, at=self._clock.now())
            del self._counts[minute]


def _minute(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%MZ")
