"""Signed notes, checkpoints and cosignatures, byte for byte as C2SP has them.

Sources: c2sp.org/signed-note, c2sp.org/tlog-checkpoint, c2sp.org/tlog-cosignature (v1, Ed25519).
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from dossier_witness.tree import HASH_BYTES, MAX_SIZE

ED25519: Final = 0x01
COSIGNATURE_V1: Final = 0x04
MAX_SIGNATURES: Final = 100
"""As many as Go's `sumdb/note` accepts; the standard asks for 16 at least."""
_DASH: Final = "\N{EM DASH} "
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f]")


class Malformed(ValueError):
    """A text is not what the standard says: its message says where."""


def decoded(text: str, what: str) -> bytes:
    """The bytes of standard base64 (RFC 4648, section 4) in its one canonical form. Raises Malformed."""
    try:
        content = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise Malformed(f"{what} is not base64") from error
    if encoded(content) != text:
        raise Malformed(f"{what} is not base64 in its canonical form")
    return content


def encoded(content: bytes) -> str:
    """Standard base64."""
    return base64.b64encode(content).decode()


def decoded_hash(text: str, what: str) -> bytes:
    """32 bytes from base64. Raises Malformed."""
    content = decoded(text, what)
    if len(content) != HASH_BYTES:
        raise Malformed(f"{what} has {len(content)} bytes, not {HASH_BYTES}")
    return content


def tree_size(text: str, what: str) -> int:
    """A size in decimal without leading zeros, at most 2⁶³ - 1. Raises Malformed."""
    if _SIZE.fullmatch(text) is None or int(text) > MAX_SIZE:
        raise Malformed(f"{what} is not a decimal number without leading zeros below 2^63")
    return int(text)


def is_name(text: str) -> bool:
    """Whether a key may be called so: not empty, no spaces of Unicode, no plus, no control characters."""
    return bool(text) and "+" not in text and not any(each.isspace() or each < " " for each in text)


def key_id(name: str, kind: int, public: bytes) -> bytes:
    """The four bytes by which signatures name their key."""
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + public).digest()[:4]


def vkey(name: str, kind: int, public: bytes) -> str:
    """A public key as text: `<name>+<hex key id>+<base64 of type and key>`."""
    return f"{name}+{key_id(name, kind, public).hex()}+{encoded(bytes([kind]) + public)}"


@dataclass(frozen=True)
class Signature:
    """One signature line; `line` is its text without the newline, `blob` what follows the key's id."""

    line: str
    name: str
    key_id: bytes
    blob: bytes

    @classmethod
    def parse(cls, line: str) -> "Signature":
        """Raises Malformed."""
        name, space, blob = line.removeprefix(_DASH).partition(" ")
        if not line.startswith(_DASH) or not space or not is_name(name):
            raise Malformed("a signature line is not of the form '\N{EM DASH} <key name> <base64>'")
        content = decoded(blob, "a signature")
        if len(content) < 5:
            raise Malformed("a signature is too short for a key id and a signature")
        return cls(line, name, content[:4], content[4:])


@dataclass(frozen=True)
class Verifier:
    """A log's public key, of type Ed25519."""

    name: str
    key_id: bytes
    public: bytes

    @classmethod
    def parse(cls, text: str) -> "Verifier":
        """From a vkey. Raises Malformed, for other types of keys too."""
        name, _, rest = text.partition("+")
        digits, plus, material = rest.partition("+")
        if not is_name(name) or re.fullmatch(r"[0-9a-f]{8}", digits) is None or not plus:
            raise Malformed("a vkey is not of the form <name>+<8 hex digits>+<base64>")
        content = decoded(material, "the key of a vkey")
        if content[:1] != bytes([ED25519]) or len(content) != 33:
            raise Malformed("the key of a vkey is not an Ed25519 key (type 0x01)")
        if key_id(name, ED25519, content[1:]).hex() != digits:
            raise Malformed("the key id of a vkey does not belong to its name and key")
        return cls(name, bytes.fromhex(digits), content[1:])

    def made(self, signature: Signature) -> bool:
        """Whether the signature says that it is by this key: by name and id."""
        return (signature.name, signature.key_id) == (self.name, self.key_id)

    def holds(self, signature: Signature, text: str) -> bool:
        """Whether it really is."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature.blob, text.encode())
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint with its signatures. `text` is the note's text with its last newline, extension lines included."""

    text: str
    signatures: tuple[Signature, ...]
    origin: str
    size: int
    root: bytes

    @classmethod
    def parse(cls, note: str) -> "Checkpoint":
        """Raises Malformed. A note without a signature line is taken: nobody has signed it."""
        if _CONTROL.search(note):
            raise Malformed("the checkpoint has control characters")
        text, parting, below = note.rpartition("\n\n")
        if not parting:
            raise Malformed("the checkpoint has no empty line before its signatures")
        if below and not below.endswith("\n"):
            raise Malformed("the last signature line does not end with a newline")
        lines = below.split("\n")[:-1]
        if len(lines) > MAX_SIGNATURES:
            raise Malformed(f"the checkpoint has more than {MAX_SIGNATURES} signatures")
        origin, size, root = _three(text)
        return cls(f"{text}\n", tuple(map(Signature.parse, lines)), origin, size, root)


def _three(text: str) -> tuple[str, int, bytes]:
    lines = text.split("\n")
    if len(lines) < 3 or not all(lines):
        raise Malformed("a checkpoint begins with origin, size and root, and has no empty line")
    return lines[0], tree_size(lines[1], "the checkpoint's size"), decoded_hash(lines[2], "the checkpoint's root")


class Cosigner:
    """The witness's own name and key."""

    def __init__(self, name: str, key: Ed25519PrivateKey) -> None:
        self.name, self._key = name, key
        self._public = key.public_key().public_bytes_raw()

    @property
    def vkey(self) -> str:
        """Its public key, as those who verify cosignatures need it (type 0x04)."""
        return vkey(self.name, COSIGNATURE_V1, self._public)

    def cosign(self, text: str, time: int) -> str:
        """A signature line without newline over a checkpoint's text, at a time in seconds since 1970."""
        message = f"cosignature/v1\ntime {time}\n{text}".encode()
        blob = key_id(self.name, COSIGNATURE_V1, self._public) + time.to_bytes(8, "big") + self._key.sign(message)
        return f"{_DASH}{self.name} {encoded(blob)}"


def signed(text: str, lines: Sequence[str]) -> str:
    """A note from its text and its signature lines, each line once."""
    return f"{text}\n" + "".join(f"{line}\n" for line in dict.fromkeys(lines))
