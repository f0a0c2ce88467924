"""Rate limits by GCRA (the leaky bucket as a meter): one number a caller, no timer.

Each replica counts for itself, so the limit of a deployment is that of one replica times their number.
"""

import math
from typing import NamedTuple

from cachetools import LRUCache


class Verdict(NamedTuple):
    """Whether a call may pass, and what its caller is told."""

    allowed: bool
    remaining: int
    reset: int
    """Seconds until the whole burst is there again; for a refused call, until the next may pass."""


class Limiter:
    """`rate` calls a second, and `burst` at once."""

    def __init__(self, rate: float, burst: int, *, callers: int = 50_000) -> None:
        self.burst = burst
        self._interval = 1.0 / rate
        self._span = burst * self._interval
        self._due: LRUCache[str, float] = LRUCache(callers)

    def take(self, caller: str, now: float) -> Verdict:
        """Counts one call of this caller at this moment; a refused call is not counted."""
        due = max(self._due.get(caller, now), now) + self._interval
        over = due - now - self._span
        if over > 1e-9:
            return Verdict(allowed=False, remaining=0, reset=max(1, math.ceil(over)))
        self._due[caller] = due
        remaining = int((self._span - (due - now)) / self._interval + 1e-9)
        return Verdict(allowed=True, remaining=remaining, reset=math.ceil(due - now))
