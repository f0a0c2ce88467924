import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from tests.records.world import Who, World, slug

from dossier_common.contracts.approvals import GrantRevoked
from dossier_common.ids import new_id


async def issued(world: World, record: UUID, who: Who, **changes: Any) -> dict[str, Any]:
    grant = await world.granted(record, who, **{"action": "copy"} | changes)
    answer = await world.post(f"/v1/records/{record}/copies", who, {"grant": str(grant), "action": "copy"})
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"/v1/copies/{answer.json()['id']}"
    copy: dict[str, Any] = answer.json()
    return copy


@pytest.mark.clause("A8.23.1")
async def test_a_copy_is_numbered_stamped_and_uses_its_grant(world: World) -> None:
    record = await world.register()
    await world.forget_events()
    first, second = [await issued(world, record, world.colleague, uses=1) for _ in range(2)]
    assert (first["state"], sorted(first["fields"]), first["holder"]) == (
        "issued",
        ["name", "phone"],
        str(world.colleague.person),
    )
    assert "CONTROLLED COPY" in first["stamp"]
    assert first["number"].startswith("C2026-")
    assert first["number"] != second["number"]
    assert await world.used(UUID(first["grant"])) == 1
    event = (await world.events())[0]
    assert event["type"] == "records.v1.copy.issued"
    assert (event["data"]["number"], event["data"]["use"], event["data"]["record"]) == (
        first["number"],
        1,
        str(record),
    )


async def test_one_use_makes_one_copy_however_many_ask_at_once(world: World) -> None:
    record = await world.register()
    grant = await world.granted(record, world.colleague, action="print", uses=1)
    body = {"grant": str(grant), "action": "print"}
    calls = [world.post(f"/v1/records/{record}/copies", world.colleague, body) for _ in range(5)]
    answers = await asyncio.gather(*calls)
    assert sorted(answer.status_code for answer in answers) == [201, 403, 403, 403, 403]
    assert {slug(answer) for answer in answers if answer.status_code == 403} == {"grant-exhausted"}


