"""Which headers pass, in either direction. What a caller says of himself or of his address does not."""

import re
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import Final

from dossier_gateway.settings import Network

Raw = tuple[bytes, bytes]

HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    }
)
"""RFC 9110, 7.6.1."""
NOT_FORWARDED: Final = HOP_BY_HOP | {
    b"authorization",
    b"txn-token",
    b"cookie",
    b"host",
    b"forwarded",
    b"via",
    b"x-real-ip",
    b"x-request-id",
    b"content-length",
    b"expect",
}
NOT_RETURNED: Final = HOP_BY_HOP | {b"set-cookie", b"server", b"date", b"x-request-id", b"alt-svc"}
MAX_HEADERS: Final = 32 * 1024
MAX_ADDRESS: Final = 8 * 1024
_DIGITS: Final = re.compile(rb"^[0-9]{1,18}$")


def passed_on(headers: Iterable[Raw]) -> list[tuple[str, str]]:
    """The headers of a request that a part may see: neither credentials nor claims about the connection."""
    headers = list(headers)
    named = _named_in_connection(headers)
    return [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in headers
        if name not in NOT_FORWARDED and name not in named and not name.startswith((b"x-forwarded-", b"proxy-"))
    ]


def returned(headers: Iterable[Raw], security: Sequence[Raw]) -> list[Raw]:
    """The headers of an answer that the caller sees, with the security headers that the part did not set."""
    lowered = [(name.lower(), value) for name, value in headers]
    named = _named_in_connection(lowered)
    kept = [(name, value) for name, value in lowered if name not in NOT_RETURNED and name not in named]
    present = {name for name, _ in kept}
    return [*kept, *(each for each in security if each[0] not in present)]


def _named_in_connection(headers: Iterable[Raw]) -> frozenset[bytes]:
    return frozenset(
        name.strip().lower()
        for header, value in headers
        if header == b"connection"
        for name in value.split(b",")
        if name.strip().lower() != b"close"
    )


def security_headers(*, secure: bool) -> list[Raw]:
    """On every answer."""
    found = [
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"x-frame-options", b"DENY"),
        (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"cache-control", b"no-store"),
    ]
    return [*found, (b"strict-transport-security", b"max-age=31536000")] if secure else found


def first(headers: Iterable[Raw], wanted: bytes) -> bytes | None:
    """The value of a header."""
    return next((value for name, value in headers if name == wanted), None)


def length(headers: Sequence[Raw]) -> int | None:
    """The body's length where it is declared; 0 without a body, None when it comes in chunks.

    Raises ValueError for framing that can be read in two ways (RFC 9112, 6.3).
    """
    lengths = [value for name, value in headers if name == b"content-length"]
    coded = [value for name, value in headers if name == b"transfer-encoding"]
    if coded:
        if lengths or [value.strip().lower() for value in coded] != [b"chunked"]:
            raise ValueError("framing")
        return None
    if not lengths:
        return 0
    if len(set(lengths)) != 1 or not _DIGITS.match(lengths[0]):
        raise ValueError("framing")
    return int(lengths[0])


def address(peer: str, headers: Iterable[Raw], trusted: Sequence[Network]) -> str:
    """The caller's address: the peer's, or what the nearest trusted proxy said of it."""
    if not trusted or not _within(peer, trusted):
        return peer
    said = [
        each.strip()
        for name, value in headers
        if name == b"x-forwarded-for"
        for each in value.decode("latin-1").split(",")
    ]
    for each in reversed(said):
        try:
            ip_address(each)
        except ValueError:
            return peer
        if not _within(each, trusted):
            return each
        peer = each
    return peer


def _within(given: str, networks: Sequence[Network]) -> bool:
    try:
        at = ip_address(given)
    except ValueError:
        return False
    return any(at in network for network in networks)
