"""What the witness answers to each kind of request: status, content type, body, and what its log says."""

import base64
import hashlib
import logging
import sqlite3
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.witness.conftest import Bench, grown, post, told
from tests.witness.logbook import ORIGIN, Log, LogKey, b64, cosigned_at, request

from dossier_witness import app
from dossier_witness.note import Verifier
from dossier_witness.witness import Submission, Witness

# -- accepted ---------------------------------------------------------------------------------------------------------


async def test_the_first_checkpoint_is_cosigned_without_a_proof(http: httpx.AsyncClient, bench: Bench) -> None:
    answer = await post(http, bench.log.request(0, 7))
    assert answer.status_code == 200
    assert cosigned_at(bench.cosigner.vkey, bench.log.checkpoint(7), answer.text) == bench.now


async def test_a_checkpoint_that_continues_the_last_one_is_cosigned(http: httpx.AsyncClient, bench: Bench) -> None:
    await grown(http, bench.log, 1, 2, 3, 8, 9, 31, 32, 40)


async def test_the_empty_tree_is_cosigned_and_grows_from_old_size_zero(http: httpx.AsyncClient, bench: Bench) -> None:
    await grown(http, bench.log, 0, 0)
    assert (await post(http, bench.log.request(0, 5))).status_code == 200


async def test_the_same_checkpoint_gets_a_fresh_cosignature(http: httpx.AsyncClient, bench: Bench) -> None:
    await grown(http, bench.log, 7)
    bench.now += 60
    answer = await post(http, bench.log.request(7, 7))
    assert cosigned_at(bench.cosigner.vkey, bench.log.checkpoint(7), answer.text) == bench.now


