"""What the auditor gives: keys, files and addresses. Everything here raises BadInput for what cannot be used."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from dossier_verify.errors import BadInput
from dossier_verify.note import COSIGNATURE, ED25519, LARGEST_NOTE, Checkpoint, Malformed, VerifierKey
from dossier_verify.source import Folder, Source
from dossier_verify.trust import Trust
from dossier_verify.web import Token, opened

_LARGEST_FILE: Final = 1 << 24


def trust(vkeys: Sequence[str], witnesses: Sequence[str], quorum: int | None) -> Trust:
    """From vkeys or files of them; without a quorum every named witness must have cosigned."""
    keys = [key for text in vkeys for key in _keys(text, ED25519, "log")]
    cosigners = [key for text in witnesses for key in _keys(text, COSIGNATURE, "witness")]
    if len({key.public for key in cosigners}) < len(cosigners):
        raise BadInput("the same witness is named twice, and would count twice")
    if len({key.name for key in cosigners}) < len(cosigners):
        raise BadInput("two witnesses bear one name")
    if quorum is not None and not 0 <= quorum <= len(cosigners):
        raise BadInput(f"a quorum of {quorum} cannot be reached by {len(cosigners)} named witnesses")
    return Trust(keys, cosigners, len(cosigners) if quorum is None else quorum)


def _keys(text: str, kind: int, whose: str) -> list[VerifierKey]:
    try:
        keys = [VerifierKey.parse(text.strip())]
    except Malformed as error:
        if "\n" in text or "\0" in text or len(text) > 1024 or not Path(text).is_file():
            raise BadInput(
                f"--{'vkey' if kind == ED25519 else 'witness'} {text[:80]!r}: {error}; nor is it a file"
            ) from error
        keys = _keys_of_file(Path(text))
    for key in keys:
        if key.kind != kind:
            raise BadInput(f"{key.name}: this vkey is of type {key.kind:02x}, and a {whose}'s is of type {kind:02x}")
    return keys


def _keys_of_file(path: Path) -> list[VerifierKey]:
    try:
        lines = read(path, LARGEST_NOTE).decode().split("\n")
        keys = [VerifierKey.parse(line.strip()) for line in lines if line.strip()]
    except (Malformed, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: no vkey: {error}") from error
    if not keys:
        raise BadInput(f"{path} is empty")
    return keys


def read(path: Path, limit: int = _LARGEST_FILE) -> bytes:
    """A file's bytes, when they are not more than any such file has."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > limit:
        raise BadInput(f"{path} is too large")
    return data


def checkpoint(path: Path) -> Checkpoint:
    """A checkpoint that was kept. Its signature is checked later, by the key of its origin."""
    try:
        return Checkpoint.parse(read(path, LARGEST_NOTE))
    except Malformed as error:
        raise BadInput(f"{path}: {error}") from error


def folder(path: Path) -> Folder:
    """A folder that holds a log."""
    if not (path / "checkpoint").is_file():
        raise BadInput(f"{path}: there is no log in this folder (no file `checkpoint`)")
    return Folder(path)


def is_address(target: str) -> bool:
    """Whether this is a URL; else it is a path."""
    return target.startswith(("http://", "https://"))


@asynccontextmanager
async def source(target: str, token: Token, *, insecure: bool, ca_file: Path | None) -> AsyncIterator[Source]:
    """The log at a URL or in a folder."""
    if not is_address(target):
        yield folder(Path(target))
        return
    async with opened(target, token, insecure=insecure, ca_file=ca_file) as web:
        yield web
