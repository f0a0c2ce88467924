"""The harness against broken products: each mutant under a fault that shows it. Every one must turn its row red."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Final

from tests.faults.checker import Place
from tests.faults.client import Acknowledged
from tests.faults.faults import killed
from tests.faults.injector import NotInjected
from tests.faults.rounds import Fault, Outcome, Rig, run

QUIET: Final = 4.0
"""Seconds for which the log of a whole stack under traffic takes nothing of a producer that lacks something."""


@dataclass(frozen=True)
class Mutant:
    """A broken product, the fault that shows it, and the column in which it must show."""

    name: str
    processes: Mapping[str, Sequence[str]]
    victim: str
    column: Callable[[Outcome], int]
    others: Mapping[str, Sequence[str]]
    """Mutations that belong to it and break nothing by themselves: with these alone the row must stay green."""
    repaired: bool
    """Whether a sound product, started on what the broken one has left, brings back what was missing."""
    lost: Callable[[Rig], Awaitable[bool]]
    """The evidence that what is missing is lost, not late."""


async def _passed_over(rig: Rig) -> bool:
    """The log goes on behind something that was acknowledged."""
    return bool(rig.checker.log.passed_over(rig.acknowledged))


async def _marked(rig: Rig) -> bool:
    """The relay has nothing left to publish."""
    return await rig.checker.has_marked_all("records")


async def _hole(rig: Rig) -> bool:
    """What was taken in goes on behind something that was not."""
    return await rig.checker.has_hole()


MUTANTS: Final = (
    Mutant(
        "a read that decrypts and answers before it commits",
        {"records-web": ["answers-first"]},
        "records-web",
        lambda outcome: outcome.unrecorded,
        others={},
        repaired=False,
        lost=_passed_over,
    ),
    Mutant(
        "a relay that marks before it publishes, with no feed to repair it",
        {"records-worker": ["marks-first"]},
        "records-worker",
        lambda outcome: outcome.missing,
        others={"audit-worker": ["no-feed"]},
        repaired=True,
        lost=_marked,
    ),
    Mutant(
        "a consumer that acknowledges before it commits",
        {"audit-worker": ["acknowledges-first"]},
        "audit-worker",
        lambda outcome: outcome.missing,
        others={},
        repaired=False,
        lost=_hole,
    ),
)
"""In this order: the last leaves a hole behind which the log cannot go on."""


@dataclass(frozen=True)
class Proof:
    """What one mutant showed."""

    mutant: Mutant
    sound: Outcome | None
    """The same fault, with the other mutations alone, where there are some."""
    broken: Outcome
    lost: bool
    """What was missing was lost, not late."""
    repaired: bool
    """Whether everything was in the log after the sound product had started again."""

    @property
    def holds(self) -> bool:
        """The row is green without the mutant, and red with it, in the column where it must be."""
        red = self.broken.red and self.mutant.column(self.broken) > 0 and self.lost
        return red and not (self.sound and self.sound.red) and self.repaired is self.mutant.repaired


async def prove(rig: Rig, mutant: Mutant, seed: int) -> Proof:
    """Runs the fault on the mutant; where others belong to it, first without it, and then on what it has left."""
    fault = Fault(f"kill -9 of {mutant.victim}", [killed(mutant.victim)], 1)
    sound = None
    if mutant.others:
        await _become(rig, mutant.others)
        sound = await run(rig, fault, 0, seed)
    await _become(rig, {**mutant.others, **mutant.processes})
    rig.lost = Standstill(rig).seen
    try:
        broken = await run(rig, fault, 0, seed)
    finally:
        rig.lost = None
    lost = await mutant.lost(rig)
    if not mutant.repaired:
        return Proof(mutant, sound, broken, lost, repaired=False)
    await _become(rig, {})
    return Proof(mutant, sound, broken, lost, await rig.settled())


class Standstill:
    """Tells that what is missing will not come: the log has gone on behind it, or takes nothing any more."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._place, self._since = Place(), monotonic()

    async def seen(self, missing: Sequence[Acknowledged]) -> bool:
        """While the stack is not whole, nothing can be said of what the log has not passed over."""
        if set(missing) <= set(self._rig.checker.log.passed_over(self._rig.acknowledged)):
            return True
        place = self._rig.checker.log.places["records"]
        if place != self._place or not await self._rig.injector.is_whole():
            self._place, self._since = place, monotonic()
        return monotonic() - self._since > QUIET


async def _become(rig: Rig, wanted: Mapping[str, Sequence[str]]) -> None:
    """Starts again what is not as wanted: broken as named, and sound where nothing is named."""
    folder = rig.injector.folder
    processes = {mutant for each in MUTANTS for mutant in (*each.processes, *each.others)}
    changed = {name: wanted.get(name, ()) for name in processes if folder.mutants(name) != list(wanted.get(name, ()))}
    if not changed:
        return
    await rig.injector.mutate(changed)
    if not await rig.injector.whole(rig.bound):
        raise NotInjected(f"the stack is not whole {rig.bound:.0f} s after {changed}")
