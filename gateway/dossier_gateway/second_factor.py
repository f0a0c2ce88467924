"""The second factor: time-based one-time codes (RFC 6238), and the recovery codes that stand in for a lost device.

A code is six digits of HMAC-SHA-1 over the half minute, as every authenticator makes it. It is taken in its own half
minute and the ones beside it, and never twice: whoever reads it over a shoulder comes too late. Secrets rest sealed.
"""

import base64
import hmac
import secrets
from collections.abc import Collection, Iterable
from datetime import datetime
from io import BytesIO
from typing import Final
from uuid import UUID

import pyotp
import segno

from dossier_common.keys import SigningKey
from dossier_common.policy import Policy
from dossier_common.texts import SealedTexts

ISSUER: Final = "Dossier"
PASSWORD, ONE_TIME = "pwd", "otp"
"""Authentication methods (RFC 8176), as sessions and tokens name them in `amr`."""
STEP_SECONDS: Final = 30
DRIFT: Final = 1
"""Steps by which a device's clock may differ."""
RECOVERY_CODES: Final = 10
_RECOVERY_BYTES: Final = 16


def new_secret() -> str:
    """160 random bits in base32, as authenticators take them (RFC 4226, 4)."""
    return pyotp.random_base32()


def used_step(secret: str, code: str, now: datetime, last: int) -> int | None:
    """The step that this code is of, when it may be used now; None for a wrong code, and for one up to `last`."""
    typed = "".join(code.split())
    present = int(now.timestamp()) // STEP_SECONDS
    totp = pyotp.TOTP(secret)
    found = None
    for step in range(present - DRIFT, present + DRIFT + 1):
        if hmac.compare_digest(totp.generate_otp(step).encode(), typed.encode()) and step > last:
            found = step
    return found


def picture(secret: str, username: str) -> str:
    """The QR code that an authenticator reads, as SVG to stand inside a page."""
    uri = pyotp.TOTP(secret).provisioning_uri(name=username, issuer_name=ISSUER)
    drawn = BytesIO()
    segno.make(uri, error="m", micro=False).save(
        drawn, kind="svg", border=4, dark="#000", light="#fff", omitsize=True, xmldecl=False, svgns=False, nl=False
    )
    return drawn.getvalue().decode()


def grouped(secret: str) -> str:
    """The secret as people copy it, in groups of four."""
    return " ".join(secret[at : at + 4] for at in range(0, len(secret), 4))


def new_recovery_codes() -> list[str]:
    """Codes of 128 random bits each, to be shown once."""
    return [_written(secrets.token_bytes(_RECOVERY_BYTES)) for _ in range(RECOVERY_CODES)]


def _written(raw: bytes) -> str:
    text = base64.b32encode(raw).decode().rstrip("=").lower()
    return "-".join((*(text[at : at + 5] for at in range(0, 20, 5)), text[20:]))


def read_recovery_code(typed: str) -> str:
    """What its digest is made of, however it was typed."""
    return "".join(each for each in typed.lower() if each.isalnum())


def needed(policy: Policy, roles: Iterable[str]) -> bool:
    """Whether somebody with these roles signs in with a second factor; a role that the policy lost asks for none."""
    held = frozenset(roles)
    return any(role.second_factor and role.id in held for role in policy.roles)


def in_force(policy: Policy, roles: Iterable[str], amr: Collection[str]) -> list[str]:
    """Those of the roles that count in a session that was opened in this way; unknown ones count in none."""
    counting = {role.id for role in policy.roles if ONE_TIME in amr or not role.second_factor}
    return [role for role in roles if role in counting]


class Seal:
    """Keeps secrets from the data directory, its log and backups; one that was moved to another account opens not."""

    def __init__(self, key: SigningKey) -> None:
        self._texts = SealedTexts(key.derive("second factors"))

    def seal(self, secret: str, account: UUID) -> bytes:
        """For this account."""
        return self._texts.seal(secret, account.bytes)

    def open(self, sealed: bytes, account: UUID) -> str:
        """The secret. Raises TextUnreadable."""
        return self._texts.open(sealed, account.bytes)
