"""Keys that a deployment makes once: signing keys of the parts, and what seals the key ring of records."""

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from dossier_cli import secret_files
from dossier_common.topology import PARTS
from dossier_local.state import State, write_private

KEYRING_PASSPHRASE: Final = "records-keyring-passphrase"  # noqa: S105  # the name of its file
ED25519: Final = 0x01
COSIGNATURE: Final = 0x04
"""Types of keys in C2SP's signed notes: a log's own, and a witness's."""


def signing_key(state: State, part: str) -> Path:
    """File of the part's Ed25519 key (PEM, PKCS 8): it signs events and client assertions."""
    return state.secret(f"{part}-signing-key.pem", secret_files.key)


def token_key(state: State) -> Path:
    """File of the key by which the gateway signs tokens, and nothing else."""
    return state.secret("gateway-token-key.pem", secret_files.key)


def audit_log_key(state: State) -> Path:
    """File of the key by which the audit part signs checkpoints, and nothing else."""
    return state.secret(secret_files.LOG_KEY, secret_files.key)


def public_bytes(path: Path) -> bytes:
    """The 32 bytes of the public half of an Ed25519 key in a PEM file."""
    key = load_pem_private_key(path.read_bytes(), password=None)
    assert isinstance(key, Ed25519PrivateKey)
    return key.public_key().public_bytes_raw()


def vkey(name: str, kind: int, public: bytes) -> str:
    """A public key as C2SP's signed notes write it: `<name>+<hex key id>+<base64 of type and key>`."""
    typed = bytes([kind]) + public
    key_id = hashlib.sha256(name.encode() + b"\n" + typed).digest()[:4]
    return f"{name}+{key_id.hex()}+{base64.b64encode(typed).decode()}"


def keyring_passphrase(state: State) -> Path:
    """File of the passphrase that seals the key ring of records."""
    return state.secret(KEYRING_PASSPHRASE, secret_files.password)


def producer_keys(state: State) -> Path:
    """File with the public keys of all parts, as JWKs with `kid`."""
    for part in PARTS:
        signing_key(state, part)
    path = state.folder / secret_files.PRODUCER_KEYS
    write_private(path, secret_files.producer_keys(state.secrets))
    return path


def peers(state: State, ports: Mapping[str, int]) -> Path:
    """File with the address of each part inside the deployment."""
    path = state.folder / "peers.json"
    addresses = {part: f"http://127.0.0.1:{ports[part]}" for part in PARTS}
    write_private(path, json.dumps(addresses, indent=2).encode())
    return path
