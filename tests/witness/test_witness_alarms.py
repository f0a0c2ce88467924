"""What the witness's own log says, and which proofs it keeps: the reason why a witness exists."""

import logging

import httpx
import pytest
from tests.witness.conftest import Bench, grown, post, told
from tests.witness.logbook import ORIGIN, Log, b64, request, tree_hash


async def test_each_answer_is_logged_with_what_was_asked(
    http: httpx.AsyncClient, bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dossier_witness")
    await post(http, bench.log.request(0, 7))
    root = b64(tree_hash(bench.log.leaves[:7]))
    assert told(caplog) == (
        "INFO",
        {
            "event": "cosigned",
            "status": 200,
            "origin": ORIGIN,
            "old": 0,
            "size": 7,
            "root": root,
            "cosigned_at": bench.now,
        },
    )
    await post(http, Log(bench.key, origin="x" * 5000).request(0, 7))
    assert told(caplog) == ("INFO", {"event": "the origin is unknown", "status": 404, "origin": "x" * 200})
    await post(http, bench.log.request(0, 9))
    level, line = told(caplog)
    assert (level, line["status"], line["held_size"], line["held_root"]) == ("INFO", 409, 7, root)


@pytest.mark.invariant(3)
async def test_a_fork_is_logged_loud_and_both_notes_are_kept_once(
    http: httpx.AsyncClient, bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    await grown(http, bench.log, 7)
    forked = bench.log.forked(3)
    assert (await post(http, forked.request(7, 7))).status_code == 422
    assert told(caplog)[0] == "CRITICAL"
    assert (await post(http, forked.request(3, 7))).status_code == 409
    assert told(caplog)[0] == "CRITICAL"
    (fork,) = bench.store.forks()
    assert fork.cosigned.startswith(bench.log.checkpoint(7))
    assert fork.other == forked.checkpoint(7)


async def test_no_more_than_a_hundred_forks_are_kept(bench: Bench) -> None:
    witness = bench.witness()
    assert witness.add_checkpoint(bench.log.request(0, 7)).status == 200
    for index in range(105):
        text = f"{ORIGIN}\n7\n{b64(index.to_bytes(32, 'big'))}\n"
        assert witness.add_checkpoint(request(7, [], f"{text}\n{bench.key.line(text)}")).status == 422
    assert len(bench.store.forks()) == 100


async def test_a_rewound_log_and_a_wrong_proof_are_logged_loud(
    http: httpx.AsyncClient, bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    await grown(http, bench.log, 9)
    assert (await post(http, bench.log.request(5, 7))).status_code == 409
    assert told(caplog)[0] == "ERROR"
    assert "rewound" in told(caplog)[1]["event"]
    assert (await post(http, bench.log.forked(3).request(9, 20))).status_code == 422
    assert told(caplog)[0] == "ERROR"
    assert bench.store.forks() == [], "neither convicts the log by itself"
