"""Partners, and what they are qualified for."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from tests.gateway.world import World


async def register(world: World, **more: Any) -> dict[str, Any]:
    body = {"title": "数据公司", "registration": uuid4().hex[:18].upper()} | more
    answer = await world.call("sysadmin", "POST", "/v1/partners", json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def qualify(world: World, partner: str, kind: str, **more: Any) -> httpx.Response:
    body = {
        "qualification": kind,
        "evidence": "contract 7/2026",
        "valid_from": (world.clock.now() - timedelta(days=1)).date().isoformat(),
    } | more
    return await world.call("sysadmin", "POST", f"/v1/partners/{partner}/qualifications", json=body)


async def change(world: World, partner: str, body: dict[str, Any], version: int) -> httpx.Response:
    headers = {"If-Match": f'"{version}"'}
    return await world.call("sysadmin", "PATCH", f"/v1/partners/{partner}", json=body, headers=headers)


@pytest.mark.invariant(7)
async def test_a_partner_is_registered_listed_and_named_in_no_event(world: World) -> None:
    made = await register(world)
    assert (made["state"], made["qualifications"], made["version"]) == ("active", [], 1)
    taken = await world.call(
        "sysadmin", "POST", "/v1/partners", json={"title": "x", "registration": made["registration"]}
    )
    assert taken.status_code == 409
    clerk = await world.person("records_clerk")
    seen = await world.call(clerk["username"], "GET", f"/v1/partners/{made['id']}")
    assert (seen.json(), seen.headers["etag"]) == (made, '"1"')
    for officer in ("secadmin", "auditor"):
        refused = await world.call(officer, "POST", "/v1/partners", json={"title": "x"})
        assert refused.status_code == 403
    event = (await world.events("gateway.v1.partner.registered"))[-1]
    assert event.data == {"partner": made["id"], "state": "active"}
    page = await world.call("auditor", "GET", "/v1/partners?limit=1&state=active")
    assert len(page.json()["items"]) == 1


@pytest.mark.clause("B3.5")
async def test_agreement_and_assessment_count_within_their_term_until_withdrawn(world: World) -> None:
    made = await register(world)
    path = f"/v1/partners/{made['id']}"
    today = world.clock.now().date()
    over = {"valid_from": "2020-01-01", "valid_until": (today - timedelta(days=1)).isoformat()}
    assert (await qualify(world, made["id"], "assessment", **over)).status_code == 201
    agreement = await qualify(world, made["id"], "agreement", valid_until=today.isoformat())
    assert (await world.call("auditor", "GET", path)).json()["qualifications"] == ["agreement"]
    withdrawal = f"{path}/qualifications/{agreement.json()['id']}/withdrawal"
    withdrawn = await world.call("sysadmin", "POST", withdrawal, json={"reason": "terminated"})
    assert withdrawn.json()["withdrawn_for"] == "terminated"
    again = await world.call("sysadmin", "POST", withdrawal, json={"reason": "terminated"})
    assert again.status_code == 409
    assert (await world.call("auditor", "GET", path)).json()["qualifications"] == []
    recorded = await world.call("sysadmin", "GET", f"{path}/qualifications?limit=1")
    assert len(recorded.json()["items"]) == 1
    following = recorded.headers["link"].split(";")[0].strip("<>")
    rest = (await world.call("sysadmin", "GET", following)).json()["items"]
    assert [each["id"] for each in rest] == [agreement.json()["id"]]
    told = [(await world.events(f"gateway.v1.partner.{kind}"))[-1] for kind in ("qualified", "qualification-withdrawn")]
    assert all(event.data["record"] == agreement.json()["id"] for event in told)
    assert all("contract" not in str(event.data) for event in told)


async def test_a_partner_is_changed_by_its_version_and_ended(world: World) -> None:
    made, other = await register(world), await register(world)
    path = f"/v1/partners/{made['id']}"
    assert (await world.call("sysadmin", "PATCH", path, json={"title": "y"})).status_code == 428
    assert (await change(world, made["id"], {"title": "y"}, 2)).status_code == 412
    assert (await change(world, made["id"], {"registration": other["registration"]}, 1)).status_code == 409
    assert (await change(world, made["id"], {"title": None}, 1)).status_code == 422
    ended = await change(world, made["id"], {"title": "y", "registration": None, "state": "ended"}, 1)
    assert ended.json() == made | {"title": "y", "registration": None, "state": "ended", "version": 2}
    assert (await qualify(world, made["id"], "agreement")).status_code == 409
    event = (await world.events("gateway.v1.partner.changed"))[-1]
    assert event.data == {
        "partner": made["id"],
        "changed": ["registration", "state", "title"],
        "state_from": "active",
        "state_to": "ended",
    }
    unchanged = await change(world, made["id"], {"state": "ended"}, 2)
    assert unchanged.headers["etag"] == '"2"'


@pytest.mark.parametrize(
    "wrong",
    [{"qualification": "charm"}, {"valid_until": "2000-01-01"}, {"evidence": " "}, {"valid_from": "soon"}, {"x": 1}],
)
async def test_wrong_qualifications_are_refused(world: World, wrong: dict[str, Any]) -> None:
    made = await register(world)
    kind = str(wrong.pop("qualification", "agreement"))
    assert (await qualify(world, made["id"], kind, **wrong)).status_code == 422


async def test_what_there_is_not_is_not_found(world: World) -> None:
    path = f"/v1/partners/{uuid4()}"
    assert (await world.call("sysadmin", "GET", path)).status_code == 404
    assert (await change(world, str(uuid4()), {"title": "y"}, 1)).status_code == 404
    assert (await qualify(world, str(uuid4()), "agreement")).status_code == 404
    assert (await world.call("sysadmin", "GET", f"{path}/qualifications")).status_code == 404
    withdrawal = f"{path}/qualifications/{uuid4()}/withdrawal"
    assert (await world.call("sysadmin", "POST", withdrawal, json={"reason": "mistake"})).status_code == 404
