"""What ends a command, each with its exit code.

Ended
├── BadInput    2  what the auditor gave cannot be used: a vkey, a file, an option
├── Unreadable  3  the log could not be read, so nothing is known about it
└── Wrong       1  what the log gave is no checkpoint, or one that the named keys did not sign
Missing is no end: what should be served is not there, and the caller says what that means.
"""

from enum import IntEnum
from typing import ClassVar


class Exit(IntEnum):
    """The exit codes of every command."""

    VERIFIED = 0
    WRONG = 1
    BAD_INPUT = 2
    UNREADABLE = 3
    REPLACED = 4


class Ended(Exception):
    """The command stops here; the message is the whole explanation."""

    code: ClassVar[Exit]


class BadInput(Ended):
    """What the auditor gave cannot be used."""

    code = Exit.BAD_INPUT


class Unreadable(Ended):
    """The log could not be read: nothing is known."""

    code = Exit.UNREADABLE


class Wrong(Ended):
    """The log itself is wrong in a way that leaves nothing to check further; `kind` is the finding's."""

    code = Exit.WRONG

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Missing(Exception):
    """Nothing is served at this path (404, or no such file)."""
