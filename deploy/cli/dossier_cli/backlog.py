"""What of a part's events waits: for a number, for publication, for the audit service's receipt."""

import importlib
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import text

from dossier_common.backlog import Backlog
from dossier_common.clock import SystemClock
from dossier_common.database import READINGS, WRITES, Database
from dossier_common.settings import PartSettings, load

_STATE = text("""
SELECT s.epoch, s.seq, s.seq - s.published_seq AS unpublished,
  (SELECT count(*) FROM outbox WHERE seq IS NULL) AS unnumbered
FROM outbox_state s
""")


@dataclass(frozen=True)
class Waiting:
    """One look. Ages are in seconds; `without_receipt` counts those without a number too."""

    part: str
    epoch: int
    seq: int
    unnumbered: int
    unpublished: int
    without_receipt: int
    oldest_seconds: float
    limit_rows: int
    limit_seconds: int

    @property
    def over(self) -> int:
        """0 within the limits; 1 when recorded readings are refused, 10 when changes are too."""
        reached = [
            times
            for times in (READINGS, WRITES)
            if self.oldest_seconds > times * self.limit_seconds or self.without_receipt > times * self.limit_rows
        ]
        return max(reached, default=0)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"over_limit": self.over}

    def lines(self) -> list[str]:
        """For people."""
        refused = {0: "nothing", READINGS: "recorded readings", WRITES: "recorded readings and changes"}[self.over]
        return [
            f"last number        {self.seq} (epoch {self.epoch})",
            f"without number     {self.unnumbered}",
            f"not published      {self.unpublished}",
            f"without receipt    {self.without_receipt} (limit {self.limit_rows})",
            f"age of the oldest  {self.oldest_seconds:.0f} s (limit {self.limit_seconds} s)",
            f"refused for it     {refused}",
        ]


async def look(part: str) -> Waiting:
    """Asks the part's database, by the part's settings. Ends the process with one line where those are not valid."""
    settings: PartSettings = load(importlib.import_module(f"dossier_{part}.settings").Settings)
    database = Database(settings)
    try:
        known = Backlog(database, SystemClock().now, seconds=settings.backlog_seconds, rows=settings.backlog_rows)
        counted = -1
        while counted < known.rows:  # a look counts so many rows at most
            counted = known.rows
            await known.look()
        async with database.session() as session:
            state = (await session.execute(_STATE)).one()
    finally:
        await database.close()
    return Waiting(
        part=part,
        epoch=state.epoch,
        seq=state.seq,
        unnumbered=state.unnumbered,
        unpublished=state.unpublished,
        without_receipt=known.rows,
        oldest_seconds=known.seconds(),
        limit_rows=settings.backlog_rows,
        limit_seconds=settings.backlog_seconds,
    )
