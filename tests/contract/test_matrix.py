"""Every endpoint × every role × {no token, own unit, other unit, another person's object}, as docs/access-matrix.md.

What is expected is computed from the packs and the OpenAPI files; here each cell is called on a running stack of two
departments (OWASP API1, API3, API5: BOLA, BOPLA, BFLA).
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest
from tests.conftest import RunningStack
from tests.contract.answers import Documented
from tests.contract.matrix_bodies import added, loose
from tests.contract.matrix_callers import Called, Callers
from tests.contract.matrix_calls import AT_ONCE, Calls, Cell, cells, slug
from tests.contract.matrix_objects import good, is_prepared
from tests.contract.matrix_state import changed, kept, settled
from tests.contract.prepared import Good, Prepared
from tests.contract.seed import EMPLOYEE, Seed

from dossier_local import matrix as matrices
from dossier_local.client import Client, connected
from dossier_local.matrix import SEVERAL, Matrix, Operation, Whose
from dossier_local.people import SECURITY

PACK = "service-desk"
"""The pack of the embedded stack."""
TIMEOUT = 60

pytestmark = pytest.mark.timeout(2400)
"""The stack and its objects are made in the set-up of the first test that calls."""


@dataclass(frozen=True)
class World:
    """A running stack with its objects, its callers, and the matrix that they have to meet."""

    stack: RunningStack
    client: Client
    pools: dict[str, list[Any]]
    callers: list[Called]
    matrix: Matrix
    calls: Calls

    @property
    def cells(self) -> list[Cell]:
        return list(cells(self.matrix, self.callers))

    def operation(self, name: str) -> Operation:
        return next(each for each in self.matrix.operations if each.id == name)


@pytest.fixture(scope="module")
async def world(own_stack: RunningStack) -> AsyncIterator[World]:
    """The objects first, and then the people who have no part in them."""
    limits = httpx.Limits(max_connections=AT_ONCE)
    base_url, matrix = own_stack.base_url, matrices.matrices()[PACK]
    async with (
        connected(base_url, own_stack.demo) as client,
        httpx.AsyncClient(base_url=base_url, timeout=TIMEOUT, trust_env=False, limits=limits) as http,
    ):
        pools = await Seed(client, own_stack.demo).make()
        callers = await Callers(own_stack, client, matrix).make()
        documented = Documented((await http.get("/openapi.json")).raise_for_status().json())
        calls = Calls(http, documented, Prepared(pools), frozenset(pools["plaintext"]))
        yield World(own_stack, client, pools, callers, matrix, calls)


def test_every_operation_with_an_object_or_a_list_says_whose_they_are() -> None:
    documents = matrices.documents()
    assert matrices.undeclared(tuple(matrices.operations(documents)), documents) == []


def test_no_body_takes_fields_that_are_not_declared() -> None:
    documents = matrices.documents()
    found = {
        f"{each.address} {place}"
        for each in matrices.operations(documents)
        if each.body is not None
        for place in loose(each.body, documents[each.part])
    }
    assert found == set()


def test_every_operation_that_names_an_object_or_takes_a_body_has_one_to_be_called_with() -> None:
    found = matrices.operations(matrices.documents())
    needy = [each for each in found if (each.has_objects or each.body is not None) and not is_prepared(each.id)]
    assert [each.address for each in needy] == []


async def test_every_refusal_of_the_matrix_is_exact_and_changes_nothing(world: World) -> None:
    before = await settled(world.stack)
    refused = [cell for cell in world.cells if cell.refused]
    await world.calls.make(refused)
    print(f"refused: {len(refused)} cells, {Counter(str(cell.expected.status) for cell in refused)}")
    assert world.calls.faults == []
    assert changed(before, await kept(world.stack)) == []


async def test_no_field_that_the_server_owns_can_be_set(world: World) -> None:
    documents, before = matrices.documents(), await settled(world.stack)
    faults: list[str] = []

    async def one(operation: Operation) -> None:
        assert operation.body is not None
        more = added(operation.body, documents[operation.part])
        whole = good(operation.id, world.calls.there)
        given = whole.body if isinstance(whole.body, dict) else {}
        called = next(each for each in world.callers if _may(each, operation))
        answer = await world.calls.send(operation, replace(whole, body=given | more), called.token)
        pointers = {each["pointer"] for each in answer.json().get("errors", ())}
        missing = {f"/body/{name}" for name in more} - pointers
        if answer.status_code != 422 or missing:
            faults.append(f"{operation.address}: {answer.status_code} {slug(answer)}, not named: {sorted(missing)}")

    bodies = [each for each in world.matrix.operations if each.body is not None]
    await asyncio.gather(*(one(each) for each in bodies))
    print(f"{len(bodies)} bodies")
    assert faults == []
    assert changed(before, await kept(world.stack)) == []


async def test_who_takes_part_sees_his_own(world: World) -> None:
    own = {
        "show_copy": world.pools["copies"][0],
        "show_request": world.pools["requests"][0],
        "show_grant": world.pools["grants"][0]["id"],
    }
    for name, thing in own.items():
        path = world.operation(name).path
        address = path[: path.index("{")] + thing
        assert (await world.client.as_(EMPLOYEE).get(address)).status == 200, name
        listed = (await world.client.as_(EMPLOYEE).get(path[: path.index("/{")], limit=200)).items
        assert thing in {each["id"] for each in listed}, name


async def test_every_open_door_of_the_matrix_is_open(world: World) -> None:
    opened = [cell for cell in world.cells if not cell.refused]
    await world.calls.make(opened)
    print(f"open: {len(opened)} cells")
    assert world.calls.faults == []


async def test_who_holds_several_duties_is_given_none_that_conflicts(world: World) -> None:
    held = matrices.compatible_roles(world.matrix.policy)
    several = next(each for each in world.callers if each.caller.id == SEVERAL)
    me = await world.calls.send(world.operation("show_me"), Good(), several.token)
    assert {each["role"] for each in me.json()["roles"]} == set(held)
    for role in world.matrix.policy.roles:
        if role.id not in held:
            wanted = Good(path={"account_id": me.json()["account"]}, body={"role": role.id, "unit": me.json()["unit"]})
            token = (await world.client.as_(SECURITY).token()).access
            answer = await world.calls.send(world.operation("assign_role"), wanted, token)
            assert (answer.status_code, slug(answer)) == (409, "duty-conflict"), role.id


def _may(called: Called, operation: Operation) -> bool:
    """Whether the scopes open it; with a token also where none is needed."""
    return called.token is not None and called.whose is Whose.COLLEAGUE and operation.opens(called.caller.scopes or ())
