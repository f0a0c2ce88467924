"""Asking: what a request must contain, who will decide it, and who may know of it."""

from datetime import timedelta
from uuid import UUID

import pytest
from tests.approvals.world import People, World, good, pointers, problem, wish

from dossier_common.contracts.gateway import UnitCreated
from dossier_common.ids import new_id


async def test_preview_names_the_stages_and_changes_nothing(world: World, people: People) -> None:
    body = wish(world.record(), reason=None, requester_profile=None)
    preview = good(await world.call(people.clerk, "POST", "/v1/requests/preview", body))
    assert preview["flow"] == "view"
    assert preview["required"] == ["object", "purpose", "reason", "requester_profile"]
    shown = [(s["name"], s["role"], s["unit"], s["candidates"]) for s in preview["stages"]]
    assert shown == [
        ("own-department", "department_head", str(world.sales), 1),
        ("review", "service_manager", str(world.service), 1),
    ]
    assert good(await world.call(people.clerk, "GET", "/v1/requests"))["items"] == []
    assert await world.tasks(people.head) == []


@pytest.mark.clause("A8.18.1")
async def test_a_complete_request_is_open_at_its_first_stage(world: World, people: People) -> None:
    record = world.record()
    answer = await world.ask(people.clerk, record, fields=["phone"], uses=3)
    request = good(answer, 201)
    assert answer.headers["location"] == f"/v1/requests/{request['id']}"
    assert (request["state"], request["round"], request["records"]) == ("open", 1, [str(record)])
    assert [stage["state"] for stage in request["stages"]] == ["open", "waiting"]
    assert request["reason"].startswith("客户王小明")
    (task,) = await world.tasks(people.head)
    assert (task["request"], task["stage"], task["round"]) == (request["id"], "own-department", 1)
    assert task["requester_person"] == str(people.clerk.person)
    assert await world.tasks(people.manager) == []
    (created,) = await world.events(request["id"])
    assert created.type == "approvals.v1.request.created"
    assert created.data["policy"] == world.policy.digest


@pytest.mark.clause("A2.7")
@pytest.mark.clause("A8.17")
async def test_each_missing_part_is_named_with_its_pointer(world: World, people: People) -> None:
    answer = await world.ask(people.clerk, world.record(), purpose=None, reason="  ", requester_profile={})
    missing = problem(answer, 422, "invalid-request")
    assert pointers(missing) == {"/body/purpose", "/body/reason", "/body/requester_profile"}


@pytest.mark.clause("A8.19.2")
async def test_parts_without_a_place_of_their_own_stand_in_the_profile(world: World, people: People) -> None:
    await world.hire(world.service, ("records_clerk", world.service))
    answer = await world.ask(people.clerk, world.record(), action="borrow")
    assert pointers(problem(answer, 422, "invalid-request")) == {"/body/requester_profile/copies"}
    profile = {"position": "客户经理", "copies": "1"}
    await world.asked_for(people.clerk, world.record(), action="borrow", requester_profile=profile)


async def test_what_the_pack_does_not_know_is_refused(world: World, people: People) -> None:
    answer = await world.ask(people.clerk, world.record(), purpose="curiosity", fields=["phone", "shoe_size"])
    assert pointers(problem(answer, 422, "invalid-request")) == {"/body/purpose", "/body/fields/1"}
    for body in (
        wish(world.record(), action="peek"),
        wish(world.record(), action="destroy"),
        wish(world.record(), action="maintain"),
        wish(world.record(), uses=0),
        wish(world.record(), until="9999-12-31T23:59:59-14:00"),
        wish(world.record(), not_before="2026-11-23T04:00:00"),
        wish(world.record(), surprise=1),
        wish(),
    ):
        problem(await world.call(people.clerk, "POST", "/v1/requests", body), 422, "invalid-request")


async def test_a_term_that_is_over_or_far_away_is_refused(world: World, people: People) -> None:
    now = world.clock.now()
    past = await world.ask(people.clerk, world.record(), until=now.isoformat())
    assert pointers(problem(past, 422, "invalid-request")) == {"/body/until"}
    far = await world.ask(people.clerk, world.record(), not_before=(now + timedelta(days=400)).isoformat())
    assert pointers(problem(far, 422, "invalid-request")) == {"/body/not_before"}


async def test_records_of_different_flows_or_offices_are_asked_for_apart(world: World, people: People) -> None:
    stage = {"name": "one", "role": "department_head", "of": "requester.unit"}
    world.with_flows(
        {"id": "plain", "when": {"action": "view"}, "grant": {"term_max": "P1D"}, "stages": [stage]},
        {
            "id": "high",
            "when": {"action": "view", "level": "top_secret"},
            "grant": {"term_max": "P1D"},
            "stages": [stage],
        },
        {
            "id": "copy",
            "when": {"action": "copy"},
            "grant": {"term_max": "P1D"},
            "stages": [{"name": "one", "role": "department_head", "of": "record.unit"}],
        },
    )
    answer = await world.ask(people.clerk, world.record(), world.record(level="top_secret"))
    assert pointers(problem(answer, 422, "invalid-request")) == {"/body/records/1"}
    await world.asked_for(people.clerk, world.record(), world.record(level="confidential"))
    await world.hire(world.service, ("department_head", world.service))
    two = await world.ask(people.clerk, world.record(), world.record(unit=world.sales), action="copy")
    assert pointers(problem(two, 422, "invalid-request")) == {"/body/records"}


