"""Canonical JSON (RFC 8785) and digests over it."""

import hashlib
from typing import Any

import rfc8785


def canonical(value: Any) -> bytes:
    """The one RFC 8785 encoding of a JSON value."""
    return rfc8785.dumps(value)


def sha256(data: bytes) -> bytes:
    """SHA-256, 32 bytes."""
    return hashlib.sha256(data).digest()
