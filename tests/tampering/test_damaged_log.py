"""What the audit service itself does over a log that was tampered with: it signs nothing that it should not."""

from pathlib import Path

import pytest
from tests.audit.log_world import fails
from tests.audit.test_log_outside import asking, copies_in, replace, said
from tests.support.waiting import eventually, running
from tests.tampering.conftest import EARLIER, KEPT, SIZE, Scene
from tests.tampering.superuser import Superuser

from dossier_audit.log import notes
from dossier_audit.log.notes import Checkpoint
from dossier_audit.outside import Outside
from dossier_audit.publication import Witnessed, publish
from dossier_audit.sequencer import LeavesMissing, LogDamaged

VICTIM = 137
AT_THE_EDGE = "WHERE producer = 'retention' AND seq = 600"


async def signed(scene: Scene) -> int:
    return await scene.kept.count("SELECT count(*) FROM log_checkpoints")


def copy_in(scene: Scene) -> Path:
    return scene.kept.folder / "log-1.checkpoint"


async def is_replaced(scene: Scene, outside: Outside) -> None:
    """The sequencer opens another log, whose first leaf names the checkpoint that the auditors had seen."""
    kept = scene.kept
    async with running(kept.sequencer(outside).run()):
        await eventually(lambda: kept.count("SELECT max(generation) FROM logs"), 2)
    true = Checkpoint.opened(scene.copy, notes.key_of(kept.settings.log_address, kept.key))
    named = (await kept.get("/v1/audit/logs")).json()["logs"][1]["predecessor"]
    assert named == {"origin": true.origin, "size": SIZE, "root": true.root.hex()}
    assert await said(kept, "log.restored") == 1


@pytest.mark.invariant(3)
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE log_runs SET hashes = sha256(hashes) WHERE first_index = (SELECT max(first_index) FROM log_runs)",
        "DELETE FROM log_runs WHERE first_index = (SELECT max(first_index) FROM log_runs)",
        "TRUNCATE log_runs",
        "UPDATE log_tiles SET root = sha256(root) WHERE level = 0 AND index = 1",
        "TRUNCATE log_tiles",
        "TRUNCATE log_checkpoints",
        f"UPDATE log_checkpoints SET root = sha256(root) WHERE size = {SIZE}",
    ],
)
async def test_nothing_is_signed_over_a_damaged_edge(scene: Scene, attacker: Superuser, statement: str) -> None:
    await scene.kept.ingested(3)
    await attacker.run(statement)
    before = await signed(scene)
    await fails(scene.kept.sequencer(), LogDamaged)
    assert await signed(scene) == before


@pytest.mark.invariant(3)
@pytest.mark.parametrize(
    "statement", [rf"UPDATE leaves SET leaf = '\x00' {AT_THE_EDGE}", f"DELETE FROM leaves {AT_THE_EDGE}"]
)
async def test_what_happens_to_a_signed_leaf_does_not_stop_the_log_and_is_named(
    scene: Scene, attacker: Superuser, statement: str
) -> None:
    """The tree was made of what came in: of that it goes on being made."""
    await attacker.run(statement)
    await scene.kept.ingested(3)
    async with scene.kept.logging():
        await eventually(lambda: scene.kept.count("SELECT max(size) FROM log_publications"), SIZE + 3)
    verdict = await scene.verify()
    assert verdict.exit == 1
    assert verdict.findings[0][1] == 600


@pytest.mark.invariant(2)
async def test_nothing_is_signed_over_an_event_that_is_gone_before_it_was_in_the_log(
    scene: Scene, attacker: Superuser
) -> None:
    await scene.kept.ingested(3)
    await attacker.run("DELETE FROM leaves WHERE producer = 'retention' AND epoch = 2 AND seq = 2")
    before = await signed(scene)
    await fails(scene.kept.sequencer(), LeavesMissing)
    assert await signed(scene) == before


@pytest.mark.invariant(3)
@pytest.mark.parametrize("stolen", [True, False])
async def test_a_tree_that_was_computed_anew_contradicts_the_copy_outside(
    scene: Scene, attacker: Superuser, *, stolen: bool
) -> None:
    await attacker.rewrite(VICTIM, scene.kept.key if stolen else None)
    with scene.without_witness():
        await is_replaced(scene, scene.kept.outside())


@pytest.mark.invariant(3)
async def test_with_the_key_and_the_copies_stolen_the_witness_still_contradicts(
    scene: Scene, attacker: Superuser
) -> None:
    kept = scene.kept
    await attacker.rewrite(VICTIM, kept.key)
    forged = await attacker.connection.fetchval("SELECT note FROM log_checkpoints WHERE size = $1", SIZE)
    copy_in(scene).write_text(forged)
    await is_replaced(scene, kept.outside())


@pytest.mark.invariant(3)
async def test_the_witness_does_not_cosign_a_tree_that_was_signed_anew(scene: Scene, attacker: Superuser) -> None:
    """Nothing is restarted: the running jobs learn from the witness's answer alone."""
    kept = scene.kept
    await attacker.rewrite(VICTIM, kept.key)
    forged = await attacker.connection.fetchval("SELECT note FROM log_checkpoints WHERE size = $1", SIZE)
    outside = kept.outside()
    assert outside.learn(1, forged)
    job = Witnessed(kept.worker.database, kept.worker.clock, kept.witnesses[0], outside)
    assert await job.once() == 0.0, "the witness remembers more than this database says"
    assert await job.once() > 1
    assert await kept.count("SELECT count(*) FROM log_cosignatures") == 0
    roots = {known.root for _, known in outside.unexplained()}
    assert len(roots) == 2, "the forged checkpoint and the true one"
    await is_replaced(scene, outside)


@pytest.mark.invariant(3)
async def test_without_the_tiles_that_prove_the_log_to_it_a_witness_counts_as_lost(
    scene: Scene, attacker: Superuser
) -> None:
    await attacker.run("TRUNCATE log_tiles", f"DELETE FROM log_cosignatures WHERE size = {SIZE}")
    job = asking(scene.kept)
    for number in range(1, 4):
        assert await job.once() == 2.0**number
    assert await said(scene.kept, "witness.lost") == 1


@pytest.mark.invariant(3)
async def test_a_copy_that_shows_that_the_database_was_set_back_is_not_overwritten(scene: Scene) -> None:
    """Whichever of the jobs comes first: the copy is the evidence."""
    kept = scene.kept
    replace(kept.cluster, EARLIER)
    with scene.without_witness():
        outside = kept.outside()
    async with running(publish(kept.worker.database, kept.worker.clock, outside)):
        await is_replaced(scene, outside)
        await eventually(lambda: kept.count("SELECT count(*) FROM log_publications WHERE generation = 2"), 1)
    assert copy_in(scene).read_text() == scene.copy
    assert copies_in(kept.folder) == {"log-1.checkpoint", "log-2.checkpoint"}


@pytest.mark.invariant(3)
async def test_a_database_that_is_set_back_under_a_running_worker_is_found_out(scene: Scene) -> None:
    """It knew the copy outside already, and had found it in the database as it was then."""
    kept = scene.kept
    outside = kept.outside()
    async with running(kept.sequencer(outside).run()):
        await eventually(lambda: _known(outside), expected=True)
    replace(kept.cluster, EARLIER)
    assert await kept.count("SELECT max(size) FROM log_checkpoints") == KEPT
    await is_replaced(scene, outside)


async def _known(outside: Outside) -> bool:
    return outside.newest() is not None and outside.explained
