"""Envelope encryption: one data key per record version, each field sealed with it on its own.

Associated data binds record, field and version, so that nothing can be moved; the algorithm's name stands in each
envelope. Pure: no file, no database. Source: ARCHITECTURE.md, "Secrets and destruction".
"""

import hmac
import secrets
from base64 import b64decode, b64encode
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import SM4
from cryptography.hazmat.primitives.ciphers.modes import GCM

NONCE = 12
TAG = 16
KEY_BYTES: Final = {"AES-256-GCM": 32, "SM4-GCM": 16}


class CannotOpen(Exception):
    """The key does not open this: it is another one, or what is sealed was changed."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """What is stored of a version: its sealed fields, and its data key wrapped under an epoch of a ring."""

    ring: str
    key_epoch: int
    wrapped_key: bytes
    sealed: bytes


def new_key(algorithm: str) -> bytes:
    """A fresh data key."""
    return secrets.token_bytes(KEY_BYTES[algorithm])


def encrypt(algorithm: str, key: bytes, plain: bytes, bound: bytes) -> bytes:
    """Nonce, ciphertext and tag; `bound` is the associated data."""
    nonce = secrets.token_bytes(NONCE)
    if algorithm == "AES-256-GCM":
        return nonce + AESGCM(key).encrypt(nonce, plain, bound)
    encryptor = Cipher(SM4(key), GCM(nonce)).encryptor()
    encryptor.authenticate_additional_data(bound)
    return nonce + encryptor.update(plain) + encryptor.finalize() + encryptor.tag


def decrypt(algorithm: str, key: bytes, sealed: bytes, bound: bytes) -> bytes:
    """Raises CannotOpen."""
    return _opener(algorithm, key)(sealed, bound)


def _opener(algorithm: str, key: bytes) -> Callable[[bytes, bytes], bytes]:
    if algorithm == "AES-256-GCM":
        aes = AESGCM(key)

        def open_aes(sealed: bytes, bound: bytes) -> bytes:
            try:
                return aes.decrypt(sealed[:NONCE], sealed[NONCE:], bound)
            except (InvalidTag, ValueError) as error:
                raise CannotOpen from error

        return open_aes
    if algorithm != "SM4-GCM":
        raise CannotOpen

    def open_sm4(sealed: bytes, bound: bytes) -> bytes:
        try:
            mode = GCM(sealed[:NONCE], sealed[-TAG:])
            decryptor = Cipher(SM4(key), mode).decryptor()
            decryptor.authenticate_additional_data(bound)
            return decryptor.update(sealed[NONCE:-TAG]) + decryptor.finalize()
        except (InvalidTag, ValueError) as error:
            raise CannotOpen from error

    return open_sm4


def _bound(record: UUID, field: str, version: int) -> bytes:
    return b"dossier-field-v1\n%s\n%s\n%d" % (record.bytes.hex().encode(), field.encode(), version)


def seal(algorithm: str, key: bytes, record: UUID, version: int, fields: Mapping[str, str]) -> bytes:
    """The fields of one version, each sealed on its own, as JSON with the algorithm's name."""
    sealed = {
        name: b64encode(encrypt(algorithm, key, value.encode(), _bound(record, name, version))).decode()
        for name, value in fields.items()
    }
    return orjson.dumps({"alg": algorithm, "fields": sealed})


def names(sealed: bytes) -> tuple[str, ...]:
    """Which fields an envelope holds; needs no key. Raises CannotOpen for what is no envelope."""
    return tuple(_envelope(sealed)[1])


def unseal(key: bytes, record: UUID, version: int, sealed: bytes, wanted: Collection[str]) -> dict[str, str]:
    """The wanted fields in the clear. Raises CannotOpen."""
    algorithm, fields = _envelope(sealed)
    try:
        open_field = _opener(algorithm, key)
        return {
            name: open_field(b64decode(text, validate=True), _bound(record, name, version)).decode()
            for name, text in fields.items()
            if name in wanted
        }
    except ValueError as error:
        raise CannotOpen from error


def _envelope(sealed: bytes) -> tuple[str, dict[str, str]]:
    try:
        envelope = orjson.loads(sealed)
        return str(envelope["alg"]), dict(envelope["fields"])
    except (ValueError, KeyError, TypeError) as error:
        raise CannotOpen from error


def blind(index_key: bytes, field: str, value: str) -> bytes:
    """Keyed digest of a normalised value (HMAC-SHA256)."""
    return hmac.digest(index_key, field.encode() + b"\0" + value.encode(), "sha256")
