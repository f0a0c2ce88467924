"""A log as C2SP tlog-tiles has it: the addresses of what a size promises, and a copy of it in a folder."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

WIDTH = 256


def number(index: int) -> str:
    """Groups of three digits, all but the last with x."""
    last = f"{index % 1000:03}"
    return last if index < 1000 else "/".join(f"x{int(each):03}" for each in _thousands(index // 1000)) + f"/{last}"


def _thousands(index: int) -> list[int]:
    return [*_thousands(index // 1000), index % 1000] if index else []


def resources(size: int) -> Iterator[str]:
    """The paths of all bundles and tiles of a tree of this size."""
    for index in range(-(-size // WIDTH)):
        yield f"tile/entries/{_placed(index, size)}"
    level, width = 0, size
    while width:
        for index in range(-(-width // WIDTH)):
            yield f"tile/{level}/{_placed(index, width)}"
        level, width = level + 1, width // WIDTH


def _placed(index: int, size: int) -> str:
    width = min(WIDTH, size - index * WIDTH)
    return number(index) if width == WIDTH else f"{number(index)}.p/{width}"


def entries(bundle: bytes) -> list[bytes]:
    """The entries of a bundle, each behind its length as a big-endian uint16."""
    found, at = [], 0
    while at < len(bundle):
        end = at + 2 + int.from_bytes(bundle[at : at + 2])
        found.append(bundle[at + 2 : end])
        at = end
    assert at == len(bundle)
    return found


def size_of(checkpoint: str) -> int:
    """How many leaves a checkpoint promises."""
    return int(checkpoint.split("\n")[1])


@dataclass(frozen=True)
class Served:
    """A log at its address; `http` brings the token."""

    http: httpx.AsyncClient
    url: str

    async def checkpoint(self) -> str:
        """The newest one."""
        return (await self.read("checkpoint")).decode()

    async def read(self, path: str) -> bytes:
        """What is served there."""
        answer = await self.http.get(f"{self.url}/{path}")
        assert answer.status_code == 200, (path, answer.status_code, answer.text)
        return answer.content

    async def leaves(self, size: int) -> list[bytes]:
        """The first entries, up to this size."""
        paths = [path for path in resources(size) if path.startswith("tile/entries/")]
        bundles = await asyncio.gather(*map(self.read, paths))
        return [entry for bundle in bundles for entry in entries(bundle)]

    async def save(self, folder: Path, checkpoint: str) -> list[Path]:
        """Copies what this checkpoint promises; the files, the checkpoint's last."""
        paths = list(resources(size_of(checkpoint)))
        contents = await asyncio.gather(*map(self.read, paths))
        places = [folder / path for path in (*paths, "checkpoint")]
        for place, content in zip(places, [*contents, checkpoint.encode()], strict=True):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        return places
