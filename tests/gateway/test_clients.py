"""Applications and the parts of Dossier: client credentials, assertions, what each may ask for."""

import time
from base64 import b64encode
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey
from tests.gateway.test_sign_in import claims
from tests.gateway.world import PASSWORD, World
from tests.support import authorization
from tests.support.waiting import eventually

from dossier_common.ids import new_id
from dossier_common.keys import SigningKey
from dossier_gateway.oauth.clients import CALLS
from dossier_local import keys
from dossier_local.cluster import Cluster

_serial = iter(range(1000))


async def register(world: World, **more: Any) -> dict[str, Any]:
    body = {
        "id": f"app-{next(_serial)}",
        "title": "CRM",
        "grant_types": ["client_credentials"],
        "scopes": ["records:catalogue", "records:read"],
        **more,
    }
    answer = await world.call("sysadmin", "POST", "/v1/clients", json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_an_application_gets_a_token_for_what_it_is_registered_for(world: World) -> None:
    app = await register(world)
    form = {"grant_type": "client_credentials"}
    by_header = await world.http.post("/oauth/token", data=form, auth=(app["id"], app["secret"]))
    by_form = await world.http.post(
        "/oauth/token", data=form | {"client_id": app["id"], "client_secret": app["secret"], "scope": "records:read"}
    )
    assert by_header.json()["scope"] == "records:catalogue records:read"
    assert by_form.json()["scope"] == "records:read"
    assert "refresh_token" not in by_header.json()
    said = (await claims(world, by_header.json()["access_token"])).claims
    assert said["sub"] == said["client_id"] == app["id"]
    assert "person" not in said
    answer = await world.http.get(
        "/v1/records", headers={"Authorization": f"Bearer {by_header.json()['access_token']}"}
    )
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"scope": "records:register"}, "invalid_scope"),
        ({"scope": "events:pull"}, "invalid_scope"),
        ({"scope": "no:such"}, "invalid_scope"),
        ({"resource": "urn:dossier:records"}, "invalid_target"),
    ],
)
async def test_an_application_gets_no_more_than_that(world: World, form: dict[str, str], error: str) -> None:
    app = await register(world)
    answer = await world.http.post(
        "/oauth/token", data={"grant_type": "client_credentials", **form}, auth=(app["id"], app["secret"])
    )
    assert (answer.status_code, answer.json()["error"]) == (400, error)


@pytest.mark.parametrize(
    "header",
    ["Basic !!!", "Basic " + b64encode(b"\xff:\xff").decode(), "Basic " + b64encode(b"nobody:x").decode(), "Bearer x"],
)
async def test_who_does_not_authenticate_gets_nothing(world: World, header: str) -> None:
    answer = await world.http.post(
        "/oauth/token", data={"grant_type": "client_credentials"}, headers={"Authorization": header}
    )
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


async def test_a_wrong_secret_and_no_secret_are_refused(world: World) -> None:
    app = await register(world)
    form = {"grant_type": "client_credentials"}
    wrong = await world.http.post("/oauth/token", data=form, auth=(app["id"], "wrong"))
    none = await world.http.post("/oauth/token", data=form | {"client_id": app["id"]})
    both = await world.http.post(
        "/oauth/token", data=form | {"client_secret": app["secret"]}, auth=(app["id"], app["secret"])
    )
    assert [each.json()["error"] for each in (wrong, none, both)] == [
        "invalid_client",
        "invalid_client",
        "invalid_request",
    ]


async def test_json_at_the_token_endpoint_is_an_invalid_request(world: World) -> None:
    answer = await world.http.post("/oauth/token", json={"grant_type": "client_credentials"})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


@pytest.mark.invariant(4)
async def test_a_client_with_conflicting_scopes_is_not_registered(world: World) -> None:
    answer = await world.call(
        "sysadmin",
        "POST",
        "/v1/clients",
        json={
            "id": "too-mighty",
            "title": "x",
            "grant_types": ["client_credentials"],
            "scopes": ["audit:read", "records:read"],
        },
    )
    assert answer.status_code == 409
    assert answer.json()["type"] == "urn:dossier:problem:duty-conflict"
    assert answer.json()["conflicts"][0]["between"]


@pytest.mark.parametrize(
    "change",
    [
        {"id": "records"},
        {"id": "dossier-cli"},
        {"scopes": ["events:pull"]},
        {"grant_types": ["authorization_code"]},
        {"grant_types": ["authorization_code"], "redirect_uris": ["http://app.example/cb"]},
        {"grant_types": ["authorization_code"], "redirect_uris": ["https://app.example/cb#x"]},
        {"grant_types": ["authorization_code"], "redirect_uris": ["https://*.app.example/cb"]},
        {"grant_types": ["authorization_code"], "redirect_uris": ["javascript:alert(1)"]},
        {"grant_types": ["client_credentials"], "confidential": False},
        {"grant_types": ["password"]},
    ],
)
async def test_a_client_that_could_do_harm_is_not_registered(world: World, change: dict[str, Any]) -> None:
    body = {
        "id": f"app-{next(_serial)}",
        "title": "x",
        "grant_types": ["client_credentials"],
        "scopes": ["records:read"],
        **change,
    }
    answer = await world.call("sysadmin", "POST", "/v1/clients", json=body)
    assert answer.status_code in {409, 422}


