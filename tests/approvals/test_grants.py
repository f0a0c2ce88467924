"""Grants: their term and count, who sees them, how they end."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from tests.approvals.world import SCOPES, People, Who, World, good, problem
from tests.support.tokens import service_token

from dossier_common.contracts.approvals import GrantIssued
from dossier_common.contracts.records import CopyIssued, RecordShredded, RecordViewed
from dossier_common.ids import new_id

REVOKER = (*SCOPES, "grants:revoke")


async def granted(world: World, people: People, *records: UUID, **parts: Any) -> dict[str, Any]:
    """The grant that head and manager approved, as its holder sees it."""
    request = await world.asked_for(people.clerk, *(records or (world.record(),)), **parts)
    await world.decided(people.head, request)
    request = await world.decided(people.manager, request)
    return await shown(world, people.clerk, request["grant"])


async def shown(world: World, who: Who, grant: str) -> dict[str, Any]:
    return good(await world.call(who, "GET", f"/v1/grants/{grant}"))


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def test_the_grant_says_what_was_asked_within_the_limits_of_the_flow(world: World, people: People) -> None:
    records = [world.record(), world.record()]
    grant = await granted(world, people, *records, fields=["phone", "name"], uses=50)
    assert grant["records"] == [str(record) for record in records]
    assert grant["fields"] == ["phone", "name"]
    assert (grant["action"], grant["purpose"], grant["state"]) == ("view", "complaint_handling", "active")
    assert grant["uses"] == 20  # the flow's maximum
    assert instant(grant["not_before"]) == world.clock.now()
    assert instant(grant["until"]) == world.clock.now() + timedelta(days=7)
    assert grant["holder_person"] == str(people.clerk.person)
    assert grant["persons"] == [str(who.person) for who in (people.clerk, people.head, people.manager)]
    assert grant["conditions"]["view_only"]
    (event,) = await world.events(grant["id"], "approvals.v1.grant.issued")
    issued = GrantIssued.model_validate(event.data)
    assert (issued.until, issued.uses, issued.policy) == (instant(grant["until"]), 20, world.policy.digest)


async def test_a_shorter_wish_is_honoured_and_the_term_runs_from_the_start_that_was_asked_for(
    world: World, people: People
) -> None:
    start, end = world.clock.now() + timedelta(days=3), world.clock.now() + timedelta(days=4)
    grant = await granted(world, people, not_before=start.isoformat(), until=end.isoformat(), uses=2)
    assert (instant(grant["not_before"]), instant(grant["until"]), grant["uses"]) == (start, end, 2)
    grant = await granted(world, people, not_before=start.isoformat())
    assert instant(grant["until"]) == start + timedelta(days=7)


@pytest.mark.clause("A8.19.5")
async def test_a_loan_lasts_three_days_at_most_and_once(world: World, people: People) -> None:
    desk = await world.hire(world.service, ("records_clerk", world.service))
    profile = {"position": "客户经理", "copies": "1"}
    far = (world.clock.now() + timedelta(days=30)).isoformat()
    wanted = {"action": "borrow", "requester_profile": profile, "until": far, "uses": 9}
    request = await world.asked_for(people.clerk, world.record(), **wanted)
    await world.decided(people.head, request)
    request = await world.decided(desk, request)
    grant = await shown(world, people.clerk, request["grant"])
    assert instant(grant["until"]) == world.clock.now() + timedelta(days=3)
    assert grant["uses"] == 1
    assert grant["conditions"]["return_by"] is not None
    assert grant["conditions"]["receipt"]


async def test_a_grant_without_a_count_is_told_as_such(world: World, people: People) -> None:
    stages = [{"name": "head", "role": "department_head", "of": "requester.unit"}]
    world.with_flows({"id": "x", "when": {"action": "view"}, "grant": {"term_max": "P1D"}, "stages": stages})
    request = await world.decided(people.head, await world.asked_for(people.clerk, world.record()))
    (event,) = await world.events(request["grant"], "approvals.v1.grant.issued")
    assert GrantIssued.model_validate(event.data).uses is None


async def test_holder_deciders_and_revokers_see_a_grant_and_nobody_else(world: World, people: People) -> None:
    grant = await granted(world, people)
    idle = await world.hire(world.sales, ("department_head", world.sales))
    for who in (people.clerk, people.head, people.manager):
        assert (await shown(world, who, grant["id"]))["id"] == grant["id"]
        items = good(await world.call(who, "GET", "/v1/grants"))["items"]
        assert [item["id"] for item in items] == [grant["id"]]
    of_the_record = await world.hire(world.sales, ("information_supervisor", world.service))
    above = await world.hire(world.company, ("general_manager", world.company))
    for who in (of_the_record, above):
        officer = await world.call(who, "GET", f"/v1/grants/{grant['id']}", scopes=REVOKER)
        assert good(officer)["id"] == grant["id"]
        listed = good(await world.call(who, "GET", "/v1/grants?limit=200", scopes=REVOKER))["items"]
        assert [item["id"] for item in listed] == [grant["id"]]
    elsewhere = await world.hire(world.service, ("service_manager", world.sales))
    for who, scopes in ((people.stranger, SCOPES), (idle, SCOPES), (above, SCOPES), (elsewhere, REVOKER)):
        hidden = await world.call(who, "GET", f"/v1/grants/{grant['id']}", scopes=scopes)
        problem(hidden, 404, "not-found")
        assert good(await world.call(who, "GET", "/v1/grants", scopes=scopes))["items"] == []
    assert len(await world.events(grant["id"], "approvals.v1.access.refused")) == 4
    problem(await world.call(people.clerk, "GET", f"/v1/grants/{new_id()}"), 404, "not-found")


async def test_only_the_holder_returns_a_grant_and_only_once(world: World, people: People) -> None:
    grant = await granted(world, people)
    path = f"/v1/grants/{grant['id']}/return"
    problem(await world.call(people.head, "POST", path), 403, "not-the-holder")
    problem(await world.call(people.stranger, "POST", path), 404, "not-found")
    after = good(await world.call(people.clerk, "POST", path))
    assert (after["state"], instant(after["ended_at"])) == ("returned", world.clock.now())
    assert problem(await world.call(people.clerk, "POST", path), 409, "grant-ended")["state"] == "returned"
    assert len(await world.events(grant["id"], "approvals.v1.grant.returned")) == 1


async def test_revocation_needs_its_scope_and_a_reason_that_stays_here(world: World, people: People) -> None:
    grant = await granted(world, people)
    path, body = f"/v1/grants/{grant['id']}/revocation", {"reason": "客户王小明撤回同意"}
    problem(await world.call(people.manager, "POST", path, body), 403, "insufficient-scope")
    for wrong in ({}, {"reason": "  "}, {"reason": "x" * 2001}):
        problem(await world.call(people.manager, "POST", path, wrong, scopes=REVOKER), 422, "invalid-request")
    elsewhere = await world.hire(world.sales, ("service_manager", world.sales))
    problem(await world.call(elsewhere, "POST", path, body, scopes=REVOKER), 404, "not-found")
    supervisor = await world.hire(world.service, ("information_supervisor", world.service))
    after = good(await world.call(supervisor, "POST", path, body, scopes=REVOKER))
    assert after["state"] == "revoked"
    problem(await world.call(people.manager, "POST", path, body, scopes=REVOKER), 409, "grant-ended")
    problem(await world.call(people.clerk, "POST", f"/v1/grants/{grant['id']}/return"), 409, "grant-ended")
    (revoked,) = await world.events(grant["id"], "approvals.v1.grant.revoked")
    assert (revoked.data, revoked.person) == ({"grant": grant["id"]}, supervisor.person)


async def resolve(world: World, grant: str, client: str = "records", scope: str = "grants:resolve") -> Any:
    token = service_token(world.keys, "approvals", client, [scope], at=world.clock.now())
    headers = {"Authorization": f"Bearer {token}"}
    return await world.http.get(f"/internal/v1/grants/{grant}", headers=headers)


async def test_a_service_resolves_a_grant_in_the_shape_of_its_event(world: World, people: People) -> None:
    grant = await granted(world, people, fields=["phone"])
    found = good(await resolve(world, grant["id"]))
    (event,) = await world.events(grant["id"], "approvals.v1.grant.issued")
    assert GrantIssued.model_validate(found) == GrantIssued.model_validate(event.data)
    assert found["state"] == "active"
    problem(await resolve(world, str(new_id())), 404, "not-found")
    problem(await resolve(world, grant["id"], scope="events:pull"), 403, "insufficient-scope")
    person = await world.call(people.clerk, "GET", f"/internal/v1/grants/{grant['id']}", scopes=["grants:resolve"])
    problem(person, 403, "insufficient-scope")


async def test_the_state_follows_the_clock_and_the_count(world: World, people: People) -> None:
    record = world.record()
    grant = await granted(world, people, record, uses=2)
    viewed = {"version": 1, "purpose": "service", "open": (), "masked": (), "policy": "p", "grant": UUID(grant["id"])}
    await world.tell(RecordViewed(record=record, use=1, **viewed))
    assert (await shown(world, people.clerk, grant["id"]))["uses_counted"] == 1
    copied = {"copy_id": new_id(), "number": "1", "action": "print", "fields": (), "policy": "p"}
    await world.tell(CopyIssued(record=record, grant=UUID(grant["id"]), use=2, **copied))
    await world.tell(RecordViewed(record=record, use=1, **viewed))  # told once more
    after = await shown(world, people.clerk, grant["id"])
    assert (after["state"], after["uses_counted"]) == ("exhausted", 2)
    world.clock.advance(timedelta(days=7))
    assert (await shown(world, people.clerk, grant["id"]))["state"] == "expired"
    assert good(await resolve(world, grant["id"]))["state"] == "expired"


@pytest.mark.invariant(5)
async def test_a_grant_ends_with_the_last_of_its_records(world: World, people: People) -> None:
    one, two = world.record(), world.record()
    grant = await granted(world, people, one, two)
    waiting = await world.asked_for(people.clerk, two)
    await world.tell(_shredded(one))
    assert (await shown(world, people.clerk, grant["id"]))["state"] == "active"
    await world.tell(_shredded(two), _shredded(two))
    assert (await shown(world, people.clerk, grant["id"]))["state"] == "ended"
    after = good(await world.call(people.clerk, "GET", f"/v1/requests/{waiting['id']}"))
    assert (after["state"], after["stages"][0]["state"]) == ("rejected", "cancelled")
    assert len(await world.events(waiting["id"], "approvals.v1.request.rejected")) == 1


def _shredded(record: UUID) -> RecordShredded:
    return RecordShredded(
        record=record,
        disposal=new_id(),
        ring="secret-1",
        epoch_destroyed=1,
        epoch_current=2,
        rewrapped=0,
        remaining_under_old_epoch=0,
        decryption_failed=True,
        supplement="s",
    )
