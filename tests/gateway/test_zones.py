"""A client of some network zones only: elsewhere its tokens are of no use, and it gets none."""

from collections.abc import AsyncIterator
from ipaddress import IPv4Network
from typing import Any
from uuid import uuid4

import httpx
import pytest
from tests.gateway import world as worlds
from tests.gateway.world import World

from dossier_gateway.tokens import Tokens
from dossier_local.cluster import Cluster

REFUSED = "gateway.v1.access.refused"
OFFICE, HOME = {"X-Forwarded-For": "10.1.2.3"}, {"X-Forwarded-For": "203.0.113.9"}


@pytest.fixture(scope="module")
async def edge(
    cluster: Cluster, world: World, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway that believes what the proxy before it says of addresses: 10.0.0.0/8 is the office."""
    port = int(next(iter(world.settings.common.peers.values())).rpartition(":")[2])
    settings = worlds.settings_for(
        cluster,
        tmp_path_factory.mktemp("zones"),
        port,
        trusted_proxies=(IPv4Network("127.0.0.0/8"),),
        zones={IPv4Network("10.0.0.0/8"): "office"},
    )
    async with worlds.gateway(settings, world.clock) as (_, http, _port):
        yield http


@pytest.fixture
async def app(world: World) -> dict[str, Any]:
    body = {
        "id": f"zoned-{uuid4().hex[:8]}",
        "title": "CRM",
        "grant_types": ["client_credentials"],
        "scopes": ["records:catalogue"],
        "zones": ["office"],
    }
    answer = await world.call("sysadmin", "POST", "/v1/clients", json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def token(http: httpx.AsyncClient, app: dict[str, Any], where: dict[str, str]) -> httpx.Response:
    form = {"grant_type": "client_credentials"}
    return await http.post("/oauth/token", data=form, auth=(app["id"], app["secret"]), headers=where)


async def refusals(world: World, client: str) -> list[tuple[str, str]]:
    events = await world.events(REFUSED)
    return [(each.data["operation"], each.data["slug"]) for each in events if each.client == client]


async def test_a_token_is_of_use_within_the_zone_only_and_the_refusal_is_an_event(
    world: World, edge: httpx.AsyncClient, app: dict[str, Any]
) -> None:
    bearer = {"Authorization": f"Bearer {(await token(edge, app, OFFICE)).json()['access_token']}"}
    assert (await edge.get("/v1/records", headers=bearer | OFFICE)).status_code == 200
    forwarded = len(world.upstream.received)
    outside = await edge.get("/v1/records", headers=bearer | HOME)
    assert outside.status_code == 403
    assert outside.json()["type"] == "urn:dossier:problem:outside-zone"
    assert outside.json()["title"] == "Not from this network zone"
    chinese = await edge.get("/v1/records", headers=bearer | HOME | {"Accept-Language": "zh-CN"})
    assert chinese.json()["title"] == "不在允许的网络区域"
    assert len(world.upstream.received) == forwarded
    assert await refusals(world, app["id"]) == [("list_records", "outside-zone")] * 2


async def test_the_gateways_own_endpoints_refuse_it_too(
    world: World, edge: httpx.AsyncClient, app: dict[str, Any]
) -> None:
    bearer = {"Authorization": f"Bearer {(await token(edge, app, OFFICE)).json()['access_token']}"}
    assert (await edge.get("/v1/units", headers=bearer | OFFICE)).status_code == 200
    outside = await edge.get("/v1/units", headers=bearer | HOME)
    assert (outside.status_code, outside.json()["type"]) == (403, "urn:dossier:problem:outside-zone")
    assert await refusals(world, app["id"]) == [("list_units", "outside-zone")]


async def test_elsewhere_the_client_gets_no_token(world: World, edge: httpx.AsyncClient, app: dict[str, Any]) -> None:
    answer = await token(edge, app, HOME)
    assert (answer.status_code, answer.json()["error"]) == (403, "unauthorized_client")
    assert answer.json()["error_description"].startswith("outside-zone")
    assert await refusals(world, app["id"]) == [("issue_token", "outside-zone")]


async def test_who_is_no_such_client_learns_nothing_of_its_zones(edge: httpx.AsyncClient, app: dict[str, Any]) -> None:
    answer = await token(edge, app | {"secret": "wrong"}, HOME)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


async def test_a_persons_token_is_bound_to_the_zones_of_the_client_that_got_it(
    world: World, edge: httpx.AsyncClient, app: dict[str, Any]
) -> None:
    person = await world.person("records_clerk")
    tokens: Tokens = world.proxy.own.state.tokens
    issued, _ = tokens.access(
        world.clock.now(),
        seconds=60,
        audience=world.settings.common.issuer,
        subject=person["id"],
        client=app["id"],
        scopes=["records:catalogue"],
        person=person["person"],
    )
    bearer = {"Authorization": f"Bearer {issued}"}
    assert (await edge.get("/v1/records", headers=bearer | OFFICE)).status_code == 200
    assert (await edge.get("/v1/records", headers=bearer | HOME)).status_code == 403


async def test_a_client_without_zones_is_of_use_everywhere(world: World, edge: httpx.AsyncClient) -> None:
    bearer = {"Authorization": f"Bearer {await world.token('auditor')}"}
    for where in (OFFICE, HOME):
        assert (await edge.get("/v1/me", headers=bearer | where)).status_code == 200
