"""Who reads what of a record: with a grant, without one, and by both ways in."""

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from tests.records.world import QUALIFIED, Who, World, slug, states

from dossier_common.contracts.approvals import Conditions, GrantReturned, GrantRevoked
from dossier_common.ids import new_id

TERMINATED = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'records_app'"
PAST_THE_FAST_PATH = "&and=nothing"


async def refused(world: World, answer: httpx.Response, record: UUID) -> str:
    """The slug of a refusal, which is one event and no reading."""
    assert answer.status_code in {403, 404}, answer.text
    [event] = await world.events("record.viewed", "access.refused")
    assert (event["outcome"], event["data"]["operation"]) == ("refused", "read_record")
    assert event["data"]["record"] == str(record) == event["subject"]
    assert event["data"]["slug"] == slug(answer)
    await world.forget_events()
    return slug(answer)


async def viewed(world: World) -> dict[str, Any]:
    [event] = await world.events("record.viewed", "access.refused")
    assert event["type"] == "records.v1.record.viewed"
    await world.forget_events()
    data: dict[str, Any] = event["data"]
    return data


# ---- without a grant


async def test_without_a_grant_fields_are_masked_and_the_reading_is_on_record(world: World) -> None:
    fields = world.customer()
    record = await world.register(fields)
    await world.forget_events()
    answer = await world.read(record, world.colleague)
    assert states(answer, "open") == set()
    assert states(answer, "masked") == set(fields)
    assert answer.json()["fields"]["phone"]["value"] == f"{fields['phone'][:3]}****{fields['phone'][-4:]}"
    for value in (fields["name"], fields["phone"], fields["identifier"], fields["address"]):
        assert value not in answer.text
    assert str(world.colleague.person) in answer.json()["watermark"]
    assert answer.headers["cache-control"] == "no-store"
    event = await viewed(world)
    assert (event["open"], set(event["masked"]), "grant" in event) == ([], set(fields), False)
    assert event["policy"] == world.desk.policy.digest == answer.json()["policy"]


async def test_the_custodian_reads_all_fields(world: World) -> None:
    fields = world.customer()
    record = await world.register(fields)
    answer = await world.read(record, world.custodian)
    assert {name: shown["value"] for name, shown in answer.json()["fields"].items()} == fields | {
        "sex": "male" if fields["sex"] == "男" else "female",
        "identifier_type": "resident_id",
    }
    assert states(answer, "open") == set(fields)


@pytest.mark.parametrize("extra", ["", PAST_THE_FAST_PATH])
async def test_who_may_not_read_is_refused_for_the_first_rule_that_says_so(world: World, extra: str) -> None:
    record = await world.register(importance="important")
    await world.forget_events()
    who = world.colleague
    cases = {
        "insufficient-scope": replace(who, scopes=("records:catalogue",)),
        "duty-conflict": replace(who, roles=(("security_auditor", world.unit),)),
        "not-qualified": replace(who, qualifications=QUALIFIED[:1]),
        "clearance-too-low": replace(who, clearance="internal"),
    }
    for reason, asker in cases.items():
        assert await refused(world, await world.read(record, asker, extra=extra), record) == reason
    answer = await world.read(record, who, purpose="marketing", extra=extra)
    assert await refused(world, answer, record) == "purpose-not-covered"
    answer = await world.read(record, who, purpose="lawful_request", extra=extra)
    assert states(answer, "masked")


async def test_an_officer_reads_nothing_whatever_else_he_holds(world: World) -> None:
    record = await world.register()
    officer = replace(world.custodian, roles=(("seat_agent", world.unit), ("system_administrator", world.unit)))
    grant = await world.granted(record, officer)
    await world.forget_events()
    for used in (None, grant):
        assert await refused(world, await world.read(record, officer, used), record) == "duty-conflict"
    assert await world.used(grant) == 0


@pytest.mark.clause("A8.22")
async def test_a_record_listed_to_named_people_is_hidden_from_all_others_alike(world: World) -> None:
    record = await world.register(importance="vital")
    other = await world.granted(await world.register(), world.colleague)
    strangers = await world.granted(record, Who())
    unknown = await world.read(new_id(), world.colleague)
    assert unknown.status_code == 404
    await world.forget_events()
    asked = [
        (world.colleague, None),
        (replace(world.colleague, clearance="internal"), None),
        (replace(world.colleague, qualifications=()), None),
        (replace(world.colleague, roles=(("security_auditor", world.unit),)), None),
        (world.colleague, other),
        (world.colleague, strangers),
        (world.colleague, new_id()),
    ]
    for who, grant in asked:
        answer = await world.read(record, who, grant)
        assert answer.json() | {"instance": ""} == unknown.json() | {"instance": ""}
        assert await refused(world, answer, record) == "not-found"
    assert await refused(world, await world.read(record, world.colleague, purpose="gossip"), record) == "not-found"


