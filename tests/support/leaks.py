"""Searches files for values in every spelling in which a careless program leaves them.

A value counts as found in UTF-8, GB18030 and UTF-16, each of them plain, in base64 (at any alignment), in hex and in
percent-encoding, as `\\u` escapes, and as an unsalted digest (MD5, SHA-1, SHA-256, SM3). Tens of thousands of
spellings are looked up by their first bytes, at every offset of every distinct page.
"""

import hashlib
from base64 import b64encode, urlsafe_b64encode
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SM3, Hash

PAGE = 8192
LONGEST = 512
LONG, SHORT = 8, 4


@dataclass(frozen=True)
class Leak:
    """Where something was found: never what."""

    path: Path
    spelling: str


def spellings(value: str) -> Iterator[tuple[str, bytes]]:
    """Every spelling that is searched for, with its name."""
    encoded = {"utf-8": value.encode(), "gb18030": value.encode("gb18030")}
    encoded |= {"utf-16-le": value.encode("utf-16-le"), "utf-16-be": value.encode("utf-16-be")}
    for name, raw in encoded.items():
        yield name, raw
        yield f"{name} hex", raw.hex().encode()
        yield f"{name} HEX", raw.hex().upper().encode()
        for encode, kind in ((b64encode, "base64"), (urlsafe_b64encode, "base64url")):
            for shift in range(3):
                yield f"{name} {kind}+{shift}", _inner(encode(bytes(shift) + raw + bytes(2)), shift, len(raw))
        if any(byte > 0x7F for byte in raw):
            yield f"{name} percent", "".join(f"%{byte:02X}" for byte in raw).encode()
            yield f"{name} escaped bytes", "".join(f"\\x{byte:02x}" for byte in raw).encode()
    for style in ("\\u{:04x}", "\\u{:04X}", "&#{};", "&#x{:x};"):
        yield f"escaped as {style}", "".join(style.format(ord(letter)) for letter in value).encode()
    for raw in {encoded["utf-8"], encoded["gb18030"]}:
        for name, digest in _digests(raw):
            yield name, digest
            yield f"{name} hex", digest.hex().encode()
            yield f"{name} base64", b64encode(digest).rstrip(b"=")


def _inner(text: bytes, shift: int, length: int) -> bytes:
    """The characters of a base64 text that depend on the value alone."""
    first = -(-shift * 8 // 6)
    last = (shift + length) * 8 // 6
    return text[first:last]


def _digests(raw: bytes) -> Iterator[tuple[str, bytes]]:
    sm3 = Hash(SM3())
    sm3.update(raw)
    yield "sm3", sm3.finalize()
    for name in ("md5", "sha1", "sha256"):
        yield name, hashlib.new(name, raw).digest()


class Search:
    """Needles, ready to be looked up."""

    def __init__(self, values: Iterable[str]) -> None:
        self._long: dict[int, list[tuple[str, bytes]]] = defaultdict(list)
        self._short: dict[int, list[tuple[str, bytes]]] = defaultdict(list)
        for value in values:
            for name, needle in spellings(value):
                if len(needle) >= LONG:
                    self._long[int.from_bytes(needle[:LONG], "little")].append((name, needle))
                elif len(needle) > SHORT + 1:
                    self._short[int.from_bytes(needle[:SHORT], "little")].append((name, needle))
        self._long_keys, self._short_keys = frozenset(self._long), frozenset(self._short)
        self._seen: set[bytes] = set()

    def file(self, path: Path) -> set[Leak]:
        """What is found in one file; pages that were searched before are not searched again."""
        with path.open("rb") as file:
            pages = list(iter(lambda: file.read(PAGE), b""))
        seams = (before[-LONGEST:] + after[:LONGEST] for before, after in pairwise(pages))
        return {Leak(path, name) for part in (*pages, *seams) for name in self._part(part)}

    def _part(self, part: bytes) -> set[str]:
        part = part.strip(b"\0")
        digest = hashlib.blake2b(part, digest_size=16).digest()
        if digest in self._seen or len(part) <= SHORT:
            return set()
        self._seen.add(digest)
        found = set()
        for width, keys, needles in ((LONG, self._long_keys, self._long), (SHORT, self._short_keys, self._short)):
            padded = part + bytes(2 * width)
            for shift in range(width):
                end = shift + (len(padded) - shift) // width * width
                words = memoryview(padded)[shift:end]
                for key in keys.intersection(words.cast("Q") if width == LONG else words.cast("I")):
                    found |= {name for name, needle in needles[key] if needle in part}
        return found

    def folders(self, *folders: Path) -> set[Leak]:
        """What is found in all files below the folders; a file that goes while it is read is passed over."""
        found: set[Leak] = set()
        for folder in folders:
            for path in sorted(folder.rglob("*")):
                try:
                    if path.is_file() and not path.is_symlink():
                        found |= self.file(path)
                except FileNotFoundError:
                    continue
        return found