async def test_a_cosignature_never_has_a_time_before_the_last_one(
    http: httpx.AsyncClient, bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dossier_witness")
    last = bench.now
    await grown(http, bench.log, 7)
    bench.now -= 3600
    answer = await post(http, bench.log.request(7, 9))
    assert cosigned_at(bench.cosigner.vkey, bench.log.checkpoint(9), answer.text) == last
    assert told(caplog)[1]["clock_behind"] == 3600


async def test_extension_lines_are_cosigned_with_the_rest(http: httpx.AsyncClient, bench: Bench) -> None:
    text = f"{bench.log.text(7)}an extension\n"
    checkpoint = f"{text}\n{bench.key.line(text)}"
    answer = await post(http, request(0, [], checkpoint))
    assert cosigned_at(bench.cosigner.vkey, checkpoint, answer.text) == bench.now


async def test_any_key_of_the_origin_will_do_and_signatures_of_others_are_ignored(
    http: httpx.AsyncClient, bench: Bench
) -> None:
    text = bench.log.text(7)
    stranger, namesake = LogKey("other.example/log"), LogKey(ORIGIN)
    lines = stranger.line(text) + namesake.line(text) + bench.next_key.line(text)
    assert (await post(http, request(0, [], f"{text}\n{lines}"))).status_code == 200
    shown = await http.get(f"/logs/{hashlib.sha256(ORIGIN.encode()).hexdigest()}/checkpoint")
    assert bench.next_key.line(text) in shown.text
    assert stranger.line(text) not in shown.text, "what the witness did not verify it does not pass on"


async def test_a_hundred_signatures_are_accepted(http: httpx.AsyncClient, bench: Bench) -> None:
    text = bench.log.text(7)
    others = "".join(LogKey(f"other.example/{index}").line(text) for index in range(99))
    assert (await post(http, request(0, [], f"{text}\n{others}{bench.key.line(text)}"))).status_code == 200


# -- refused ----------------------------------------------------------------------------------------------------------

MALFORMED = {
    "nothing": b"",
    "newlines": b"\n\n\n",
    "not UTF-8": b"old 0\n\n\xff\xfe\n\n",
    "no old line": b"\n%b",
    "another word": b"new 0\n\n%b",
    "no number": b"old\n\n%b",
    "leading zero": b"old 00\n\n%b",
    "plus": b"old +0\n\n%b",
    "two spaces": b"old  0\n\n%b",
    "space behind": b"old 0 \n\n%b",
    "CRLF": b"old 0\r\n\r\n%b",
    "negative": b"old -1\n\n%b",
    "enormous": b"old 9223372036854775808\n\n%b",
    "millions of digits": b"old " + b"9" * 500_000 + b"\n\n%b",
    "short hash": b"old 0\nAAAA\n\n%b",
    "not base64": b"old 0\n!" + b"A" * 43 + b"\n\n%b",
    "64 hashes": b"old 1\n" + (base64.b64encode(bytes(32)) + b"\n") * 64 + b"\n%b",
    "no empty line": b"old 0\n%b",
    "two empty lines": b"old 0\n\n\n%b",
    "no checkpoint": b"old 0\n\n",
}


@pytest.mark.parametrize("kind", MALFORMED)
async def test_a_malformed_request_is_400(http: httpx.AsyncClient, bench: Bench, kind: str) -> None:
    body = MALFORMED[kind].replace(b"%b", bench.log.checkpoint(7).encode())
    assert (await post(http, body)).status_code == 400


async def test_more_than_a_hundred_signatures_are_400(http: httpx.AsyncClient, bench: Bench) -> None:
    text = bench.log.text(7)
    assert (await post(http, request(0, [], f"{text}\n{bench.key.line(text) * 101}"))).status_code == 400


async def test_an_old_size_above_the_checkpoints_is_400(http: httpx.AsyncClient, bench: Bench) -> None:
    await grown(http, bench.log, 9)
    assert (await post(http, request(9, [], bench.log.checkpoint(7)))).status_code == 400


async def test_an_unknown_origin_is_404_whoever_signed(http: httpx.AsyncClient, bench: Bench) -> None:
    log = Log(bench.key, origin="log.example/other")
    assert (await post(http, log.request(0, 7))).status_code == 404
    unsigned = f"{log.text(7)}\n"
    assert (await post(http, request(0, [], unsigned))).status_code == 404


async def test_a_checkpoint_that_no_trusted_key_signed_is_403(http: httpx.AsyncClient, bench: Bench) -> None:
    text = bench.log.text(7)
    for lines in ("", LogKey(ORIGIN).line(text), LogKey("other.example/log").line(text)):
        assert (await post(http, request(0, [], f"{text}\n{lines}"))).status_code == 403


async def test_a_tampered_checkpoint_is_403(http: httpx.AsyncClient, bench: Bench) -> None:
    signature = bench.key.line(bench.log.text(7))
    assert (await post(http, request(0, [], f"{bench.log.text(8)}\n{signature}"))).status_code == 403


async def test_one_wrong_signature_of_a_trusted_key_beside_a_right_one_is_403(
    http: httpx.AsyncClient, bench: Bench
) -> None:
    text = bench.log.text(7)
    right, wrong = bench.key.line(text), bench.next_key.line("another text\n")
    for lines in (right + wrong, wrong + right):
        assert (await post(http, request(0, [], f"{text}\n{lines}"))).status_code == 403
    short = f"— {bench.key.name} {b64(bench.key.id + bytes(3))}\n"
    assert (await post(http, request(0, [], f"{text}\n{short}"))).status_code == 403


async def test_another_old_size_is_409_with_the_size_that_is_held(http: httpx.AsyncClient, bench: Bench) -> None:
    answer = await post(http, bench.log.request(3, 7))
    assert (answer.status_code, answer.text) == (409, "0\n")
    await grown(http, bench.log, 7)
    for old, size in ((0, 9), (3, 9), (8, 9), (0, 7)):
        answer = await post(http, bench.log.request(old, size))
        assert (answer.status_code, answer.text) == (409, "7\n")


async def test_the_conflict_is_said_before_the_proof_is_looked_at(http: httpx.AsyncClient, bench: Bench) -> None:
    await grown(http, bench.log, 7)
    assert (await post(http, request(0, [bytes(32)], bench.log.checkpoint(9)))).status_code == 409


async def test_a_proof_that_does_not_verify_is_422(http: httpx.AsyncClient, bench: Bench) -> None:
    log = bench.log
    assert (await post(http, request(0, [bytes(32)], log.checkpoint(7)))).status_code == 422, "the first needs none"
    await grown(http, log, 7)
    right = log.proof(7, 9)
    for proof in ([], right[:-1], [*right, bytes(32)], [bytes(32), *right[1:]], log.proof(6, 9)):
        assert (await post(http, request(7, proof, log.checkpoint(9)))).status_code == 422
    assert (await post(http, request(7, [bytes(32)], log.checkpoint(7)))).status_code == 422
    assert (await post(http, log.request(7, 9))).status_code == 200, "nothing of all that was remembered"


async def test_a_size_of_zero_with_a_root_is_422(http: httpx.AsyncClient, bench: Bench) -> None:
    text = f"{ORIGIN}\n0\n{b64(bytes(32))}\n"
    assert (await post(http, request(0, [], f"{text}\n{bench.key.line(text)}"))).status_code == 422


@pytest.mark.invariant(3)
async def test_another_root_for_the_size_that_is_held_is_422(http: httpx.AsyncClient, bench: Bench) -> None:
    await grown(http, bench.log, 7)
    assert (await post(http, bench.log.forked(3).request(7, 7))).status_code == 422


@pytest.mark.invariant(3)
async def test_a_rewritten_log_is_422_with_its_own_proof(http: httpx.AsyncClient, bench: Bench) -> None:
    await grown(http, bench.log, 7)
    for at in range(7):
        assert (await post(http, bench.log.forked(at).request(7, 20))).status_code == 422
    assert (await post(http, bench.log.forked(7).request(7, 20))).status_code == 200, "this one is no fork"


async def test_two_logs_do_not_touch_each_other(bench: Bench) -> None:
    other = LogKey("log.example/other")
    keys = {each.name: [Verifier.parse(each.vkey)] for each in (bench.key, other)}
    witness = Witness(bench.cosigner, keys, bench.store, lambda: bench.now)
    assert witness.add_checkpoint(bench.log.request(0, 7)).status == 200
    assert witness.add_checkpoint(Log(other, origin=other.name).request(0, 3)).status == 200
    assert witness.add_checkpoint(bench.log.request(7, 9)).status == 200


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=200)
@given(st.one_of(st.binary(), st.text(alphabet="old 0123\nA=/+—", max_size=200).map(str.encode)))
def test_garbage_is_refused_and_breaks_nothing(bench: Bench, body: bytes) -> None:
    assert bench.witness().add_checkpoint(body).status in {400, 404}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=200)
