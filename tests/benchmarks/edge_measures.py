"""What the gateway is measured by. Each returns figures by name."""

import asyncio
import os
import statistics
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import httpx
from sqlalchemy import insert
from starlette.types import Message, Scope
from tests.benchmarks import edge_rig as rigs
from tests.benchmarks.edge_rig import Rig, Served, get, load, post
from tests.gateway.world import PASSWORD
from tests.support import authorization

from dossier_common.clock import SystemClock
from dossier_gateway.main import asgi
from dossier_gateway.models import Account, Assignment, BrowserSession, Client, Credential, RefreshToken
from dossier_gateway.oauth.clients import digest
from dossier_gateway.passwords import Hasher
from dossier_gateway.proxy.app import Proxy
from dossier_gateway.tokens import Tokens

Figures = dict[str, float]
TARGET = "/v1/records"
SCOPES = ["records:catalogue", "records:read"]
APPLICATION, SECRET = "bench", "the-secret-of-the-benchmark-which-is-long-enough"
CONNECTIONS = 64
FIGURES = (("rps", "calls/s"), ("cpu_us", "µs of processor"), ("p50_ms", "p50 ms"), ("p99_ms", "p99 ms"))
CLOCK = SystemClock()


@dataclass(frozen=True)
class People:
    """People who are signed in."""

    accounts: list[UUID]
    persons: list[UUID]
    families: list[UUID]

    def tokens(self, rig: Rig) -> list[str]:
        """An access token for each, as the token endpoint would make it."""
        signer = Tokens.open(rig.settings, CLOCK.now())
        return [
            signer.access(
                CLOCK.now(),
                seconds=3000,
                audience=rig.settings.common.issuer,
                subject=str(account),
                client="dossier-cli",
                scopes=SCOPES,
                person=str(person),
                sid=str(family),
                amr=["pwd"],
            )[0]
            for account, person, family in zip(self.accounts, self.persons, self.families, strict=True)
        ]


async def people(rig: Rig, count: int) -> People:
    """So many accounts with a role, a password, an open session and a refresh token."""
    now, later = CLOCK.now(), CLOCK.now() + timedelta(hours=9)
    hashed = await Hasher(1).hash(PASSWORD)
    made = People(*([uuid4() for _ in range(count)] for _ in range(3)))
    async with rig.database.transaction() as session:
        rows = list(zip(made.accounts, made.persons, made.families, strict=True))
        await session.execute(
            insert(Account), [_account(rig.unit, account, person, now) for account, person, _ in rows]
        )
        await session.execute(
            insert(Credential),
            [{"account": account, "hash": hashed, "changed_at": now, "failures": 0} for account, _, _ in rows],
        )
        await session.execute(
            insert(Assignment),
            [
                {
                    "id": uuid4(),
                    "account": account,
                    "person": person,
                    "role": "records_clerk",
                    "unit": rig.unit,
                    "assigned_at": now,
                }
                for account, person, _ in rows
            ],
        )
        browsers = {account: uuid4() for account in made.accounts}
        await session.execute(
            insert(BrowserSession),
            [
                {
                    "id": browser,
                    "digest": browser.bytes * 2,
                    "account": account,
                    "amr": ["pwd"],
                    "zone": "office",
                    "signed_in_at": now,
                    "last_seen_at": now,
                    "idle_ends_at": later,
                    "expires_at": later,
                }
                for account, browser in browsers.items()
            ],
        )
        await session.execute(
            insert(RefreshToken),
            [
                {
                    "digest": family.bytes * 2,
                    "family": family,
                    "client": "dossier-cli",
                    "account": account,
                    "session": browsers[account],
                    "scope": " ".join(SCOPES),
                    "expires_at": later,
                }
                for account, _, family in rows
            ],
        )
    return made


def _account(unit: UUID, account: UUID, person: UUID, now: datetime) -> dict[str, object]:
    return {
        "id": account,
        "person": person,
        "username": f"bench-{account}",
        "display_name": "某人",
        "unit": unit,
        "clearance": "internal",
        "state": "active",
        "created_at": now,
    }


