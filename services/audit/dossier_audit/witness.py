"""A witness as the log sees it: C2SP tlog-witness over HTTP."""

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from typing import Final

import httpx

from dossier_audit.log import notes
from dossier_audit.log.notes import NoteInvalid, NoteKey
from dossier_audit.settings import WitnessSettings

LONGEST_ANSWER: Final = 64 * 1024


class WitnessAway(Exception):
    """A witness does not answer, or not as a witness does."""


class WitnessRemembers(Exception):
    """The witness has cosigned another size than the proof starts from."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


class WitnessDisputes(Exception):
    """The witness has cosigned a tree that this one does not continue."""


class WitnessClient:
    """One witness. What it answers is believed as far as its key signed it."""

    def __init__(self, settings: WitnessSettings, http: httpx.AsyncClient) -> None:
        self.key = NoteKey.read(settings.vkey)
        self._url, self._http = settings.url.rstrip("/"), http

    @property
    def name(self) -> str:
        """The name of its key."""
        return self.key.name

    async def add_checkpoint(self, old: int, proof: Sequence[bytes], note: str) -> str:
        """Its signature line for this checkpoint. Raises WitnessAway, WitnessRemembers, WitnessDisputes."""
        lines = [f"old {old}", *(b64encode(each).decode() for each in proof), "", note]
        answer = await self._ask("POST", "/add-checkpoint", "\n".join(lines))
        if answer.status_code == 409:
            text = answer.text.strip()
            if not text.isdecimal() or len(text) > 19:
                raise WitnessAway("409 without a size")
            raise WitnessRemembers(int(text))
        if answer.status_code == 422:
            raise WitnessDisputes(self.name)
        if answer.status_code != 200:
            raise WitnessAway(f"it answers {answer.status_code}")
        text, _ = notes.split(note)
        try:
            return next(line for line in answer.text.splitlines() if notes.signed_by(self.key, text, line))
        except (NoteInvalid, StopIteration) as error:
            raise WitnessAway("it answers without a signature of its key") from error

    async def last(self, origin: str) -> str | None:
        """The last checkpoint that it cosigned, as a note; None when it knows none. Raises WitnessAway.

        Its monitoring prefix is taken to be `/logs`, as our witness has it: one that answers 404 there is of no help
        after a restore.
        """
        answer = await self._ask("GET", f"/logs/{hashlib.sha256(origin.encode()).hexdigest()}/checkpoint")
        if answer.status_code == 404:
            return None
        if answer.status_code != 200:
            raise WitnessAway(f"it answers {answer.status_code}")
        return answer.text

    async def _ask(self, method: str, path: str, body: str | None = None) -> httpx.Response:
        try:
            answer = await self._http.request(
                method,
                self._url + path,
                content=body.encode() if body is not None else None,
                headers={"Content-Type": "text/plain; charset=utf-8"} if body is not None else None,
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise WitnessAway(type(error).__name__) from error
        if len(answer.content) > LONGEST_ANSWER:
            raise WitnessAway("its answer is too long")
        return answer