def assertion(cluster: Cluster, world: World, part: str, **changes: Any) -> str:
    key = changes.pop("key", None) or SigningKey.read(keys.signing_key(cluster.state, part))
    header = {"alg": "Ed25519", "kid": key.kid, "typ": "JWT"} | changes.pop("header", {})
    now = int(time.time())
    said = {"iss": part, "sub": part, "aud": world.settings.common.issuer, "iat": now, "exp": now + 60}
    said |= {"jti": str(new_id()), **changes}
    said = {name: value for name, value in said.items() if value is not None}
    return jwt.encode(header, said, key.jwk, algorithms=["Ed25519"])


async def ask(world: World, asserted: str, scope: str, resource: str) -> httpx.Response:
    return await world.http.post(
        "/oauth/token",
        data={
            "grant_type": "client_credentials",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": asserted,
            "scope": scope,
            "resource": resource,
        },
    )


async def test_each_part_gets_tokens_for_its_business_and_for_nothing_else(cluster: Cluster, world: World) -> None:
    audiences = ("gateway", "records", "approvals", "retention", "audit")
    scopes = ("events:pull", "records:describe", "grants:resolve", "proofs:read", "records:read")
    for part, allowed in CALLS.items():
        for audience in audiences:
            for scope in scopes:
                answer = await ask(world, assertion(cluster, world, part), scope, f"urn:dossier:{audience}")
                assert (answer.status_code == 200) == ((audience, scope) in allowed), (part, audience, scope)
    answer = await ask(world, assertion(cluster, world, "records"), "grants:resolve", "urn:dossier:approvals")
    said = (await claims(world, answer.json()["access_token"])).claims
    assert (said["aud"], said["sub"], said["client_id"]) == ("approvals", "records", "records")
    assert said["exp"] - said["iat"] == 300


async def test_an_assertion_counts_once_and_only_as_it_should_be(cluster: Cluster, world: World) -> None:
    once = assertion(cluster, world, "records")
    target = ("grants:resolve", "urn:dossier:approvals")
    assert (await ask(world, once, *target)).status_code == 200
    now = int(time.time())
    bad = [
        once,
        assertion(cluster, world, "records", aud="https://evil.example"),
        assertion(cluster, world, "records", exp=now - 60),
        assertion(cluster, world, "records", exp=now + 3600),
        assertion(cluster, world, "records", exp=None),
        assertion(cluster, world, "records", jti=None),
        assertion(cluster, world, "records", iat=now + 600),
        assertion(cluster, world, "records", sub="audit"),
        assertion(cluster, world, "records", iss="audit"),
        assertion(cluster, world, "records", sub=7),
        assertion(cluster, world, "records", key=SigningKey.generate()),
        assertion(cluster, world, "records", key=SigningKey.read(keys.signing_key(cluster.state, "audit"))),
        once[:-4],
        "x",
        "a.b.c",
    ]
    for each in bad:
        answer = await ask(world, each, *target)
        assert answer.status_code in {400, 401}, each
        assert answer.json()["error"] == "invalid_client"


async def test_a_token_of_a_part_opens_the_gateways_feed_and_no_other_door(cluster: Cluster, world: World) -> None:
    answer = await ask(world, assertion(cluster, world, "audit"), "events:pull", "urn:dossier:gateway")
    header = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    assert (await world.http.get("/internal/v1/feed", headers=header)).status_code == 200
    assert (await world.http.get("/v1/records", headers=header)).status_code == 401
    assert (await world.http.get("/v1/accounts", headers=header)).status_code == 403
    elsewhere = await ask(world, assertion(cluster, world, "audit"), "events:pull", "urn:dossier:records")
    header = {"Authorization": f"Bearer {elsewhere.json()['access_token']}"}
    assert (await world.http.get("/internal/v1/feed", headers=header)).status_code == 401


# ---- keys, zones, changes


def key_set() -> list[dict[str, Any]]:
    """A key of each kind that may be registered."""
    pairs = (OKPKey.generate_key("Ed25519"), ECKey.generate_key("P-256"), RSAKey.generate_key(2048))
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
        "id": f"app-{next(_serial)}",
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
    body = {"id": f"app-{next(_serial)}", "title": "x", "grant_types": ["client_credentials"], "scopes": []} | more
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
