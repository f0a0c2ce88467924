from dataclasses import replace
from typing import Any
from uuid import UUID

import httpx
import pytest
from tests.records.world import Who, World, slug, states

from dossier_common.contracts.gateway import UnitCreated
from dossier_common.ids import new_id
from dossier_common.problems import Problem


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["items"]]


# ---- the catalogue


async def test_the_catalogue_is_paged_newest_first_to_its_end(world: World) -> None:
    made = [str(await world.register()) for _ in range(5)]
    answer = await world.get("/v1/records?limit=2", world.colleague)
    found, pages = ids(answer), 1
    while "next" in answer.links:
        answer = await world.get(answer.links["next"]["url"], world.colleague)
        found, pages = found + ids(answer), pages + 1
    assert (found, pages) == (made[::-1], 3)


async def test_the_catalogue_keeps_its_filters_over_pages(world: World) -> None:
    other = new_id()
    await world.tell(UnitCreated(unit=other, parent=world.unit, kind="department", code="D"))
    wanted = [await world.register(unit=str(other), relationship_ended_on="2021-01-01") for _ in range(3)]
    for _ in range(2):
        await world.register()
    important = await world.register(importance="important")
    answer = await world.get(f"/v1/records?unit={other}&status=ended&limit=2", world.colleague)
    again = await world.get(answer.links["next"]["url"], world.colleague)
    assert ids(answer) + ids(again) == [str(record) for record in wanted[::-1]]
    assert ids(await world.get("/v1/records?level=secret", world.colleague)) == [str(important)]
    assert ids(await world.get("/v1/records?level=nothing", world.colleague)) == []


@pytest.mark.clause("A8.22")
async def test_levels_listed_to_named_people_are_listed_to_those_only_and_marked(world: World) -> None:
    plain, vital = await world.register(), await world.register(importance="vital")
    assert ids(await world.get("/v1/records", world.colleague)) == [str(plain)]
    assert ids(await world.get("/v1/records?level=confidential", world.colleague)) == []
    listed = await world.get("/v1/records", world.custodian)
    assert ids(listed) == [str(vital), str(plain)]
    assert [item["mark"] for item in listed.json()["items"]] == [{"zh": "机密", "en": "Confidential"}, None]
    await world.owner.execute("UPDATE records SET named = ARRAY[$1::uuid] WHERE id = $2", world.colleague.person, vital)
    assert ids(await world.get("/v1/records", world.colleague)) == [str(vital), str(plain)]


@pytest.mark.invariant(7)
async def test_the_catalogue_holds_no_content(world: World) -> None:
    fields = world.customer()
    await world.register(fields)
    answer = await world.get("/v1/records", world.custodian)
    assert not any(value in answer.text for value in fields.values() if len(value) > 4)
    assert slug(await world.get("/v1/records", Who(scopes=("records:read",)))) == "insufficient-scope"


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=201",
        "limit=99999999999999999999",
        "cursor=x",
        "cursor=WyJ4Il0",
        "cursor=W10",
        "cursor=WzFd",
        "cursor=e30",
        "cursor=%00",
        "unit=1",
        "status=gone",
        "level=%27",
    ],
)
async def test_what_no_page_can_be_is_4xx_everywhere(world: World, query: str) -> None:
    """The cursors are those of another list, of no item, of a number, of an object."""
    for path in ("/v1/records", "/v1/collection-plans", "/v1/copies"):
        answer = await world.get(f"{path}?{query}", world.custodian)
        page = not query.startswith(("unit", "status", "level"))
        assert answer.status_code in ({400, 422} if page or path == "/v1/records" else {200}), (path, answer.text)


# ---- searching


def search(value: str, field: str = "phone", purpose: str = "service") -> dict[str, str]:
    return {"field": field, "value": value, "purpose": purpose}


def wide(text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if c.isascii() and c.isalnum() else c for c in text)


