"""Jobs that carry checkpoints outside: into the folder of copies, and to the witnesses.

A checkpoint is shown only after its copy is durable, so that whoever was shown one finds it again after any restore.
Witnesses are asked afterwards; losing one never stops the log, and is an event.
"""

import asyncio
from typing import Final

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from dossier_audit import metrics
from dossier_audit.log import proofs
from dossier_audit.models import Cosignature, LogCheckpoint, Publication
from dossier_audit.outside import Outside
from dossier_audit.repository import logs
from dossier_audit.repository.logs import Published
from dossier_audit.waking import woken_by
from dossier_audit.witness import WitnessAway, WitnessClient, WitnessDisputes, WitnessRemembers
from dossier_common import outbox, telemetry
from dossier_common.clock import Clock
from dossier_common.contracts.audit import WitnessDisputed, WitnessLost, WitnessReturned
from dossier_common.database import Database
from dossier_common.events import Event

REPEAT_SECONDS: Final = 5.0
BETWEEN_SECONDS: Final = 0.2
"""Between two questions to one witness."""
LONGEST_WAIT: Final = 60.0
LOST_AFTER: Final = 3
"""Failures in a row after which a witness is lost."""


async def publish(database: Database, clock: Clock, outside: Outside) -> None:
    """Copies the newest checkpoint outside, and then shows it; each time that there is a newer one. Never returns.

    A copy that this database cannot explain is left where it is: it shows that the database was set back.
    """
    shown: tuple[int, int] = (0, 0)
    async with woken_by(database, "checkpoints") as waking:
        while True:
            async with database.session() as session:
                newest = await _next(session, outside, shown)
            if newest is not None:
                await asyncio.to_thread(outside.keep, newest.generation, newest.note)
                row = {"generation": newest.generation, "size": newest.size, "at": clock.now()}
                async with database.transaction() as session:
                    await session.execute(insert(Publication).values(row).on_conflict_do_nothing())
                    await logs.announce(session, "publications")
                shown = newest.generation, newest.size
            await waking.wait(REPEAT_SECONDS)


async def _next(session: AsyncSession, outside: Outside, shown: tuple[int, int]) -> LogCheckpoint | None:
    """The newest checkpoint, when it is newer than what was shown and may take the place of the copy that is there."""
    newest = await logs.newest_signed(session)
    if newest is None or (newest.generation, newest.size) <= shown:
        return None
    if newest.generation != shown[0]:
        copy = await asyncio.to_thread(outside.copy, newest.generation)
        if copy is not None and await logs.root_at(session, newest.generation, copy.size) != copy.root:
            telemetry.log().error("copy-not-explained", generation=newest.generation, size=copy.size)
            return None
    return newest


class Witnessed:
    """The job that asks one witness for its cosignature of each published checkpoint that it can keep up with."""

    def __init__(self, database: Database, clock: Clock, witness: WitnessClient, outside: Outside) -> None:
        self._database, self._clock, self._witness, self._outside = database, clock, witness, outside
        self._old: dict[int, int] = {}
        """What the witness remembers, by generation."""
        self._failures = 0

    async def run(self) -> None:
        """Never returns; a witness that is away is asked again, ever more seldom."""
        async with woken_by(self._database, "publications") as waking:
            while True:
                wait = await self.once()
                await asyncio.sleep(BETWEEN_SECONDS)
                if wait:
                    await waking.wait(wait)

    async def once(self) -> float:
        """Asks once; how many seconds to wait for something new before asking again."""
        try:
            again = await self._ask()
        except WitnessAway as error:
            await self._away(str(error))
            return min(2.0**self._failures, LONGEST_WAIT)
        await self._answered()
        return 0.0 if again else REPEAT_SECONDS

    async def _ask(self) -> bool:
        """Whether to ask again at once, since the witness remembers another size than was thought."""
        async with self._database.session() as session:
            newest = await logs.newest_of_all(session)
            if newest is None:
                return False
            known = await logs.cosigned_size(session, newest.generation, self._witness.name)
            old = max(known, self._old.get(newest.generation, 0))
            if known == newest.size:
                return False
            try:
                proof = await _consistency(session, newest, old)
            except (KeyError, ValueError) as error:
                raise WitnessAway("the rows that would prove the log to it are gone") from error
        try:
            line = await self._witness.add_checkpoint(old, proof, newest.note)
        except WitnessRemembers as error:
            await self._remembered(newest, old, error.size)
            return True
        except WitnessDisputes:
            await self._disputed(newest)
            return False
        self._old[newest.generation] = newest.size
        row = {
            "generation": newest.generation,
            "size": newest.size,
            "witness": self._witness.name,
            "line": line,
            "at": self._clock.now(),
        }
        async with self._database.transaction() as session:
            await session.execute(insert(Cosignature).values(row).on_conflict_do_nothing())
        return False

    async def _remembered(self, newest: Published, old: int, size: int) -> None:
        """Goes on from what the witness says; when that is more than there is, only a signed checkpoint is believed."""
        if size <= newest.size and size != old:
            self._old[newest.generation] = size
        elif size > newest.size:
            await self._disputed(newest)
        else:
            raise WitnessAway("it contradicts itself")

    async def _disputed(self, newest: Published) -> None:
        async with self._database.session() as session:
            origin = await logs.origin(session, newest.generation)
        note = await self._witness.last(origin)
        if note is None or not self._outside.learn(newest.generation, note):
            telemetry.log().error("witness-disputes", witness=self._witness.name, size=newest.size)
            if self._failures == 0:
                await self._emit(WitnessDisputed(witness=self._witness.name, size=newest.size))
            raise WitnessAway("it disputes the log, and shows no checkpoint that the log signed")
        raise WitnessAway("it has a checkpoint that this database cannot explain")

    async def _answered(self) -> None:
        if self._failures >= LOST_AFTER:
            await self._emit(WitnessReturned(witness=self._witness.name))
        self._failures = 0

    async def _away(self, detail: str) -> None:
        self._failures += 1
        metrics.WITNESS_FAILURES.add(1, {"witness": self._witness.name})
        if self._failures == LOST_AFTER:
            telemetry.log().error("witness-lost", witness=self._witness.name, detail=detail)
            await self._emit(WitnessLost(witness=self._witness.name))

    async def _emit(self, event: Event) -> None:
        async with self._database.transaction() as session:
            await outbox.add(session, event, by=None, at=self._clock.now())


async def _consistency(session: AsyncSession, newest: Published, old: int) -> list[bytes]:
    ranges = proofs.consistency(min(old, newest.size), newest.size)
    return proofs.evaluated(ranges, await logs.tiles(session, newest.generation, proofs.tiles_of(ranges, newest.size)))