async def test_records_are_described_by_the_records_service(world: World, people: People) -> None:
    problem(await world.ask(people.clerk, world.record(), new_id()), 404, "not-found")
    draft = problem(await world.ask(people.clerk, world.record(status="draft")), 409, "record-unavailable")
    assert draft["state"] == "draft"
    problem(await world.ask(people.clerk, world.record(status="destroyed")), 409, "record-unavailable")
    await world.asked_for(people.clerk, world.record(status="ended"))
    assert world.asked[0] == "approvals records:describe urn:dossier:records"
    twice = world.record()
    problem(await world.ask(people.clerk, twice, twice), 422, "invalid-request")
    many = [world.record() for _ in range(50)]
    request = await world.asked_for(people.clerk, *many)
    assert request["records"] == [str(record) for record in many]


async def test_an_application_without_a_person_asks_for_nothing(world: World, people: People) -> None:
    for path in ("/v1/requests", "/v1/requests/preview"):
        problem(await world.call(None, "POST", path, wish(world.record())), 403, "person-needed")
    for path in ("/v1/requests", "/v1/tasks", "/v1/grants"):
        assert good(await world.call(None, "GET", path))["items"] == []


@pytest.mark.parametrize(
    ("method", "path", "needed"),
    [
        ("POST", "/v1/requests", "requests:create"),
        ("POST", "/v1/requests/preview", "requests:create"),
        ("GET", "/v1/requests", "requests:read"),
        ("GET", "/v1/tasks", "requests:decide"),
        ("GET", "/v1/grants", "grants:read"),
    ],
)
async def test_each_operation_needs_its_scope(
    world: World, people: People, method: str, path: str, needed: str
) -> None:
    others = ["requests:create", "requests:read", "requests:decide", "grants:read", "grants:revoke", "accounts:manage"]
    others.remove(needed)
    body = wish(world.record()) if method == "POST" else None
    refused = problem(await world.call(people.clerk, method, path, body, scopes=others), 403, "insufficient-scope")
    assert refused["scope"] == needed
    unsigned = await world.http.request(method, path, json=body)
    problem(unsigned, 401, "unauthenticated")


async def test_an_office_is_looked_for_up_the_tree(world: World, people: People) -> None:
    team = new_id()
    await world.tell(_unit(team, world.sales))
    clerk = await world.hire(team)
    preview = good(await world.call(clerk, "POST", "/v1/requests/preview", wish(world.record())))
    assert preview["stages"][0]["unit"] == str(world.sales)
    lead = await world.hire(team, ("department_head", team))
    request = await world.asked_for(clerk, world.record())
    assert request["stages"][0]["unit"] == str(team)
    assert [task["request"] for task in await world.tasks(lead)] == [request["id"]]
    assert await world.tasks(people.head) == []


async def test_company_and_group_are_those_of_the_record(world: World, people: People) -> None:
    boss = await world.hire(world.company, ("general_manager", world.company))
    chair = await world.hire(world.group, ("general_manager", world.group))
    stages = [
        {"name": "company", "role": "general_manager", "of": "company"},
        {"name": "group", "role": "general_manager", "of": "group"},
    ]
    world.with_flows({"id": "x", "when": {"action": "view"}, "grant": {"term_max": "P1D"}, "stages": stages})
    request = await world.asked_for(people.clerk, world.record())
    assert [stage["unit"] for stage in request["stages"]] == [str(world.company), str(world.group)]
    assert len(await world.tasks(boss)) == 1
    await world.decided(boss, request)
    assert (await world.decided(chair, request))["state"] == "granted"


@pytest.mark.clause("A8.23.1")
async def test_either_of_two_offices_may_release_and_a_vacant_one_is_no_obstacle(world: World, people: People) -> None:
    supervisor = await world.hire(world.service, ("information_supervisor", world.service))
    request = await world.asked_for(people.clerk, world.record(), action="copy")
    assert [office["role"] for office in request["stages"][0]["offices"]] == ["information_supervisor"]
    boss = await world.hire(world.company, ("general_manager", world.company))
    second = await world.asked_for(people.clerk, world.record(), action="copy")
    assert second["stages"][0]["candidates"] == 2
    assert (await world.decided(boss, second))["state"] == "granted"
    assert (await world.decided(supervisor, request))["state"] == "granted"


