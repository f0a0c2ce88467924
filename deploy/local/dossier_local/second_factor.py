"""The authenticator and the browser of a demo account, in a file of mode 0600: for accounts with a second factor.

A one-time code is taken once, so that a process which signs in after another in the same half minute needs the
session that the other opened: its cookies are kept, and used as long as they hold.
"""

import asyncio
import fcntl
import json
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pyotp

from dossier_local.state import LauncherError, write_private

STEP_SECONDS: Final = 30
EARLY: Final = 1
"""Steps that the gateway lets a device be ahead."""
PATIENCE: Final = 90.0
LOOK_EVERY: Final = 0.05


@dataclass(frozen=True, slots=True)
class Kept:
    """What outlives a process."""

    secret: str | None = None
    step: int = -1
    cookies: Mapping[str, str] = field(default_factory=dict)


class Device:
    """The authenticator of one account. Whoever signs in holds it, so that no two use the same code."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def kept(self) -> Kept:
        """What was kept last."""
        try:
            content: dict[str, Any] = json.loads(self._path.read_text())
        except FileNotFoundError:
            return Kept()
        return Kept(**content)

    def enrol(self, secret: str) -> None:
        """Takes a secret; kept before the gateway has it, so that an interrupted start loses none."""
        self._keep(replace(self.kept, secret=secret, step=-1))

    def remember(self, cookies: Mapping[str, str]) -> None:
        """Keeps the browser's cookies, for an account that has a secret."""
        kept = self.kept
        if kept.secret is not None and kept.cookies != cookies:
            self._keep(replace(kept, cookies=dict(cookies)))

    async def code(self) -> str:
        """A code that was not used yet; waits for the next half minute where all that hold now were.

        Raises LauncherError when the account has a second factor that was not enrolled here.
        """
        kept = self.kept
        if kept.secret is None:
            raise LauncherError(f"{self._path} does not have the secret of the account's second factor.")
        step = max(kept.step + 1, int(time.time()) // STEP_SECONDS)
        await asyncio.sleep(max(0.0, (step - EARLY) * STEP_SECONDS - time.time()))
        self._keep(replace(kept, step=step))
        return pyotp.TOTP(kept.secret).generate_otp(step)

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Holds the device, among all processes, for as long as one sign-in takes. Raises LauncherError."""
        descriptor = os.open(self._path.with_suffix(".lock"), os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            until = time.monotonic() + PATIENCE
            while not _locked(descriptor):
                if time.monotonic() > until:
                    raise LauncherError(f"Another process signs in with {self._path}, and does not end.")
                await asyncio.sleep(LOOK_EVERY)
            yield
        finally:
            os.close(descriptor)

    def _keep(self, kept: Kept) -> None:
        content = {"secret": kept.secret, "step": kept.step, "cookies": dict(kept.cookies)}
        write_private(self._path, json.dumps(content).encode())


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
