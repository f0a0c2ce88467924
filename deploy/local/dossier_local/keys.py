"""Keys that a deployment makes once: signing keys of the parts, and what seals the key ring of records."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dossier_common.keys import SigningKey
from dossier_common.topology import PARTS
from dossier_local.state import State, write_private

KEYRING_PASSPHRASE: Final = "records-keyring-passphrase"  # noqa: S105  # the name of its file


def signing_key(state: State, part: str) -> Path:
    """File of the part's Ed25519 key (PEM, PKCS 8): it signs events and client assertions."""
    return state.secret(f"{part}-signing-key.pem", lambda: SigningKey.generate().pem())


def token_key(state: State) -> Path:
    """File of the key by which the gateway signs tokens, and nothing else."""
    return state.secret("gateway-token-key.pem", lambda: SigningKey.generate().pem())


def keyring_passphrase(state: State) -> Path:
    """File of the passphrase that seals the key ring of records."""
    return state.secret(KEYRING_PASSPHRASE)


def producer_keys(state: State) -> Path:
    """File with the public keys of all parts, as JWKs with `kid`."""
    keys = {part: [SigningKey.read(signing_key(state, part)).public_jwk()] for part in PARTS}
    path = state.folder / "producer-keys.json"
    write_private(path, json.dumps(keys, indent=2).encode())
    return path


def peers(state: State, ports: Mapping[str, int]) -> Path:
    """File with the address of each part inside the deployment."""
    path = state.folder / "peers.json"
    addresses = {part: f"http://127.0.0.1:{ports[part]}" for part in PARTS}
    write_private(path, json.dumps(addresses, indent=2).encode())
    return path
