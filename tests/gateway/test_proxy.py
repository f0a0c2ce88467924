"""The proxy: what is forwarded and how, what comes back, and what becomes of a call that breaks off."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from joserfc import jws
from starlette.types import Receive, Scope, Send
from tests.gateway import world as worlds
from tests.gateway.world import PASSWORD, World, read
from tests.support.authorization import tokens
from tests.support.waiting import eventually

from dossier_common.standing import Status
from dossier_gateway.proxy.upstream import Pool
from dossier_local.cluster import Cluster


@pytest.fixture(scope="module")
async def clerk(world: World) -> str:
    return str((await world.person("records_clerk"))["username"])


async def txn_of(world: World) -> dict[str, Any]:
    (token,) = world.upstream.received[-1].values("txn-token")
    found: dict[str, Any] = json.loads(jws.extract_compact(token.encode()).payload)
    return found


async def by_socket(world: World, username: str, framing: str, body: str = "") -> bytes:
    """The first line of the answer to an upload with these headers, byte for byte."""
    token = await world.token(username)
    head = f"POST /v1/imports HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{framing}\r\n{body}"
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    writer.write(head.encode())
    await writer.drain()
    answer = await asyncio.wait_for(reader.readline(), 5)
    writer.close()
    return answer


@pytest.mark.invariant(6)
async def test_a_call_arrives_with_a_txn_token_and_nothing_of_the_callers_credentials(world: World, clerk: str) -> None:
    forged = {
        "Txn-Token": "forged",
        "Cookie": "a=b",
        "X-Forwarded-For": "10.0.0.1",
        "X-Forwarded-Host": "evil.example",
        "Forwarded": "for=10.0.0.1",
        "X-Real-IP": "10.0.0.1",
        "Proxy-Authorization": "Basic eDp5",
        "Connection": "keep-alive, X-Hop",
        "X-Hop": "gone",
        "TE": "trailers",
        "X-Kept": "kept",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "X-Request-Id": "my-request-1",
        "Idempotency-Key": "k1",
    }
    answer = await world.call(clerk, "POST", "/v1/records?x=%E4%B8%AD&y=a+b", headers=forged, json={"a": 1})
    assert answer.status_code == 200
    (got,) = world.upstream.received
    names = {name for name, _ in got.headers}
    assert names.isdisjoint(
        {"authorization", "cookie", "forwarded", "x-real-ip", "x-forwarded-for", "x-forwarded-host", "x-hop", "te"}
    )
    assert "proxy-authorization" not in names
    assert got.values("x-kept") == ["kept"]
    assert got.values("idempotency-key") == ["k1"]
    assert got.values("traceparent") == [forged["traceparent"]]
    assert got.values("x-request-id") == [answer.headers["x-request-id"]] != ["my-request-1"]
    assert (got.path, got.query, json.loads(got.body)) == ("/v1/records", "x=%E4%B8%AD&y=a+b", {"a": 1})
    said = await txn_of(world)
    assert said["aud"] == "records"
    assert said["exp"] - said["iat"] <= 5
    assert said["azp"] == "dossier-cli"
    assert said["rctx"] == {"address": "127.0.0.1", "zone": "office"}
    assert [role["role"] for role in said["tctx"]["roles"]] == ["records_clerk"]
    assert said["tctx"]["clearance"] == "internal"


async def test_an_answer_comes_back_without_hop_by_hop_headers_and_cookies(world: World, clerk: str) -> None:
    answer = await world.call(clerk, "GET", "/v1/records")
    assert answer.headers["x-outer"] == "kept"
    assert "x-inner" not in answer.headers
    assert "set-cookie" not in answer.headers
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert int(answer.headers["ratelimit-remaining"]) > 0
    assert len(answer.headers.get_list("date")) == 1


async def test_a_txn_token_is_reused_until_the_directory_says_otherwise(world: World) -> None:
    person = await world.person("records_clerk")
    await world.call(person["username"], "GET", "/v1/records")
    first = await txn_of(world)
    await world.call(person["username"], "GET", "/v1/records")
    assert (await txn_of(world))["txn"] == first["txn"]
    await world.assign(person["id"], "collector")
    await asyncio.sleep(1.1)
    await world.call(person["username"], "GET", "/v1/records")
    changed = await txn_of(world)
    assert changed["txn"] != first["txn"]
    assert {role["role"] for role in changed["tctx"]["roles"]} == {"records_clerk", "collector"}


async def test_a_revoked_role_is_felt_within_two_seconds(world: World) -> None:
    person = await world.person("records_clerk")
    assert (await world.call(person["username"], "GET", "/v1/records")).status_code == 200
    held = (await world.call("secadmin", "GET", f"/v1/accounts/{person['id']}/roles")).json()["items"]
    gone = await world.call("secadmin", "DELETE", f"/v1/accounts/{person['id']}/roles/{held[0]['id']}")
    assert gone.status_code == 204
    await asyncio.sleep(1.1)
    assert (await world.call(person["username"], "GET", "/v1/records")).status_code == 403


async def test_a_fixed_segment_wins_over_a_parameter(world: World, clerk: str) -> None:
    assert (await world.call(clerk, "POST", "/v1/records/search", json={})).status_code == 200
    assert world.upstream.received[-1].path == "/v1/records/search"


async def test_a_large_body_is_streamed_and_one_over_the_limit_is_refused(world: World, clerk: str) -> None:
    size = 3 << 20
    answer = await world.call(clerk, "POST", "/v1/imports", content=b"x" * size)
    assert answer.json() == {"got": size}
    assert world.upstream.received[-1].values("content-length") == [str(size)]
    assert b" 413 " in await by_socket(world, clerk, "Content-Length: 99999999\r\n")


async def test_chunks_are_passed_on_as_chunks_up_to_the_limit(world: World, clerk: str) -> None:
    async def chunks(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b"x" * (1 << 20)

    answer = await world.call(clerk, "POST", "/v1/imports", content=chunks(3))
    assert answer.json() == {"got": 3 << 20}
    assert world.upstream.received[-1].values("content-length") == []
    answer = await world.call(clerk, "POST", "/v1/imports", content=chunks(33))
    assert answer.status_code == 413
    assert answer.json()["type"] == "urn:dossier:problem:too-large"


async def test_a_long_answer_is_streamed(world: World, clerk: str) -> None:
    async def behave(_scope: Scope, receive: Receive, send: Send) -> None:
        await read(receive)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(50):
            await send({"type": "http.response.body", "body": b"y" * 100_000, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    world.upstream.behaviour = behave
    answer = await world.call(clerk, "GET", "/v1/records")
    assert len(answer.content) == 5_000_000


async def test_a_part_that_is_away_is_a_503(cluster: Cluster, world: World, clerk: str, tmp_path: Any) -> None:
    settings = worlds.settings_for(cluster, tmp_path, worlds.free_port())
    async with worlds.gateway(settings, world.clock) as (_, http, _port):
        header = {"Authorization": f"Bearer {await world.token(clerk)}"}
        answer = await http.get("/v1/records", headers=header)
    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:dossier:problem:upstream-unavailable"
    assert answer.headers["retry-after"]


async def test_a_part_that_refuses_our_word_is_a_503_and_not_the_callers_401(world: World, clerk: str) -> None:
    async def behave(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    world.upstream.behaviour = behave
    assert (await world.call(clerk, "GET", "/v1/records")).status_code == 503


@pytest.mark.parametrize(
    ("method", "path", "tries"),
    [("GET", "/v1/records", 2), ("GET", "/v1/records?grant=1", 1), ("POST", "/v1/records", 1)],
)
async def test_a_connection_that_dies_is_tried_again_only_for_what_changes_nothing(
    world: World, clerk: str, method: str, path: str, tries: int
) -> None:
    seen = []

    async def behave(scope: Scope, receive: Receive, _send: Send) -> None:
        await read(receive)
        seen.append(scope["path"])
        raise ConnectionError  # uvicorn closes without an answer when none was begun

    async with _dropping(seen) as port:
        pools = world.proxy._forwarder.pools
        failing = Pool(f"http://127.0.0.1:{port}", 8, part="records", tls=world.settings.tls.client)
        old, pools["records"] = pools["records"], failing
        try:
            answer = await world.call(clerk, method, path)
        finally:
            pools["records"].close()
            pools["records"] = old
    assert answer.status_code == 503
    assert len(seen) == tries


class _dropping:  # noqa: N801  # a context, as the others
    """A server that reads a request and hangs up."""

    def __init__(self, seen: list[str]) -> None:
        self._seen = seen

    async def __aenter__(self) -> int:
        async def drop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            line = await reader.readline()
            await reader.readuntil(b"\r\n\r\n")
            self._seen.append(line.decode())
            writer.close()

        self._server = await asyncio.start_server(drop, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()


async def test_a_caller_who_leaves_takes_his_call_with_him(world: World, clerk: str) -> None:
    left = asyncio.Event()
    begun = asyncio.Event()

    async def behave(_scope: Scope, receive: Receive, _send: Send) -> None:
        await read(receive)
        begun.set()
        assert (await receive())["type"] == "http.disconnect"
        left.set()

    await world.token(clerk)
    world.upstream.behaviour = behave
    call = asyncio.create_task(world.call(clerk, "GET", "/v1/records"))
    await begun.wait()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await asyncio.wait_for(left.wait(), 5)


async def test_too_many_calls_are_told_when_to_come_again(
    cluster: Cluster, world: World, clerk: str, tmp_path: Any
) -> None:
    settings = worlds.settings_for(cluster, tmp_path, worlds.free_port(), calls_per_second=0.01, calls_at_once=3)
    async with worlds.gateway(settings, world.clock) as (proxy, http, _port):
        header = {"Authorization": f"Bearer {await world.token(clerk)}"}
        answers = [await http.get("/v1/records", headers=header) for _ in range(5)]
        await http.get("/v1/records")
        await proxy.refusals.flush()
    assert [answer.status_code for answer in answers] == [503, 503, 503, 429, 429]
    assert answers[0].headers["ratelimit-remaining"] == "2"
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert answers[-1].json()["type"] == "urn:dossier:problem:rate-limited"


async def test_the_one_document_has_what_can_be_reached_and_nothing_else(world: World) -> None:
    document = (await world.http.get("/openapi.json")).json()
    assert "/v1/records/{record_id}" in document["paths"]
    assert "/v1/units" in document["paths"]
    assert not any(path.startswith("/internal") for path in document["paths"])
    assert "/v1/records/{record_id}/descriptor" not in document["paths"]
    assert document["servers"] == [{"url": world.settings.common.issuer}]
    page = await world.http.get("/docs")
    assert "read_record" in page.text
    assert "<script" not in page.text
    assert "http://" not in page.text.replace(world.settings.common.issuer, "")


async def test_a_session_that_ended_ends_at_a_gateway_beside_this_one(
    cluster: Cluster, world: World, tmp_path: Any
) -> None:
    issued = await tokens(await world.browser(), "auditor", PASSWORD)
    header = {"Authorization": f"Bearer {issued['access_token']}"}
    async with worlds.gateway(worlds.settings_for(cluster, tmp_path, 1), world.clock) as (_, other, _port):
        assert (await other.get("/v1/me", headers=header)).status_code == 200
        twice = {"grant_type": "refresh_token", "client_id": "dossier-cli", "refresh_token": issued["refresh_token"]}
        for _ in range(2):
            await world.http.post("/oauth/token", data=twice)

        async def status() -> int:
            return (await other.get("/v1/me", headers=header)).status_code

        await eventually(status, 401, seconds=2)


async def test_framing_that_can_be_read_in_two_ways_is_never_forwarded(world: World, clerk: str) -> None:
    for framing in (
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 5 5\r\n",
        "Transfer-Encoding : chunked\r\n",
    ):
        answer = await by_socket(world, clerk, framing, "0\r\n\r\nhello")
        assert not answer or answer.startswith(b"HTTP/1.1 4"), framing
    assert not world.upstream.received


async def test_many_at_once_all_pass(world: World, clerk: str) -> None:
    async def one() -> httpx.Response:
        return await world.call(clerk, "GET", "/v1/records")

    answers = await asyncio.gather(*(one() for _ in range(100)))
    assert {answer.status_code for answer in answers} == {200}


async def test_nothing_is_forwarded_while_the_gateway_may_not_work(
    world: World, clerk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unchanged() -> Status:
        return Status.CLOCK_OFF

    token = await world.token(clerk)
    before = len(world.upstream.received)
    monkeypatch.setattr(world.proxy._standing, "look", unchanged)
    monkeypatch.setattr(world.proxy._standing, "open", False)  # its value
    for path in ("/v1/records", "/v1/me", "/oauth/jwks.json"):
        answer = await world.http.get(path, headers={"Authorization": f"Bearer {token}"})
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:dossier:problem:upstream-unavailable")
    assert len(world.upstream.received) == before
    ready = await world.http.get("/readyz")
    assert (ready.status_code, ready.json()) == (503, {"status": "clock-off"})
    assert (await world.http.get("/healthz")).status_code == 200