async def test_a_vacant_role_is_shown_with_its_unit_and_nothing_is_created(world: World) -> None:
    clerk = await world.hire(world.sales)
    await world.hire(world.sales, ("department_head", world.sales))
    vacant = problem(await world.ask(clerk, world.record()), 422, "vacant-role")
    assert (vacant["stage"], vacant["role"], vacant["unit"]) == ("review", "service_manager", str(world.service))
    preview = await world.call(clerk, "POST", "/v1/requests/preview", wish(world.record()))
    problem(preview, 422, "vacant-role")
    assert good(await world.call(clerk, "GET", "/v1/requests"))["items"] == []


@pytest.mark.invariant(4)
@pytest.mark.clause("A1.5")
async def test_a_stage_that_only_the_requester_could_decide_is_vacant(world: World, people: People) -> None:
    vacant = problem(await world.ask(people.head, world.record()), 422, "vacant-role")
    assert (vacant["role"], vacant["unit"]) == ("department_head", str(world.sales))
    # another account of the same person does not help
    await world.hire(world.sales, ("department_head", world.sales), person=people.head.person)
    problem(await world.ask(people.head, world.record()), 422, "vacant-role")


@pytest.mark.invariant(4)
async def test_one_person_in_both_offices_makes_the_second_vacant(world: World) -> None:
    clerk = await world.hire(world.sales)
    roles = (("department_head", world.sales), ("service_manager", world.service))
    await world.hire(world.sales, *roles)
    vacant = problem(await world.ask(clerk, world.record()), 422, "vacant-role")
    assert vacant["stage"] == "review"


async def test_candidates_are_frozen_when_the_request_is_made(world: World, people: People) -> None:
    request = await world.asked_for(people.clerk, world.record())
    late = await world.hire(world.sales, ("department_head", world.sales))
    assert await world.tasks(late) == []
    assert [task["request"] for task in await world.tasks(people.head)] == [request["id"]]


async def test_others_cannot_tell_a_request_from_none(world: World, people: People) -> None:
    request = await world.asked_for(people.clerk, world.record())
    for who in (people.clerk, people.head, people.manager):
        assert good(await world.call(who, "GET", f"/v1/requests/{request['id']}"))["id"] == request["id"]
        listed = good(await world.call(who, "GET", "/v1/requests"))["items"]
        assert [item["id"] for item in listed] == [request["id"]]
    hidden = problem(await world.call(people.stranger, "GET", f"/v1/requests/{request['id']}"), 404, "not-found")
    unknown = problem(await world.call(people.stranger, "GET", f"/v1/requests/{new_id()}"), 404, "not-found")
    assert hidden.keys() == unknown.keys()
    assert good(await world.call(people.stranger, "GET", "/v1/requests"))["items"] == []
    (refused,) = await world.events(request["id"], "approvals.v1.access.refused")
    assert (refused.person, refused.data["operation"]) == (people.stranger.person, "show_request")


async def test_the_requester_withdraws_and_nobody_else(world: World, people: People) -> None:
    request = await world.asked_for(people.clerk, world.record())
    path = f"/v1/requests/{request['id']}/withdrawal"
    problem(await world.call(people.head, "POST", path), 403, "not-the-requester")
    problem(await world.call(people.stranger, "POST", path), 404, "not-found")
    problem(await world.call(people.clerk, "POST", f"/v1/requests/{new_id()}/withdrawal"), 404, "not-found")
    assert good(await world.call(people.clerk, "POST", path))["state"] == "withdrawn"
    assert await world.tasks(people.head) == []
    assert problem(await world.call(people.clerk, "POST", path), 409, "request-closed")["state"] == "withdrawn"
    assert len(await world.events(request["id"], "approvals.v1.request.withdrawn")) == 1


async def test_the_same_key_asks_once(world: World, people: People) -> None:
    body, key = wish(world.record()), {"Idempotency-Key": str(new_id())}
    first = good(await world.call(people.clerk, "POST", "/v1/requests", body, headers=key), 201)
    again = good(await world.call(people.clerk, "POST", "/v1/requests", body, headers=key), 201)
    assert first == again
    assert len(good(await world.call(people.clerk, "GET", "/v1/requests"))["items"]) == 1


async def test_lists_go_on_where_the_page_ended(world: World, people: People) -> None:
    made = [(await world.asked_for(people.clerk, world.record()))["id"] for _ in range(5)]
    for path, expected in (("/v1/requests?limit=2", made[::-1]), ("/v1/tasks?limit=2", made)):
        who = people.clerk if "requests" in path else people.head
        seen: list[str] = []
        at: str | None = path
        while at:
            answer = await world.call(who, "GET", at)
            seen += [item.get("request", item["id"]) for item in good(answer)["items"]]
            at = answer.links.get("next", {}).get("url")
        assert seen == expected
    for cursor in ("x", "WyJ4Il0", "W10", "WzFd"):
        problem(await world.call(people.clerk, "GET", f"/v1/requests?cursor={cursor}"), 400, "invalid-request")


def _unit(unit: UUID, parent: UUID) -> UnitCreated:
    return UnitCreated(unit=unit, parent=parent, kind="project", code="T")
