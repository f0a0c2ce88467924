"""The configuration file (TOML): who the witness is, where it keeps what, and which logs it knows."""

import os
import re
import stat
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from dossier_witness.note import Cosigner, Malformed, Verifier, is_name
from dossier_witness.store import sync_folder

_FIELDS: Final = {"name", "key_file", "state", "listen", "logs"}
_LOG_FIELDS: Final = {"vkey", "origin"}
_LISTEN: Final = re.compile(r"(?P<host>[^\[\]:]+|\[[0-9A-Fa-f:]+\]):(?P<port>[0-9]{1,5})")


class ConfigUnusable(Exception):
    """The configuration or the key cannot be used; its text is a sentence for the operator."""


@dataclass(frozen=True)
class Config:
    """A valid configuration. `logs` has, for each origin, the keys that are trusted for it."""

    name: str
    key_file: Path
    state: Path
    host: str
    port: int
    logs: dict[str, tuple[Verifier, ...]]

    @classmethod
    def read(cls, path: Path) -> "Config":
        """Relative paths in it start at its own folder. Raises ConfigUnusable, naming what is wrong."""
        try:
            content = tomllib.loads(path.read_text())
        except OSError as error:
            raise ConfigUnusable(f"{path} cannot be read: {error.strerror}.") from error
        except ValueError as error:
            raise ConfigUnusable(f"{path} is not TOML: {error}.") from error
        try:
            return cls._of(content, path.resolve().parent)
        except Malformed as error:
            raise ConfigUnusable(f"{path}: {error}.") from error

    @classmethod
    def _of(cls, content: dict[str, Any], folder: Path) -> "Config":
        _ensure_known(content, _FIELDS)
        name = _text(content, "name")
        if not is_name(name):
            raise Malformed("name has to be without spaces and plus signs, best an address without its scheme")
        listen = _LISTEN.fullmatch(_text(content, "listen"))
        if listen is None or not 0 < int(listen["port"]) < 65536:
            raise Malformed("listen has to be <host>:<port>, for example 127.0.0.1:8100 or [::1]:8100")
        return cls(
            name=name,
            key_file=folder / _text(content, "key_file"),
            state=folder / _text(content, "state"),
            host=listen["host"].strip("[]"),
            port=int(listen["port"]),
            logs=_logs(content.get("logs")),
        )


def _logs(entries: object) -> dict[str, tuple[Verifier, ...]]:
    if not isinstance(entries, list) or not entries or not all(isinstance(each, dict) for each in entries):
        raise Malformed("there has to be a [[logs]] entry for each key of each log")
    logs: dict[str, tuple[Verifier, ...]] = {}
    for entry in entries:
        _ensure_known(entry, _LOG_FIELDS)
        key = Verifier.parse(_text(entry, "vkey"))
        origin = _text(entry, "origin") if "origin" in entry else key.name
        others = logs.get(origin, ())
        if any((each.name, each.key_id) == (key.name, key.key_id) for each in others):
            raise Malformed(f"two keys of {origin} have one name and key id")
        logs[origin] = (*others, key)
    return logs


def _ensure_known(table: dict[str, Any], known: set[str]) -> None:
    unknown = sorted(set(table) - known)
    if unknown:
        raise Malformed(f"{', '.join(unknown)} is not a setting (there are {', '.join(sorted(known))})")


def _text(table: dict[str, Any], name: str) -> str:
    value = table.get(name)
    if not isinstance(value, str) or not value:
        raise Malformed(f"{name} has to be given, as a text")
    return value


def read_cosigner(config: Config) -> Cosigner:
    """The witness's key. Raises ConfigUnusable: for one that others may read, too."""
    path = config.key_file
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            pem = file.read()
    except OSError as error:
        raise ConfigUnusable(f"{path} cannot be read: {error.strerror}.") from error
    if mode & 0o077:
        raise ConfigUnusable(f"{path} has mode {mode:04o}: its owner alone may use it (chmod 600).")
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigUnusable(f"{path} is not an unencrypted private key in PEM.") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigUnusable(f"{path} is not an Ed25519 key.")
    return Cosigner(config.name, key)


def write_key(path: Path, key: Ed25519PrivateKey) -> None:
    """A new file of mode 0600, whole or not at all, and durable. Raises ConfigUnusable where there is one already."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)  # unlike a rename, this replaces nothing
        sync_folder(path.parent)
    except OSError as error:
        raise ConfigUnusable(f"{path} cannot be made: {error.strerror}.") from error
    finally:
        draft.unlink(missing_ok=True)
