"""Who does not pass the proxy: no token, a forged one, too little in it, no such route; and how it is recorded."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from tests.gateway.world import World

from dossier_common.keys import SigningKey
from dossier_gateway.tokens import Tokens

REFUSED = "gateway.v1.access.refused"


@pytest.fixture(scope="module")
async def clerk(world: World) -> str:
    return str((await world.person("records_clerk"))["username"])


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic eDp5"},
        {"Authorization": "Bearer x.y.z"},
        {"Authorization": "Bearer \xff"},
        {"Txn-Token": "x.y.z"},
    ],
)
async def test_nobody_passes_without_a_token(world: World, headers: dict[str, str]) -> None:
    raw = {name.encode(): value.encode("latin-1") for name, value in headers.items()}
    answer = await world.http.get("/v1/records", headers=raw)
    assert answer.status_code == 401
    assert answer.json()["type"] == "urn:dossier:problem:unauthenticated"
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert not world.upstream.received


@pytest.mark.invariant(6)
async def test_forged_tokens_are_refused(world: World) -> None:
    now = world.clock.now()
    real: Tokens = world.proxy.own.state.tokens
    issuer = world.settings.common.issuer
    other = Tokens(issuer, SigningKey.generate())
    account: dict[str, Any] = {
        "seconds": 600,
        "subject": str(uuid4()),
        "client": "dossier-cli",
        "scopes": ["records:catalogue"],
    }
    person = str(uuid4())
    token, _ = real.access(now, audience=issuer, person=person, **account)
    head, payload, signature = token.split(".")
    forged = [
        other.access(now, audience=issuer, person=person, **account)[0],
        real.access(now, audience="records", person=person, **account)[0],
        real.access(now - timedelta(hours=1), audience=issuer, person=person, **account)[0],
        real.access(now + timedelta(hours=1), audience=issuer, person=person, **account)[0],
        real.txn(now, issuer, {"sub": "x", "jti": str(uuid4())}),
        real.identity(now, seconds=60, audience=issuer, subject="x", access_token="x"),
        f"{head}.{payload}.",
        f"{head}.{payload}.{signature[:-4]}AAAA",
        token,  # rightly signed, of an account that there is not
    ]
    for each in forged:
        answer = await world.http.get("/v1/records", headers={"Authorization": f"Bearer {each}"})
        assert answer.status_code == 401, each
    assert not world.upstream.received


@pytest.mark.invariant(1)
async def test_a_missing_scope_is_refused_with_exactly_one_event_and_not_forwarded(world: World) -> None:
    before = len(await world.events(REFUSED))
    record = uuid4()
    answer = await world.call("sysadmin", "GET", f"/v1/records/{record}")
    assert answer.status_code == 403
    assert answer.json()["type"] == "urn:dossier:problem:insufficient-scope"
    assert answer.json()["scope"] == "records:read"
    assert 'scope="records:read"' in answer.headers["www-authenticate"]
    events = (await world.events(REFUSED))[before:]
    assert [event.data for event in events] == [
        {"operation": "read_record", "slug": "insufficient-scope", "scope": "records:read", "record": str(record)}
    ]
    assert events[0].person is not None
    assert not world.upstream.received


async def test_a_refusal_by_the_gateways_own_endpoints_is_one_event_too(world: World, clerk: str) -> None:
    before = len(await world.events(REFUSED))
    assert (await world.call(clerk, "GET", "/v1/clients")).status_code == 403
    assert [e.data["operation"] for e in (await world.events(REFUSED))[before:]] == ["list_clients"]


@pytest.mark.invariant(1)
async def test_a_refusal_that_cannot_be_recorded_is_a_503(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise ConnectionError

    await world.token("sysadmin")
    await world.call("sysadmin", "GET", "/v1/me")
    monkeypatch.setattr(world.proxy.refusals._database, "transaction", away)
    answer = await world.call("sysadmin", "GET", "/v1/records")
    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:dossier:problem:audit-unavailable"
    assert answer.headers["retry-after"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/records/", 404),
        ("GET", "/v1//records", 404),
        ("GET", "/internal/v1/heads", 404),
        ("GET", "/v1/records/%2e%2e/records", 404),
        ("GET", "/v1/records/a%2Fb", 404),
        ("GET", "/v1/records/019a0000-0000-7000-8000-000000000001/descriptor", 404),
        ("DELETE", "/v1/records", 405),
        ("HEAD", "/v1/records", 405),
        ("OPTIONS", "/v1/records", 405),
        ("PATCH", "/v1/me", 405),
        ("GET", "/v1/records?x=%00", 400),
        ("GET", "/v1/records/%00", 400),
        ("GET", f"/v1/records?x={'a' * 9000}", 400),
    ],
)
async def test_what_is_not_in_the_table_does_not_exist(
    world: World, clerk: str, method: str, path: str, status: int
) -> None:
    answer = await world.call(clerk, method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("application/problem+json")
    if status == 405:
        assert answer.headers["allow"]
    assert not world.upstream.received


@pytest.mark.invariant(1)
async def test_anonymous_refusals_are_counted_by_the_minute_and_not_one_by_one(world: World) -> None:
    await world.proxy.refusals.flush()
    before = len(await world.events("gateway.v1.refusals.counted"))
    refused = len(await world.events(REFUSED))
    for _ in range(3):
        await world.http.get("/v1/records")
    await world.http.get("/v1/me")
    await world.proxy.refusals.flush()
    counted = (await world.events("gateway.v1.refusals.counted"))[before:]
    assert sum(event.data["unauthenticated"] for event in counted) == 4
    assert len(await world.events(REFUSED)) == refused
