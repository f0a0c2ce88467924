"""What is handed to a partner: only where the partner has what the flow asks for, when it is asked for and granted."""

from datetime import date, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from tests.approvals.world import NOON, Who, World, good, problem, wish

from dossier_common.contracts.gateway import (
    PartnerChanged,
    PartnerQualificationWithdrawn,
    PartnerQualified,
    PartnerRegistered,
)
from dossier_common.ids import new_id

TODAY = NOON.date()
PROFILE = {"position": "客户经理", "scope": "姓名", "method": "加密文件"}


async def partner(world: World, *held: str, until: date | None = None) -> UUID:
    """A partner with these qualifications."""
    found = new_id()
    await world.tell(PartnerRegistered(partner=found, state="active"))
    for each in held:
        await qualify(world, found, each, until=until)
    return found


async def qualify(world: World, found: UUID, qualification: str, *, until: date | None = None) -> UUID:
    record = new_id()
    begins = TODAY - timedelta(days=30)
    await world.tell(
        PartnerQualified(
            partner=found, record=record, qualification=qualification, valid_from=begins, valid_until=until
        )
    )
    return record


@pytest.fixture
async def offices(world: World) -> tuple[Who, Who]:
    """Who decides on sharing."""
    supervisor = await world.hire(world.service, ("information_supervisor", world.service))
    return supervisor, await world.hire(world.service, ("service_manager", world.service))


async def share(world: World, who: Who, recipient: UUID | None, **more: Any) -> httpx.Response:
    body = wish(world.record(), **{"action": "share", "requester_profile": PROFILE} | more)
    return await world.call(who, "POST", "/v1/requests", body | ({"recipient": str(recipient)} if recipient else {}))


@pytest.mark.clause("B3.5")
@pytest.mark.parametrize(
    ("held", "missing"),
    [((), ["agreement", "assessment"]), (("agreement",), ["assessment"]), (("assessment",), ["agreement"])],
)
async def test_a_partner_that_lacks_something_is_refused_and_what_is_missing_is_named(
    world: World, people: Any, offices: tuple[Who, Who], held: tuple[str, ...], missing: list[str]
) -> None:
    refused = problem(await share(world, people.clerk, await partner(world, *held)), 403, "not-qualified")
    assert refused["missing"] == missing


async def test_a_qualified_partner_is_named_in_request_and_event(
    world: World, people: Any, offices: tuple[Who, Who]
) -> None:
    found = await partner(world, "agreement", "assessment", until=TODAY)
    made = good(await share(world, people.clerk, found), 201)
    assert made["recipient"] == str(found)
    (created,) = await world.events(made["id"], "approvals.v1.request.created")
    assert created.data["recipient"] == str(found)


async def test_a_term_that_is_over_and_a_withdrawal_count_as_missing(
    world: World, people: Any, offices: tuple[Who, Who]
) -> None:
    over = await partner(world, "agreement", "assessment", until=TODAY - timedelta(days=1))
    assert problem(await share(world, people.clerk, over), 403, "not-qualified")["missing"] == [
        "agreement",
        "assessment",
    ]
    found = await partner(world, "assessment")
    record = await qualify(world, found, "agreement")
    withdrawn = PartnerQualificationWithdrawn(
        partner=found, record=record, qualification="agreement", reason="terminated"
    )
    await world.tell(withdrawn)
    assert problem(await share(world, people.clerk, found), 403, "not-qualified")["missing"] == ["agreement"]


async def test_the_partner_has_to_be_named_known_and_active(
    world: World, people: Any, offices: tuple[Who, Who]
) -> None:
    for recipient, code in ((None, "missing"), (new_id(), "unknown-partner")):
        fault = problem(await share(world, people.clerk, recipient), 422, "invalid-request")["errors"]
        assert [(each["pointer"], each["code"]) for each in fault] == [("/body/recipient", code)]
    ended = await partner(world, "agreement", "assessment")
    await world.tell(PartnerChanged(partner=ended, changed=("state",), state_from="active", state_to="ended"))
    problem(await share(world, people.clerk, ended), 422, "invalid-request")


async def test_a_name_in_the_profile_is_no_partner(world: World, people: Any, offices: tuple[Who, Who]) -> None:
    answer = await share(world, people.clerk, None, requester_profile=PROFILE | {"recipient": "某公司"})
    faults = problem(answer, 422, "invalid-request")["errors"]
    assert [each["pointer"] for each in faults] == ["/body/recipient"]


async def test_a_flow_that_hands_to_nobody_takes_no_partner(world: World, people: Any) -> None:
    found = await partner(world, "agreement", "assessment")
    answer = await world.ask(people.clerk, world.record(), recipient=str(found))
    assert [each["code"] for each in problem(answer, 422, "invalid-request")["errors"]] == ["unexpected"]


@pytest.mark.clause("B3.5")
async def test_what_ran_out_while_it_was_decided_is_not_granted(
    world: World, people: Any, offices: tuple[Who, Who]
) -> None:
    found = await partner(world, "assessment")
    record = await qualify(world, found, "agreement")
    made = good(await share(world, people.clerk, found), 201)
    supervisor, leader = offices
    made = await world.decided(supervisor, made)
    gone = PartnerQualificationWithdrawn(partner=found, record=record, qualification="agreement", reason="terminated")
    await world.tell(gone)
    task = await world.task(leader, made)
    assert problem(await world.decide(leader, task), 403, "not-qualified")["missing"] == ["agreement"]
    await qualify(world, found, "agreement")
    assert (await world.decided(leader, made))["state"] == "granted"
