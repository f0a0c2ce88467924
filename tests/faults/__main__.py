"""`python -m tests.faults`: the long round. Prints the table, and writes it into docs/reliability.md with `--write`.

Every run is drawn from the seed, which is printed: the order of the runs, their moments, what is killed when. A stack
serves for STACK_RUNS runs, so that faults meet what others have left; one that has failed serves for no other.
"""

import argparse
import random
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from subprocess import SubprocessError
from typing import Final

from tests.faults import table
from tests.faults.broken import MUTANTS, Proof, prove
from tests.faults.client import Rejected
from tests.faults.faults import FAULTS
from tests.faults.injector import NotInjected
from tests.faults.rounds import Fault, Outcome, Rig, rig, run
from tests.faults.stack import may_mount
from tests.faults.table import Row
from tests.faults.verified import verified

from dossier_local.main import until_signalled
from dossier_local.state import CHECKOUT, LauncherError

DOCUMENT: Final = CHECKOUT / "docs" / "reliability.md"
STACK_RUNS: Final = 60

Drawn = tuple[Fault, int, int]
"""A fault, its variant, and the seed of its run."""


def drawn(seed: int, only: str, *, short: bool) -> list[Drawn]:
    """All runs in their order."""
    chance = random.Random(seed)
    chosen = [fault for fault in FAULTS if only in fault.name and (may_mount() is None or not fault.mounts)]
    runs = [(fault, at) for fault in chosen for at in range(fault.short if short else fault.runs)]
    chance.shuffle(runs)
    return [(fault, at, chance.randrange(10**9)) for fault, at in runs]


class Round:
    """The runs of a round, and what they showed."""

    def __init__(self, runs: Sequence[Drawn], seed: int) -> None:
        self._runs, self._seed = runs, seed
        self.rows = {
            fault.name: Row(fault.name, fault.restored is not None)
            for fault in FAULTS
            if any(each is fault for each, _, _ in runs)
        }
        self.proofs: list[Proof] = []
        self.wrong: list[str] = []
        """What `dossier-verify` found."""

    async def go(self) -> None:
        """All runs, on one stack after the other."""
        done = 0
        while done < len(self._runs):
            async with rig(self._seed + done) as stack:
                done = await self._on_one_stack(stack, done)

    async def _on_one_stack(self, rig: Rig, done: int) -> int:
        end = min(done + STACK_RUNS, len(self._runs))
        while done < end:
            fault, variant, seed = self._runs[done]
            begun = time.monotonic()
            outcome, whole = await _attempt(rig, fault, variant, seed)
            self.rows[fault.name].outcomes.append(outcome)
            done += 1
            how = f"RED {outcome.findings}" if outcome.red else "ok"
            _say(f"{done:4}/{len(self._runs)}  {time.monotonic() - begun:5.1f} s  {fault.name}: {how}")
            if not whole:
                for line in errors(rig):
                    _say(f"      {line}")
                return done
        self.wrong += await verified(rig)
        return done

    async def prove(self) -> None:
        """The mutants, on a stack of their own."""
        async with rig(self._seed) as stack:
            for mutant in MUTANTS:
                self.proofs.append(await prove(stack, mutant, self._seed))
                _say(f"mutant: {mutant.name}: {'red, as it must be' if self.proofs[-1].holds else 'NOT SHOWN'}")

    def text(self, minutes: float) -> str:
        """All that was shown so far, as it stands in the document."""
        done = sum(len(row.outcomes) for row in self.rows.values())
        said = f"Seed {self._seed}, {done} runs in {minutes:.0f} minutes, {datetime.now(UTC).date()}."
        parts = [said, table.rendered(list(self.rows.values()))]
        if self.proofs:
            parts.append(table.proofs_rendered(self.proofs))
        return "\n\n".join([*parts, *(f"- {finding}" for finding in self.wrong)])

    @property
    def good(self) -> bool:
        """Every row is green, and every mutant red."""
        green = not any(row.red for row in self.rows.values()) and not self.wrong
        return green and all(proof.holds for proof in self.proofs)


async def _attempt(rig: Rig, fault: Fault, variant: int, seed: int) -> tuple[Outcome, bool]:
    """One run, and whether the stack can be used for another."""
    try:
        outcome = await run(rig, fault, variant, seed)
    except (NotInjected, Rejected, LauncherError, TimeoutError, OSError, SubprocessError) as error:
        return Outcome(findings=[f"{type(error).__name__}: {error}"]), False
    return outcome, not outcome.red


def errors(rig: Rig) -> list[str]:
    """What the processes have said of errors: the logs go with the stack."""
    return [
        f"{log.stem}: {line}"
        for log in sorted(rig.stack.state.logs.glob("*-w*.log"))
        for line in [line for line in log.read_text(errors="replace").splitlines() if '"level": "error"' in line][-2:]
    ]


def _say(line: str) -> None:
    print(line, flush=True)


async def main(arguments: argparse.Namespace) -> int:
    """Exit status 1 when a row is red, or a mutant's is not. One that is interrupted prints what it has."""
    begun = time.monotonic()
    runs = drawn(arguments.seed, arguments.only, short=arguments.short)
    _say(f"Seed {arguments.seed}, {len(runs)} runs. {may_mount() or ''}".rstrip())
    round_ = Round(runs, arguments.seed)
    try:
        await round_.go()
        if not arguments.only:
            await round_.prove()
    finally:
        text = round_.text((time.monotonic() - begun) / 60)
        _say(text)
    if arguments.write and not arguments.only:
        table.write(DOCUMENT, text)
    return 0 if round_.good else 1


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="draws all runs")
    parser.add_argument("--only", default="", help="rows whose name contains this, without the mutants; writes nothing")
    parser.add_argument("--short", action="store_true", help="the runs of the short round")
    parser.add_argument("--write", action="store_true", help="write the table into docs/reliability.md")
    return parser.parse_args()


if __name__ == "__main__":
    given = parsed()
    try:
        sys.exit(until_signalled(lambda: main(given), interrupted=130))
    except LauncherError as error:
        sys.exit(str(error))
