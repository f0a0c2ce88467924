"""What lies outside the database: copies of checkpoints, by which a database that was restored is found out.

A folder takes the newest checkpoint of each log; witnesses remember the last one that they cosigned. Whatever of these
is signed by the log's own key and is no checkpoint of this database shows that the database was set back.
"""

import asyncio
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from dossier_audit import rules
from dossier_audit.log import notes
from dossier_audit.log.notes import Checkpoint, NoteInvalid
from dossier_audit.witness import WitnessAway, WitnessClient
from dossier_common import telemetry
from dossier_common.keys import SigningKey

Known = tuple[int, Checkpoint]
"""A checkpoint outside, with the generation of its log."""
_COPY: Final = "log-{}.checkpoint"
_NAME: Final = re.compile(r"^log-([1-9][0-9]{0,8})\.checkpoint$")


class Outside:
    """Checkpoints that are known to be outside, and which of them the database has yet to explain."""

    def __init__(self, folder: Path | None, witnesses: Sequence[WitnessClient], key: SigningKey, address: str) -> None:
        self._folder, self._witnesses, self._key, self._address = folder, witnesses, key, address
        self._newest: Checkpoint | None = None
        self._unexplained: set[Known] = set()
        self.generation = 0

    @property
    def explained(self) -> bool:
        """Whether all that is known to be outside was found in the database."""
        return not self._unexplained

    def unexplained(self) -> list[Known]:
        """What has yet to be found in the database, the newest first; a larger one does not stand for a smaller."""
        return sorted(self._unexplained, key=lambda each: (each[0], each[1].size), reverse=True)

    def explain(self, known: Known) -> None:
        """Says that the database has this one."""
        self._unexplained.discard(known)

    def newest(self) -> Checkpoint | None:
        """The largest checkpoint outside of the newest log, or None."""
        return self._newest

    async def gather(self, generation: int) -> None:
        """Reads the folder, and asks the witnesses for this log and any later one; one that is away is passed over.

        What was explained before has to be again: the database may have been set back meanwhile.
        """
        if self._newest is not None:
            self._unexplained.add((self.generation, self._newest))
        for copied, text in await asyncio.to_thread(self._copies):
            self.learn(copied, text)
        for witness in self._witnesses:
            number = generation
            try:
                while note := await witness.last(rules.origin(self._address, number)):
                    self.learn(number, note)
                    number += 1
            except WitnessAway as error:
                telemetry.log().warning("witness-not-asked", witness=witness.name, detail=str(error))

    def learn(self, generation: int, note: str) -> bool:
        """Takes in a checkpoint from outside, if the log's key signed it; whether that was so."""
        origin = rules.origin(self._address, generation)
        try:
            found = Checkpoint.opened(note, notes.key_of(origin, self._key))
        except NoteInvalid as error:
            telemetry.log().error("foreign-checkpoint", generation=generation, detail=str(error))
            return False
        self._unexplained.add((generation, found))
        size = self._newest.size if self._newest else -1
        if (generation, found.size) > (self.generation, size):
            self.generation, self._newest = generation, found
        return True

    def copy(self, generation: int) -> Checkpoint | None:
        """The copy in the folder of this log's checkpoint, where there is one that the log's key signed."""
        path = self._folder / _COPY.format(generation) if self._folder else None
        if path is None or not path.exists():
            return None
        origin = rules.origin(self._address, generation)
        try:
            return Checkpoint.opened(path.read_text(encoding="utf-8"), notes.key_of(origin, self._key))
        except NoteInvalid:  # said when it was gathered
            return None

    def keep(self, generation: int, note: str) -> None:
        """Copies a checkpoint of this database into the folder, durably, in place of the one before. Raises OSError."""
        if self._folder is None:
            return
        path = self._folder / _COPY.format(generation)
        fresh = path.with_suffix(".new")
        with fresh.open("w", encoding="utf-8") as file:
            file.write(note)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _copies(self) -> list[tuple[int, str]]:
        if self._folder is None:
            return []
        named = ((_NAME.match(path.name), path) for path in self._folder.iterdir())
        return sorted((int(match[1]), path.read_text(encoding="utf-8")) for match, path in named if match)
