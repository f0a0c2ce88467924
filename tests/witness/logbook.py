"""A log as the standards have it, written apart from the witness: tree, proofs, notes; it may fork when told to."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from starlette.applications import Starlette

ORIGIN = "log.example/audit"
WITNESS = "witness.example/w1"


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def key_id(name: str, kind: int, public: bytes) -> bytes:
    return hashlib.sha256(f"{name}\n".encode() + bytes([kind]) + public).digest()[:4]


def tree_hash(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962, 2.1, as it is written there."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = split(len(leaves))
    return hashlib.sha256(b"\x01" + tree_hash(leaves[:k]) + tree_hash(leaves[k:])).digest()


def split(n: int) -> int:
    """The largest power of two below n."""
    return 1 << ((n - 1).bit_length() - 1)


def consistency(old: int, leaves: Sequence[bytes]) -> list[bytes]:
    """PROOF of RFC 6962, 2.1.2."""
    return [] if old in {0, len(leaves)} else _subproof(old, leaves, whole=True)


def _subproof(m: int, leaves: Sequence[bytes], *, whole: bool) -> list[bytes]:
    if m == len(leaves):
        return [] if whole else [tree_hash(leaves)]
    k = split(len(leaves))
    if m <= k:
        return [*_subproof(m, leaves[:k], whole=whole), tree_hash(leaves[k:])]
    return [*_subproof(m - k, leaves[k:], whole=False), tree_hash(leaves[:k])]


class LogKey:
    """An Ed25519 key of a log."""

    def __init__(self, name: str = ORIGIN) -> None:
        self.name, self._key = name, Ed25519PrivateKey.generate()
        self.public = self._key.public_key().public_bytes_raw()

    @property
    def id(self) -> bytes:
        return key_id(self.name, 1, self.public)

    @property
    def vkey(self) -> str:
        return f"{self.name}+{self.id.hex()}+{b64(bytes([1]) + self.public)}"

    def line(self, text: str) -> str:
        return f"— {self.name} {b64(self.id + self._key.sign(text.encode()))}\n"


def leaf(index: int, branch: str = "") -> bytes:
    return f"leaf {index} {branch}".encode()


@dataclass(frozen=True)
class Log:
    """A log over these leaves."""

    key: LogKey
    leaves: tuple[bytes, ...] = tuple(map(leaf, range(40)))
    origin: str = ORIGIN

    def forked(self, at: int) -> "Log":
        """The same up to this size, and another from there."""
        other = tuple(leaf(index, "forked") for index in range(at, len(self.leaves)))
        return Log(self.key, self.leaves[:at] + other, self.origin)

    def text(self, size: int) -> str:
        return f"{self.origin}\n{size}\n{b64(tree_hash(self.leaves[:size]))}\n"

    def checkpoint(self, size: int) -> str:
        return f"{self.text(size)}\n{self.key.line(self.text(size))}"

    def proof(self, old: int, size: int) -> list[bytes]:
        return consistency(old, self.leaves[:size])

    def request(self, old: int, size: int) -> bytes:
        return request(old, self.proof(old, size), self.checkpoint(size))


def request(old: object, proof: Sequence[bytes], checkpoint: str) -> bytes:
    lines = "".join(f"{b64(each)}\n" for each in proof)
    return f"old {old}\n{lines}\n{checkpoint}".encode()


def cosigned_at(vkey: str, checkpoint: str, line: str) -> int:
    """Time of a cosignature line of this witness over this checkpoint. Raises when it does not verify."""
    name, digits, material = vkey.split("+", 2)
    typed = base64.b64decode(material)
    assert typed[0] == 4
    assert digits == key_id(name, 4, typed[1:]).hex()
    dash, said, blob = line.removesuffix("\n").split(" ")
    content = base64.b64decode(blob, validate=True)
    assert (dash, said, content[:4].hex(), len(content)) == ("—", name, digits, 76)
    time = int.from_bytes(content[4:12], "big")
    text = checkpoint[: checkpoint.rindex("\n\n") + 1]
    message = f"cosignature/v1\ntime {time}\n{text}".encode()
    Ed25519PublicKey.from_public_bytes(typed[1:]).verify(content[12:], message)
    return time


def client(app: Starlette) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://witness.example")
