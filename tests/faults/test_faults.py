"""The short round: each kind of fault once on the real processes, then broken products that must be seen to be so."""

from collections.abc import AsyncIterator

import pytest
from tests.faults.broken import MUTANTS, Mutant, prove
from tests.faults.faults import FAULTS
from tests.faults.rounds import Fault, Rig, run
from tests.faults.rounds import rig as fresh_rig
from tests.faults.stack import may_mount
from tests.faults.verified import verified

SEED = 8
SHORT = [(fault, variant) for fault in FAULTS for variant in range(fault.short)]


@pytest.fixture(scope="module")
async def rig() -> AsyncIterator[Rig]:
    """One stack for the whole round, so that each fault meets what the others have left."""
    async with fresh_rig(SEED) as made:
        yield made


@pytest.mark.invariant(1)
@pytest.mark.invariant(2)
@pytest.mark.parametrize(("fault", "variant"), SHORT, ids=[f"{fault.name} {variant}" for fault, variant in SHORT])
async def test_nothing_acknowledged_is_lost(rig: Rig, fault: Fault, variant: int) -> None:
    if fault.mounts and (reason := may_mount()):
        pytest.skip(reason)
    outcome = await run(rig, fault, variant, SEED)
    assert not outcome.red, outcome
    assert outcome.acknowledged > 0


@pytest.mark.invariant(3)
async def test_the_log_that_all_faults_have_left_is_verified_from_outside(rig: Rig) -> None:
    assert await verified(rig) == []


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
async def test_the_harness_sees_a_broken_product(rig: Rig, mutant: Mutant) -> None:
    proof = await prove(rig, mutant, SEED)
    assert proof.holds, proof