@given(st.data())
def test_a_request_with_any_byte_changed_is_refused(bench: Bench, data: st.DataObject) -> None:
    body = bytearray(bench.log.request(0, 7))
    index = data.draw(st.integers(0, len(body) - 1))
    body[index] = data.draw(st.integers(0, 255).filter(lambda other: other != body[index]))
    assert bench.witness().add_checkpoint(bytes(body)).status in {400, 403, 404, 409}


# -- HTTP -------------------------------------------------------------------------------------------------------------


async def test_the_last_checkpoint_is_shown_with_both_signatures(http: httpx.AsyncClient, bench: Bench) -> None:
    address = f"/logs/{hashlib.sha256(ORIGIN.encode()).hexdigest()}/checkpoint"
    assert (await http.get(address)).status_code == 404
    await grown(http, bench.log, 7)
    cosignature = (await post(http, bench.log.request(7, 9))).text
    shown = await http.get(address)
    assert shown.status_code == 200
    assert shown.headers["content-type"] == "text/plain; charset=utf-8"
    assert shown.text == bench.log.checkpoint(9) + cosignature


@pytest.mark.parametrize("address", ["/", "/logs", "/logs/x/checkpoint", f"/logs/{'0' * 64}/checkpoint", "/logs//"])
async def test_nothing_else_is_there(http: httpx.AsyncClient, address: str) -> None:
    assert (await http.get(address)).status_code == 404


async def test_another_method_is_405(http: httpx.AsyncClient) -> None:
    assert (await http.get("/add-checkpoint")).status_code == 405
    assert (await http.put("/add-checkpoint")).status_code == 405
    assert (await http.post("/healthz")).status_code == 405
    assert (await http.get("/healthz")).text == "ok\n"


async def test_a_long_body_is_413(http: httpx.AsyncClient) -> None:
    assert (await post(http, b"x" * (app.MAX_BODY + 1))).status_code == 413
    assert (await post(http, b"x" * app.MAX_BODY)).status_code == 400


async def test_a_slow_body_is_408(http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow(_request: object) -> bytes:
        raise TimeoutError

    monkeypatch.setattr(app, "_body", slow)
    assert (await post(http, b"")).status_code == 408


async def test_a_state_that_cannot_be_written_is_503_and_cosigns_nothing(
    http: httpx.AsyncClient, bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.store._connection.execute("PRAGMA query_only = ON")
    answer = await http.post("/add-checkpoint", content=bench.log.request(0, 7))
    assert answer.status_code == 503
    assert "witness.example" not in answer.text
    assert told(caplog)[0] == "ERROR"
    bench.store._connection.execute("PRAGMA query_only = OFF")
    assert bench.store.all() == []
    await grown(http, bench.log, 7)


async def test_a_state_that_fails_at_the_commit_is_503(
    http: httpx.AsyncClient, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        def __init__(self, connection: sqlite3.Connection) -> None:
            self._connection = connection

        def __getattr__(self, name: str) -> Any:
            return getattr(self._connection, name)

        def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
            if statement == "COMMIT":
                raise sqlite3.OperationalError("disk I/O error")
            return self._connection.execute(statement, *values)

    with monkeypatch.context() as patch:
        patch.setattr(bench.store, "_connection", Failing(bench.store._connection))
        assert (await http.post("/add-checkpoint", content=bench.log.request(0, 7))).status_code == 503
    assert bench.store.all() == []


def test_a_request_has_what_its_lines_say(bench: Bench) -> None:
    parsed = Submission.parse(bench.log.request(7, 9))
    assert (parsed.old, list(parsed.proof)) == (7, bench.log.proof(7, 9))
    assert parsed.checkpoint.text == bench.log.text(9)


async def test_a_request_that_breaks_off_is_400(bench: Bench) -> None:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/add-checkpoint", "headers": [], "query_string": b""}
    await app.application(bench.witness(), bench.store)(scope, receive, send)
    assert sent[0]["status"] == 400


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_a_body_in_pieces_is_one_body(http: httpx.AsyncClient, bench: Bench) -> None:
    body = bench.log.request(0, 7)
    answer = await http.post("/add-checkpoint", content=chunks(body[:10], body[10:]))
    assert answer.status_code == 200
