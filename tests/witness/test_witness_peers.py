"""Other people's code agrees: Go's signed notes, the cosignatures and the consistency proofs of transparency-dev."""

import hashlib
import json
import random
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.witness.conftest import Bench, post
from tests.witness.logbook import ORIGIN, b64, consistency, leaf, tree_hash

from dossier_witness.tree import begins_with

PEER = Path(__file__).with_name("peer")
Ask = Callable[[Iterable[dict[str, Any]]], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """Verdicts of `peer/`, one for each question."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go is not installed")
    fetched = subprocess.run((go, "mod", "download"), cwd=PEER, capture_output=True, text=True, check=False)
    if fetched.returncode:
        pytest.skip("the modules that peer/go.sum names cannot be had here")
    program = tmp_path_factory.mktemp("peer") / "peer"
    subprocess.run((go, "build", "-mod=readonly", "-buildvcs=false", "-o", str(program), "."), cwd=PEER, check=True)

    def asking(questions: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        text = "\n".join(map(json.dumps, questions))
        done = subprocess.run((str(program),), input=text, capture_output=True, text=True, check=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    return asking


async def test_go_opens_what_the_witness_shows_with_the_logs_key_and_its_own(
    ask: Ask, http: httpx.AsyncClient, bench: Bench
) -> None:
    questions = []
    for old, size in ((0, 1), (1, 7), (7, 40)):
        assert (await post(http, bench.log.request(old, size))).status_code == 200
        shown = await http.get(f"/logs/{hashlib.sha256(ORIGIN.encode()).hexdigest()}/checkpoint")
        keys = {"log": bench.key.vkey, "witness": bench.cosigner.vkey}
        questions.append({"note": shown.text, "origin": ORIGIN, **keys})
        bench.now += 1
    first = questions[0]["note"]
    questions.append({**questions[0], "note": first.replace("\n1\n", "\n2\n")})
    questions.append({**questions[0], "note": first[: first.rindex("—")]})
    *opened, changed, alone = ask(questions)
    now = bench.now - 3
    assert opened == [{"error": "", "size": size, "time": now + index} for index, size in enumerate((1, 7, 40))]
    assert "invalid signature" in changed["error"]
    assert alone["error"] == "no cosignature"


def test_go_judges_proofs_as_the_witness_does_right_ones_and_wrong_ones(ask: Ask) -> None:
    leaves = list(map(leaf, range(70)))
    roots = [tree_hash(leaves[:size]) for size in range(71)]
    chance = random.Random(6962)  # the same questions each time
    cases: list[tuple[int, bytes, int, bytes, list[bytes]]] = []
    for new in range(71):
        for old in range(new + 1):
            proof = consistency(old, leaves[:new])
            cases.append((old, roots[old], new, roots[new], proof))
            cases.append((old, roots[chance.randrange(71)], new, roots[new], proof))
            cases.append((old, roots[old], new, roots[new], chance.sample(proof, len(proof))))
            cases.append((old, roots[old], new, roots[new], [*proof, roots[chance.randrange(71)]]))
            cases.append((old, roots[old], chance.randrange(new, 71), roots[new], proof[: chance.randrange(8)]))
    questions = [
        {"old": old, "oldRoot": b64(one), "new": new, "newRoot": b64(two), "proof": list(map(b64, proof))}
        for old, one, new, two, proof in cases
    ]
    ours = [begins_with(*case) for case in cases]
    theirs = [not verdict["error"] for verdict in ask(questions)]
    assert ours == theirs
    assert 2500 < sum(ours) < len(ours) - 2500
