r"""The keys that sign tokens: the current one, the next, and retired ones whose last tokens still hold.

    python -m dossier_gateway.keys list
    python -m dossier_gateway.keys rotate [--at-once | --compromised]

They stand in one file (TOKEN_KEY_FILE, mode 0600) that is replaced as a whole, and a running gateway takes the change
within seconds. The file may begin as one private key in PEM; the first `rotate` publishes a next key beside it, and
each later one signs with the next, publishes another, and keeps the public half of the former until no token of it can
hold. A key is published long enough before it signs that whoever keeps the JWKS for a while knows it by then.
"""

import argparse
import asyncio
import fcntl
import os
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict

from dossier_common import outbox, telemetry
from dossier_common.clock import Clock, SystemClock
from dossier_common.contracts.gateway import TokenKeysRotated
from dossier_common.database import Database
from dossier_common.keys import SigningKey
from dossier_common.settings import load
from dossier_gateway.settings import Settings

JWKS_MAX_AGE: Final = 300
"""Seconds for which anyone may keep the published keys."""
PUBLISHED_FIRST: Final = timedelta(seconds=2 * JWKS_MAX_AGE)
"""How long a key is published before it signs."""
RETIRED_FOR: Final = timedelta(hours=2)
"""How long a former key is published: more than the longest token, and than a replica needs to see the new file."""
LOOK_EVERY: Final = 1.0


class TooSoon(Exception):
    """The next key is not published for long enough."""


class _Next(BaseModel):
    pem: str
    published_at: AwareDatetime


class _Retired(BaseModel):
    jwk: dict[str, str]
    until: AwareDatetime


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)  # an error never repeats a private key

    current: str
    next: _Next | None = None
    retired: list[_Retired] = []


def published(key: SigningKey) -> dict[str, Any]:
    """The public JWK. Without `alg`, since one key signs as `Ed25519` and as `EdDSA`, and libraries compare."""
    return {name: value for name, value in key.public_jwk().items() if name != "alg"}


@dataclass(frozen=True, slots=True)
class Retired:
    """The public half of a former key, and until when tokens of it may hold."""

    jwk: dict[str, Any]
    until: datetime


@dataclass(frozen=True, slots=True)
class Ring:
    """All keys at one moment."""

    current: SigningKey
    next: SigningKey | None = None
    published_at: datetime | None = None
    retired: tuple[Retired, ...] = ()

    @classmethod
    def decode(cls, content: bytes, name: str) -> "Ring":
        """A ring, or one key in PEM. Raises ValueError, which names the file and repeats nothing of it."""
        if content.lstrip().startswith(b"-----BEGIN"):
            return cls(SigningKey.parse(content, name))
        try:
            file = _File.model_validate_json(content)
        except ValueError as error:
            raise ValueError(f"{name}: neither a key in PEM nor a ring of keys") from error
        return cls(
            SigningKey.parse(file.current.encode(), name),
            SigningKey.parse(file.next.pem.encode(), name) if file.next else None,
            file.next.published_at if file.next else None,
            tuple(Retired(dict(each.jwk), each.until) for each in file.retired),
        )

    def encode(self) -> bytes:
        """Content of the file."""
        following = None
        if self.next is not None and self.published_at is not None:
            following = _Next(pem=self.next.pem().decode(), published_at=self.published_at)
        retired = [_Retired(jwk=each.jwk, until=each.until) for each in self.retired]
        file = _File(current=self.current.pem().decode(), next=following, retired=retired)
        return file.model_dump_json(indent=2).encode()

    def others(self, now: datetime) -> list[dict[str, Any]]:
        """Public JWKs of all keys but the current one whose tokens are taken."""
        held = [each.jwk for each in self.retired if each.until > now]
        return [published(self.next), *held] if self.next else held

    def rotated(self, now: datetime, *, at_once: bool = False) -> "Ring":
        """Signs with the next key. Where there is none yet, it is published only, unless it has to be at once.

        Raises TooSoon.
        """
        ring = self if self.next else Ring(self.current, SigningKey.generate(), now, self.retired)
        assert ring.next is not None
        assert ring.published_at is not None
        usable = ring.published_at + PUBLISHED_FIRST
        if usable > now and not at_once:
            if ring is not self:
                return ring
            raise TooSoon(f"The next key may be used from {_moment(usable)} on; with --at-once it is used now.")
        held = tuple(each for each in self.retired if each.until > now)
        former = Retired(published(self.current), now + RETIRED_FOR)
        return Ring(ring.next, SigningKey.generate(), now, (former, *held))

    @classmethod
    def made_anew(cls, now: datetime) -> "Ring":
        """Nothing of what was: whoever had the file has nothing of worth, and every token ends."""
        return cls(SigningKey.generate(), SigningKey.generate(), now)