async def test_a_grant_opens_a_record_that_is_hidden_without_it(world: World) -> None:
    record = await world.register(importance="vital")
    grant = await world.granted(record, world.colleague)
    answer = await world.read(record, world.colleague, grant)
    assert states(answer, "open") == {"name", "phone"}
    assert states(answer, "masked") == set()
    assert (
        "value" not in answer.json()["fields"]["identifier"] or answer.json()["fields"]["identifier"]["value"] is None
    )


@pytest.mark.invariant(5)
async def test_a_destroyed_record_is_not_found(world: World) -> None:
    record = await world.register()
    await world.owner.execute("UPDATE records SET status = 'destroying'")
    assert (await world.read(record, world.custodian)).status_code == 404


# ---- with a grant


async def test_a_grant_opens_exactly_its_fields_and_counts(world: World) -> None:
    fields = world.customer()
    record = await world.register(fields)
    grant = await world.granted(record, world.colleague, fields=("phone", "address"))
    await world.forget_events()
    answer = await world.read(record, world.colleague, grant)
    assert states(answer, "open") == {"phone", "address"}
    assert states(answer, "masked") == set(fields) - {"phone", "address"}
    assert answer.json()["fields"]["phone"]["value"] == fields["phone"]
    event = await viewed(world)
    assert (sorted(event["open"]), event["grant"], event["use"]) == (["address", "phone"], str(grant), 1)
    assert await world.used(grant) == 1


async def test_a_grant_without_fields_opens_all(world: World) -> None:
    fields = world.customer()
    record = await world.register(fields)
    grant = await world.granted(record, world.colleague, fields=(), uses=None)
    assert states(await world.read(record, world.colleague, grant), "open") == set(fields)


@pytest.mark.clause("A8.17")
async def test_a_grant_that_does_not_cover_the_use_names_what_would(world: World) -> None:
    record, other = await world.register(), await world.register()
    who, now = world.colleague, world.clock.now()
    purposes = {"grant": "complaint_handling"}
    faults: dict[str, dict[str, Any]] = {
        "other-holder": {"holder_account": new_id()},
        "other-action": {"action": "copy"},
        "other-record": {"records": (other,)},
        "other-purpose": {"purpose": purposes["grant"]},
        "not-yet-valid": {"not_before": now + timedelta(seconds=1)},
        "expired": {"until": now},
    }
    for fault, changes in faults.items():
        grant = await world.granted(record, who, **changes)
        await world.forget_events()
        answer = await world.read(record, who, grant)
        assert fault in answer.json()["detail"]
        [needed] = answer.json()["approvals_needed"]
        assert (needed["action"], needed["flow"]) == ("view", "view")
        assert [stage["any_of"][0]["role"] for stage in needed["stages"]] == ["department_head", "service_manager"]
        assert await refused(world, answer, record) == "grant-required"
        assert await world.used(grant) == 0


@pytest.mark.parametrize("end", [GrantRevoked, GrantReturned])
async def test_a_grant_that_ended_opens_nothing_from_then_on(
    world: World, end: type[GrantRevoked | GrantReturned]
) -> None:
    record = await world.register()
    grant = await world.granted(record, world.colleague)
    assert (await world.read(record, world.colleague, grant)).status_code == 200
    await world.tell(end(grant=grant))
    await world.forget_events()
    assert await refused(world, await world.read(record, world.colleague, grant), record) == "grant-required"


async def test_a_grant_ends_with_its_term(world: World) -> None:
    record = await world.register()
    grant = await world.granted(record, world.colleague)
    world.clock.advance(timedelta(days=1) - timedelta(seconds=1))
    await world.seen_through(world.clock.now())
    assert (await world.read(record, world.colleague, grant)).status_code == 200
    world.clock.advance(timedelta(seconds=1))
    await world.seen_through(world.clock.now())
    await world.forget_events()
    assert await refused(world, await world.read(record, world.colleague, grant), record) == "grant-required"


async def test_a_grant_of_a_zone_opens_nothing_elsewhere(world: World) -> None:
    record = await world.register()
    grant = await world.granted(record, world.colleague, conditions=Conditions(zone="vault"))
    await world.forget_events()
    assert await refused(world, await world.read(record, world.colleague, grant), record) == "outside-zone"
    assert (await world.read(record, replace(world.colleague, zone="vault"), grant)).status_code == 200


async def test_a_used_up_grant_says_so(world: World) -> None:
    record = await world.register()
    grant = await world.granted(record, world.colleague, uses=1)
    assert (await world.read(record, world.colleague, grant)).status_code == 200
    await world.forget_events()
    assert await refused(world, await world.read(record, world.colleague, grant), record) == "grant-exhausted"
    assert await world.used(grant) == 1