async def application(rig: Rig) -> None:
    """A client with a secret."""
    values = {
        "id": APPLICATION,
        "title": "bench",
        "secret": digest(SECRET),
        "grant_types": ["client_credentials"],
        "scopes": SCOPES,
        "redirect_uris": [],
        "first_party": False,
        "state": "active",
        "registered_at": CLOCK.now(),
    }
    async with rig.database.transaction() as session:
        await session.execute(insert(Client), [values])


async def forwarding(rig: Rig, folder: Path, token: str, *, rounds: int = 3, seconds: float = 2.0) -> Figures:
    """The same call directly, through nginx, through a bare forwarder and through the gateway, in turns; medians."""
    async with AsyncExitStack() as stack:
        served: dict[str, Served | None] = {
            "direct": rig.upstream,
            "nginx": await rigs.nginx(stack, rig.upstream, folder),
            "bare forwarder": await rigs.forwarder(stack, rig.upstream),
            "gateway": rig.gateway,
        }
        present = {name: each for name, each in served.items() if each is not None}
        request = [get(TARGET, token)]
        for each in present.values():
            await load(each, request, CONNECTIONS, 0.7)
        found: dict[str, list[dict[str, float]]] = {name: [] for name in present}
        for _ in range(rounds):
            for name, each in present.items():
                measured = await load(each, request, CONNECTIONS, seconds)
                assert set(measured["statuses"]) == {"200"}, (name, measured["statuses"])
                found[name].append(measured)
    return {
        f"{name}: {title}": statistics.median(measured[key] for measured in rounds_)
        for name, rounds_ in found.items()
        for key, title in (
            ("rps", "calls/s"),
            ("cpu_us", "µs of processor"),
            ("p50_ms", "p50 ms"),
            ("p99_ms", "p99 ms"),
        )
    }


async def issuing(rig: Rig) -> Figures:
    """Tokens for an application, by its secret."""
    basic = b64encode(f"{APPLICATION}:{SECRET}".encode()).decode()
    request = [post("/oauth/token", "grant_type=client_credentials", f"Basic {basic}")]
    await load(rig.gateway, request, 16, 0.5)
    measured = await load(rig.gateway, request, 16, 3.0)
    assert set(measured["statuses"]) == {"200"}, measured["statuses"]
    return {
        "tokens for an application: tokens/s": measured["rps"],
        "tokens: ms of processor": measured["cpu_us"] / 1000,
    }


async def signing_in(rig: Rig, somebody: Sequence[UUID]) -> Figures:
    """Sign-ins by the page, four at once: password, code, tokens."""

    async def one(account: UUID) -> None:
        async with _browser(rig.gateway, rig.settings.common.issuer) as browser:
            await authorization.tokens(browser, f"bench-{account}", PASSWORD)

    waiting = list(somebody)

    async def some() -> None:
        while waiting:
            await one(waiting.pop())

    before, begun = rig.gateway.processor(), time.perf_counter()
    await asyncio.gather(*(some() for _ in range(4)))
    took, spent = time.perf_counter() - begun, rig.gateway.processor() - before
    count = len(somebody)
    return {"sign-ins, on one core: sign-ins/s": count / took, "sign-in: ms of processor": spent / count * 1000}


class _At(httpx.AsyncHTTPTransport):
    """The issuer's name is nobody's port."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_with(port=self._port)
        return await super().handle_async_request(request)


@asynccontextmanager
async def _browser(served: Served, issuer: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=_At(served.port), base_url=issuer, timeout=60) as client:
        yield client


async def remembering(rig: Rig, tokens: Sequence[str]) -> Figures:
    """The gateway's memory before and after each of these called once."""
    before = rig.gateway.memory()
    requests = [get(TARGET, token) for token in tokens]
    called = 0
    while called < len(tokens):  # each connection goes through the list from a place of its own
        called += (await load(rig.gateway, requests, 8, 4.0))["calls"]
    after = rig.gateway.memory()
    return {
        "memory before: MiB": before / 2**20,
        f"memory at {len(tokens):,} open sessions: MiB": after / 2**20,
        "memory a session: KiB": (after - before) / len(tokens) / 1024,
    }


