"""A writer of logs that shares nothing with the verifier: the tree is RFC 6962's recursive definition."""

import hashlib
import json
import secrets
from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ORIGIN = "127.0.0.1:8000/v1/audit/log"
PRODUCERS = ("gateway", "records", "approvals", "retention", "audit")


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def mth(hashes: list[bytes]) -> bytes:
    """RFC 6962, 2.1, over leaf hashes."""
    if not hashes:
        return sha256(b"")
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    return sha256(b"\x01" + mth(hashes[:split]) + mth(hashes[split:]))


def inclusion(index: int, hashes: list[bytes]) -> list[bytes]:
    """RFC 6962, 2.1.1: PATH(m, D[n])."""
    if len(hashes) == 1:
        return []
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    if index < split:
        return [*inclusion(index, hashes[:split]), mth(hashes[split:])]
    return [*inclusion(index - split, hashes[split:]), mth(hashes[:split])]


def consistency(old: int, hashes: list[bytes], *, whole: bool = True) -> list[bytes]:
    """RFC 6962, 2.1.2: SUBPROOF(m, D[n], b)."""
    if old == len(hashes):
        return [] if whole else [mth(hashes)]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    if old <= split:
        return [*consistency(old, hashes[:split], whole=whole), mth(hashes[split:])]
    return [*consistency(old - split, hashes[split:], whole=False), mth(hashes[:split])]


@dataclass
class Key:
    """An Ed25519 key of a log (type 1) or of a witness (type 4)."""

    name: str
    kind: int = 1
    private: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def material(self) -> bytes:
        return bytes([self.kind]) + self.private.public_key().public_bytes_raw()

    @property
    def id(self) -> bytes:
        return sha256(self.name.encode() + b"\n" + self.material)[:4]

    @property
    def vkey(self) -> str:
        return f"{self.name}+{self.id.hex()}+{b64encode(self.material).decode()}"

    def line(self, text: str, time: int = 1_700_000_000) -> str:
        if self.kind == 1:
            blob = self.private.sign(text.encode())
        else:
            blob = time.to_bytes(8, "big") + self.private.sign(f"cosignature/v1\ntime {time}\n{text}".encode())
        return f"\u2014 {self.name} {b64encode(self.id + blob).decode()}\n"


def leaf(
    producer: str, epoch: int, seq: int, prev: str, event: str = "records.v1.record.viewed", commitment: str = "0" * 64
) -> bytes:
    return json.dumps(
        {
            "commitment": commitment,
            "epoch": epoch,
            "id": str(UUID(bytes=sha256(f"{producer}/{epoch}/{seq}".encode())[:16])),
            "prev": prev,
            "producer": producer,
            "seq": seq,
            "time": "2026-11-22T08:00:00.000001Z",
            "type": event,
        },
        separators=(",", ":"),
        sort_keys=True,
    ).encode()


