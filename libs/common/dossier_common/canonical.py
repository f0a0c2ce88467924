"""Canonical JSON (RFC 8785) and digests over it."""

import hashlib
from typing import Any, Final

import orjson
import rfc8785

_LARGEST: Final = 2**53 - 1


def canonical(value: Any) -> bytes:
    """The one RFC 8785 encoding of a JSON value.

    Raises ValueError for what has none: a number that a double cannot hold, a lone surrogate, another type.
    """
    if _plain(value):
        try:
            return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
        except TypeError as error:
            raise ValueError("not a JSON value") from error
    return rfc8785.dumps(value)


def _plain(value: Any) -> bool:
    """Whether orjson encodes it as RFC 8785 says, 200 times faster: no floats, and keys that any order sorts alike."""
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return True
    if kind is int:
        return bool(-_LARGEST <= value <= _LARGEST)
    if kind is dict:
        return all(type(key) is str and key.isascii() and _plain(inner) for key, inner in value.items())
    return kind is list and all(map(_plain, value))


def sha256(data: bytes) -> bytes:
    """SHA-256, 32 bytes."""
    return hashlib.sha256(data).digest()