async def revoking(rig: Rig, count: int = 20) -> Figures:
    """Revoked at one replica: how long the other one takes the token still."""
    form = {"grant_type": "client_credentials"}
    async with (
        httpx.AsyncClient(base_url=rig.gateway.address, auth=(APPLICATION, SECRET), trust_env=False) as here,
        httpx.AsyncClient(base_url=rig.other.address, trust_env=False) as there,
    ):

        async def one(after: float) -> float:
            token = (await here.post("/oauth/token", data=form)).json()["access_token"]
            bearer = {"Authorization": f"Bearer {token}"}

            async def status() -> int:
                return (await there.get(TARGET, headers=bearer)).status_code

            assert await status() == 200
            await asyncio.sleep(after)
            answer = await here.post("/oauth/revoke", data={"token": token})
            assert answer.status_code == 200, answer.text
            revoked = time.perf_counter()
            async with asyncio.timeout(30):
                while await status() != 401:  # noqa: ASYNC110  # what is waited for is in another process
                    await asyncio.sleep(0.005)
            return time.perf_counter() - revoked

        found = await asyncio.gather(*(one(number * 0.11) for number in range(count)))
    return {"revocation at another replica, median: s": statistics.median(found), "the same, longest: s": max(found)}


async def checking(rig: Rig, tokens: Sequence[str]) -> Figures:
    """What the checks cost one by one, in this process, on the gateway's core."""
    if rigs.PINNED:
        os.sched_setaffinity(0, {rigs.CORES[0]})
    proxy = asgi(rig.settings)
    try:
        async with proxy.own.router.lifespan_context(proxy.own):
            proxy._open()
            try:
                return await _checks(proxy, tokens)
            finally:
                proxy._forwarder.close()
    finally:
        if rigs.PINNED:
            os.sched_setaffinity(0, set(rigs.CORES))


async def _checks(proxy: Proxy, tokens: Sequence[str]) -> Figures:
    callers, some = proxy.own.state.callers, list(tokens[:300])
    signer: Tokens = proxy.own.state.tokens
    begun = time.process_time()
    for token in some:
        signer.verify(token, CLOCK.now())
    cold = (time.process_time() - begun) / len(some) * 1e6
    caller = await callers.resolve(some[0])

    async def warm() -> None:
        await callers.resolve(some[0])

    async def mint() -> None:
        caller.transactions.clear()
        proxy._transactions.token(caller, "127.0.0.1", "office", "records")

    async def forward(*_: object) -> None:
        """Ends where the call would go out."""

    proxy._forwarder.forward = forward  # type: ignore[assignment,method-assign]
    headers = [
        (b"host", b"localhost"),
        (b"user-agent", b"load/1"),
        (b"accept", b"application/json"),
        (b"authorization", b"Bearer " + some[0].encode()),
    ]
    scope: Scope = {
        "type": "http",
        "method": "GET",
        "path": TARGET,
        "raw_path": TARGET.encode(),
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 1),
    }

    async def everything() -> None:
        await proxy(scope, _nothing, _nowhere)

    return {
        "token check, cold: µs": cold,
        "token check, warm: µs": await _each(warm),
        "Txn-Token minted: µs": await _each(mint, 500),
        "all of the gateway's own work before it forwards, warm: µs": await _each(everything),
    }


async def _nothing() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _nowhere(_message: Message) -> None:
    return


async def _each(work: Callable[[], Awaitable[None]], times: int = 5000) -> float:
    """µs of processor a call, in the best of five runs: what is disturbed takes longer, never shorter."""
    found = []
    for _ in range(5):
        begun = time.process_time()
        for _ in range(times):
            await work()
        found.append((time.process_time() - begun) / times * 1e6)
    return min(found)
