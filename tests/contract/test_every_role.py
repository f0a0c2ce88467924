"""`schemathesis run` against the API through the gateway, without credentials and as every role of the demo."""

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.conftest import RunningStack
from tests.contract.prepared import POOLS, SEEN, TURN
from tests.contract.seed import Seed

from dossier_local.client import connected
from dossier_local.cluster import temporary_state
from dossier_local.launched import launched
from dossier_local.state import write_private

ANONYMOUS = "anonymous"
ROOT = Path(__file__).parents[2]
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
)
AT_ONCE = 2
EXAMPLES = 10
EXAMPLES_CLOSED = 2
"""Random cases of an operation that the role may call, and of one that it may not."""
COVERED_BY = 1
"""So many roles run the coverage phase of an operation: what it tests, the schema, is the same for all."""
ENOUGH = 0.8

pytestmark = pytest.mark.timeout(2400)
"""All roles are called in the set-up of the first test."""


@dataclass(frozen=True)
class Run:
    """What one role was answered."""

    role: str
    code: int
    output: str
    seen: dict[str, Counter[int]]
    """operationId → how often each status."""

    @property
    def reached(self) -> set[str]:
        return {name for name, statuses in self.seen.items() if any(200 <= status < 300 for status in statuses)}


@dataclass(frozen=True)
class Role:
    """Who calls: the token's header, and the operations that it opens."""

    name: str
    authorization: str | None
    operations: frozenset[str]
    covered: frozenset[str]
    """Those of them whose coverage phase this role runs."""


@pytest.fixture(scope="module")
def own_stack() -> Iterator[RunningStack]:
    """Not that of the other tests, which random calls would disturb."""
    with temporary_state() as state, launched(state) as running:
        yield running


async def _operations(base_url: str) -> dict[str, list[frozenset[str]]]:
    """operationId → scopes that open it, as alternatives; none where no token is needed."""
    async with httpx.AsyncClient(base_url=base_url, trust_env=False) as http:
        document = (await http.get("/openapi.json")).raise_for_status().json()
    return {
        operation["operationId"]: [frozenset(each["oauth2"]) for each in operation["security"]]
        for item in document["paths"].values()
        for operation in item.values()
    }


async def _roles(base_url: str, demo: Mapping[str, Any], operations: Mapping[str, list[frozenset[str]]]) -> list[Role]:
    """Nobody, for each role the account that has the fewest others, and each client."""
    accounts: dict[str, str] = {}
    for name, account in sorted(demo["accounts"].items(), key=lambda each: len(each[1]["roles"])):
        for held in account["roles"]:
            accounts.setdefault(held["role"], name)
    free = frozenset(name for name, needed in operations.items() if not needed)
    roles = [Role(ANONYMOUS, None, free, free)]
    covered = Counter(free)
    async with connected(base_url, demo) as client:
        for role, name in (accounts | {client: client for client in demo["clients"]}).items():
            token = await client.as_(name).token()
            opened = frozenset(
                each for each, needed in operations.items() if any(one <= token.scopes for one in needed)
            )
            covers = frozenset(each for each in opened if covered[each] < COVERED_BY)
            covered.update(covers)
            roles.append(Role(role, f"Bearer {token.access}", opened, covers))
    return roles


def _configuration(role: Role, operations: Collection[str]) -> str:
    """The text of a schemathesis.toml; the token stands there, and not in the list of processes."""
    lines = [
        "warnings = false",
        "continue-on-failure = true",
        f"headers = {{ Authorization = {json.dumps(role.authorization)} }}" if role.authorization else "",
        "cache = { enabled = false }",
        f"generation = {{ deterministic = true, no-shrink = true, max-examples = {EXAMPLES} }}",
        "[phases]",
        "examples = { enabled = false }",
        "stateful = { enabled = false }",
        "fuzzing = { extra-data-sources = { responses = false } }",
        "coverage = { extra-data-sources = { responses = false } }",
    ]
    closed = set(operations) - role.operations
    for chosen, examples in ((role.operations - role.covered, EXAMPLES), (closed, EXAMPLES_CLOSED)):
        if chosen:
            lines += [
                "[[operations]]",
                f"include-operation-id = {json.dumps(sorted(chosen))}",
                "phases = { coverage = { enabled = false } }",
                f"generation = {{ max-examples = {examples} }}",
            ]
    return "\n".join(lines)


async def _run(base_url: str, role: Role, turn: int, operations: Collection[str], pools: Path, folder: Path) -> Run:
    configuration, seen = folder / f"{role.name}.toml", folder / f"{role.name}.jsonl"
    write_private(configuration, _configuration(role, operations).encode())
    own = {POOLS: str(pools), SEEN: str(seen), TURN: str(turn)}
    arguments = ("--config-file", str(configuration), "--no-color", "run", f"{base_url}/openapi.json")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", *arguments, "--checks", ",".join(CHECKS)),
        cwd=folder,
        env=os.environ | own | {"SCHEMATHESIS_HOOKS": "tests.contract.hooks", "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return Run(role.name, process.returncode, output.decode(errors="replace"), _statuses(seen))


def _statuses(seen: Path) -> dict[str, Counter[int]]:
    statuses: dict[str, Counter[int]] = {}
    for line in seen.read_text().splitlines() if seen.exists() else ():
        noted = json.loads(line)
        statuses.setdefault(noted["operation"], Counter())[noted["status"]] += 1
    return statuses


@pytest.fixture(scope="module")
async def runs(own_stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """One for each role, two at once, all over the same prepared state."""
    base_url, demo, folder = own_stack.base_url, own_stack.demo, tmp_path_factory.mktemp("contract")
    async with connected(base_url, demo) as client:
        pools = folder / "pools.json"
        write_private(pools, json.dumps(await Seed(client, demo).make()).encode())
    operations = await _operations(base_url)
    places = asyncio.Semaphore(AT_ONCE)

    async def one(turn: int, role: Role) -> Run:
        async with places:
            return await _run(base_url, role, turn, operations, pools, folder)

    roles = await _roles(base_url, demo, operations)
    return await asyncio.gather(*(one(turn, role) for turn, role in enumerate(roles)))


async def test_every_role_is_answered_as_documented(runs: list[Run]) -> None:
    for run in runs:
        total = sum(run.seen.values(), Counter[int]())
        print(f"{run.role}: {total.total()} calls, {len(run.reached)} operations reached 2xx, {sorted(total.items())}")
    assert {run.role: run.output for run in runs if run.code != 0} == {}
    assert {run.role for run in runs if not run.seen} == set()


async def test_most_operations_succeed_for_somebody(own_stack: RunningStack, runs: list[Run]) -> None:
    operations = await _operations(own_stack.base_url)
    reached = {name for run in runs for name in run.reached}
    print(f"reached: {len(reached)} of {len(operations)}; not: {sorted(set(operations) - reached)}")
    assert len(reached) >= ENOUGH * len(operations), sorted(set(operations) - reached)


async def test_nobody_without_a_token_gets_beyond_what_needs_none(own_stack: RunningStack, runs: list[Run]) -> None:
    operations = await _operations(own_stack.base_url)
    (anonymous,) = (run for run in runs if run.role == ANONYMOUS)
    assert anonymous.reached <= {name for name, needed in operations.items() if not needed}
