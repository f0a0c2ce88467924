"""The secrets of a deployment, each a file: `dossier secrets FOLDER`.

What is missing is made, and nothing that is there is changed. A container gets its own files and no other; users differ
from container to container, so that the files (0444) can be read by all and the folder (0700) is what protects them.
"""

import json
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dossier_cli import accounts
from dossier_cli.errors import Refused
from dossier_cli.roles import LOGINS
from dossier_common.keys import SigningKey
from dossier_common.topology import PARTS

PRODUCER_KEYS: Final = "producer-keys.json"
LOG_VKEY: Final = "audit-log.vkey"
NATS_ACCOUNTS: Final = "accounts.conf"
LOG_KEY: Final = "audit-log-key.pem"
DIGEST_ROUNDS: Final = 10
"""Cost (binary logarithm) of bcrypt, which NATS computes at each connection. The passwords are 256 random bits."""


@dataclass(frozen=True)
class Made:
    """Names of what a run made, and what it found that does not fit together, a line each."""

    names: tuple[str, ...]
    faults: tuple[str, ...]


def password() -> bytes:
    """256 random bits, in printable ASCII."""
    return secrets.token_urlsafe(32).encode()


def key() -> bytes:
    """An Ed25519 private key (PEM, PKCS 8)."""
    return SigningKey.generate().pem()


def private() -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Name of each secret, and what makes it."""
    yield "postgres-superuser", password
    for part in PARTS:
        for role in LOGINS:
            yield f"postgres-{part}-{role}", password
        yield f"{part}-signing-key.pem", key
    for user in accounts.USERS:
        yield f"nats-{user}", password
    yield "gateway-token-key.pem", key
    yield LOG_KEY, key
    yield "records-keyring-passphrase", password


def make(folder: Path, issuer: str | None) -> Made:
    """Makes what is missing, the public files made from the secrets included; the log's vkey needs the issuer.

    Raises Refused for a folder that cannot be used, or a file in it that cannot be read.
    """
    prepare(folder)
    made, faults = [], []
    for name, maker in private():
        if _missing(folder / name):
            write(folder / name, maker())
            made.append(name)
    for name, of, fault in (
        (PRODUCER_KEYS, producer_keys, _foreign_producer),
        (NATS_ACCOUNTS, _nats_accounts, _foreign_account),
        (LOG_VKEY, lambda inside: _log_vkey(inside, issuer), lambda inside: _foreign_vkey(inside, issuer)),
    ):
        if not _missing(folder / name):
            said = fault(folder)
            faults += [f"{folder / name}: {said}"] if said else []
        elif (content := of(folder)) is not None:
            write(folder / name, content)
            made.append(name)
    return Made(tuple(made), tuple(faults))


def prepare(folder: Path) -> None:
    """The folder, which its owner alone may enter. Raises Refused where others may enter one that has content."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_mode & 0o077:
            if any(folder.iterdir()):
                raise Refused(f"{folder} may be entered by others, and is not empty: `chmod 700` it, or name another")
            folder.chmod(0o700)
    except OSError as error:
        raise Refused(f"{folder} cannot be used: {error.strerror}") from error


def write(path: Path, content: bytes, mode: int = 0o444) -> None:
    """Writes a file of this mode, durably, whole or not at all. Raises Refused."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise Refused(f"{path} cannot be written: {error.strerror}") from error


def read(path: Path) -> bytes:
    """The content of a file. Raises Refused."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from error


def _missing(path: Path) -> bool:
    try:
        return not os.path.lexists(path)
    except OSError as error:
        raise Refused(f"{path} cannot be looked at: {error.strerror}") from error


def _signing_key(path: Path) -> SigningKey:
    try:
        return SigningKey.parse(read(path), str(path))
    except ValueError as error:
        raise Refused(str(error)) from error


# -- public files, made from the secrets -----------------------------------------------------------------------------


def producer_keys(folder: Path) -> bytes:
    """The public halves of the parts' signing keys, as JSON: JWKs with `kid`. Raises Refused for what is no key."""
    keys = {part: [_signing_key(folder / f"{part}-signing-key.pem").public_jwk()] for part in PARTS}
    return json.dumps(keys, indent=2).encode()


def _foreign_producer(folder: Path) -> str | None:
    try:
        known = {part: {jwk["kid"] for jwk in jwks} for part, jwks in json.loads(read(folder / PRODUCER_KEYS)).items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return "is no JSON object of lists of keys"
    for part in PARTS:
        if _signing_key(folder / f"{part}-signing-key.pem").kid not in known.get(part, set()):
            return (
                f"has not the key of {part}-signing-key.pem: add its public half, or remove this file to make it anew"
            )
    return None


def _nats_accounts(folder: Path) -> bytes:
    import bcrypt

    digests = {
        user: bcrypt.hashpw(read(folder / f"nats-{user}").strip(), bcrypt.gensalt(DIGEST_ROUNDS)).decode()
        for user in accounts.USERS
    }
    return accounts.configuration(digests).encode()


def _foreign_account(folder: Path) -> str | None:
    import bcrypt

    again = "remove this file to make it anew, and reload NATS"
    present = read(folder / NATS_ACCOUNTS).decode("utf-8", "replace")
    try:
        digests = {user["user"]: user["password"] for user in json.loads(present.partition(":")[2])["users"]}
        if accounts.configuration(digests) != present:
            return f"gives other permissions than this version needs: {again}"
        for user in accounts.USERS:
            if not bcrypt.checkpw(read(folder / f"nats-{user}").strip(), digests[user].encode()):
                return f"has another password of {user} than nats-{user}: {again}"
    except (ValueError, TypeError, KeyError):
        return f"is not what `dossier secrets` writes: {again}"
    return None


def _vkey(folder: Path, issuer: str) -> str:
    from dossier_audit import rules
    from dossier_audit.log.notes import ED25519, NoteKey

    return NoteKey(rules.address(issuer), ED25519, _signing_key(folder / LOG_KEY).public_bytes()).vkey()


def _log_vkey(folder: Path, issuer: str | None) -> bytes | None:
    return None if issuer is None else f"{_vkey(folder, issuer)}\n".encode()


def _foreign_vkey(folder: Path, issuer: str | None) -> str | None:
    present = read(folder / LOG_VKEY).decode("utf-8", "replace").strip()
    if present == _vkey(folder, issuer or f"https://{present.partition('/v1/')[0]}"):
        return None
    return f"is not of {LOG_KEY} and this issuer: a log keeps its key and its address"
