"""Every door of every service: without a token, with a person's token, with a forged one, and with too little."""

from collections.abc import AsyncIterator
from uuid import UUID

import httpx
import pytest
from tests.conftest import RunningStack
from tests.support.tokens import TestKeys, txn_token

from dossier_gateway import keys as token_keys
from dossier_local.client import Client, connected, until

DOORS = {
    "records": ("GET", "/v1/records", "records:catalogue"),
    "approvals": ("GET", "/v1/tasks", "requests:decide"),
    "retention": ("GET", "/v1/retention/due", "retention:read"),
    "audit": ("GET", "/v1/audit/events", "audit:read"),
}
ADMINISTRATOR, AUDITOR = "wei.guo", "shen.cha"
SCOPES = ("accounts:manage", "clients:manage", "operations:read")


@pytest.fixture
async def client(stack: RunningStack) -> AsyncIterator[Client]:
    async with connected(stack.base_url, stack.demo) as found:
        yield found


@pytest.fixture
async def direct() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as found:
        yield found


def _keys_of(stack: RunningStack) -> TestKeys:
    keys = TestKeys()
    keys.signing = token_keys.read(stack.state.folder / "secrets" / "gateway-token-key.pem").current
    return keys


def _administrators(stack: RunningStack, keys: TestKeys, part: str) -> str:
    account = stack.demo["accounts"][ADMINISTRATOR]
    return txn_token(
        keys,
        part,
        SCOPES,
        account=UUID(account["account"]),
        person=UUID(account["person"]),
        roles=[("system_administrator", UUID(account["unit"]))],
        issuer=stack.base_url,
    )


async def _refusals(stack: RunningStack, client: Client) -> list[str]:
    account = stack.demo["accounts"][ADMINISTRATOR]["account"]
    found = client.as_(AUDITOR).every("/v1/audit/events", actor=account, outcome="refused")
    return [event["type"] async for event in found]


@pytest.mark.invariant(6)
@pytest.mark.parametrize("part", DOORS)
async def test_no_service_trusts_what_the_gateway_did_not_sign_for_it(
    stack: RunningStack, client: Client, direct: httpx.AsyncClient, part: str
) -> None:
    method, path, _ = DOORS[part]
    url = f"http://127.0.0.1:{stack.ports[part]}{path}"
    person = (await client.as_(ADMINISTRATOR).token()).access
    other = next(name for name in DOORS if name != part)
    real = _keys_of(stack)
    for headers in (
        {},
        {"Authorization": f"Bearer {person}"},
        {"Txn-Token": person},
        {"Txn-Token": _administrators(stack, TestKeys(), part)},
        {"Txn-Token": _administrators(stack, real, other)},
        {"Authorization": f"Bearer {_administrators(stack, real, part)}"},
        {"X-Forwarded-User": "wei.guo", "Txn-Token": "e30.e30."},
    ):
        answer = await direct.request(method, url, headers=headers)
        assert answer.status_code == 401, headers
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.json()["type"] == "urn:dossier:problem:unauthenticated"


@pytest.mark.invariant(1)
@pytest.mark.invariant(4)
@pytest.mark.clause("A4.34")
async def test_each_refusal_of_the_system_administrator_is_exactly_one_event(
    stack: RunningStack, client: Client, direct: httpx.AsyncClient
) -> None:
    before = await _refusals(stack, client)
    keys = _keys_of(stack)
    for part, (method, path, scope) in DOORS.items():
        url = f"http://127.0.0.1:{stack.ports[part]}{path}"
        answer = await direct.request(method, url, headers={"Txn-Token": _administrators(stack, keys, part)})
        assert answer.status_code == 403
        assert answer.json()["type"] == "urn:dossier:problem:insufficient-scope"
        assert answer.json()["scope"] == scope
    for method, path, scope in DOORS.values():
        refused = await client.as_(ADMINISTRATOR).call(method, path)
        assert (refused.status, refused.slug, refused.body["scope"]) == (403, "insufficient-scope", scope)
    expected = sorted([*before, *(f"{part}.v1.access.refused" for part in DOORS), *["gateway.v1.access.refused"] * 4])

    async def arrived() -> list[str] | None:
        found = await _refusals(stack, client)
        return found if len(found) >= len(expected) else None

    assert sorted(await until(arrived, "the refusals in the log")) == expected
