"""`schemathesis run` against the API through the gateway, without credentials and as every role of the demo.

One run for all: what it costs to make cases of an operation is paid once, and the cases go round the roles that may
call it. What a role may not call, the matrix calls in its name.
"""

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.conftest import RunningStack
from tests.contract.answers import CHECKS
from tests.contract.prepared import POOLS, ROTA, SEEN
from tests.contract.rota import ANONYMOUS, Rota
from tests.contract.seed import Seed

from dossier_local.client import connected
from dossier_local.state import write_private

ROOT = Path(__file__).parents[2]
WORKERS = 2
EXAMPLES, EXAMPLES_EACH = 12, 4
"""Random cases of an operation: at least so many, and so many for each role that may call it."""
ENOUGH = 0.8

pytestmark = pytest.mark.timeout(2400)
"""Everything is called in the set-up of the first test."""


@dataclass(frozen=True)
class Operation:
    """What the API's document says of an operation."""

    scopes: Sequence[frozenset[str]]
    """Those that open it, as alternatives; none where no token is needed."""
    varies: bool
    """Whether there is something to try out; what takes nothing is called once, and by the matrix in every name."""


@dataclass(frozen=True)
class Run:
    """What the roles were answered."""

    rota: Rota
    operations: Mapping[str, Operation]
    code: int
    output: str
    seen: Mapping[str, Mapping[str, Counter[int]]]
    """Role → operationId → how often each status."""

    @property
    def reached(self) -> set[str]:
        return {
            name
            for of_role in self.seen.values()
            for name, statuses in of_role.items()
            if any(200 <= status < 300 for status in statuses)
        }


async def _operations(base_url: str) -> dict[str, Operation]:
    async with httpx.AsyncClient(base_url=base_url, trust_env=False) as http:
        document = (await http.get("/openapi.json")).raise_for_status().json()
    return {
        declared["operationId"]: Operation(
            [frozenset(each["oauth2"]) for each in declared["security"]],
            varies=bool(declared.get("parameters") or declared.get("requestBody")),
        )
        for item in document["paths"].values()
        for declared in item.values()
    }


async def _rota(base_url: str, demo: Mapping[str, Any], operations: Mapping[str, Operation]) -> Rota:
    """Nobody, for each role the account that has the fewest others, and each client."""
    accounts: dict[str, str] = {}
    for name, account in sorted(demo["accounts"].items(), key=lambda each: len(each[1]["roles"])):
        for held in account["roles"]:
            accounts.setdefault(held["role"], name)
    authorizations: dict[str, str | None] = {ANONYMOUS: None}
    opened: dict[str, list[str]] = {name: [] if each.scopes else [ANONYMOUS] for name, each in operations.items()}
    async with connected(base_url, demo) as client:
        for role, name in (accounts | {client: client for client in demo["clients"]}).items():
            token = await client.as_(name).token()
            authorizations[role] = f"Bearer {token.access}"
            for operation, each in operations.items():
                if any(needed <= token.scopes for needed in each.scopes):
                    opened[operation].append(role)
    assert [name for name, roles in opened.items() if not roles] == [], "nobody of the demo may call these"
    return Rota(authorizations, opened)


def _configuration(rota: Rota, operations: Iterable[str]) -> str:
    """The text of a schemathesis.toml."""
    lines = [
        "warnings = false",
        "continue-on-failure = true",
        f"workers = {WORKERS}",
        "cache = { enabled = false }",
        "generation = { deterministic = true, no-shrink = true }",
        "[phases]",
        "examples = { enabled = false }",
        "stateful = { enabled = false }",
        "fuzzing = { extra-data-sources = { responses = false } }",
        "coverage = { extra-data-sources = { responses = false } }",
    ]
    for name in operations:
        examples = max(EXAMPLES, EXAMPLES_EACH * len(rota.of(name)))
        lines += [
            "[[operations]]",
            f"include-operation-id = {json.dumps(name)}",
            f"generation = {{ max-examples = {examples} }}",
        ]
    return "\n".join(lines)


def _statuses(seen: Path) -> dict[str, dict[str, Counter[int]]]:
    statuses: dict[str, dict[str, Counter[int]]] = {}
    for line in seen.read_text().splitlines() if seen.exists() else ():
        noted = json.loads(line)
        of_role = statuses.setdefault(noted["role"], {})
        of_role.setdefault(noted["operation"], Counter())[noted["status"]] += 1
    return statuses


@pytest.fixture(scope="module")
async def run(own_stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """All operations, over one prepared state; the tokens stand in a file, and not in the list of processes."""
    base_url, demo, folder = own_stack.base_url, own_stack.demo, tmp_path_factory.mktemp("contract")
    operations = await _operations(base_url)
    async with connected(base_url, demo) as client:
        pools = await Seed(client, demo).make()
    rota = await _rota(base_url, demo, operations)
    files = {POOLS: folder / "pools.json", ROTA: folder / "rota.json", SEEN: folder / "seen.jsonl"}
    configuration = folder / "schemathesis.toml"
    write_private(files[POOLS], json.dumps(pools).encode())
    write_private(files[ROTA], json.dumps(rota.written()).encode())
    write_private(configuration, _configuration(rota, operations).encode())
    own = {name: str(path) for name, path in files.items()}
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
    return Run(rota, operations, process.returncode, output.decode(errors="replace"), _statuses(files[SEEN]))


async def test_every_role_is_answered_as_documented(run: Run) -> None:
    for role, of_role in run.seen.items():
        total = sum(of_role.values(), Counter[int]())
        print(f"{role}: {total.total()} calls, {len(of_role)} operations, {sorted(total.items())}")
    assert run.code == 0, run.output


async def test_every_role_has_called_whatever_it_may(run: Run) -> None:
    opened = {(role, name) for name, each in run.operations.items() if each.varies for role in run.rota.of(name)}
    seen = {(role, name) for role, of_role in run.seen.items() for name in of_role}
    assert opened - seen == set()


async def test_most_operations_succeed_for_somebody(run: Run) -> None:
    missed = sorted(run.operations.keys() - run.reached)
    print(f"reached: {len(run.reached)} of {len(run.operations)}; not: {missed}")
    assert len(run.reached) >= ENOUGH * len(run.operations), missed
