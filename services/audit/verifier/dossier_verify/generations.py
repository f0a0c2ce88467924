"""Generations: a log that was opened in place of one whose database was restored, and how it proves that it says so."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dossier_verify.bodies import fits
from dossier_verify.chains import members


@dataclass(frozen=True, slots=True)
class Predecessor:
    """The checkpoint of the log before that a log's first leaf names."""

    origin: str
    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class Generation:
    """One log of the listing. Nothing of it is trusted but what its first leaf commits to."""

    number: int
    origin: str
    predecessor_size: int | None
    leaf: str
    salt: str
    body: str

    @classmethod
    def parse(cls, said: Mapping[str, Any]) -> "Generation":
        """Raises ValueError."""
        opened, before = said.get("opened"), said.get("predecessor")
        match opened:
            case {"leaf": str(leaf), "salt": str(salt), "body": str(body)}:
                size = before.get("size") if isinstance(before, dict) else None
                usable = size if type(size) is int and size >= 0 else None
                return cls(said["generation"], said["origin"], usable, leaf, salt, body)
            case _:
                raise ValueError("a log without the event that opened it")

    def opened(self, entry: bytes) -> tuple[str, Predecessor | None]:
        """What is wrong with the event that opened this log (empty: nothing), and the log before that it names.

        The body counts, since the entry commits to it; `entry` is a canonical leaf, the log's first.
        """
        if entry.decode("ascii", "replace") != self.leaf:
            return "the listing shows another first leaf than the log has", None
        if not fits(members(entry)["commitment"], self.salt, self.body):
            return "the body of the first leaf does not fit its commitment", None
        return self._said()

    def _said(self) -> tuple[str, Predecessor | None]:
        try:
            data = json.loads(self.body).get("data")
        except (ValueError, RecursionError, AttributeError):
            data = None
        match data:
            case {"generation": int(number)} if number != self.number:
                return f"the first leaf opens generation {number}, not {self.number}", None
            case {"generation": 1}:
                return "", None
            case {"predecessor_origin": str(origin), "predecessor_size": int(size), "predecessor_root": str(root)} if (
                size >= 0 and re.fullmatch("[0-9a-f]{64}", root)
            ):
                return "", Predecessor(origin, size, bytes.fromhex(root))
            case _:
                return "the body of the first leaf does not say which log it opens after which", None
