"""Waiting for what other tasks do, with an end."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest


async def eventually(ask: Callable[[], Coroutine[Any, Any, object]], expected: object, seconds: float = 60) -> None:
    """Returns when the answer is as expected; fails after some time."""
    until = asyncio.get_running_loop().time() + seconds
    while (found := await ask()) != expected:
        if asyncio.get_running_loop().time() > until:
            pytest.fail(f"expected {expected}, found {found}")
        await asyncio.sleep(0.02)


def happens(holds: Callable[[], bool], seconds: float) -> bool:
    """Whether it is so within some time; for tests without an event loop."""
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


@asynccontextmanager
async def running(*jobs: Awaitable[None]) -> AsyncIterator[None]:
    """These jobs, until the context is left; one that ended by itself fails the test."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        yield
    finally:
        ended = [task for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        assert not ended
