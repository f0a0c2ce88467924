"""Signed notes, verifier keys, checkpoints and cosignatures.

Sources: C2SP signed-note, tlog-checkpoint, tlog-cosignature (Ed25519 types 0x01 and 0x04).
"""

import hashlib
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

ED25519: Final = 0x01
COSIGNATURE: Final = 0x04
LARGEST_NOTE: Final = 1 << 20
"""Bytes: a note with 16 post-quantum signatures of 5 kB stays far below."""
_MOST_SIGNATURES: Final = 100
_MOST_LEAVES: Final = 1 << 62
_SIGNATURE = re.compile(r"\u2014 ([^\s+]+) ([A-Za-z0-9+/]+={0,2})")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")


class Malformed(ValueError):
    """The text is no note, no checkpoint or no verifier key."""


class Unsigned(ValueError):
    """A known key's signature does not hold, or none of the known keys signed."""


def base64_bytes(text: str) -> bytes:
    """The bytes of standard base64 (RFC 4648, section 4) in its one canonical spelling; raises Malformed."""
    try:
        decoded = b64decode(text, validate=True)
    except ValueError as error:
        raise Malformed("not base64") from error
    if b64encode(decoded).decode() != text:
        raise Malformed("not canonical base64")
    return decoded


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A named Ed25519 key and the type of signature that it makes; `id` is the four bytes of its signatures."""

    name: str
    kind: int
    public: bytes

    @classmethod
    def parse(cls, text: str) -> "VerifierKey":
        """A vkey `<name>+<hex id>+<base64(type ‖ key)>` whose id fits its key; raises Malformed."""
        name, *rest = text.split("+", 2)
        if len(rest) != 2 or not name or re.search(r"\s", name):
            raise Malformed("a vkey is <name>+<key id>+<base64 key>")
        material = base64_bytes(rest[1])
        if len(material) != 33 or material[0] not in {ED25519, COSIGNATURE}:
            raise Malformed("the vkey holds no Ed25519 key (type 01) and no Ed25519 cosigner's key (type 04)")
        key = cls(name, material[0], material[1:])
        if rest[0] != key.id.hex():
            raise Malformed("the vkey's id does not fit its name and key: it was copied wrongly")
        return key

    @property
    def id(self) -> bytes:
        """SHA-256(name ‖ newline ‖ type ‖ key), its first four bytes."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public).digest()[:4]

    def renamed(self, name: str) -> "VerifierKey":
        """The same key under another name, as the log of another generation uses it."""
        return VerifierKey(name, self.kind, self.public)

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{b64encode(bytes([self.kind]) + self.public).decode()}"

    def time(self, text: str, signature: bytes) -> int | None:
        """When a cosignature was made (POSIX seconds), None for a plain signature; raises Unsigned."""
        message, when = text.encode(), None
        if self.kind == COSIGNATURE:
            when = int.from_bytes(signature[:8], "big")
            message, signature = b"cosignature/v1\ntime %d\n" % when + message, signature[8:]
            if when >= 1 << 63:
                raise Unsigned(f"the cosignature of {self.name} has an impossible time")
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except (InvalidSignature, ValueError) as error:
            raise Unsigned(f"the signature of {self.name} does not hold") from error
        return when


@dataclass(frozen=True, slots=True)
class Note:
    """A signed text, its last newline included, and the signatures as they stand: (name, key id, rest)."""

    text: str
    signatures: tuple[tuple[str, bytes, bytes], ...]

    @classmethod
    def parse(cls, data: bytes) -> "Note":
        """Raises Malformed."""
        if len(data) > LARGEST_NOTE:
            raise Malformed("the note is too large")
        try:
            whole = data.decode()
        except UnicodeDecodeError as error:
            raise Malformed("the note is not UTF-8") from error
        if _CONTROL.search(whole):
            raise Malformed("the note holds control characters")
        text, empty, block = whole.rpartition("\n\n")
        if not empty or not block.endswith("\n"):
            raise Malformed("the note has no signatures")
        lines = block[:-1].split("\n")
        if len(lines) > _MOST_SIGNATURES:
            raise Malformed(f"the note has more than {_MOST_SIGNATURES} signatures")
        return cls(text + "\n", tuple(map(_signature, lines)))

    def signed_by(self, keys: Iterable[VerifierKey]) -> dict[VerifierKey, int | None]:
        """Which of these keys signed, and when if they say so; signatures of other keys are ignored.

        Raises Unsigned when a signature with a known name and id does not hold: then the whole note counts for nothing.
        """
        known = {(key.name, key.id): key for key in keys}
        held: dict[VerifierKey, int | None] = {}
        for name, key_id, signature in self.signatures:
            key = known.get((name, key_id))
            if key is not None and key not in held:
                held[key] = key.time(self.text, signature)
        return held


def _signature(line: str) -> tuple[str, bytes, bytes]:
    match = _SIGNATURE.fullmatch(line)
    if match is None:
        raise Malformed("a line after the note's text is no signature")
    blob = base64_bytes(match[2])
    if len(blob) < 5:
        raise Malformed("a signature is too short")
    return match[1], blob[:4], blob[4:]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Origin, size and root of a log, with the note that says so. Nothing is trusted before `verify`."""

    origin: str
    size: int
    root: bytes
    note: Note
    raw: bytes

    @classmethod
    def parse(cls, data: bytes) -> "Checkpoint":
        """Raises Malformed."""
        note = Note.parse(data)
        lines = note.text[:-1].split("\n")
        if len(lines) < 3 or not all(lines):
            raise Malformed("a checkpoint has three lines (origin, size, root) and no empty one")
        if not _NUMBER.fullmatch(lines[1]) or int(lines[1]) > _MOST_LEAVES:
            raise Malformed("the checkpoint's size is no number")
        root = base64_bytes(lines[2])
        if len(root) != 32:
            raise Malformed("the checkpoint's root is no SHA-256")
        return cls(lines[0], int(lines[1]), root, note, data)

    def verify(self, keys: Sequence[VerifierKey], witnesses: Sequence[VerifierKey] = ()) -> dict[str, int]:
        """Holds when the log of this origin signed it; says which of the witnesses cosigned, and when (POSIX seconds).

        Raises Unsigned. A log's key bears the origin as its name (tlog-checkpoint).
        """
        own = [key for key in keys if key.kind == ED25519 and key.name == self.origin]
        if not own:
            raise Unsigned(f"the checkpoint is of {self.origin}, and none of the given vkeys is")
        held = self.note.signed_by([*own, *witnesses])
        if not any(key in held for key in own):
            raise Unsigned(f"the log's key did not sign the checkpoint of {self.origin}")
        return {key.name: when for key in witnesses if (when := held.get(key)) is not None}


def instant(seconds: int) -> str:
    """POSIX seconds as RFC 3339, or as they are when no calendar holds them."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{seconds} s"
