"""Which headers pass, in either direction. What a caller says of himself or of his address does not."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final

from starlette.types import Message, Send

from dossier_common.problems import Malformed
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
NOT_RETURNED: Final = HOP_BY_HOP | {
    b"set-cookie",
    b"server",
    b"date",
    b"x-request-id",
    b"alt-svc",
    b"ratelimit",
    b"ratelimit-policy",
    b"ratelimit-limit",
    b"ratelimit-remaining",
    b"ratelimit-reset",
}
_NOT_FORWARDED_PREFIXES: Final = (b"x-forwarded-", b"proxy-")
_NOT_RETURNED_PREFIXES: Final = (b"x-ratelimit-", b"access-control-")
MAX_ADDRESS: Final = 8 * 1024
_DIGITS: Final = re.compile(rb"^[0-9]{1,18}$")
_KEEPING: Final = frozenset({b"close", b"keep-alive"})


@dataclass(slots=True)
class Inbound:
    """The headers of a request, read once."""

    kept: list[Raw] = field(default_factory=list)
    """What a part may see: neither credentials nor claims about the connection."""
    authorizations: list[bytes] = field(default_factory=list)
    forwarded_for: list[bytes] = field(default_factory=list)
    framing: list[Raw] = field(default_factory=list)

    @classmethod
    def read(cls, headers: Iterable[Raw]) -> "Inbound":
        """Of headers with names in small letters."""
        found = cls()
        kept, named = found.kept, frozenset[bytes]()
        for header in headers:
            name, value = header
            if name in NOT_FORWARDED:
                if name == b"authorization":
                    found.authorizations.append(value)
                elif name in {b"content-length", b"transfer-encoding"}:
                    found.framing.append(header)
                elif name == b"connection":
                    named |= _named(value)
            elif not name.startswith(_NOT_FORWARDED_PREFIXES):
                kept.append(header)
            elif name == b"x-forwarded-for":
                found.forwarded_for.append(value)
        if named:
            found.kept = [each for each in kept if each[0] not in named]
        return found

    def bearer(self) -> str | None:
        """The token, when there is one and no doubt about it."""
        if len(self.authorizations) != 1:
            return None
        scheme, _, token = self.authorizations[0].partition(b" ")
        return token.strip().decode("latin-1") if scheme.lower() == b"bearer" and token.strip() else None

    def length(self) -> int | None:
        """The body's length where it is declared; 0 without a body, None when it comes in chunks.

        Raises Malformed for framing that can be read in two ways (RFC 9112, 6.3).
        """
        if not self.framing:
            return 0
        (name, value), *more = self.framing
        if not more and name == b"content-length" and _DIGITS.match(value):
            return int(value)
        if not more and name == b"transfer-encoding" and value.strip().lower() == b"chunked":
            return None
        raise Malformed("The length of the body is not clear.", headers={"Connection": "close"})


def returned(headers: Iterable[Raw], security: Sequence[Raw]) -> list[Raw]:
    """The headers of an answer that the caller sees, with the security headers that the part did not set."""
    kept: list[Raw] = []
    named = frozenset[bytes]()
    for header in headers:  # names in small letters
        name, value = header
        if name in NOT_RETURNED:
            if name == b"connection":
                named |= _named(value)
        elif not name.startswith(_NOT_RETURNED_PREFIXES):
            kept.append(header)
    if named:
        kept = [each for each in kept if each[0] not in named]
    present = {name for name, _ in kept}
    kept += [each for each in security if each[0] not in present]
    return kept


def _named(connection: bytes) -> frozenset[bytes]:
    """The headers that `Connection` names as meant for the next hop only."""
    return frozenset(name.strip().lower() for name in connection.split(b",")) - _KEEPING


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


def secured(send: Send, security: Sequence[Raw], *, without: bytes = b"") -> Send:
    """Adds to an answer the security headers that it lacks, and drops one header of it."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [each for each in message["headers"] if each[0] != without]
            present = {name for name, _ in headers}
            message = {**message, "headers": [*headers, *(each for each in security if each[0] not in present)]}
        await send(message)

    return sending


def first(headers: Iterable[Raw], wanted: bytes) -> bytes | None:
    """The value of a header."""
    return next((value for name, value in headers if name == wanted), None)


def address(peer: str, forwarded_for: Iterable[bytes], trusted: Sequence[Network]) -> str:
    """The caller's address: the peer's, or what the nearest trusted proxy said of it."""
    if not trusted or not _within(peer, trusted):
        return peer
    said = [each.strip() for value in forwarded_for for each in value.decode("latin-1").split(",")]
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
