import asyncio
from dataclasses import replace
from uuid import UUID

import pytest
from tests.records.world import Who, World, slug, states

from dossier_common.contracts.gateway import AccountCreated
from dossier_common.ids import new_id


async def test_a_change_needs_the_version_that_it_was_made_on(world: World) -> None:
    record = await world.register()
    body = {"fields": {"remarks": "回访"}}
    assert slug(await world.patch(record, world.custodian, body, None)) == "precondition-required"
    stale = await world.patch(record, world.custodian, body, "2")
    assert (stale.status_code, slug(stale)) == (412, "stale-version")
    changed = await world.patch(record, world.custodian, body, "1")
    assert (changed.status_code, changed.headers["etag"], changed.json()["version"]) == (200, '"2"', 2)
    assert slug(await world.patch(record, world.custodian, body, "1")) == "stale-version"
    bad = await world.http.patch(
        f"/v1/records/{record}", json=body, headers=world.token(world.custodian) | {"If-Match": "2"}
    )
    assert bad.status_code == 400


async def test_of_two_changes_at_once_one_is_stale(world: World) -> None:
    record = await world.register()
    calls = [world.patch(record, world.custodian, {"fields": {"remarks": f"回访 {n}"}}, "1") for n in range(5)]
    answers = await asyncio.gather(*calls)
    assert sorted(answer.status_code for answer in answers) == [200, 412, 412, 412, 412]


async def test_a_merge_patch_changes_adds_and_removes_and_leaves_the_rest(world: World) -> None:
    fields = world.customer(remarks="旧", email=None)
    record = await world.register(fields)
    await world.forget_events()
    patch = {"fields": {"remarks": None, "address": "双桥路1号", "email": "NEU@example.com"}}
    assert (await world.patch(record, world.custodian, patch, "1")).status_code == 200
    shown = (await world.read(record, world.custodian)).json()["fields"]
    assert "remarks" not in shown
    assert shown["address"]["value"] == "双桥路1号"
    assert shown["email"]["value"] == "neu@example.com"
    assert shown["name"]["value"] == fields["name"]
    event = (await world.events())[0]
    assert (event["type"], event["data"]["fields"]) == ("records.v1.record.updated", ["address", "email", "remarks"])
    assert "双桥路" not in str(event)


async def test_each_version_is_sealed_with_a_key_of_its_own(world: World) -> None:
    record = await world.register()
    await world.patch(record, world.custodian, {"fields": {"remarks": "回访"}}, "1")
    rows = await world.owner.fetch("SELECT version, wrapped_key, sealed, author FROM record_versions ORDER BY version")
    assert [row["version"] for row in rows] == [1, 2]
    assert rows[0]["wrapped_key"] != rows[1]["wrapped_key"]
    assert rows[1]["author"] == world.custodian.account


async def test_the_blind_indexes_follow(world: World) -> None:
    fields = world.customer()
    record = await world.register(fields)
    await world.patch(record, world.custodian, {"fields": {"phone": "13912345678", "email": None}}, "1")

    async def found(field: str, value: str) -> int:
        body = {"field": field, "value": value, "purpose": "service"}
        return len((await world.post("/v1/records/search", world.colleague, body)).json()["items"])

    assert await found("phone", fields["phone"]) == 0
    assert await found("phone", "13912345678") == 1
    assert await found("email", fields["email"]) == 0
    assert await found("name", fields["name"]) == 1


async def test_an_identifier_of_another_record_is_refused_and_nothing_changed(world: World) -> None:
    taken = world.customer()
    await world.register(taken)
    fields = world.customer()
    record = await world.register(fields)
    await world.forget_events()
    same = {name: taken[name] for name in ("identifier", "birth_date", "sex")}
    answer = await world.patch(record, world.custodian, {"fields": same}, "1")
    assert (answer.status_code, slug(answer)) == (409, "duplicate-record")
    assert await world.events() == []
    shown = await world.read(record, world.custodian)
    assert (shown.json()["version"], shown.json()["fields"]["identifier"]["value"]) == (1, fields["identifier"])


@pytest.mark.parametrize(
    ("fields", "code"),
    [({"phone": None}, "required"), ({"phone": "12"}, "phone-format"), ({"shoe_size": "43"}, "unknown-field")],
)
async def test_a_change_that_makes_the_record_wrong_is_refused(
    world: World, fields: dict[str, str | None], code: str
) -> None:
    record = await world.register()
    answer = await world.patch(record, world.custodian, {"fields": fields}, "1")
    assert (answer.status_code, slug(answer)) == (422, "incomplete-record")
    assert [fault["code"] for fault in answer.json()["errors"]] == [code]


