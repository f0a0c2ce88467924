"""A run: traffic before, during and after one fault, and then the comparison."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from tests.faults.checker import AWAY, Checker, Log
from tests.faults.client import Acknowledged, Kind, Traffic, traffic
from tests.faults.injector import Injector, NotInjected
from tests.faults.stack import Stack, started

BOUND: Final = 60.0
"""Seconds within which everything acknowledged has to be in the log, and every kind of call to be answered again."""
LOOK_EVERY: Final = 0.1

Act = Callable[["Rig", random.Random], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    """A row of the table. Its acts are the variants that its runs take in turn; each returns when the fault is over."""

    name: str
    acts: Sequence[Act]
    runs: int
    """In the long round."""
    short: int = 1
    """In the short round: so many runs, each with the next variant."""
    restored: str | None = None
    """The part that comes back from an older backup: what its own database had since then is lost with it."""
    mounts: bool = False
    """Whether it needs disks of the harness."""


@dataclass
class Outcome:
    """What one run showed."""

    acknowledged: int = 0
    stored: int = 0
    duplicate: int = 0
    missing: int = 0
    unrecorded: int = 0
    """Readings answered with content of which there is no record."""
    seconds: float | None = None
    """From the end of the fault until all is in the log and every kind of call is answered; nothing: not in time."""
    findings: list[str] = field(default_factory=list)

    @property
    def red(self) -> bool:
        """Whether a promise was broken."""
        return bool(self.duplicate or self.missing or self.unrecorded or self.findings or self.seconds is None)


@dataclass
class Rig:
    """A stack under fault, with client, injector and checker."""

    stack: Stack
    traffic: Traffic
    injector: Injector
    checker: Checker
    bound: float = BOUND
    lost: Callable[[Sequence[Acknowledged]], Awaitable[bool]] | None = None
    """Tells early that what is missing will never be in the log; for broken products."""
    gone: set[str] = field(default_factory=set)
    """Records that a restore of the records service took; the log has their events."""
    begun: int = 0
    """How much had been acknowledged before this run."""
    excused: list[Acknowledged] = field(default_factory=list)
    """Acknowledged in this run, and lost from its part's own database by a restore."""

    @property
    def acknowledged(self) -> Sequence[Acknowledged]:
        """In this run."""
        return self.traffic.acknowledged[self.begun :]

    async def flowing(self, since: float) -> bool:
        """Waits until a call of each kind that began after this moment is acknowledged. False: not within the bound."""
        until = monotonic() + self.bound
        while {each.kind for each in self.acknowledged if each.asked_at >= since} != set(Kind):
            if monotonic() > until or self.traffic.failed():
                return False
            await asyncio.sleep(LOOK_EVERY)
        return True

    async def settled(self) -> bool:
        """Waits until all that is acknowledged now is in the log. False: not within the bound."""
        until, wanted = monotonic() + self.bound, list(self.acknowledged)
        while True:
            try:
                wanted = (await self.checker.read_log()).lacks(wanted)
            except AWAY:  # the database is what the fault took
                pass
            else:
                if not wanted:
                    return True
            if monotonic() > until or (self.lost is not None and await self.lost(wanted)):
                return False
            await asyncio.sleep(LOOK_EVERY)

    async def told(self, holds: Callable[[Log], bool]) -> bool:
        """Waits until it holds of the log. False: not within the bound."""
        until = monotonic() + self.bound
        while not holds(await self.checker.read_log()):
            if monotonic() > until:
                return False
            await asyncio.sleep(LOOK_EVERY)
        return True

    async def quiet(self) -> None:
        """Stops the traffic, and waits until all of it is in the log. Raises NotInjected."""
        await self.traffic.stop()
        if not await self.settled():
            raise NotInjected("what was acknowledged before the fault is not in the log")


