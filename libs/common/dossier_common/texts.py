"""Free text at rest: reasons, comments, statements. Sealed, so that no data directory, log or backup shows them.

They never stand in an event (invariant 7). The secret is one that the part derives from its own key.
"""

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_VERSION = b"\x01"
_NONCE = 12


class TextUnreadable(ValueError):
    """Sealed with another secret, or changed since."""


class SealedTexts:
    """Seals and opens texts with AES-256-GCM; the same text never gives the same bytes."""

    def __init__(self, secret: bytes) -> None:
        self._cipher = AESGCM(secret)

    def seal(self, text: str, bound_to: bytes = b"") -> bytes:
        """A version byte, a nonce, and the text encrypted; it opens only where `bound_to` is the same."""
        nonce = secrets.token_bytes(_NONCE)
        return _VERSION + nonce + self._cipher.encrypt(nonce, text.encode(), _VERSION + bound_to)

    def open(self, sealed: bytes, bound_to: bytes = b"") -> str:
        """The text. Raises TextUnreadable."""
        version, nonce, body = sealed[:1], sealed[1 : 1 + _NONCE], sealed[1 + _NONCE :]
        try:
            if version != _VERSION:
                raise TextUnreadable("sealed in another way")
            return self._cipher.decrypt(nonce, body, version + bound_to).decode()
        except (InvalidTag, ValueError) as error:
            raise TextUnreadable("sealed with another secret, or changed") from error