def read(path: Path) -> Ring:
    """The ring of this file. Raises OSError, ValueError."""
    return Ring.decode(path.read_bytes(), path.name)


def _stamp(path: Path) -> tuple[int, int, int]:
    """What changes when the file does."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size


@asynccontextmanager
async def followed(path: Path, apply: Callable[[Ring, datetime], None], clock: Clock) -> AsyncIterator[None]:
    """As long as the context lasts, what the file says is applied within seconds."""
    watching = asyncio.create_task(watch(path, apply, clock))
    try:
        yield
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


async def watch(path: Path, apply: Callable[[Ring, datetime], None], clock: Clock) -> None:
    """Applies what the file says whenever it says something else, and when a retired key is over; never ends.

    A file that cannot be read leaves the keys as they are, and is a line in the log.
    """
    ring: Ring | None = None
    seen: tuple[int, int, int] | None = None
    applied: list[str] = []
    trouble: str | None = None
    while True:
        try:
            stamp = _stamp(path)
            if stamp != seen:
                seen, ring, trouble = stamp, read(path), None
        except (OSError, ValueError) as error:
            if trouble != type(error).__name__:  # once, not every second
                trouble = type(error).__name__
                telemetry.log().error("token-keys-unreadable", file=path.name, error=trouble)
        if ring is not None:
            now = clock.now()
            kids = [ring.current.kid, *(str(jwk["kid"]) for jwk in ring.others(now))]
            if kids != applied:
                apply(ring, now)
                applied = kids
        await asyncio.sleep(LOOK_EVERY)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Holds the folder of the file, so that of two rotations one is second."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _draft(path: Path, content: bytes) -> Iterator[Path]:
    """A durable file beside this one, of mode 0600 and the same owner; gone if it does not take its place."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            owner = path.stat()
            if (owner.st_uid, owner.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield draft
    finally:
        draft.unlink(missing_ok=True)


async def rotate(
    path: Path, database: Database, clock: Clock, *, at_once: bool = False, compromised: bool = False
) -> Ring:
    """Puts the next ring in the place of the present one; the event of it is durable before.

    Raises TooSoon, OSError, ValueError, and what the database raises: then the file is as it was.
    """
    with _alone(path):
        now = clock.now()
        before = read(path)
        after = Ring.made_anew(now) if compromised else before.rotated(now, at_once=at_once)
        assert after.next is not None
        event = TokenKeysRotated(
            key_from=before.current.kid,
            key_to=after.current.kid,
            key_next=after.next.kid,
            retired=tuple(str(each.jwk["kid"]) for each in after.retired),
            compromised=compromised,
        )
        with _draft(path, after.encode()) as draft:
            async with database.transaction() as session:
                await outbox.add(session, event, by=None, at=now)
            draft.replace(path)
    return after


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def lines(ring: Ring, now: datetime) -> list[str]:
    """What `list` prints: place, kid, and the time that counts; nothing private."""
    told = [f"current  {ring.current.kid}"]
    if ring.next is not None and ring.published_at is not None:
        told.append(f"next     {ring.next.kid}  usable from {_moment(ring.published_at + PUBLISHED_FIRST)}")
    held = [each for each in ring.retired if each.until > now]
    return told + [f"retired  {each.jwk['kid']}  taken until {_moment(each.until)}" for each in held]


def _arguments(given: Sequence[str] | None, prog: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=prog, description="Keys that sign tokens.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the keys and their times, nothing private")
    rotating = commands.add_parser("rotate", help="sign with the next key, and publish another")
    how = rotating.add_mutually_exclusive_group()
    how.add_argument("--at-once", action="store_true", help="do not wait until everybody can know the next key")
    how.add_argument(
        "--compromised", action="store_true", help="the file was seen by others: new keys now, and every token ends"
    )
    return parser.parse_args(given)


async def _rotate(given: argparse.Namespace, settings: Settings, path: Path) -> Ring:
    database = Database(settings)
    try:
        return await rotate(path, database, SystemClock(), at_once=given.at_once, compromised=given.compromised)
    finally:
        await database.close()


def main(arguments: Sequence[str] | None = None, prog: str = "python -m dossier_gateway.keys") -> int:
    """Exit status 1, with one line, when nothing was changed: too soon, or the file cannot be read or replaced.

    Without arguments, those of the process.
    """
    given = _arguments(arguments, prog)
    settings = load(Settings)
    path = settings.token_key_file.resolve()
    try:
        ring = asyncio.run(_rotate(given, settings, path)) if given.command == "rotate" else read(path)
    except (TooSoon, OSError, ValueError) as error:
        print(error, file=sys.stderr)  # noqa: T201  # a command
        return 1
    print(*lines(ring, SystemClock().now()), sep="\n")  # noqa: T201  # a command
    return 0


if __name__ == "__main__":
    sys.exit(main())
