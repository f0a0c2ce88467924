"""A superuser of the database changes the log, with all triggers off: whoever keeps an old checkpoint finds it."""

import json

import pytest
from tests.peers.mirror import entries
from tests.peers.programs import Peers
from tests.tampering.conftest import KEPT, SIZE, Scene
from tests.tampering.superuser import Superuser

VICTIM = 137
"""Of the first tile; the leaf at this index is the producer's event of this number."""
OTHER_TYPE = "convert_to(replace(convert_from(leaf, 'UTF8'), 'hold.placed', 'hold.lifted'), 'UTF8')"
OTHER_BODY = "convert_to(replace(convert_from(body, 'UTF8'), 'success', 'refused'), 'UTF8')"
OTHER_HASH = f"set_byte(hashes, {VICTIM * 32}, 255 - get_byte(hashes, {VICTIM * 32}))"
OF_VICTIM = f"WHERE producer = 'retention' AND seq = {VICTIM}"
CHANGES: dict[str, tuple[str, list[tuple[str, int | None, int | None]]]] = {
    "a body": (f"UPDATE bodies SET body = {OTHER_BODY} {OF_VICTIM}", [("wrong-body", VICTIM, None)]),
    "a body, into no text": (rf"UPDATE bodies SET body = '\xff' {OF_VICTIM}", [("wrong-body", VICTIM, None)]),
    "a salt": (f"UPDATE bodies SET salt = sha256(salt) {OF_VICTIM}", [("wrong-body", VICTIM, None)]),
    "a body, as if erased": (
        f"UPDATE bodies SET salt = NULL, body = NULL {OF_VICTIM}",
        [("wrong-body", VICTIM, None)],
    ),
    "a body's row is gone": (f"DELETE FROM bodies {OF_VICTIM}", [("missing-body", 0, None)]),
    "all bodies are gone": ("TRUNCATE bodies", [("wrong-opening", 0, None), ("missing-body", 0, None)]),
    "a leaf": (f"UPDATE leaves SET leaf = {OTHER_TYPE} {OF_VICTIM}", [("altered-entry", VICTIM, None)]),
    "a leaf at the edge": (
        f"UPDATE leaves SET leaf = {OTHER_TYPE} WHERE producer = 'retention' AND seq = 600",
        [("altered-entry", 600, None)],
    ),
    "the last leaf": (
        f"UPDATE leaves SET leaf = {OTHER_TYPE} WHERE producer = 'retention' AND seq = {SIZE - 1}",
        [("altered-entry", SIZE - 1, None)],
    ),
    "a leaf, too long for a bundle": (
        f"UPDATE leaves SET leaf = convert_to(repeat('x', 70000), 'UTF8') {OF_VICTIM}",
        [("missing-entry", VICTIM, 255)],
    ),
    "a leaf's row is gone": (f"DELETE FROM leaves {OF_VICTIM}", [("missing-entry", VICTIM, 255)]),
    "the first leaf's row is gone": ("DELETE FROM leaves WHERE producer = 'log'", [("missing-bundle", 0, 255)]),
    "all leaves are gone": ("TRUNCATE leaves", [("missing-bundle", 0, 255), ("missing-bundle", 256, 511)]),
    "two leaves change places": (
        "UPDATE leaves a SET leaf = b.leaf FROM leaves b WHERE (a.seq, b.seq) IN ((100, 200), (200, 100))",
        [("altered-entry", 100, None)],
    ),
    "a run of leaves is gone": ("DELETE FROM log_runs WHERE first_index = 1", [("missing-entry", 1, 255)]),
    "a run's length": ("UPDATE log_runs SET count = -1 WHERE first_index = 1", [("missing-entry", 1, 255)]),
    "a hash of a tile": (
        f"UPDATE log_tiles SET hashes = {OTHER_HASH} WHERE level = 0 AND index = 0",
        [("altered-tile", VICTIM, None)],
    ),
    "a tile's root": (
        "UPDATE log_tiles SET root = sha256(root) WHERE level = 0 AND index = 1",
        [("altered-tile", 256, None)],
    ),
    "all tiles are gone": ("TRUNCATE log_tiles", [("missing-tile", 0, None), ("missing-tile", 256, None)]),
    "all logs are gone": ("TRUNCATE logs", [("wrong-opening", None, None)]),
    "it is shown as it was long ago": (
        f"DELETE FROM log_publications WHERE size >= {KEPT}",
        [("rolled-back", None, None)],
    ),
}


