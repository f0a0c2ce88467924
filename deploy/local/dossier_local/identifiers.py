"""Identifiers of synthetic customers, computed without the library that the records service checks them with.

Two implementations that agree say more than one that agrees with itself. Sources: GB 11643-1999, GB 32100-2015.
"""

from datetime import date

_RESIDENT_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_RESIDENT_CHECKS = "10X98765432"
CREDIT_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"


def resident_check(body: str) -> str:
    """The eighteenth character for seventeen digits (GB 11643-1999, ISO 7064 MOD 11-2)."""
    total = sum(weight * int(digit) for weight, digit in zip(_RESIDENT_WEIGHTS, body, strict=True))
    return _RESIDENT_CHECKS[total % 11]


def resident_id(region: str, born: date, order: int) -> str:
    """A resident ID with a right check digit; an odd `order` (1 to 999) belongs to a man."""
    body = f"{region}{born:%Y%m%d}{order:03d}"
    return body + resident_check(body)


def credit_check(body: str) -> str:
    """The eighteenth character for the seventeen before it (GB 32100-2015, MOD 31-3)."""
    total = sum(CREDIT_ALPHABET.index(char) * pow(3, place, 31) for place, char in enumerate(body))
    return CREDIT_ALPHABET[-total % 31]


def credit_code(region: str, organisation: str) -> str:
    """A unified social credit code of an enterprise (registering authority 9, kind 1) with a right check character."""
    body = f"91{region}{organisation}"
    return body + credit_check(body)