@pytest.mark.clause("A8.6")
async def test_a_customer_is_found_however_phone_and_identifier_are_written(world: World) -> None:
    fields = world.customer()
    record = await world.register(fields)
    await world.register()
    phone, identifier = fields["phone"], fields["identifier"]
    queries = [
        search(phone),
        search(f"+86 {phone[:3]}-{phone[3:7]}-{phone[7:]}"),
        search(f"0086{phone}"),
        search(wide(phone)),
        search(f" {phone}\u3000"),
        search(identifier, "identifier"),
        search(wide(identifier), "identifier"),
        search(f"{identifier[:6]} {identifier[6:14]} {identifier[14:].lower()}", "identifier"),
        search(fields["name"], "name"),
        search(fields["email"].upper(), "email"),
    ]
    for query in queries:
        answer = await world.post("/v1/records/search", world.colleague, query)
        [match] = answer.json()["items"]
        assert match["record"]["id"] == str(record)
        assert {shown["state"] for shown in match["fields"].values()} == {"masked"}
        assert phone not in answer.text
        assert identifier not in answer.text
        assert answer.headers["cache-control"] == "no-store"


async def test_a_match_says_what_it_would_take_to_see_more(world: World) -> None:
    fields = world.customer()
    await world.register(fields)
    [match] = (await world.post("/v1/records/search", world.colleague, search(fields["phone"]))).json()["items"]
    assert match["access"]["allowed"]
    [needed] = match["access"]["approvals_needed"]
    assert [stage["title"]["en"] for stage in needed["stages"]] == [
        "Head of the own department",
        "Customer service manager",
    ]


async def test_a_list_shows_nothing_open_even_to_the_custodian(world: World) -> None:
    fields = world.customer()
    await world.register(fields)
    [match] = (await world.post("/v1/records/search", world.custodian, search(fields["phone"]))).json()["items"]
    assert {shown["state"] for shown in match["fields"].values()} == {"masked"}
    assert match["access"]["approvals_needed"] == []


async def test_each_search_is_on_record_with_what_it_showed_and_no_value(world: World) -> None:
    fields = world.customer()
    record = await world.register(fields)
    await world.forget_events()
    await world.post("/v1/records/search", world.colleague, search(fields["phone"]))
    await world.post("/v1/records/search", world.colleague, search("13000000000"))
    first, second = await world.events()
    assert first["data"] == {"field": "phone", "found": 1, "records": [str(record)]}
    assert second["data"] == {"field": "phone", "found": 0, "records": []}


@pytest.mark.clause("A8.22")
async def test_a_search_does_not_show_that_a_hidden_record_exists(world: World) -> None:
    fields = world.customer()
    vital = await world.register(fields, importance="vital")
    for who in (world.colleague, replace(world.colleague, clearance="internal"), Who(qualifications=())):
        answer = await world.post("/v1/records/search", who, search(fields["phone"]))
        assert answer.json() == {"items": []}
    found = await world.post("/v1/records/search", world.custodian, search(fields["phone"]))
    assert [item["record"]["id"] for item in found.json()["items"]] == [str(vital)]


async def test_who_may_not_read_finds_the_descriptor_without_fields(world: World) -> None:
    fields = world.customer()
    await world.register(fields, importance="important")
    low = replace(world.colleague, clearance="internal")
    [match] = (await world.post("/v1/records/search", low, search(fields["phone"]))).json()["items"]
    assert match["fields"] == {}
    assert (match["access"]["allowed"], match["access"]["reason"]) == (False, "clearance-too-low")


@pytest.mark.parametrize("body", [search("x", "address"), search("x", "nothing"), search("")])
async def test_only_indexed_fields_are_searched(world: World, body: dict[str, str]) -> None:
    answer = await world.post("/v1/records/search", world.colleague, body)
    assert answer.status_code == 422
    assert await world.events() == []


async def test_what_cannot_be_a_phone_finds_nothing(world: World) -> None:
    await world.register()
    for value in ("x", "1" * 300, "\U0001f408", "' OR 1=1"):
        answer = await world.post("/v1/records/search", world.colleague, search(value))
        assert answer.json() == {"items": []}


async def test_a_damaged_match_spoils_no_other(world: World) -> None:
    fields = world.customer()
    one = await world.register(fields)
    two = await world.register(world.customer(phone=fields["phone"]))
    await world.owner.execute("UPDATE record_versions SET wrapped_key = '\\x00' WHERE record_id = $1", one)
    answer = await world.post("/v1/records/search", world.colleague, search(fields["phone"]))
    shown = {item["record"]["id"]: item["fields"] for item in answer.json()["items"]}
    assert shown[str(one)] == {}
    assert shown[str(two)]["phone"]["state"] == "masked"


