"""SCRAM-SHA-256 verifiers of passwords (RFC 5803, RFC 7677), so that no password is ever sent to PostgreSQL."""

import base64
import hashlib
import hmac
import re
import secrets
from typing import Final

ITERATIONS: Final = 4096
"""As PostgreSQL's own; our passwords are 256 random bits, which no number of iterations makes harder to guess."""
_VERIFIER: Final = re.compile(r"SCRAM-SHA-256\$(\d+):([A-Za-z0-9+/=]+)\$[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+")


def ensure_plain(password: str) -> None:
    """Raises ValueError for a password that SASLprep (RFC 4013) might change, and for an empty one."""
    if not password or not password.isascii() or not password.isprintable():
        raise ValueError("a password has printable ASCII characters alone, and at least one")


def verifier(password: str, *, salt: bytes | None = None, iterations: int = ITERATIONS) -> str:
    """The verifier, with a salt of its own unless one is given. Raises ValueError as `ensure_plain`."""
    ensure_plain(password)
    salt = secrets.token_bytes(16) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    encoded = [base64.b64encode(value).decode() for value in (salt, stored, server)]
    return f"SCRAM-SHA-256${iterations}:{encoded[0]}${encoded[1]}:{encoded[2]}"


def holds(password: str, present: str | None) -> bool:
    """Whether this is the verifier of this password; what is no verifier holds for none."""
    found = _VERIFIER.fullmatch(present or "")
    if found is None:
        return False
    same = verifier(password, salt=base64.b64decode(found[2]), iterations=int(found[1]))
    return hmac.compare_digest(same, present or "")
