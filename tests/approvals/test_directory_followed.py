"""Who is found for an office follows the directory: disabled accounts, roles with a term, units that moved."""

from datetime import timedelta
from typing import Any

from tests.approvals.world import People, World, good, wish

from dossier_common.contracts.gateway import (
    AccountChanged,
    AccountDisabled,
    AccountEnabled,
    RoleAssigned,
    UnitCreated,
    UnitMoved,
)
from dossier_common.ids import new_id


async def candidates(world: World, people: People) -> Any:
    """How many could decide each stage of a request to view."""
    body = wish(world.record())
    stages = good(await world.call(people.clerk, "POST", "/v1/requests/preview", body))["stages"]
    return [stage["candidates"] for stage in stages]


async def test_a_disabled_account_decides_nothing_new_until_it_is_enabled(world: World, people: People) -> None:
    second = await world.hire(world.sales, ("department_head", world.sales))
    assert await candidates(world, people) == [2, 1]
    marks = {"account": second.account, "person": second.person}
    await world.tell(AccountDisabled(**marks, reason="absence"))
    assert await candidates(world, people) == [1, 1]
    await world.tell(AccountEnabled(**marks, state="active"))
    assert await candidates(world, people) == [2, 1]


async def test_a_role_with_a_term_counts_until_then(world: World, people: People) -> None:
    second = await world.hire(world.sales)
    ends = world.clock.now() + timedelta(hours=1)
    marks = {"account": second.account, "person": second.person, "role": "department_head", "unit": world.sales}
    await world.tell(RoleAssigned(assignment=new_id(), **marks, valid_until=ends))
    assert await candidates(world, people) == [2, 1]
    world.clock.advance(timedelta(hours=1))
    assert await candidates(world, people) == [1, 1]


async def test_an_office_is_looked_for_above_the_place_to_which_a_unit_or_an_account_moved(
    world: World, people: People
) -> None:
    branch = new_id()
    await world.tell(UnitCreated(unit=branch, parent=world.sales, kind="department", code="B"))
    await world.hire(world.service, ("department_head", world.service))
    clerk = await world.hire(branch)
    body = wish(world.record())

    async def decides() -> Any:
        return good(await world.call(clerk, "POST", "/v1/requests/preview", body))["stages"][0]["unit"]

    assert await decides() == str(world.sales)
    await world.tell(UnitMoved(unit=branch, parent_from=world.sales, parent_to=world.service))
    assert await decides() == str(world.service)
    moved = {"changed": ("unit",), "unit_from": branch, "unit_to": world.sales}
    await world.tell(AccountChanged(account=clerk.account, person=clerk.person, **moved))
    assert await decides() == str(world.sales)
