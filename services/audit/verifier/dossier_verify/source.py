"""Where a log is read from: a folder, or a URL; and the folder in which what was read is kept.

Both speak in paths below the log's prefix. What a source gives is not trusted; it is only bounded in size.
"""

import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from dossier_verify.errors import BadInput, Missing, Unreadable
from dossier_verify.note import LARGEST_NOTE
from dossier_verify.tiles import HASH, WIDTH, Tile

LISTING: Final = "logs.json"
_LARGEST_LISTING: Final = 1 << 22


class Source(Protocol):
    """A log that can be read."""

    @property
    def name(self) -> str:
        """As the auditor named it."""

    async def get(self, path: str, limit: int) -> bytes:
        """At most `limit` + 1 bytes of a resource. Raises Missing, and Unreadable when it cannot be known."""

    async def listing(self) -> bytes:
        """`GET /v1/audit/logs` as text; raises Missing where there is none."""

    def generation(self, number: int) -> "Source":
        """The log of another generation of the same listing."""

    def here(self) -> int:
        """Which generation this is by its address: 1 unless it says otherwise."""


class Folder:
    """A log in the tlog-tiles layout in a folder; the listing beside generation 1, later generations in `logs/<g>`."""

    def __init__(self, root: Path, main: Path | None = None) -> None:
        self.root = root
        nested = root.parent.name == "logs" and root.name.isdecimal() and (root.parent.parent / LISTING).is_file()
        self.main = main or (root.parent.parent if nested else root)

    @property
    def name(self) -> str:
        """The folder's path."""
        return str(self.root)

    async def get(self, path: str, limit: int) -> bytes:
        """A file's bytes."""
        return _read(self.root / path, limit)

    async def listing(self) -> bytes:
        """The file `logs.json`."""
        return _read(self.main / LISTING, _LARGEST_LISTING)

    def generation(self, number: int) -> "Folder":
        """Generation 1 is the main folder itself."""
        return Folder(self.main if number == 1 else self.main / "logs" / str(number), self.main)

    def here(self) -> int:
        """By the folder's name below `logs`."""
        return 1 if self.root == self.main else int(self.root.name)


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise Missing(str(path)) from error
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}") from error


class Kept:
    """A folder that keeps what is read from a source, in the layout of Folder.

    Full tiles and bundles never change, so one that is there is never overwritten; `changed` names those that the
    source serves otherwise. With `reuse` they are not asked for again.
    """

    def __init__(self, source: Source, folder: Folder, *, reuse: bool = False) -> None:
        self._source, self.folder, self._reuse = source, folder, reuse
        self.changed: list[str] = []

    @property
    def name(self) -> str:
        """The source's name."""
        return self._source.name

    async def get(self, path: str, limit: int) -> bytes:
        """As the source gives it; kept when it is immutable."""
        target = self.folder.root / path
        immutable = path.startswith("tile/")
        if not immutable and not path.startswith("bodies/"):
            return await self._source.get(path, limit)
        there = immutable and target.is_file()
        if there and self._reuse:
            return _read(target, limit)
        data = await self._source.get(path, limit)
        if not there:
            write(target, data)
        elif _read(target, limit) != data:
            self.changed.append(path)
        return data

    async def listing(self) -> bytes:
        """The source's listing."""
        return await self._source.listing()

    def generation(self, number: int) -> "Kept":
        """The same folder's place for another generation."""
        return Kept(self._source.generation(number), self.folder.generation(number), reuse=self._reuse)

    def here(self) -> int:
        """As the source says."""
        return self._source.here()

    def close(self, checkpoint: bytes, listing: bytes | None) -> None:
        """Keeps the checkpoint last, so that all it needs is there; the one before stays in `kept/<size>`."""
        target = self.folder.root / "checkpoint"
        if target.is_file() and (before := target.read_bytes()) != checkpoint:
            size = before.split(b"\n", 2)[1].decode("ascii", "replace") if before.count(b"\n") > 1 else ""
            if re.fullmatch("[0-9]{1,19}", size):
                write(self.folder.root / "kept" / size, before)
        write(target, checkpoint)
        if listing is not None:
            write(self.folder.main / LISTING, listing)


def write(target: Path, data: bytes) -> None:
    """A file with exactly these bytes, or none; raises BadInput where it cannot be written."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".part-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise BadInput(f"{target}: {error.strerror}") from error


async def checkpoint_of(source: Source) -> bytes:
    """The served checkpoint; raises Unreadable where there is none."""
    try:
        return await source.get("checkpoint", LARGEST_NOTE)
    except Missing as error:
        raise Unreadable(f"{source.name}: there is no checkpoint here, so no log") from error


async def fetch(source: Source, tile: Tile) -> bytes:
    """A tile or bundle; a partial one that is gone is cut from the full one. Raises Missing, Unreadable."""
    try:
        return await source.get(tile.path, tile.largest)
    except Missing:
        if tile.width == WIDTH:
            raise
    data = await source.get(tile.full.path, tile.largest)
    match tile.kind:
        case "tile":
            return data[: tile.width * HASH]
        case "bodies":
            return b"\n".join(data.split(b"\n")[: tile.width])
        case "entries":
            end = 0
            for _ in range(tile.width):
                end += 2 + int.from_bytes(data[end : end + 2], "big")
            return data[:end]


def listed(data: bytes) -> list[Mapping[str, Any]]:
    """The logs of a listing, by generation; raises ValueError where the text is no listing."""
    try:
        said = json.loads(data)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    logs = said.get("logs") if isinstance(said, dict) else None
    if not isinstance(logs, list) or not all(isinstance(log, dict) for log in logs):
        raise ValueError("no list of logs")
    for log in logs:
        if type(log.get("generation")) is not int or not isinstance(log.get("origin"), str):
            raise ValueError("a log without generation or origin")
    numbers = sorted(log["generation"] for log in logs)
    if numbers != list(range(1, len(numbers) + 1)):
        raise ValueError("generations that do not follow one another")
    return sorted(logs, key=lambda log: log["generation"])
