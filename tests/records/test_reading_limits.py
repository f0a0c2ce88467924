"""Over the backlog's limits no content is read, on whichever way; what is not recorded goes on."""

from collections.abc import AsyncIterator

import pytest
from tests.records.test_reading import PAST_THE_FAST_PATH
from tests.records.world import World, slug

from dossier_common.backlog import Backlog


@pytest.fixture
async def limited(world: World) -> AsyncIterator[World]:
    """A backlog of two events is the limit, and twenty stop changes."""
    state = world.app.state
    kept = state.backlog
    state.backlog = Backlog(state.database, world.clock.now, seconds=10**9, rows=2)
    yield world
    state.backlog = kept


async def waiting(world: World, rows: int) -> None:
    """So many events wait for their receipt."""
    await world.forget_events()
    await world.owner.execute(
        "INSERT INTO outbox (id, type, time, body) SELECT uuidv7(), 'x', $1, '' FROM generate_series(1, $2)",
        world.clock.now(),
        rows,
    )
    await world.app.state.backlog.look()


@pytest.mark.invariant(1)
@pytest.mark.parametrize("extra", ["", PAST_THE_FAST_PATH])
async def test_over_the_limit_nothing_is_read_and_no_grant_is_used(limited: World, extra: str) -> None:
    world = limited
    record = await world.register()
    grant = await world.granted(record, world.colleague)
    await waiting(world, 2)
    assert (await world.read(record, world.colleague, grant, extra=extra)).status_code == 200
    await waiting(world, 3)
    answer = await world.read(record, world.colleague, grant, extra=extra)
    assert (answer.status_code, slug(answer)) == (503, "audit-unavailable")
    assert answer.headers["retry-after"]
    assert (answer.json()["limit"], answer.json()["most"]) == ("backlog-rows", 2)
    assert await world.used(grant) == 1
    assert (await world.counted())["x"] == (await world.counted()).total() == 3


@pytest.mark.invariant(1)
async def test_search_and_copies_are_readings_too_and_descriptors_are_not(limited: World) -> None:
    world = limited
    fields = world.customer()
    record = await world.register(fields)
    grant = await world.granted(record, world.colleague, action="copy")
    body = {"grant": str(grant), "action": "copy"}
    issued = await world.post(f"/v1/records/{record}/copies", world.colleague, body)
    query = {"field": "identifier", "value": fields["identifier"], "purpose": "service"}
    content = f"/v1/copies/{issued.json()['id']}/content"
    await waiting(world, 3)
    assert (await world.post("/v1/records/search", world.custodian, query)).status_code == 503
    assert (await world.get(content, world.colleague)).status_code == 503
    assert (await world.get("/v1/records", world.custodian)).status_code == 200
    explained = f"/v1/records/{record}/access?action=view&purpose=service"
    assert (await world.get(explained, world.custodian)).status_code == 200
    assert (await world.post("/v1/records", world.custodian, world.body())).status_code == 201
    await waiting(world, 21)
    answer = await world.post("/v1/records", world.custodian, world.body())
    assert (answer.status_code, slug(answer), answer.json()["most"]) == (503, "audit-unavailable", 20)


@pytest.mark.invariant(1)
async def test_who_may_not_read_at_all_is_refused_and_that_is_recorded(limited: World) -> None:
    world = limited
    record = await world.register()
    await waiting(world, 100)
    headers = world.application("records:catalogue")
    for path in (f"/v1/records/{record}?purpose=service", f"/v1/records/{record}?purpose=service{PAST_THE_FAST_PATH}"):
        assert (await world.http.get(path, headers=headers)).status_code == 403
    assert (await world.counted())["access.refused"] == 2
