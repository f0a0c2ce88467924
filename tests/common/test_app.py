"""What every web process answers in the same way: problems, limits, refusals, pages, preconditions."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

import httpx
import orjson
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from structlog.testing import capture_logs
from tests.common.line import Line, ProducerSettings
from tests.common.web import application
from tests.support.parts import serving, settings_of
from tests.support.tokens import TestKeys, txn_token

from dossier_common import edge, telemetry
from dossier_common.app import as_problem, create_app
from dossier_common.contracts.retention import AccessRefused
from dossier_common.database import Database
from dossier_common.ids import new_id
from dossier_common.problems import Problem
from dossier_local.cluster import Cluster

RECORD = new_id()


@pytest.fixture(scope="session")
def settings(cluster: Cluster) -> ProducerSettings:
    return settings_of(cluster, "retention", ProducerSettings).model_copy(update={"max_body": 2000})


@pytest.fixture(scope="session")
def keys() -> TestKeys:
    return TestKeys()


@pytest.fixture(scope="session")
def app(settings: ProducerSettings) -> FastAPI:
    return application(settings)


@pytest.fixture(scope="session")
async def http(app: FastAPI, keys: TestKeys) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(app, keys) as client:
        yield client


@pytest.fixture
def person(keys: TestKeys) -> dict[str, str]:
    return {"Txn-Token": txn_token(keys, "retention", ["holds:place"], account=new_id(), person=new_id())}


@pytest.fixture
def unscoped(keys: TestKeys) -> dict[str, str]:
    return {"Txn-Token": txn_token(keys, "retention", ["holds:release"], account=new_id(), person=new_id())}


def problem(answer: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-request-id"]
    document: dict[str, Any] = answer.json()
    assert document["status"] == status
    assert document["type"] == f"urn:dossier:problem:{slug}"
    assert document["title"]
    return document


async def refusals(line: Line) -> list[dict[str, Any]]:
    rows = await line.rows("SELECT body FROM outbox WHERE type = 'retention.v1.access.refused' ORDER BY id")
    return [orjson.loads(row[0]) for row in rows]  # type: ignore[arg-type]  # bytea


# -- problems


@pytest.mark.parametrize(
    ("languages", "title"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", "不存在"),
        ("zh", "不存在"),
        ("en;q=0.5, zh-TW;q=0.7", "不存在"),
        ("en-GB,en;q=0.9,zh;q=0.8", "Not found"),
        ("en", "Not found"),
        ("fr", "Not found"),
        ("zh;q=0", "Not found"),
        ("zh;q=abc", "Not found"),
        ("", "Not found"),
    ],
)
async def test_title_is_in_the_language_that_is_preferred(http: httpx.AsyncClient, languages: str, title: str) -> None:
    answer = await http.get("/v1/nothing", headers={"Accept-Language": languages})
    assert problem(answer, 404, "not-found")["title"] == title
    assert answer.json()["instance"] == "/v1/nothing"


async def test_paths_and_verbs_that_are_not_there(http: httpx.AsyncClient, person: dict[str, str]) -> None:
    problem(await http.get("/nothing"), 404, "not-found")
    answer = await http.delete("/v1/things", headers=person)
    problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"]
    problem(await http.get("/v1/things/%00", headers=person), 400, "invalid-request")
    problem(await http.get("/v1/things?cursor=%00", headers=person), 400, "invalid-request")


BROKEN = [
    b"{",
    b"",
    b"\xff\xfe",
    b'{"record": NaN}',
    b"{'record': 1}",
    b'{"name": "a\\u0000b"}',
    b'{"a\\u0000b": 1}',
    b'{"name": "\\ud800"}',
    b'{"name": "\x00"}',
    b'{"name": "\xed\xa0\x80"}',
    b'{"number": 1e999}',
    b"[" * 1900,
    b'{"a":' * 390,
    b"[" * 900 + b'"\\u0000"' + b"]" * 900,
    b'{"record": 1} {}',
    b"//comment",
]


@pytest.mark.parametrize("body", BROKEN)
async def test_body_that_is_no_json_is_400(http: httpx.AsyncClient, person: dict[str, str], body: bytes) -> None:
    headers = person | {"Content-Type": "application/json"}
    answer = await http.post("/v1/things", content=body, headers=headers)
    if body:
        problem(answer, 400, "invalid-request")
    else:
        problem(answer, 422, "invalid-request")


WRONG = [
    ({}, "/body/record", "missing"),
    ({"record": "x"}, "/body/record", "uuid_parsing"),
    ({"record": "张三"}, "/body/record", "uuid_parsing"),
    ({"record": str(RECORD), "number": 10**30}, "/body/number", "int_parsing_size"),
    ({"record": str(RECORD), "number": 2**31}, "/body/number", "less_than_equal"),
    ({"record": str(RECORD), "number": 1.5}, "/body/number", "int_from_float"),
    ({"record": str(RECORD), "name": "x" * 201}, "/body/name", "string_too_long"),
    ({"record": str(RECORD), "a/b~c": 1}, "/body/a~1b~0c", "extra_forbidden"),
    ([], "/body", "model_attributes_type"),
    ("x", "/body", "model_attributes_type"),
]


@pytest.mark.invariant(7)
@pytest.mark.parametrize(("body", "pointer", "code"), WRONG)
async def test_faults_are_pointed_at_and_never_repeated(
    http: httpx.AsyncClient, person: dict[str, str], body: object, pointer: str, code: str
) -> None:
    content = orjson.dumps(body) if "number" not in str(body) else str(body).replace("'", '"').encode()
    answer = await http.post("/v1/things", content=content, headers=person | {"Content-Type": "application/json"})
    (fault,) = problem(answer, 422, "invalid-request")["errors"]
    assert fault["pointer"] == pointer
    assert fault["code"] == code or code == "int_parsing_size"
    assert "张" not in answer.text
    assert "x" * 201 not in answer.text


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonx", "json"])
async def test_other_media_type_is_415(http: httpx.AsyncClient, person: dict[str, str], kind: str | None) -> None:
    headers = person | ({"Content-Type": kind} if kind else {})
    body = orjson.dumps({"record": str(RECORD)})
    problem(await http.post("/v1/things", content=body, headers=headers), 415, "unsupported-media-type")


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=utf-8", "application/merge-patch+json"]
)
async def test_json_is_taken_under_its_names(
    line: Line, http: httpx.AsyncClient, person: dict[str, str], kind: str
) -> None:
    body = orjson.dumps({"record": str(RECORD)})
    answer = await http.post("/v1/things", content=body, headers=person | {"Content-Type": kind})
    assert answer.status_code == 201


async def test_too_long_a_body_is_413_with_and_without_its_length(
    http: httpx.AsyncClient, person: dict[str, str]
) -> None:
    async def pieces(number: int) -> AsyncIterator[bytes]:
        yield b'{"name": "'
        for _ in range(number):
            yield b"x" * 100

    headers = person | {"Content-Type": "application/json"}
    answer = await http.post("/v1/things", content=b"x" * 2001, headers=headers)
    assert "2000" in problem(answer, 413, "too-large")["detail"]
    problem(await http.post("/v1/things", content=pieces(30), headers=headers), 413, "too-large")
    problem(await http.post("/v1/things", content=pieces(10), headers=headers), 400, "invalid-request")
    assert (await http.post("/v1/reports", content=b"x" * 2500, headers=headers)).status_code == 201
    problem(await http.post("/v1/reports", content=b"x" * 3001, headers=headers), 413, "too-large")
    problem(
        await http.post("/v1/things", content=b"", headers=headers | {"Content-Length": "9" * 30}), 413, "too-large"
    )


async def test_request_has_one_id(http: httpx.AsyncClient, person: dict[str, str]) -> None:
    given = {"X-Request-Id": "abcdef-0123456789"}
    with capture_logs():
        for path in ("/healthz", "/nothing", "/v1/crash"):
            assert (await http.get(path, headers=given | person)).headers["x-request-id"] == given["X-Request-Id"]
            for bad in ("short", "x" * 65, "spaces are bad", "new\x0bline"):
                made = (await http.get(path, headers={"X-Request-Id": bad} | person)).headers["x-request-id"]
                assert UUID(made).version == 7


async def test_unknown_exception_is_500_and_stays_inside(http: httpx.AsyncClient, person: dict[str, str]) -> None:
    with capture_logs() as logs:
        answer = await http.get("/v1/crash", headers=person)
    document = problem(answer, 500, "internal-error")
    assert set(document) == {"type", "title", "status", "instance"}
    for told in ("张三", "1101", "LookupError", "Traceback"):
        assert told not in answer.text
    (line,) = logs
    assert (line["event"], line["route"]) == ("unhandled", "crash")
    told = telemetry.told(line["exc_info"])
    assert told.startswith("LookupError at")
    assert "web.py" in told
    assert "张三" not in told


async def test_request_that_takes_too_long_is_503(http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "SECONDS", 0.1)
    answer = await http.get("/v1/late")
    problem(answer, 503, "upstream-unavailable")
    assert answer.headers["retry-after"]


async def test_scope_that_is_missing_is_named(line: Line, http: httpx.AsyncClient, unscoped: dict[str, str]) -> None:
    answer = await http.post("/v1/things", json={"record": str(RECORD)}, headers=unscoped)
    assert problem(answer, 403, "insufficient-scope")["scope"] == "holds:place"
    assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
    answer = await http.post("/v1/things", json={"record": str(RECORD)})
    problem(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer")


# -- the database


@pytest.fixture
async def lost(app: FastAPI, settings: ProducerSettings, cluster: Cluster) -> AsyncIterator[None]:
    """A database that is away."""
    url = settings.database_url.replace("/run", "/gone")
    assert url != settings.database_url
    standing = app.state.standing
    kept, app.state.database = app.state.database, Database(settings.model_copy(update={"database_url": url}))
    standing.watch(app.state.database, standing._schema)
    yield
    await app.state.database.close()
    app.state.database = kept
    standing.watch(kept, standing._schema)


@pytest.mark.usefixtures("lost")
async def test_database_that_is_away_is_503(http: httpx.AsyncClient, person: dict[str, str]) -> None:
    for answer in (
        await http.get("/v1/fallback"),
        await http.post("/v1/things", json={"record": str(RECORD)}, headers=person),
        await http.post("/v1/things", json={"record": str(RECORD)}, headers=person | {"Idempotency-Key": "k"}),
    ):
        problem(answer, 503, "upstream-unavailable")
        assert int(answer.headers["retry-after"]) > 0
    ready = await http.get("/readyz")
    assert (ready.status_code, ready.json()) == (503, {"status": "database-away"})
    assert (await http.get("/healthz")).json() == {"status": "ok"}


async def test_database_that_restarts_is_503_and_then_serves_again(
    line: Line, http: httpx.AsyncClient, app: FastAPI
) -> None:
    assert (await http.get("/v1/fallback")).text == "here"
    async with app.state.database.session() as session:
        pid = (await session.execute(text("SELECT pg_backend_pid()"))).scalar_one()
        await line.execute("SELECT pg_terminate_backend(:pid)", pid=pid)
        with pytest.raises(Exception) as failure:  # noqa: PT012  # until the connection notices
            for _ in range(100):
                await session.execute(text("SELECT 1"))
                await asyncio.sleep(0.01)
    assert as_problem(failure.value).status == 503
    assert (await http.get("/v1/fallback")).text == "here"
    assert (await http.get("/readyz")).json() == {"status": "ready"}


async def test_transaction_that_gave_way_to_another_is_503(line: Line) -> None:
    database = line.producer.database
    await line.emit(2)
    ids = [row[0] for row in await line.rows("SELECT id FROM outbox")]
    met = asyncio.Barrier(2)

    async def lock(order: list[object]) -> None:
        async with database.transaction() as session:
            for place, each in enumerate(order):
                await session.execute(text("UPDATE outbox SET time = time WHERE id = :id"), {"id": each})
                if place == 0:
                    await met.wait()

    done = await asyncio.gather(lock(ids), lock(ids[::-1]), return_exceptions=True)
    (failure,) = [each for each in done if each is not None]
    assert isinstance(failure, Exception)
    assert as_problem(failure).status == 503


# -- refusals


@pytest.mark.invariant(1)
async def test_refusal_is_recorded_exactly_once_before_it_is_answered(
    line: Line, http: httpx.AsyncClient, unscoped: dict[str, str]
) -> None:
    headers = unscoped | {"X-Request-Id": "request-0001"}
    await http.post("/v1/things", json={"record": str(RECORD)}, headers=headers | {"Idempotency-Key": "one"})
    (body,) = await refusals(line)
    assert body["outcome"] == "refused"
    assert body["data"] == {"operation": "create_thing", "slug": "insufficient-scope", "scope": "holds:place"}
    assert body["actor"]
    assert body["person"]
    assert body["txn"]
    await http.get(f"/v1/records/{RECORD}?kind=forbidden", headers=headers)
    assert (await refusals(line))[1]["data"]["record"] == str(RECORD)
    assert await line.value("SELECT count(*) FROM outbox") == 2


@pytest.mark.invariant(1)
async def test_hidden_thing_is_answered_like_an_unknown_one_and_recorded(
    line: Line, http: httpx.AsyncClient, person: dict[str, str]
) -> None:
    hidden = await http.get(f"/v1/records/{RECORD}?kind=hidden", headers=person)
    unknown = await http.get(f"/v1/records/{RECORD}?kind=unknown", headers=person)
    assert hidden.json() == unknown.json()
    assert len(await refusals(line)) == 1


async def test_faults_and_strangers_are_no_refusals(
    line: Line, http: httpx.AsyncClient, person: dict[str, str]
) -> None:
    await http.post("/v1/things", json={}, headers=person)
    await http.post("/v1/things", json={"record": str(RECORD)}, headers={"Txn-Token": "x.y.z"})
    await http.post("/v1/things", json={"record": str(RECORD), "name": "conflict"}, headers=person)
    assert await line.value("SELECT count(*) FROM outbox") == 0


@pytest.mark.invariant(1)
@pytest.mark.usefixtures("lost")
async def test_refusal_that_cannot_be_recorded_is_503(http: httpx.AsyncClient, unscoped: dict[str, str]) -> None:
    answer = await http.post("/v1/things", json={"record": str(RECORD)}, headers=unscoped)
    problem(answer, 503, "audit-unavailable")
    assert answer.headers["retry-after"]


@pytest.mark.invariant(1)
async def test_refusal_that_the_database_refuses_is_503_too(
    app: FastAPI, http: httpx.AsyncClient, unscoped: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Endless(AccessRefused):
        text: str = "x" * 40_000

    monkeypatch.setattr(app.state, "refused", Endless)
    with capture_logs() as logs:
        answer = await http.post("/v1/things", json={"record": str(RECORD)}, headers=unscoped)
    problem(answer, 503, "audit-unavailable")
    assert [each["event"] for each in logs] == ["refusal-not-recorded"]


# -- pages


def next_of(answer: httpx.Response) -> str | None:
    link = answer.headers.get("link")
    return link.removeprefix("<").partition(">")[0] if link else None


async def test_pages_follow_each_other_to_the_end(http: httpx.AsyncClient, person: dict[str, str]) -> None:
    found, path = [], "/v1/things?limit=50&state=open"
    for _ in range(3):
        answer = await http.get(path, headers=person)
        found += answer.json()["items"]
        following = next_of(answer)
        if following is None:
            break
        assert "state=open" in following
        assert "limit=50" in following
        path = following
    assert found == list(range(1, 121))
    assert following is None


CURSORS = ["x", "", "W10", "WyJ4Il0", "////", "é", "A" * 399, "%F0%9F%98%80", "W10=", "bnVsbA", "eyJhIjoxfQ"]


@pytest.mark.parametrize("cursor", CURSORS)
async def test_cursor_that_was_never_handed_out_is_400(
    http: httpx.AsyncClient, person: dict[str, str], cursor: str
) -> None:
    answer = await http.get(f"/v1/things?cursor={cursor}", headers=person)
    problem(answer, 400, "invalid-request")


async def test_cursor_is_changed_by_nobody_and_good_for_its_own_list(
    http: httpx.AsyncClient, person: dict[str, str]
) -> None:
    following = next_of(await http.get("/v1/things", headers=person))
    assert following
    cursor = following.partition("cursor=")[2]
    changed = ("B" if cursor[-2] == "A" else "A").join([cursor[:-2], cursor[-1]])
    problem(await http.get(f"/v1/things?cursor={changed}", headers=person), 400, "invalid-request")
    problem(await http.get(f"/v1/others?cursor={cursor}", headers=person), 400, "invalid-request")
    assert (await http.get(f"/v1/things?cursor={cursor}", headers=person)).status_code == 200


@pytest.mark.parametrize("limit", ["0", "-1", "201", "x", "1e9", "9" * 40])
async def test_limit_is_bounded(http: httpx.AsyncClient, person: dict[str, str], limit: str) -> None:
    answer = await http.get(f"/v1/things?limit={limit}", headers=person)
    assert problem(answer, 422, "invalid-request")["errors"][0]["pointer"] == "/query/limit"


# -- preconditions


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (None, 428),
        ('"3"', 200),
        ("*", 200),
        ('"1", "3"', 200),
        ('"2"', 412),
        ('W/"3"', 412),
        ("3", 400),
        ("", 400),
        ('"3', 400),
        ('"', 400),
    ],
)
async def test_change_names_the_version_it_was_made_on(
    http: httpx.AsyncClient, person: dict[str, str], given: str | None, status: int
) -> None:
    headers = person | ({"If-Match": given} if given is not None else {})
    assert (await http.put(f"/v1/things/{RECORD}", headers=headers)).status_code == status


# -- the document and the log


def test_document_names_scopes_and_problems(app: FastAPI) -> None:
    document = app.openapi()
    create = document["paths"]["/v1/things"]["post"]
    assert create["operationId"] == "create_thing"
    assert create["security"] == [{"oauth2": ["holds:place"]}]
    assert set(create["responses"]) >= {"201", "400", "401", "403", "409", "413", "415", "422", "503"}
    assert "/internal/v1/feed" in document["paths"]
    assert create_app("retention", None, routers=[], refused=AccessRefused).openapi()["paths"]


def test_every_category_has_both_languages() -> None:
    def all_of(kind: type[Problem]) -> Iterator[type[Problem]]:
        yield kind
        for each in kind.__subclasses__():
            yield from all_of(each)

    for kind in all_of(Problem):
        assert kind.words.zh
        assert kind.words.en
        assert kind.status >= 400


@pytest.mark.invariant(7)
def test_log_of_libraries_repeats_no_values() -> None:
    cause = KeyError("张三")
    error = ExceptionGroup("of 李四", [ValueError("王五")])
    error.__cause__ = cause
    found = (type(error), error, None)
    record = logging.LogRecord("asyncio", logging.ERROR, "x", 1, "Task failed\nfuture: <%s>", ("赵六",), found)
    line = orjson.loads(telemetry._OneLine().format(record))
    assert (line["logger"], line["event"]) == ("asyncio", "Task failed")
    assert line["exception"] == "ExceptionGroup [ValueError] <- KeyError"


def test_problem_of_our_own_is_told_with_its_message() -> None:
    assert telemetry.told(Problem("What happened.")) == "Problem: What happened."
