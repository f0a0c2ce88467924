"""Who may come in, how many at once, and how long they may take: what the connections of one server share."""

import asyncio
from collections import Counter
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Limits:
    """What a connection may take. Seconds are kept to within one."""

    head_bytes: int = 72 * 1024
    """Request line and headers together."""
    head_fields: int = 112
    head_seconds: float = 10.0
    """From the first byte of a request, or from the connection, to the end of its headers."""
    body_seconds: float = 30.0
    """Silence within a body; also how long an answer may wait for a peer that does not read it."""
    idle_seconds: float = 75.0
    linger_seconds: float = 5.0
    """Silence after which a connection that is over is dropped; who goes on sending may first read his answer."""
    per_address: int = 1024
    """Connections of one address."""
    exempt: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks without that limit: proxies that speak for many."""


class Guest(Protocol):
    """A connection, as the door sees it."""

    def look(self, now: float) -> None:
        """Ends what takes too long."""
        ...


class Door:
    """What the connections of one server share: how many each address has, and the watch over their time."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._inside: set[Guest] = set()
        self._addresses: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, connection: Guest, address: str) -> bool:
        """Whether the address may have one more."""
        if self._addresses[address] >= self.limits.per_address and not self._exempt(address):
            return False
        self._addresses[address] += 1
        self._inside.add(connection)
        if self._timer is None:
            self._watch()
        return True

    def _exempt(self, address: str) -> bool:
        return bool(address) and any(ip_address(address) in network for network in self.limits.exempt)

    def leave(self, connection: Guest, address: str) -> None:
        """Ends a connection that had entered."""
        if connection not in self._inside:
            return
        self._inside.discard(connection)
        self._addresses[address] -= 1
        if not self._addresses[address]:
            del self._addresses[address]

    def _watch(self) -> None:
        """Looks at all connections once a second: a timer for each request would cost more than the parser."""
        loop = asyncio.get_running_loop()
        limits = self.limits
        every = min(1.0, limits.head_seconds / 4, limits.body_seconds / 4, limits.idle_seconds / 4)

        def look() -> None:
            now = loop.time()
            for connection in list(self._inside):
                connection.look(now)
            self._timer = loop.call_later(every, look) if self._inside else None

        self._timer = loop.call_later(every, look)