async def test_the_end_of_a_relationship_is_an_event_and_a_version(world: World) -> None:
    record = await world.register()
    await world.forget_events()
    early = await world.patch(record, world.custodian, {"relationship_ended_on": "2019-12-31"}, "1")
    assert slug(early) == "incomplete-record"
    ended = await world.patch(record, world.custodian, {"relationship_ended_on": "2021-05-06"}, "1")
    assert (ended.json()["status"], ended.json()["relationship_ended_on"]) == ("ended", "2021-05-06")
    assert ended.headers["etag"] == '"2"'
    told = {event["type"]: event["data"] for event in await world.events()}
    assert told["records.v1.relationship.ended"] == {"record": str(record), "on": "2021-05-06"}
    assert told["records.v1.record.updated"]["fields"] == ["relationship_ended_on"]
    assert (await world.read(record, world.custodian)).status_code == 200


async def test_a_record_passes_to_a_custodian_who_exists(world: World) -> None:
    record = await world.register()
    unknown = await world.patch(record, world.custodian, {"custodian": str(new_id())}, "1")
    assert unknown.status_code == 422
    heir = Who(units=(world.unit,))
    await world.tell(AccountCreated(account=heir.account, person=heir.person, unit=world.unit, clearance="secret"))
    await world.forget_events()
    passed = await world.patch(record, world.custodian, {"custodian": str(heir.person)}, "1")
    assert (passed.json()["custodian"], passed.json()["version"]) == (str(heir.person), 2)
    assert [event["data"]["fields"] for event in await world.events()] == [["custodian"]]
    assert states(await world.read(record, heir), "open")
    assert not states(await world.read(record, world.custodian), "open")


async def test_a_patch_of_nothing_changes_nothing(world: World) -> None:
    record = await world.register()
    await world.forget_events()
    answer = await world.patch(record, world.custodian, {}, "1")
    assert (answer.status_code, answer.headers["etag"]) == (200, '"1"')
    assert await world.events() == []
    for name in ("relationship_ended_on", "custodian"):
        assert (await world.patch(record, world.custodian, {name: None}, "1")).status_code == 422


async def test_only_who_has_to_do_with_a_record_changes_it(world: World) -> None:
    record, vital = await world.register(), await world.register(importance="vital")
    await world.forget_events()
    body = {"fields": {"remarks": "回访"}}
    of_the_unit = replace(world.colleague, units=(world.unit,), roles=(("records_clerk", world.unit),))
    cases: list[tuple[UUID, Who, str]] = [
        (record, world.colleague, "no-need-to-know"),
        (record, replace(of_the_unit, roles=()), "no-need-to-know"),
        (record, replace(of_the_unit, roles=(("records_clerk", new_id()),)), "no-need-to-know"),
        (record, replace(of_the_unit, roles=(("service_manager", world.unit),)), "no-need-to-know"),
        (record, replace(of_the_unit, qualifications=()), "not-qualified"),
        (record, replace(of_the_unit, roles=(("security_administrator", world.unit),)), "duty-conflict"),
        (record, replace(of_the_unit, scopes=("records:read",)), "insufficient-scope"),
        (vital, world.colleague, "not-found"),
        (vital, of_the_unit, "not-found"),
    ]
    for target, who, reason in cases:
        assert slug(await world.patch(target, who, body, "1")) == reason
        [event] = await world.events()
        assert (event["data"]["operation"], event["data"]["slug"]) == ("change_record", reason)
        await world.forget_events()
    assert (await world.patch(record, of_the_unit, body, "1")).status_code == 200
    assert slug(await world.patch(new_id(), of_the_unit, body, "1")) == "not-found"


async def test_a_record_under_destruction_is_not_changed(world: World) -> None:
    record = await world.register()
    await world.owner.execute("UPDATE records SET status = 'destroying'")
    answer = await world.patch(record, world.custodian, {"fields": {"remarks": "回访"}}, "1")
    assert (answer.status_code, slug(answer)) == (409, "wrong-state")


@pytest.mark.clause("D.4.1.3")
async def test_what_is_classified_higher_cannot_enter_a_record(world: World) -> None:
    record = await world.register()
    patch = {"fields": {"bank_account": "6222020200112233446"}}
    refused = await world.patch(record, world.custodian, patch, "1")
    assert (refused.status_code, slug(refused), refused.json()["level"]) == (409, "level-too-low", "secret")
    assert "bank_account" not in (await world.read(record, world.custodian)).json()["fields"]
