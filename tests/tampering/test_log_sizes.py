"""A log of any size is accepted by programs that others wrote, from its first leaf on."""

import asyncio
import json

import httpx
import pytest
from tests.peers.mirror import Served
from tests.peers.programs import Peers
from tests.support.waiting import eventually
from tests.tampering.conftest import Scene

SIZES = (1, 2, 3, 9, 255, 256, 257, 512, 513)


@pytest.mark.invariant(3)
async def test_each_size_is_accepted_with_proofs_of_its_first_and_last_event(scene: Scene, peers: Peers) -> None:
    scene.empty()
    kept, size, questions, expected = scene.kept, 0, list[dict[str, str]](), list[tuple[int, int]]()
    async with httpx.AsyncClient(trust_env=False) as http:
        for wanted in SIZES:
            with scene.without_witness():
                await grown(scene, wanted, ingested=wanted - max(size, 1))
            size = wanted
            found = await scene.fsck(peers)
            assert found.size == size, found.said
            verdict = await scene.verify("--bodies", kept=False)
            assert verdict.exit == 0, verdict.said
            leaves = await Served(http, scene.url).leaves(size)
            for index in {0, size - 1}:
                event = json.loads(leaves[index])["id"]
                proof = (await kept.get(f"/v1/audit/events/{event}/proof")).text
                questions.append({"proof": proof, "log": scene.vkey})
                expected.append((index, size))
    verdicts = await asyncio.to_thread(peers.ask, questions)
    assert [verdict["error"] for verdict in verdicts] == [""] * len(expected)
    assert [(verdict["index"], verdict["size"]) for verdict in verdicts] == expected


async def grown(scene: Scene, size: int, *, ingested: int) -> None:
    """The log with so many leaves; the first is the one that opens it."""
    if ingested:
        await scene.kept.ingested(ingested)
    async with scene.kept.logging():
        await eventually(lambda: scene.kept.count("SELECT max(size) FROM log_publications"), size)