@dataclass(frozen=True)
class _Before:
    """How things stood before a run."""

    places: Mapping[str, tuple[int, int]]
    repeated: int
    again: int
    wrong: int
    alarms: int
    generation: int


async def run(rig: Rig, fault: Fault, variant: int, seed: int) -> Outcome:
    """One run of a fault; its random choices follow from the seed. Raises NotInjected, and what no fault excuses."""
    chance = random.Random(f"{fault.name} {seed}")
    rig.begun, rig.excused = len(rig.traffic.acknowledged), []
    log = await rig.checker.read_log()
    place = (len(log.repeated), len(log.again), len(log.wrong), log.alarms, log.generation)
    before = _Before(await rig.checker.places(), *place)
    rig.traffic.troubles.clear()
    rig.traffic.start()
    if not await rig.flowing(monotonic()):
        raise NotInjected(f"no traffic before {fault.name}: {dict(rig.traffic.troubles)}")
    await asyncio.sleep(chance.uniform(0.1, 0.4))
    await fault.acts[variant % len(fault.acts)](rig, chance)
    outcome = await _recovered(rig)
    await rig.traffic.stop()
    await rig.settled()
    await _compare(rig, outcome, before.places)
    await _inspect(rig, outcome, before, fault.restored)
    return outcome


async def _recovered(rig: Rig) -> Outcome:
    """How long it takes until all is well again."""
    over, outcome = monotonic(), Outcome()
    if await rig.flowing(over) and await rig.settled():
        outcome.seconds = monotonic() - over
    else:
        outcome.findings.append(f"not well again in time: {dict(rig.traffic.troubles)}")
    if not await rig.injector.whole(rig.bound):
        outcome.findings.append(f"a process is not ready, or a stream not there, after {rig.bound:.0f} s")
    return outcome


async def _compare(rig: Rig, outcome: Outcome, since: Mapping[str, tuple[int, int]]) -> None:
    """Acknowledged = stored = in the log; and every record has its event, and every event its record."""
    acknowledged, log = rig.acknowledged, await rig.checker.read_log()
    absent = set(await rig.checker.not_stored(acknowledged, since))
    missing = set(log.lacks(acknowledged)) | (absent - set(rig.excused))
    outcome.acknowledged = len(acknowledged)
    outcome.stored = len(acknowledged) - len(absent)
    outcome.missing = len(missing)
    outcome.unrecorded = sum(each.kind is Kind.READ for each in missing)
    outcome.duplicate = sum(log.keys[each.kind][each.key] > 1 for each in acknowledged)
    registered, catalogue = set(log.keys[Kind.REGISTERED]), await rig.checker.catalogue()
    if unknown := catalogue - registered:
        outcome.findings.append(f"{len(unknown)} records without their event in the log")
    if unstored := registered - catalogue - rig.gone:
        outcome.findings.append(f"{len(unstored)} events of records that are not stored")


async def _inspect(rig: Rig, outcome: Outcome, before: _Before, restored: str | None) -> None:
    """The log itself: whole, nothing twice (but again in a new epoch, after a restore), and with its alarms.

    After a restore of the audit service all of it was read again.
    """
    log, anew = rig.checker.log, restored == "audit"
    outcome.findings += log.wrong[0 if anew else before.wrong :]
    outcome.duplicate += len(log.repeated) - (0 if anew else before.repeated)
    if restored is None:
        outcome.duplicate += len(log.again) - before.again
    elif anew and not await rig.told(lambda log: log.generation > before.generation):
        outcome.findings.append("no new log says that the audit service was restored")
    elif not anew and not await rig.told(lambda log: log.alarms > before.alarms):
        outcome.findings.append("no alarm says that a producer was restored")


@asynccontextmanager
async def rig(seed: int) -> AsyncIterator[Rig]:
    """A fresh stack with all that is needed to test it."""
    with started() as stack:
        async with traffic(stack, seed) as calls:
            yield Rig(stack, calls, Injector(stack), Checker(stack))
