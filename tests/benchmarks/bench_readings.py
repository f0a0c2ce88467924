"""What `make bench` measures, each figure beside its yardstick in the same run. Nothing here is a verdict."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psutil
import pytest
from tests.support.tokens import TestKeys, txn_token

from dossier_gateway import keys as token_keys
from dossier_local.client import Client, connected, until
from dossier_local.customer_files import files, sheet
from dossier_local.launched import RunningStack
from dossier_local.postgres import Postgres
from dossier_local.state import is_free

HERE = Path(__file__).parent
SECONDS = 4.0
CONNECTIONS = 64
CLERK, EMPLOYEE = "zhang.li", "li.na"


@pytest.fixture
async def client(stack: RunningStack) -> AsyncIterator[Client]:
    async with connected(stack.base_url, stack.demo) as found:
        yield found


@pytest.fixture
async def records(stack: RunningStack, client: Client) -> list[str]:
    """A thousand records that the clerk reads as their custodian, and the rate at which they were taken in."""
    clerk = stack.demo["accounts"][CLERK]
    content = files(sheet())["customers-gb18030.csv"]
    begun = time.perf_counter()
    started = await client.as_(CLERK).call(
        "POST",
        "/v1/imports",
        content=content,
        headers={"Content-Type": "text/csv; charset=gb18030"},
        plan=stack.demo["plan"],
        unit=clerk["unit"],
        custodian=clerk["person"],
    )
    import_id = started.expecting(202)["id"]

    async def done() -> dict[str, Any] | None:
        state: dict[str, Any] = (await client.as_(CLERK).get(f"/v1/imports/{import_id}")).expecting(200)
        return state if state["state"] in {"done", "failed"} else None

    state = await until(done, "the import", 60)
    took = time.perf_counter() - begun
    say("import", f"{state['judged'] / took:8.0f} rows/s ({state['accepted']} accepted, {state['refused']} refused)")
    return [str(record["id"]) async for record in client.as_(CLERK).every("/v1/records", level="internal")]


def say(what: str, figure: str) -> None:
    print(f"  {what:<46} {figure}", flush=True)


def _get(target: str, headers: dict[str, str]) -> str:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"GET {target} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n"


async def _load(
    stack: RunningStack, port: int, requests: Callable[[], Awaitable[list[str]]], connections: int
) -> dict[str, Any]:
    """Load in slices, so that what expires is made anew; the best slice is what the machine can do undisturbed."""
    best: dict[str, Any] = {"rps": 0.0}
    for _ in range(2):
        plan = {
            "host": "127.0.0.1",
            "port": port,
            "connections": connections,
            "seconds": SECONDS,
            "requests": await requests(),
        }
        before = _processor_seconds(stack)
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(HERE / "load.py"), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        output, _ = await process.communicate(json.dumps(plan).encode())
        measured: dict[str, Any] = json.loads(output)
        calls = measured["rps"] * SECONDS
        spent = {name: (now - before.get(name, now)) / calls for name, now in _processor_seconds(stack).items()}
        measured["spent"] = {name: seconds * 1e6 for name, seconds in spent.items()}
        if measured["rps"] > best["rps"]:
            best = measured
    return best


@contextmanager
def _yardstick(stack: RunningStack) -> Iterator[int]:
    port = next(port for port in range(29000, 29999) if is_free(port))
    process = subprocess.Popen(
        [sys.executable, str(HERE / "yardstick.py"), str(port)],
        env=os.environ | {"YARDSTICK_DATABASE": Postgres(stack.state).url("records", "app", password=True)},
    )
    try:
        until_up = time.monotonic() + 20
        while time.monotonic() < until_up:
            try:
                httpx.get(f"http://127.0.0.1:{port}/", trust_env=False)
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _line(measured: dict[str, Any], yardstick: float) -> str:
    wrong = {status: n for status, n in measured["statuses"].items() if status != "200"}
    text = f"{measured['rps']:8.0f}/s  = {measured['rps'] / yardstick:.2f} ×   p50 {measured['p50_ms']:.1f} ms"
    return f"{text}   p99 {measured['p99_ms']:.1f} ms{f'   other answers {wrong}' if wrong else ''}"


@pytest.mark.timeout(600)
async def test_audited_readings_beside_a_bare_select(stack: RunningStack, client: Client, records: list[str]) -> None:
    assert records
    clerk = stack.demo["accounts"][CLERK]
    keys = TestKeys()
    keys.signing = token_keys.read(stack.state.folder / "secrets" / "gateway-token-key.pem").current

    async def bare() -> list[str]:
        return [_get(f"/{record}", {}) for record in records]

    async def direct() -> list[str]:
        token = txn_token(
            keys,
            "records",
            ["records:read"],
            account=UUID(clerk["account"]),
            person=UUID(clerk["person"]),
            units=[UUID(clerk["unit"])],
            roles=[("records_clerk", UUID(clerk["unit"]))],
            clearance=clerk["clearance"],
            qualifications=["confidentiality_agreement", "training_passed"],
            issuer=stack.base_url,
        )
        return [_get(f"/v1/records/{record}?purpose=service", {"Txn-Token": token}) for record in records]

    async def through() -> list[str]:
        token = (await client.as_(CLERK).token()).access
        return [
            _get(f"/v1/records/{record}?purpose=service", {"Authorization": f"Bearer {token}"}) for record in records
        ]

    print()
    for connections in (CONNECTIONS, 8):
        with _yardstick(stack) as port:
            base = await _load(stack, port, bare, connections)
        say(f"bare FastAPI + asyncpg select, {connections} connections", _line(base, base["rps"]))
        for name, part, requests in (
            ("at the service", "records", direct),
            ("through the gateway", "gateway", through),
        ):
            measured = await _load(stack, stack.ports[part], requests, connections)
            say(f"audited reading, {name}", _line(measured, base["rps"]))
            say("  of which, µs of processor", _parts(measured["spent"]))
    say("memory of all processes (proportional)", f"{_memory(stack) / 2**20:8.0f} MiB")


def _parts(spent: dict[str, float]) -> str:
    """The processes that cost most, dearest first."""
    dearest = sorted(spent.items(), key=lambda each: -each[1])
    return ", ".join(f"{name} {microseconds:.0f}" for name, microseconds in dearest if microseconds >= 5)


def _processes(stack: RunningStack) -> Iterator[tuple[str, psutil.Process]]:
    """All of the stack's, each under the name that the launcher gave to it or its parent."""
    for file in (stack.state.folder / "run").glob("*.pid"):
        with suppress(psutil.Error):
            process = psutil.Process(json.loads(file.read_text())["pid"])
            yield from ((file.stem, each) for each in (process, *process.children(recursive=True)))


def _processor_seconds(stack: RunningStack) -> dict[str, float]:
    """What each has used up so far; ended children of theirs do not count."""
    found: dict[str, float] = defaultdict(float)
    for name, process in _processes(stack):
        with suppress(psutil.Error):
            used = process.cpu_times()
            found[name] += used.user + used.system
    return found


def _memory(stack: RunningStack) -> float:
    total = 0.0
    for _, process in _processes(stack):
        with suppress(psutil.Error):
            info = process.memory_full_info()
            total += getattr(info, "pss", info.rss)
    return total
