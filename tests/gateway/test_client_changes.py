"""Applications after their registration: keys, zones, other scopes, another secret, disabled and enabled."""

from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from joserfc.jwk import ECKey, OKPKey, RSAKey
from tests.gateway.test_clients import register
from tests.gateway.world import PASSWORD, World
from tests.support import authorization
from tests.support.waiting import eventually


def client_id() -> str:
    return f"app-{uuid4().hex[:12]}"


def key_set() -> list[dict[str, Any]]:
    """A key of each kind that may be registered."""
    pairs: list[Any] = [OKPKey.generate_key("Ed25519"), ECKey.generate_key("P-256"), RSAKey.generate_key(2048)]
    return [{**pair.as_dict(private=False), "kid": f"key-{at}"} for at, pair in enumerate(pairs)]


async def test_public_keys_zones_and_redirects_are_registered_and_told(world: World) -> None:
    keys_given = [key | {"use": "sig", "ext": True} for key in key_set()]
    made = await register(
        world,
        jwks={"keys": keys_given},
        zones=["office"],
        grant_types=["authorization_code", "client_credentials"],
        redirect_uris=["https://app.example/cb"],
        post_logout_redirect_uris=["https://app.example/bye"],
    )
    assert made["secret"] is None
    assert made["confidential"]
    seen = await world.call("sysadmin", "GET", f"/v1/clients/{made['id']}")
    assert seen.headers["etag"] == '"1"'
    told = seen.json()
    assert [key["kid"] for key in told["jwks"]["keys"]] == ["key-0", "key-1", "key-2"]
    assert all("ext" not in key and "d" not in key for key in told["jwks"]["keys"])
    assert (told["zones"], told["post_logout_redirect_uris"]) == (["office"], ["https://app.example/bye"])
    issued = await world.call("sysadmin", "POST", f"/v1/clients/{made['id']}/secrets", json={})
    assert issued.status_code == 409


def wrong_keys() -> dict[str, list[dict[str, Any]]]:
    """Key sets that are refused, by what is wrong."""
    okp, ec, rsa = key_set()
    private = OKPKey.generate_key("Ed25519").as_dict(private=True) | {"kid": "x"}
    return {
        "private": [private],
        "symmetric": [{"kty": "oct", "k": "AAAA", "kid": "x"}],
        "twice": [okp, okp],
        "nameless": [{name: value for name, value in okp.items() if name != "kid"}],
        "curve": [ECKey.generate_key("P-384").as_dict(private=False) | {"kid": "x"}],
        "ed448": [OKPKey.generate_key("Ed448").as_dict(private=False) | {"kid": "x"}],
        "point": [ec | {"x": ec["y"]}],
        "short": [rsa | {"n": rsa["n"][:170]}],
        "no number": [rsa | {"n": 7}],
        "encryption": [rsa | {"use": "enc"}],
        "algorithm": [rsa | {"alg": "RS256"}],
        "odd algorithm": [rsa | {"alg": ["PS256"]}],
        "kind": [okp | {"kty": None}],
        "empty": [],
    }


@pytest.mark.parametrize("wrong", wrong_keys())
async def test_other_keys_are_refused_and_not_repeated(world: World, wrong: str) -> None:
    keys_given = wrong_keys()[wrong]
    body = {
        "id": client_id(),
        "title": "CRM",
        "grant_types": ["client_credentials"],
        "scopes": [],
        "jwks": {"keys": keys_given},
    }
    answer = await world.call("sysadmin", "POST", "/v1/clients", json=body)
    assert answer.status_code == 422
    assert all(fault["pointer"].startswith("/body/jwks") for fault in answer.json()["errors"])
    assert not any(str(key.get("d") or key.get("k") or "-") in answer.text for key in keys_given if "d" in key)


