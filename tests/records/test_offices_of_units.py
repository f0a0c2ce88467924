"""A role counts in the unit in which it is held, and below it (A4.34): what may be put where, and seen."""

from dataclasses import replace

import pytest
from tests.records.world import Who, World, slug

from dossier_common.contracts.gateway import UnitCreated
from dossier_common.ids import new_id

ROLES = ("records_clerk", "service_manager")


async def of_another_unit(world: World) -> tuple[Who, Who]:
    """The custodian with his roles in a unit beside, and with the same in the unit above both."""
    above, beside = new_id(), new_id()
    await world.tell(
        UnitCreated(unit=above, parent=None, kind="group", code="G"),
        UnitCreated(unit=beside, parent=above, kind="department", code="B"),
    )
    await world.owner.execute("UPDATE directory_units SET parent = $1 WHERE id = $2", above, world.unit)
    elsewhere, over = ([(role, unit) for role in ROLES] for unit in (beside, above))
    return replace(world.custodian, roles=tuple(elsewhere)), replace(world.custodian, roles=tuple(over))


@pytest.mark.clause("A4.34")
async def test_only_offices_of_the_unit_or_above_put_something_into_it(world: World) -> None:
    elsewhere, above = await of_another_unit(world)
    sheet = "姓名\n王小明\n".encode()
    for who, status, told in ((elsewhere, 403, "another-unit"), (replace(above, roles=()), 403, "another-unit")):
        answers = [
            await world.post("/v1/collection-plans", who, world.plan_body()),
            await world.post("/v1/records", who, world.body()),
            await world.import_(sheet, "text/csv", who),
        ]
        assert [(each.status_code, slug(each)) for each in answers] == [(status, told)] * 3
    assert (await world.counted())["access.refused"] == 6
    assert (await world.post("/v1/collection-plans", above, world.plan_body())).status_code == 201
    assert (await world.post("/v1/records", above, world.body())).status_code == 201
    assert (await world.import_(sheet, "text/csv", above)).status_code == 202


async def test_an_import_is_there_for_its_sender_and_the_offices_of_its_unit(world: World) -> None:
    elsewhere, above = await of_another_unit(world)
    sent = await world.import_("姓名\n王小明\n".encode(), "text/csv")
    path = sent.headers["Location"]
    stranger, colleague = (replace(who, account=new_id(), person=new_id()) for who in (elsewhere, above))
    assert [(await world.get(path, who)).status_code for who in (elsewhere, colleague, stranger)] == [200, 200, 404]
    hidden, unknown = [await world.get(each, stranger) for each in (path, f"/v1/imports/{new_id()}")]
    assert {**hidden.json(), "instance": ""} == {**unknown.json(), "instance": ""}


async def test_an_application_puts_records_into_any_unit(world: World) -> None:
    headers = world.application("records:register")
    assert (await world.http.post("/v1/records", json=world.body(), headers=headers)).status_code == 201