# ---- grants that the projection does not have yet


async def test_a_new_grant_works_at_once_and_approvals_is_asked_once(world: World) -> None:
    record = await world.register()
    issued = world.grant(record, world.colleague)
    world.peers.grants[issued.grant] = issued.model_dump(mode="json") | {"state": "active", "uses_counted": 0}
    for _ in range(2):
        assert states(await world.read(record, world.colleague, issued.grant), "open") == {"name", "phone"}
    assert world.peers.paths == [
        "records grants:resolve urn:dossier:approvals",
        f"/internal/v1/grants/{issued.grant}",
    ]
    await world.tell(issued)  # its event comes later, and takes no use back
    assert await world.used(issued.grant) == 2


async def test_a_grant_that_ended_before_it_was_known_here_opens_nothing(world: World) -> None:
    record = await world.register()
    issued = world.grant(record, world.colleague)
    world.peers.grants[issued.grant] = issued.model_dump(mode="json") | {"state": "revoked", "uses_counted": 0}
    await world.forget_events()
    assert await refused(world, await world.read(record, world.colleague, issued.grant), record) == "grant-required"


async def test_a_grant_that_nobody_issued_is_a_refusal_on_record(world: World) -> None:
    record = await world.register()
    await world.forget_events()
    answer = await world.read(record, world.colleague, new_id())
    assert "unknown" in answer.json()["detail"]
    assert await refused(world, answer, record) == "grant-required"


async def test_without_approvals_an_unknown_grant_is_503(world: World) -> None:
    record = await world.register()
    state = world.app.state

    def unreachable(_request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("nobody listens")

    async with httpx.AsyncClient(transport=httpx.MockTransport(unreachable)) as state.peers._http:
        answer = await world.read(record, world.colleague, new_id())
    assert (answer.status_code, slug(answer)) == (503, "upstream-unavailable")
    assert answer.headers["retry-after"]


# ---- both ways in


async def test_the_fast_path_and_the_endpoint_answer_alike(world: World) -> None:
    record, hidden = await world.register(), await world.register(importance="vital")
    grant = await world.granted(record, world.colleague)
    strange = replace(world.colleague, scopes=())
    asked: list[tuple[UUID, Who, UUID | None, str]] = [
        (record, world.colleague, None, "service"),
        (record, world.custodian, None, "service"),
        (record, world.colleague, None, "marketing"),
        (record, strange, None, "service"),
        (hidden, world.colleague, None, "service"),
        (new_id(), world.colleague, None, "service"),
        (record, world.colleague, new_id(), "service"),
        (record, world.colleague, grant, "service"),
    ]
    for target, who, used, purpose in asked:
        await world.forget_events()
        answers, recorded = [], []
        for extra in ("", PAST_THE_FAST_PATH):
            answers.append(await world.read(target, who, used, purpose=purpose, extra=extra))
            events = await world.events()
            recorded.append([(event["type"], event["data"] | {"use": None}) for event in events])
            await world.forget_events()
        assert answers[0].json() == answers[1].json()
        assert answers[0].status_code == answers[1].status_code
        assert recorded[0] == recorded[1]
        for name in ("content-type", "cache-control", "www-authenticate"):
            assert answers[0].headers.get(name) == answers[1].headers.get(name)
        assert answers[0].headers["x-request-id"]


@pytest.mark.invariant(6)
async def test_nobody_reads_without_a_token_that_holds(world: World) -> None:
    record = await world.register()
    await world.forget_events()
    late = world.token(world.colleague)
    world.clock.advance(timedelta(seconds=10))
    await world.seen_through(world.clock.now())
    forged = World.token(replace(world, keys=type(world.keys)()), world.colleague)
    for headers in ({}, late, forged, {"Authorization": "Bearer x"}, {"Txn-Token": "a.b.c"}):
        for extra in ("", PAST_THE_FAST_PATH):
            path = f"/v1/records/{record}?purpose=service{extra}"
            answer = await world.http.get(path, headers=headers)
            assert (answer.status_code, slug(answer)) == (401, "unauthenticated")
            assert "Bearer" in answer.headers["www-authenticate"]
    assert await world.events() == []


@pytest.mark.parametrize(
    "query",
    [
        "",
        "purpose=",
        "purpose=Service",
        "purpose=service%0A",
        "purpose=service&grant=x",
        "purpose=%ff",
        "grant=&purpose=a",
    ],
)
async def test_a_reading_that_is_asked_wrongly_is_4xx(world: World, query: str) -> None:
    record = await world.register()
    await world.forget_events()
    answer = await world.http.get(f"/v1/records/{record}?{query}", headers=world.token(world.colleague))
    assert answer.status_code in {400, 422}
    assert await world.events() == []