# ---- explaining


async def explained(world: World, record: UUID, who: Who, query: str = "action=view&purpose=service") -> Any:
    answer = await world.get(f"/v1/records/{record}/access?{query}", who)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_an_explanation_names_each_rule_and_uses_nothing(world: World) -> None:
    record = await world.register()
    grant = await world.granted(record, world.colleague)
    await world.forget_events()
    told = await explained(world, record, world.colleague, f"action=view&purpose=service&grant={grant}")
    assert told["allowed"]
    assert [rule["rule"] for rule in told["rules"]] == [
        "scope",
        "duty",
        "qualification",
        "clearance",
        "need-to-know",
        "purpose",
        "place-and-time",
    ]
    assert sorted(told["open"]) == ["name", "phone"]
    assert await world.used(grant) == 0
    assert await world.events() == []


async def test_an_explanation_knows_a_grant_that_is_new(world: World) -> None:
    record = await world.register()
    issued = world.grant(record, world.colleague)
    world.peers.grants[issued.grant] = issued.model_dump(mode="json") | {"state": "active", "uses_counted": 0}
    told = await explained(world, record, world.colleague, f"action=view&purpose=service&grant={issued.grant}")
    assert told["allowed"]


async def test_an_explanation_names_the_approvals_of_each_action(world: World) -> None:
    record = await world.register()
    for action in ("copy", "print", "extract", "export"):
        who = replace(world.colleague, scopes=("records:read", "records:copy", "records:export"))
        told = await explained(world, record, who, f"action={action}&purpose=service")
        assert (told["allowed"], told["reason"]) == (False, "grant-required")
        [needed] = told["approvals_needed"]
        assert needed["action"] == action
        assert {each["role"] for each in needed["stages"][0]["any_of"]} == {"general_manager", "information_supervisor"}


async def test_an_explanation_stops_at_the_first_rule_that_refuses(world: World) -> None:
    record = await world.register(importance="important")
    told = await explained(world, record, replace(world.colleague, clearance="internal"))
    assert (told["allowed"], told["reason"], told["open"], told["masked"]) == (False, "clearance-too-low", [], [])
    assert told["rules"][-1]["passed"] is False


async def test_an_explanation_tells_nothing_of_a_hidden_record(world: World) -> None:
    record = await world.register(importance="vital")
    await world.forget_events()
    answer = await world.get(f"/v1/records/{record}/access?action=view&purpose=service", world.colleague)
    assert (answer.status_code, slug(answer)) == (404, "not-found")
    [event] = await world.events()
    assert event["data"]["operation"] == "explain_access"
    unknown = await world.get(f"/v1/records/{new_id()}/access?action=view&purpose=service", world.colleague)
    assert unknown.json()["detail"] == answer.json()["detail"]


async def test_an_explanation_agrees_with_the_reading(world: World) -> None:
    record = await world.register(importance="important")
    grant = await world.granted(record, world.colleague, uses=1)
    who = world.colleague
    askers = [
        (who, None),
        (who, grant),
        (world.custodian, None),
        (replace(who, qualifications=()), None),
        (replace(who, clearance="internal"), grant),
        (who, new_id()),
    ]
    for asker, used in askers:
        query = "action=view&purpose=service" + (f"&grant={used}" if used else "")
        told = await explained(world, record, asker, query)
        answer = await world.read(record, asker, used)
        assert told["allowed"] == (answer.status_code == 200)
        if told["allowed"]:
            assert set(told["open"]) == states(answer, "open")
            assert set(told["masked"]) == states(answer, "masked")
        else:
            assert told["reason"] == slug(answer)


def test_all_reasons_are_problems_that_clients_know() -> None:
    known = {"duty-conflict", "not-qualified", "clearance-too-low", "grant-required", "grant-exhausted"}
    slugs = set()
    waiting: list[type[Problem]] = [Problem]
    while waiting:
        each = waiting.pop()
        slugs.add(each.slug)
        waiting += each.__subclasses__()
    assert known <= slugs
