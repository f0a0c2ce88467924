"""Rate limits by GCRA (the leaky bucket as a meter): one number a caller, no timer.

Each replica counts for itself, so the limit of a deployment is that of one replica times their number.
"""

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple


class Verdict(NamedTuple):
    """Whether a call may pass, and what its caller is told."""

    allowed: bool
    limit: int
    remaining: int
    reset: int
    """Seconds until the whole burst is there again; for a refused call, until the next may pass."""


class Limiter:
    """`rate` calls a second, and `burst` at once."""

    def __init__(self, rate: float, burst: int, *, callers: int = 50_000) -> None:
        self.burst = burst
        self._interval = 1.0 / rate
        self._span = burst * self._interval
        self._callers = callers
        self._due: dict[Hashable, float] = {}

    def take(self, caller: Hashable, now: float) -> Verdict:
        """Counts one call of this caller at this moment; a refused call is not counted."""
        return take([(self, caller)], now)

    def next(self, caller: Hashable, now: float) -> float:
        """When the meter would be empty after one more call."""
        return max(self._due.get(caller, now), now) + self._interval

    def refuses(self, due: float, now: float) -> bool:
        """Whether that is later than the burst allows."""
        return due - now - self._span > 1e-9

    def left(self, due: float, now: float) -> float:
        """How many more calls would pass now."""
        return (now + self._span - due) / self._interval

    def verdict(self, due: float, now: float) -> Verdict:
        """What a caller is told of it."""
        if self.refuses(due, now):
            wait = max(1, math.ceil(due - now - self._span))
            return Verdict(allowed=False, limit=self.burst, remaining=0, reset=wait)
        remaining = int(self.left(due, now) + 1e-9)
        return Verdict(allowed=True, limit=self.burst, remaining=remaining, reset=math.ceil(due - now))

    def keep(self, caller: Hashable, due: float, now: float) -> None:
        """Counts the call. Empty meters are forgotten when there are too many, and then the emptiest."""
        self._due[caller] = due
        if len(self._due) > self._callers:
            self._due = {each: at for each, at in self._due.items() if at > now}
            excess = len(self._due) - self._callers * 3 // 4
            for each, _ in sorted(self._due.items(), key=lambda item: item[1])[: max(0, excess)]:
                del self._due[each]


def take(counted: Sequence[tuple[Limiter, Hashable]], now: float) -> Verdict:
    """Counts one call against all of these, or against none when one refuses; the verdict of the tightest."""
    tightest: tuple[float, Limiter, float] | None = None
    dues = []
    for limiter, caller in counted:
        due = limiter.next(caller, now)
        if limiter.refuses(due, now):
            return limiter.verdict(due, now)
        left = limiter.left(due, now)
        if tightest is None or left < tightest[0]:
            tightest = left, limiter, due
        dues.append(due)
    for (limiter, caller), due in zip(counted, dues, strict=True):
        limiter.keep(caller, due, now)
    assert tightest is not None
    return tightest[1].verdict(tightest[2], now)
