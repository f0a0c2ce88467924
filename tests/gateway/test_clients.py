"""Applications and the parts of Dossier: client credentials, assertions, what each may ask for."""

import time
from base64 import b64encode
from typing import Any

import httpx
import pytest
from joserfc import jwt
from sqlalchemy import update
from tests.gateway.test_sign_in import claims
from tests.gateway.world import World

from dossier_common.ids import new_id
from dossier_common.keys import SigningKey
from dossier_common.scopes import ONLY_PERSONS
from dossier_gateway.models import Client
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


@pytest.mark.invariant(4)
@pytest.mark.parametrize("scope", sorted(ONLY_PERSONS))
async def test_an_application_has_by_itself_nothing_that_decides_who_may_do_what(world: World, scope: str) -> None:
    made = await register(world, scopes=["incidents:report"])
    mighty = {"scopes": [scope, "incidents:report"]}
    new = {"id": f"app-{next(_serial)}", "title": "x", "grant_types": ["client_credentials"], **mighty}
    path = f"/v1/clients/{made['id']}"
    for answer in (
        await world.call("sysadmin", "POST", "/v1/clients", json=new),
        await world.call("sysadmin", "PATCH", path, json=mighty, headers={"If-Match": '"1"'}),
    ):
        (fault,) = answer.json()["errors"]
        assert scope in fault["detail"]
        assert (answer.status_code, fault["pointer"]) == (422, "/body/scopes")
    # One that was registered before there was this rule.
    async with world.proxy.own.state.database.transaction() as session:
        await session.execute(update(Client).where(Client.id == made["id"]).values(scopes=mighty["scopes"]))
    asked = {"grant_type": "client_credentials", "scope": f"{scope} incidents:report"}
    issued = await world.http.post("/oauth/token", data=asked, auth=(made["id"], made["secret"]))
    assert issued.json()["scope"] == "incidents:report"
    # For a person it is of use, by the person's own roles.
    for_persons = {"grant_types": ["authorization_code"], "redirect_uris": ["https://app.example/cb"]}
    await register(world, scopes=[scope], **for_persons)


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
