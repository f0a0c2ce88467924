"""Signed notes (C2SP signed-note), checkpoints (tlog-checkpoint) and cosignatures (tlog-cosignature, v1)."""

import hashlib
import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from dossier_audit.log.tree import HASH
from dossier_common.keys import SigningKey

ED25519: Final = 0x01
COSIGNATURE: Final = 0x04
_SIGNATURE: Final = re.compile(r"^— (\S+) ([A-Za-z0-9+/]+={0,2})$")
_SIZE: Final = re.compile(r"^(?:0|[1-9][0-9]{0,18})$")
MOST_SIGNATURES: Final = 64


class NoteInvalid(ValueError):
    """Not a note, not a checkpoint, or one that a known key did not sign."""


@dataclass(frozen=True, slots=True)
class NoteKey:
    """Whose signature is looked for: a name and an Ed25519 key, of a log or (`kind` 0x04) of a witness."""

    name: str
    kind: int
    public: bytes

    @property
    def id(self) -> bytes:
        """The first four bytes of SHA-256(name ‖ LF ‖ kind ‖ key)."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public).digest()[:4]

    def vkey(self) -> str:
        """As it is published: `name+id+key`."""
        return f"{self.name}+{self.id.hex()}+{b64encode(bytes([self.kind]) + self.public).decode()}"

    @classmethod
    def read(cls, vkey: str) -> Self:
        """Raises NoteInvalid for what is no Ed25519 vkey."""
        name, _, rest = vkey.strip().partition("+")
        said_id, _, key = rest.partition("+")
        try:
            raw = b64decode(key, validate=True)
        except ValueError as error:
            raise NoteInvalid("not a vkey") from error
        if not name or len(raw) != 1 + HASH or raw[0] not in {ED25519, COSIGNATURE}:
            raise NoteInvalid("not an Ed25519 vkey")
        found = cls(name, raw[0], raw[1:])
        if found.id.hex() != said_id:
            raise NoteInvalid("the vkey's id is not that of its key")
        return found

    def _holds(self, signature: bytes, message: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def verifies(self, text: str, blob: bytes) -> bool:
        """Whether this signature line's content is by this key over the note's text."""
        if self.kind == COSIGNATURE:
            stamp, signature = blob[4:12], blob[12:]
            message = f"cosignature/v1\ntime {int.from_bytes(stamp, 'big')}\n{text}"
            return len(blob) == 76 and self._holds(signature, message.encode())
        return len(blob) == 68 and self._holds(blob[4:], text.encode())


def sign(text: str, name: str, key: SigningKey) -> str:
    """The note: the text, an empty line, and this key's signature line. The text ends with a newline."""
    blob = key_of(name, key).id + key.sign(text.encode())
    return f"{text}\n— {name} {b64encode(blob).decode()}\n"


def key_of(name: str, key: SigningKey) -> NoteKey:
    """The public half of a log's key, under its name."""
    return NoteKey(name, ED25519, key.public_bytes())


def split(note: str) -> tuple[str, list[str]]:
    """Text and signature lines of a note. Raises NoteInvalid."""
    text, found, signatures = note.rpartition("\n\n")
    lines = signatures.removesuffix("\n").split("\n")
    if not found or not signatures.endswith("\n") or len(lines) > MOST_SIGNATURES:
        raise NoteInvalid("not a signed note")
    if any(not _SIGNATURE.match(line) for line in lines):
        raise NoteInvalid("not a signature line")
    return text + "\n", lines


def signatures_by(key: NoteKey, note: str) -> list[str]:
    """The signature lines of a note by this key; other keys' are passed over.

    Raises NoteInvalid when one with its name and id does not verify.
    """
    text, lines = split(note)
    return [line for line in lines if signed_by(key, text, line)]


def signed_by(key: NoteKey, text: str, line: str) -> bool:
    """Whether this line is by this key. Raises NoteInvalid for one with its name and id that does not verify."""
    match = _SIGNATURE.match(line)
    if match is None:
        raise NoteInvalid("not a signature line")
    try:
        blob = b64decode(match[2], validate=True)
    except ValueError as error:
        raise NoteInvalid("not a signature line") from error
    if match[1] != key.name or blob[:4] != key.id:
        return False
    if not key.verifies(text, blob):
        raise NoteInvalid(f"the signature of {key.name} does not verify")
    return True


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log says of itself: its origin, how many leaves it has, and the root over them."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The text that is signed."""
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n"

    @classmethod
    def read(cls, text: str) -> Self:
        """From a note's text; lines behind the third are left aside. Raises NoteInvalid."""
        lines = text.split("\n")
        if len(lines) < 4 or not lines[0] or not _SIZE.match(lines[1]):
            raise NoteInvalid("not a checkpoint")
        try:
            root = b64decode(lines[2], validate=True)
        except ValueError as error:
            raise NoteInvalid("not a checkpoint") from error
        if len(root) != HASH:
            raise NoteInvalid("not a checkpoint")
        return cls(lines[0], int(lines[1]), root)

    @classmethod
    def opened(cls, note: str, key: NoteKey) -> Self:
        """The checkpoint of a note that this key signed, whose name is its origin. Raises NoteInvalid."""
        text, _ = split(note)
        found = cls.read(text)
        if found.origin != key.name or not signatures_by(key, note):
            raise NoteInvalid("not a checkpoint of this log")
        return found


def with_cosignatures(note: str, lines: Sequence[str]) -> str:
    """The note with further signature lines behind its own."""
    return note + "".join(f"{line}\n" for line in lines)