async def test_a_copy_is_issued_once_for_one_key(world: World) -> None:
    record = await world.register()
    grant = await world.granted(record, world.colleague, action="copy", uses=5)
    body = {"grant": str(grant), "action": "copy"}
    path = f"/v1/records/{record}/copies"
    answers = [await world.post(path, world.colleague, body, Idempotency_Key="c-1") for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert await world.used(grant) == 1


async def test_a_copy_is_refused_as_a_reading_is(world: World) -> None:
    record = await world.register()
    view = await world.granted(record, world.colleague)
    strangers = await world.granted(record, Who(), action="copy")
    own = await world.granted(record, world.colleague, action="copy")
    officer = replace(world.colleague, roles=(("system_administrator", world.unit),))
    await world.forget_events()
    cases: list[tuple[Who, UUID, str]] = [
        (world.colleague, view, "grant-required"),
        (world.colleague, strangers, "grant-required"),
        (world.colleague, new_id(), "grant-required"),
        (officer, own, "duty-conflict"),
        (replace(world.colleague, qualifications=()), own, "not-qualified"),
        (replace(world.colleague, scopes=("records:read",)), own, "insufficient-scope"),
    ]
    for who, grant, reason in cases:
        answer = await world.post(f"/v1/records/{record}/copies", who, {"grant": str(grant), "action": "copy"})
        assert (answer.status_code, slug(answer)) == (403, reason)
        [event] = await world.events()
        assert (event["data"]["operation"], event["data"]["slug"]) == ("issue_copy", reason)
        await world.forget_events()
    assert await world.owner.fetchval("SELECT count(*) FROM copies") == 0


async def test_a_new_grant_makes_a_copy_at_once(world: World) -> None:
    record = await world.register()
    grant = world.grant(record, world.colleague, action="extract")
    world.peers.grants[grant.grant] = grant.model_dump(mode="json") | {"state": "active", "uses_counted": 0}
    body = {"grant": str(grant.grant), "action": "extract"}
    assert (await world.post(f"/v1/records/{record}/copies", world.colleague, body)).status_code == 201


async def test_the_content_is_for_its_holder_until_he_has_signed_for_it(world: World) -> None:
    fields = world.customer()
    record = await world.register(fields)
    copy = await issued(world, record, world.colleague)
    await world.forget_events()
    content = await world.get(f"/v1/copies/{copy['id']}/content", world.colleague)
    assert content.json()["fields"] == {"name": fields["name"], "phone": fields["phone"]}
    assert copy["number"] in content.json()["watermark"]
    assert content.headers["cache-control"] == "no-store"
    assert await world.counted() == {"copy.rendered": 1}
    signed = await world.post(f"/v1/copies/{copy['id']}/receipt", world.colleague)
    assert signed.json()["state"] == "receipted"
    late = await world.get(f"/v1/copies/{copy['id']}/content", world.colleague)
    assert (late.status_code, slug(late)) == (409, "wrong-state")
    assert await world.counted() == {"copy.rendered": 1, "copy.receipted": 1}


@pytest.mark.parametrize(
    ("path", "state", "event"),
    [
        ("return", "returned", "copy.returned"),
        ("destruction", "destroyed", "copy.destroyed"),
        ("loss", "lost", "copy.lost"),
    ],
)
async def test_a_copy_has_one_end_which_is_an_event(world: World, path: str, state: str, event: str) -> None:
    record = await world.register()
    copy = await issued(world, record, world.colleague)
    await world.post(f"/v1/copies/{copy['id']}/receipt", world.colleague)
    await world.forget_events()
    ended = await world.post(f"/v1/copies/{copy['id']}/{path}", world.colleague)
    assert (ended.status_code, ended.json()["state"]) == (200, state)
    for again in ("receipt", "return", "destruction", "loss"):
        assert slug(await world.post(f"/v1/copies/{copy['id']}/{again}", world.colleague)) == "wrong-state"
    assert await world.counted() == {event: 1}
    [told] = await world.events()
    assert told["data"] == {"copy_id": copy["id"], "record": str(record)}


async def test_another_s_copy_does_not_exist_and_the_try_is_on_record(world: World) -> None:
    record = await world.register()
    copy = await issued(world, record, world.colleague)
    await world.forget_events()
    calls = [
        world.get(f"/v1/copies/{copy['id']}", world.custodian),
        world.get(f"/v1/copies/{copy['id']}/content", world.custodian),
        *(
            world.post(f"/v1/copies/{copy['id']}/{end}", world.custodian)
            for end in ("receipt", "return", "destruction", "loss")
        ),
    ]
    for call in calls:
        answer = await call
        assert (answer.status_code, slug(answer)) == (404, "not-found")
    assert await world.counted() == {"access.refused": 6}
    unknown = await world.get(f"/v1/copies/{new_id()}", world.custodian)
    assert unknown.json()["detail"] == answer.json()["detail"]
    assert await world.counted() == {"access.refused": 6}


async def test_a_person_lists_his_own_copies_and_an_application_none(world: World) -> None:
    one, two = await world.register(), await world.register()
    copies = [await issued(world, record, world.colleague) for record in (one, two, two)]
    await issued(world, one, world.custodian)
    listed = (await world.get("/v1/copies", world.colleague)).json()["items"]
    assert [copy["id"] for copy in listed] == [copy["id"] for copy in copies[::-1]]
    of_two = await world.get(f"/v1/copies?record={two}&limit=1", world.colleague)
    assert [copy["id"] for copy in of_two.json()["items"]] == [copies[2]["id"]]
    rest = await world.get(of_two.links["next"]["url"], world.colleague)
    assert [copy["id"] for copy in rest.json()["items"]] == [copies[1]["id"]]
    app = await world.http.get("/v1/copies", headers=world.application("records:copy"))
    assert app.json() == {"items": []}
    one_copy = await world.http.get(f"/v1/copies/{copies[0]['id']}", headers=world.application("records:copy"))
    assert one_copy.status_code == 404


async def test_a_copy_is_rendered_only_while_its_grant_holds(world: World) -> None:
    record = await world.register()
    copy = await issued(world, record, world.colleague, uses=1)
    path = f"/v1/copies/{copy['id']}/content"
    assert (await world.get(path, world.colleague)).status_code == 200
    await world.tell(GrantRevoked(grant=UUID(copy["grant"])))
    refused = await world.get(path, world.colleague)
    assert (refused.status_code, slug(refused)) == (403, "grant-required")
    assert len(await world.events("records.v1.copy.rendered")) == 1