def path_of(number: int) -> str:
    parts = [f"{number:03d}"] if number < 1000 else []
    if not parts:
        text = str(number).zfill(-(-len(str(number)) // 3) * 3)
        groups = [text[at : at + 3] for at in range(0, len(text), 3)]
        parts = [f"x{group}" for group in groups[:-1]] + [groups[-1]]
    return "/".join(parts)


class Log:
    """A log in memory: append, alter, then write a folder in the tlog-tiles layout."""

    def __init__(self, key: Key | None = None, generation: int = 1, before: "Log | None" = None) -> None:
        self.key = key or Key(ORIGIN)
        self.generation = generation
        self.entries: list[bytes] = []
        self.bodies: list[bytes] = []
        self.heads: dict[str, tuple[int, int, str]] = dict(before.heads) if before else {}
        self.witnesses: list[Key] = []

    @property
    def origin(self) -> str:
        return self.key.name

    def open(self, predecessor: tuple[str, int, bytes] | None = None) -> "Log":
        data: dict[str, object] = {"generation": self.generation}
        if predecessor:
            names = ("predecessor_origin", "predecessor_size", "predecessor_root")
            data |= dict(zip(names, (predecessor[0], predecessor[1], predecessor[2].hex()), strict=True))
        body = json.dumps({"data": data, "type": "audit.v1.log.opened"})
        self.heads["log"] = (self.generation, 0, "0" * 64)
        self.append("log", "audit.v1.log.opened", body)
        return self

    def append(self, producer: str, event: str = "records.v1.record.viewed", body: str = "{}") -> None:
        epoch, seq, prev = self.heads.get(producer, (1, 0, "0" * 64))
        salt = secrets.token_bytes(32)
        self.add(leaf(producer, epoch, seq + 1, prev, event, sha256(salt + body.encode()).hex()), salt, body)
        self.heads[producer] = (epoch, seq + 1, sha256(self.entries[-1]).hex())

    def add(self, entry: bytes, salt: bytes = bytes(32), body: str = "{}") -> None:
        self.entries.append(entry)
        self.bodies.append(json.dumps({"salt": b64encode(salt).decode(), "body": body}).encode())

    def restore(self, producer: str) -> None:
        """The producer begins a new epoch."""
        self.heads[producer] = (self.heads[producer][0] + 1, 0, "0" * 64)

    def fill(self, size: int) -> "Log":
        while len(self.entries) < size:
            self.append(PRODUCERS[len(self.entries) * 7 % 5])
        return self

    def rechain(self) -> None:
        """What a forger with the producers' data would do: every `prev` anew."""
        heads: dict[str, str] = {}
        for index, entry in enumerate(self.entries):
            said = json.loads(entry)
            if said["seq"] > 1:
                said["prev"] = heads[said["producer"]]
            self.entries[index] = json.dumps(said, separators=(",", ":"), sort_keys=True).encode()
            heads[said["producer"]] = sha256(self.entries[index]).hex()

    def hashes(self, size: int | None = None) -> list[bytes]:
        return [sha256(b"\x00" + entry) for entry in self.entries[:size]]

    def checkpoint(self, size: int | None = None, root: bytes | None = None) -> bytes:
        size = len(self.entries) if size is None else size
        root = mth(self.hashes(size)) if root is None else root
        text = f"{self.origin}\n{size}\n{b64encode(root).decode()}\n"
        return (text + "\n" + "".join(key.line(text) for key in [self.key, *self.witnesses])).encode()

    def write(self, folder: Path, *, bodies: bool = False) -> Path:
        """The folder of this log as a static server would hold it."""
        size, level, hashes = len(self.entries), 0, self.hashes()
        for number in range(-(-size // 256)):
            bundle = self.entries[number * 256 : number * 256 + 256]
            name = path_of(number) + ("" if len(bundle) == 256 else f".p/{len(bundle)}")
            put(folder / "tile/entries" / name, b"".join(len(entry).to_bytes(2, "big") + entry for entry in bundle))
            if bodies:
                put(folder / "bodies" / name, b"".join(line + b"\n" for line in self.bodies[number * 256 :][:256]))
        while hashes:
            for number in range(-(-len(hashes) // 256)):
                tile = hashes[number * 256 : number * 256 + 256]
                name = path_of(number) + ("" if len(tile) == 256 else f".p/{len(tile)}")
                put(folder / f"tile/{level}" / name, b"".join(tile))
            hashes = [mth(hashes[at : at + 256]) for at in range(0, len(hashes) - 255, 256)]
            level += 1
        put(folder / "checkpoint", self.checkpoint())
        return folder

    def opened(self) -> dict[str, str]:
        said = json.loads(self.bodies[0])
        return {"leaf": self.entries[0].decode(), **said}


def listing(*logs: tuple[Log, tuple[str, int, bytes] | None]) -> bytes:
    """The answer of GET /v1/audit/logs."""
    return json.dumps(
        {
            "logs": [
                {
                    "generation": log.generation,
                    "origin": log.origin,
                    "url": f"http://{log.origin}",
                    "vkey": log.key.vkey,
                    "opened_at": "2026-11-22T08:00:00Z",
                    "state": "open" if log is logs[-1][0] else "closed",
                    "predecessor": before and {"origin": before[0], "size": before[1], "root": before[2].hex()},
                    "opened": log.opened(),
                }
                for log, before in logs
            ]
        }
    ).encode()


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