@pytest.mark.parametrize(
    ("more", "pointer"),
    [
        ({"zones": ["moon"]}, "/body/zones/0"),
        ({"post_logout_redirect_uris": ["https://app.example/bye"]}, "/body/post_logout_redirect_uris"),
        (
            {
                "grant_types": ["authorization_code"],
                "redirect_uris": ["https://app.example/cb"],
                "post_logout_redirect_uris": ["javascript:alert(1)"],
            },
            "/body/post_logout_redirect_uris/0",
        ),
    ],
)
async def test_what_does_not_belong_together_is_refused_at_registration(
    world: World, more: dict[str, Any], pointer: str
) -> None:
    body = {"id": client_id(), "title": "x", "grant_types": ["client_credentials"], "scopes": []} | more
    answer = await world.call("sysadmin", "POST", "/v1/clients", json=body)
    assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer]


async def change(world: World, client: str, body: dict[str, Any], version: int) -> httpx.Response:
    headers = {"If-Match": f'"{version}"'}
    return await world.call("sysadmin", "PATCH", f"/v1/clients/{client}", json=body, headers=headers)


async def token_of(world: World, app: dict[str, Any], secret: str) -> httpx.Response:
    form = {"grant_type": "client_credentials"}
    return await world.http.post("/oauth/token", data=form, auth=(app["id"], secret))


async def test_an_application_is_changed_by_its_version(world: World) -> None:
    app = await register(world)
    path = f"/v1/clients/{app['id']}"
    assert (await world.call("sysadmin", "PATCH", path, json={"title": "y"})).status_code == 428
    changed = await change(world, app["id"], {"title": "y", "scopes": ["records:read"], "zones": ["office"]}, 1)
    assert changed.status_code == 200, changed.text
    told = changed.json()
    assert (told["title"], told["scopes"], told["zones"], told["version"]) == ("y", ["records:read"], ["office"], 2)
    assert (await change(world, app["id"], {"title": "z"}, 1)).status_code == 412
    assert (await change(world, app["id"], {"title": "y"}, 2)).headers["etag"] == '"2"'
    for wrong in ({"jwks": None}, {"zones": ["moon"]}, {"redirect_uris": ["https://x.example/"]}, {"secret": "x"}):
        assert (await change(world, app["id"], wrong, 2)).status_code == 422
    assert (await change(world, "no-such-app", {"title": "z"}, 1)).status_code == 404
    assert (await token_of(world, app, app["secret"])).json()["scope"] == "records:read"
    event = (await world.events("gateway.v1.client.changed"))[-1]
    assert event.data["changed"] == ["scopes", "title", "zones"]
    assert (event.data["scopes_from"], event.data["scopes_to"]) == (app["scopes"], ["records:read"])
    by_key = await change(world, app["id"], {"jwks": {"keys": key_set()[:1]}}, 2)
    assert by_key.status_code == 200
    assert (await token_of(world, app, app["secret"])).status_code == 401


async def test_a_new_secret_and_the_one_before_hold_side_by_side_for_the_overlap(world: World) -> None:
    app = await register(world)
    path = f"/v1/clients/{app['id']}/secrets"
    issued = await world.call("sysadmin", "POST", path, json={"overlap": "PT2H"})
    assert issued.status_code == 201
    second = issued.json()["secret"]
    assert issued.json()["former_secret_until"] is not None
    for secret in (app["secret"], second):
        assert (await token_of(world, app, secret)).status_code == 200
    world.clock.ahead += timedelta(hours=2)
    assert [(await token_of(world, app, secret)).status_code for secret in (app["secret"], second)] == [401, 200]
    world.clock.ahead *= 0
    assert (await world.call("sysadmin", "DELETE", f"{path}/former")).status_code == 204
    assert (await token_of(world, app, app["secret"])).status_code == 401
    assert (await world.call("sysadmin", "DELETE", f"{path}/former")).status_code == 404
    third = (await world.call("sysadmin", "POST", path, json={})).json()["secret"]
    assert [(await token_of(world, app, secret)).status_code for secret in (second, third)] == [401, 200]
    for overlap in ("PT25H", "-PT1H", "soon"):
        assert (await world.call("sysadmin", "POST", path, json={"overlap": overlap})).status_code == 422
    told = [await world.events(f"gateway.v1.client.{kind}") for kind in ("secret-issued", "secret-ended")]
    assert all(events[-1].data["client_id"] == app["id"] for events in told)
    assert not any(secret in str(events[-1].data) for events in told for secret in (second, third))


