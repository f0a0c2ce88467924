"""The auditor who reads the log of the running stack through the gateway, and the programs that judge it."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest
from tests.conftest import RunningStack
from tests.peers import programs
from tests.peers.mirror import Served, size_of
from tests.peers.programs import Peers

from dossier_local.client import Client, connected, until

AUDITOR, ADMINISTRATOR, AGENT = "shen.cha", "wei.guo", "li.na"
MORE_THAN_A_TILE = 300


@dataclass(frozen=True)
class Audit:
    """The auditor's view: the log, the keys by which it is judged, and his token."""

    client: Client
    log: Served
    vkey: str
    witness: str
    token: str

    async def cosigned(self, size: int) -> str:
        """The newest checkpoint, as soon as it promises this many leaves and the witness has signed it."""

        async def found() -> str | None:
            shown = await self.log.checkpoint()
            return shown if size_of(shown) >= size and shown.count("\n— ") > 1 else None

        return await until(found, f"a cosigned checkpoint over {size} leaves")

    async def act(self, number: int) -> None:
        """Makes events of two producers: an auditor looks, an administrator is refused."""
        for _ in range(number):
            await self.client.as_(AUDITOR).get("/v1/audit/events", limit=1)
            await self.client.as_(ADMINISTRATOR).get("/v1/audit/events")


@pytest.fixture(scope="session")
def peers() -> Peers:
    return programs.built()


@pytest.fixture(scope="module")
async def audit(stack: RunningStack) -> AsyncIterator[Audit]:
    """A log of more than one tile, and of which the witness has signed it all."""
    async with connected(stack.base_url, stack.demo) as client, httpx.AsyncClient(trust_env=False, timeout=30) as http:
        metadata = (await http.get(f"{stack.base_url}/.well-known/oauth-authorization-server")).json()
        said = metadata["dossier_audit_log"]
        token = (await client.as_(AUDITOR).token()).access
        http.headers["Authorization"] = f"Bearer {token}"
        witness = json.loads((stack.state.folder / "witnesses.json").read_text())[0]["vkey"]
        found = Audit(client, Served(http, said["url"]), said["vkey"], witness, token)
        missing = MORE_THAN_A_TILE - size_of(await found.log.checkpoint())
        await found.act(max(missing // 2 + 1, 0))
        await found.cosigned(MORE_THAN_A_TILE)
        yield found
