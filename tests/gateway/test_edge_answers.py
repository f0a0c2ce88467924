"""What every answer of the gateway carries: rates, security headers, and for scripts of other origins nothing."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest
from tests.gateway import world as worlds
from tests.gateway.world import World

from dossier_gateway.proxy.app import Proxy
from dossier_local.cluster import Cluster

ORIGIN = "https://app.example"
PREFLIGHT = {
    "Origin": ORIGIN,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type",
}
CORS = ("access-control-allow-origin", "access-control-allow-credentials", "access-control-allow-methods")
Beside = AbstractAsyncContextManager[tuple[Proxy, httpx.AsyncClient, int]]


def beside(cluster: Cluster, world: World, folder: Any, **more: Any) -> Beside:
    port = int(next(iter(world.settings.common.peers.values())).rpartition(":")[2])
    return worlds.gateway(worlds.settings_for(cluster, folder, port, **more), world.clock)


@pytest.mark.parametrize("path", ["/v1/records", "/v1/me", "/oauth/token", "/v1/nothing"])
async def test_scripts_of_other_origins_get_nothing_by_default(world: World, path: str) -> None:
    preflight = await world.http.options(path, headers=PREFLIGHT)
    assert preflight.status_code in {404, 405}
    answer = await world.http.get(path, headers={"Origin": ORIGIN})
    for each in (preflight, answer):
        assert not any(name.startswith("access-control-") for name in each.headers)


@pytest.fixture(scope="module")
async def scripted(
    cluster: Cluster, world: World, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[httpx.AsyncClient]:
    folder = tmp_path_factory.mktemp("cors")
    async with beside(cluster, world, folder, cors_origins=(ORIGIN,)) as (_, http, _port):
        yield http


async def test_a_named_origin_may_call_the_api_without_cookies(world: World, scripted: httpx.AsyncClient) -> None:
    preflight = await scripted.options("/v1/records", headers=PREFLIGHT)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == ORIGIN
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert preflight.headers["x-content-type-options"] == "nosniff"
    bearer = {"Authorization": f"Bearer {await world.token('auditor')}", "Origin": ORIGIN}
    answer = await scripted.get("/v1/me", headers=bearer)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "ratelimit-remaining" in answer.headers["access-control-expose-headers"].lower()
    assert answer.headers["x-request-id"]
    for each in (preflight, answer):
        assert "access-control-allow-credentials" not in each.headers
        assert "origin" in each.headers["vary"].lower()


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://app.example.evil", "http://app.example"])
async def test_another_origin_may_not(scripted: httpx.AsyncClient, origin: str) -> None:
    preflight = await scripted.options("/v1/records", headers=PREFLIGHT | {"Origin": origin})
    assert preflight.status_code == 400
    answer = await scripted.get("/openapi.json", headers={"Origin": origin})
    for each in (preflight, answer):
        assert "access-control-allow-origin" not in each.headers


@pytest.mark.parametrize("path", ["/oauth/authorize", "/oauth/sign-out", "/docs"])
async def test_pages_are_for_no_script_of_another_origin(scripted: httpx.AsyncClient, path: str) -> None:
    answer = await scripted.get(path, headers={"Origin": ORIGIN})
    assert not any(name in answer.headers for name in CORS)


async def test_all_accounts_of_a_person_count_together(cluster: Cluster, world: World, tmp_path: Any) -> None:
    first = await world.person("records_clerk")
    second = await world.person("records_clerk", person=first["person"])
    bearers = [{"Authorization": f"Bearer {await world.token(each['username'])}"} for each in (first, second)]
    other = {"Authorization": f"Bearer {await world.token('auditor')}"}
    async with beside(cluster, world, tmp_path, calls_per_second=0.1, calls_at_once=3) as (_, http, _port):
        answers = [await http.get("/v1/records", headers=bearers[number % 2]) for number in range(5)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
        assert [answer.headers["ratelimit-remaining"] for answer in answers] == ["2", "1", "0", "0", "0"]
        assert answers[0].headers["ratelimit-limit"] == "3"
        assert int(answers[-1].headers["retry-after"]) == int(answers[-1].headers["ratelimit-reset"]) >= 1
        assert (await http.get("/v1/me", headers=bearers[0])).status_code == 429
        assert (await http.get("/v1/me", headers=other)).status_code == 200


async def test_all_tokens_of_a_client_count_together(cluster: Cluster, world: World, tmp_path: Any) -> None:
    one, two = [{"Authorization": f"Bearer {await world.token(each)}"} for each in ("auditor", "secadmin")]
    limits = {"client_calls_per_second": 0.1, "client_calls_at_once": 3}
    async with beside(cluster, world, tmp_path, **limits) as (_, http, _port):
        answers = [await http.get("/v1/me", headers=each) for each in (one, two, one, two)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]


async def test_an_address_counts_with_and_without_a_token(cluster: Cluster, world: World, tmp_path: Any) -> None:
    bearer = {"Authorization": f"Bearer {await world.token('auditor')}"}
    limits = {"address_calls_per_second": 0.1, "address_calls_at_once": 3}
    async with beside(cluster, world, tmp_path, **limits) as (_, http, _port):
        answers = [await http.get("/v1/records", headers=each) for each in ({}, bearer, {}, bearer, {})]
        page = await http.get("/docs")
    assert [answer.status_code for answer in answers] == [401, 403, 401, 429, 429]
    assert page.status_code == 429


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/records", 401), ("GET", "/docs", 200), ("GET", "/nothing", 404), ("POST", "/oauth/token", 400)],
)
async def test_every_answer_has_its_security_headers(world: World, method: str, path: str, status: int) -> None:
    answer = await world.http.request(method, path)
    assert answer.status_code == status
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert "no-store" in answer.headers["cache-control"] or path == "/docs"
    assert len(answer.headers.get_list("x-request-id")) == 1
    assert "server" not in answer.headers