async def test_when_an_application_last_got_a_token_is_known_to_the_minute(world: World) -> None:
    app = await register(world)
    path = f"/v1/clients/{app['id']}"
    assert (await world.call("sysadmin", "GET", path)).json()["last_used_at"] is None
    assert (await token_of(world, app, "wrong")).status_code == 401
    assert (await world.call("sysadmin", "GET", path)).json()["last_used_at"] is None
    await token_of(world, app, app["secret"])
    used = datetime.fromisoformat((await world.call("sysadmin", "GET", path)).json()["last_used_at"])
    assert timedelta(0) <= world.clock.now() - used < timedelta(minutes=5)
    assert (used.second, used.microsecond) == (0, 0)


async def test_a_disabled_application_has_no_token_that_holds_and_gets_none(world: World) -> None:
    app = await register(world, scopes=["records:catalogue"])
    token = (await token_of(world, app, app["secret"])).json()["access_token"]
    header = {"Authorization": f"Bearer {token}"}

    async def status() -> int:
        return (await world.http.get("/v1/records", headers=header)).status_code

    assert await status() == 200
    disabled = await world.call("sysadmin", "POST", f"/v1/clients/{app['id']}/disabling", json={"reason": "suspicion"})
    assert (disabled.json()["state"], disabled.json()["version"]) == ("disabled", 2)
    await eventually(status, 401)
    assert (await token_of(world, app, app["secret"])).status_code == 401
    again = await world.call("sysadmin", "POST", f"/v1/clients/{app['id']}/disabling", json={"reason": "suspicion"})
    assert again.status_code == 409
    enabled = await world.call("sysadmin", "POST", f"/v1/clients/{app['id']}/enabling")
    assert enabled.json()["state"] == "active"
    assert (await token_of(world, app, app["secret"])).status_code == 200
    told = [await world.events(f"gateway.v1.client.{kind}") for kind in ("disabled", "enabled")]
    assert [events[-1].data["client_id"] for events in told] == [app["id"], app["id"]]


async def for_a_person(world: World, *scopes: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """An application of others, and what it got for a records clerk who agreed."""
    redirect = "https://app.example/cb"
    grants = ["authorization_code", "refresh_token"]
    app = await register(world, grant_types=grants, redirect_uris=[redirect], scopes=list(scopes))
    person = await world.person("records_clerk")
    flow = authorization.Flow(" ".join(scopes), client=app["id"], redirect=redirect)
    browser = await world.browser()
    await authorization.sign_in(browser, person["username"], PASSWORD, authorization.Flow())
    agreed = await (await authorization.first_page(browser, flow)).submit(browser, agree="yes")
    code = flow.code(agreed.answer.headers["location"], world.settings.common.issuer)
    issued = await world.http.post("/oauth/token", data=flow.exchange(code), auth=(app["id"], app["secret"]))
    assert issued.status_code == 200, issued.text
    return app, issued.json()


async def test_persons_tokens_by_a_disabled_application_end_for_good(world: World) -> None:
    app, issued = await for_a_person(world, "records:catalogue")
    header = {"Authorization": f"Bearer {issued['access_token']}"}

    async def status() -> int:
        return (await world.http.get("/v1/records", headers=header)).status_code

    assert await status() == 200
    path = f"/v1/clients/{app['id']}"
    await world.call("sysadmin", "POST", f"{path}/disabling", json={"reason": "suspicion"})
    await eventually(status, 401)
    await world.call("sysadmin", "POST", f"{path}/enabling")
    refresh = {"grant_type": "refresh_token", "refresh_token": issued["refresh_token"]}
    refused = await world.http.post("/oauth/token", data=refresh, auth=(app["id"], app["secret"]))
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
    assert await status() == 401


async def test_persons_tokens_lose_what_the_application_may_no_longer_ask_for(world: World) -> None:
    app, issued = await for_a_person(world, "records:catalogue", "records:read")
    header = {"Authorization": f"Bearer {issued['access_token']}"}

    async def status() -> int:
        return (await world.http.get("/v1/records", headers=header)).status_code

    assert await status() == 200
    assert (await change(world, app["id"], {"scopes": ["records:read"]}, 1)).status_code == 200
    await eventually(status, 403)
