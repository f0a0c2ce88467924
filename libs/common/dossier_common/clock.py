"""Time, injected: nothing else in the product asks the machine what time it is."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Tells an aware instant in UTC."""

    def now(self) -> datetime:
        """The present instant, in UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The present instant, in UTC."""
        return datetime.now(UTC)


class ManualClock:
    """A clock that stands until it is told to move; for tests and for questions about another day."""

    def __init__(self, at: datetime) -> None:
        self._at = at

    def now(self) -> datetime:
        """The instant that it was set to."""
        return self._at

    def advance(self, by: timedelta) -> None:
        """Moves forward, or backward with a negative duration."""
        self._at += by


async def set_within(event: asyncio.Event, seconds: float) -> bool:
    """Waits for an event, at most so long; whether it is set. Not `wait_for`, which before 3.12 loses cancellations."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