async def look_at(scene: Scene, index: int) -> None:
    """Opens the event at this index, and takes its proof: whatever is damaged, no answer may be a crash."""
    bundle = (scene.mirror / "tile" / "entries" / f"{index // 256:03}").read_bytes()
    event = json.loads(entries(bundle)[index % 256])["id"]
    for path in (f"/v1/audit/events/{event}", f"/v1/audit/events/{event}/proof", "/v1/audit/events", "/v1/audit/logs"):
        answer = await scene.kept.client.get(path, headers=scene.kept.headers())
        assert answer.status_code in {200, 404, 503}, (path, answer.text)


async def test_a_log_that_nobody_touched_is_verified(scene: Scene) -> None:
    witness = scene.kept.witnesses[0].key.vkey()
    verdict = await scene.verify("--bodies", "--against", scene.mirror, "--witness", witness)
    assert (verdict.exit, verdict.findings) == (0, [])
    assert [log["size"] for log in verdict.said["logs"]] == [SIZE]


@pytest.mark.invariant(3)
@pytest.mark.parametrize("what", CHANGES)
async def test_what_a_superuser_changed_is_named(scene: Scene, attacker: Superuser, what: str) -> None:
    statement, expected = CHANGES[what]
    await attacker.run(statement)
    verdict = await scene.verify("--bodies")
    assert verdict.exit == 1, verdict.said
    assert verdict.findings[0] == expected[0]
    assert set(expected) <= set(verdict.findings)
    assert scene.gate.failed() == []
    await look_at(scene, VICTIM)


@pytest.mark.invariant(3)
@pytest.mark.parametrize("table", ["log_checkpoints", "log_publications"])
async def test_a_log_without_checkpoints_verifies_nothing(scene: Scene, attacker: Superuser, table: str) -> None:
    await attacker.run(f"TRUNCATE {table}")
    verdict = await scene.verify("--bodies")
    assert verdict.exit == 3
    assert "there is no checkpoint here" in verdict.said["error"]
    assert scene.gate.failed() == []
    await look_at(scene, VICTIM)


@pytest.mark.invariant(3)
async def test_a_tree_that_was_computed_anew_is_not_the_signed_one(scene: Scene, attacker: Superuser) -> None:
    """Body, commitment, chain, tiles and roots all fit one another; the signatures are the old ones."""
    await attacker.rewrite(VICTIM, None)
    for kept in (True, False):
        verdict = await scene.verify("--bodies", kept=kept)
        assert (verdict.exit, verdict.findings) == (1, [("wrong-root", None, None)])
        assert verdict.said["findings"][0]["size"] == SIZE
    await look_at(scene, VICTIM)


@pytest.mark.invariant(3)
async def test_a_tree_that_was_signed_anew_with_the_stolen_key_is_found_by_an_old_checkpoint(
    scene: Scene, attacker: Superuser
) -> None:
    await attacker.rewrite(VICTIM, scene.kept.key)
    alone = await scene.verify("--bodies", kept=False)
    assert alone.exit == 0, "it is whole in itself: only what lies outside can tell"
    verdict = await scene.verify()
    assert verdict.exit == 1
    assert [(each["kind"], each["size"]) for each in verdict.said["findings"]] == [("forked", KEPT)]
    verdict = await scene.verify("--against", scene.mirror, kept=False)
    assert verdict.exit == 1
    assert ("forked", VICTIM, None) in verdict.findings, "with the old tree at hand the leaf itself is named"


@pytest.mark.invariant(3)
async def test_a_tree_that_was_signed_anew_with_the_stolen_key_lacks_the_witness(
    scene: Scene, attacker: Superuser
) -> None:
    await attacker.rewrite(VICTIM, scene.kept.key)
    verdict = await scene.verify("--witness", scene.kept.witnesses[0].key.vkey(), kept=False)
    assert (verdict.exit, [kind for kind, _, _ in verdict.findings]) == (1, ["unsigned"])


@pytest.mark.invariant(3)
@pytest.mark.parametrize(
    "what", ["a leaf", "the last leaf", "all leaves are gone", "a hash of a tile", "all tiles are gone"]
)
async def test_tesseras_fsck_refuses_what_a_superuser_changed(
    scene: Scene, attacker: Superuser, peers: Peers, what: str
) -> None:
    await attacker.run(CHANGES[what][0])
    found = await scene.fsck(peers)
    assert found.size is None, found.said


@pytest.mark.invariant(3)
async def test_tesseras_fsck_refuses_a_tree_that_was_computed_anew(
    scene: Scene, attacker: Superuser, peers: Peers
) -> None:
    assert (await scene.fsck(peers)).size == SIZE
    await attacker.rewrite(VICTIM, None)
    found = await scene.fsck(peers)
    assert found.size is None
    assert "but checkpoint claims" in found.said
