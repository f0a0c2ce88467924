"""Passwords of people: Argon2id off the event loop, the policy's rules (A6.3.2, C2.3.3), and what is guessed first."""

import asyncio
import unicodedata
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from importlib import resources
from string import digits, punctuation, whitespace

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from dossier_common.policy import PasswordRules

LONGEST = 256


class Hasher:
    """Argon2id with 64 MiB and three passes (RFC 9106, second choice), a few at a time."""

    def __init__(self, at_once: int) -> None:
        self._argon = PasswordHasher(time_cost=3, memory_cost=65536, parallelism=1)
        self._slots = asyncio.Semaphore(at_once)
        self._nobody = ""

    async def hash(self, password: str) -> str:
        """The encoded hash, with its own salt."""
        async with self._slots:
            return await asyncio.to_thread(self._argon.hash, _bytes(password))

    async def matches(self, encoded: str | None, password: str) -> bool:
        """Whether it is this password. Without a hash it takes as long, so that nobody learns which names exist."""
        if encoded is None:
            self._nobody = self._nobody or await self.hash("nobody has this password")
            await self._verify(self._nobody, password)
            return False
        return await self._verify(encoded, password)

    async def _verify(self, encoded: str, password: str) -> bool:
        def verify() -> bool:
            try:
                return self._argon.verify(encoded, _bytes(password))
            except (VerificationError, InvalidHashError):
                return False

        async with self._slots:
            return await asyncio.to_thread(verify)

    async def any_matches(self, former: Sequence[str], password: str) -> bool:
        """Whether it is one of these."""
        for encoded in former:
            if await self._verify(encoded, password):
                return True
        return False


def _bytes(password: str) -> bytes:
    return unicodedata.normalize("NFC", password).encode()


def faults(rules: PasswordRules, password: str, username: str) -> list[tuple[str, str]]:
    """What the policy has against a new password, as codes and sentences."""
    found = []
    if len(password) < rules.min_length:
        found.append(("too_short", f"A password has at least {rules.min_length} characters."))
    if len(password) > LONGEST:
        found.append(("too_long", f"A password has at most {LONGEST} characters."))
    if rules.letters_and_digits and not (any(map(str.isalpha, password)) and any(map(str.isdigit, password))):
        found.append(("letters_and_digits", "A password has letters and digits."))
    if username.casefold() in password.casefold():
        found.append(("holds_username", "A password does not hold the account's name."))
    if is_common(password):
        found.append(("common", "A password is none of those that are guessed first, with or without digits around."))
    return found


def is_common(password: str) -> bool:
    """Whether it is one of the commonest, or one of them with digits and signs before or after it."""
    lowered = unicodedata.normalize("NFKC", password).casefold().strip()
    return not {lowered, lowered.strip(_AROUND)}.isdisjoint(_common())


_AROUND = digits + punctuation + whitespace


@cache
def _common() -> frozenset[str]:
    lines = resources.files("dossier_gateway").joinpath("common_passwords.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(line for line in lines if not line.startswith("# "))


def outdated(rules: PasswordRules, changed_at: datetime, now: datetime) -> bool:
    """Whether the password is older than the policy allows, and has to be changed at the next sign-in."""
    return rules.max_age is not None and rules.max_age.after(changed_at) <= now
