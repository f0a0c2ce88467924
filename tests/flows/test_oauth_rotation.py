"""The keys of tokens are rotated while people and applications call all parts: nobody is refused."""

import asyncio
import os
import subprocess
import sys
from base64 import urlsafe_b64decode
from collections import Counter

import httpx
import orjson
import pytest
from tests.conftest import RunningStack
from tests.support.waiting import eventually, running

from dossier_local.client import connected
from dossier_local.environment import of_running

PATIENCE = 200
"""Seconds: how long a machine takes is no verdict."""
PERSON, APPLICATION, AUDITOR = "zhang.li", "demo-crm", "shen.cha"
CALLS = {
    PERSON: ("/v1/me", "/v1/records", "/v1/tasks"),
    APPLICATION: ("/v1/records", "/v1/retention/due"),
    AUDITOR: ("/v1/audit/events",),
}
"""Each of them through the gateway to a part, which takes the Txn-Token that came with it."""


def keys(stack: RunningStack, *arguments: str) -> list[list[str]]:
    """What the operator's command prints, by words."""
    line = (sys.executable, "-P", "-m", "dossier_gateway.keys", *arguments)
    environment = os.environ | of_running(stack.state).of("gateway")
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=True)
    return [each.split() for each in done.stdout.splitlines()]


@pytest.mark.timeout(900)
async def test_two_rotations_under_traffic_refuse_nobody(stack: RunningStack) -> None:
    answers: Counter[tuple[str, int]] = Counter()
    signed_by: set[str] = set()
    async with (
        connected(stack.base_url, stack.demo) as client,
        httpx.AsyncClient(base_url=stack.base_url, trust_env=False, timeout=60) as http,
    ):
        app = stack.demo["clients"][APPLICATION]
        tokens = {name: (await client.as_(name).token()).access for name in CALLS}

        async def call(name: str) -> None:
            while True:
                for path in CALLS[name]:
                    answer = await http.get(path, headers={"Authorization": f"Bearer {tokens[name]}"})
                    answers[path, answer.status_code] += 1

        async def renew() -> None:
            while True:
                issued = await http.post(
                    "/oauth/token", data={"grant_type": "client_credentials"}, auth=(APPLICATION, app["secret"])
                )
                answers["/oauth/token", issued.status_code] += 1
                tokens[APPLICATION] = issued.json()["access_token"]
                signed_by.add(_kid(tokens[APPLICATION]))
                await asyncio.sleep(0.2)

        async def signs(kid: str) -> None:
            async def seen() -> bool:
                return kid in signed_by

            await eventually(seen, expected=True, seconds=PATIENCE)

        before = await asyncio.to_thread(keys, stack, "list")
        async with running(*map(call, CALLS), renew()):
            await signs(before[0][1])
            for _ in range(2):
                after = await asyncio.to_thread(keys, stack, "rotate", "--at-once")
                await signs(after[0][1])
                calls = sum(answers.values())

                async def more(than: int = calls) -> bool:
                    return sum(answers.values()) > than + 30

                await eventually(more, expected=True, seconds=PATIENCE)
        published = [jwk["kid"] for jwk in (await http.get("/oauth/jwks.json")).json()["keys"]]
    assert {status for _, status in answers} == {200}, answers
    assert len(signed_by) == 3
    assert published[0] == after[0][1]
    assert set(before[0][1:2]) <= set(published), "tokens of the first key are still taken"


def _kid(token: str) -> str:
    head = token.split(".", maxsplit=1)[0]
    kid: str = orjson.loads(urlsafe_b64decode(head + "=" * (-len(head) % 4)))["kid"]
    return kid
