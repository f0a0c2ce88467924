"""Cases of disposal: opened from retention's event, for a proposer who decides in none of their stages."""

from uuid import UUID

import pytest
from tests.approvals.world import Who, World, good, problem

from dossier_common.contracts.approvals import GrantIssued
from dossier_common.contracts.retention import DisposalProposed
from dossier_common.ids import new_id


def proposed(world: World, by: Who, flow: str = "destroy", disposal: UUID | None = None) -> DisposalProposed:
    return DisposalProposed(
        disposal=disposal or new_id(),
        record=new_id(),
        unit=world.service,
        level="secret",
        proposer_account=by.account,
        proposer_person=by.person,
        flow=flow,
        policy="p",
    )


@pytest.mark.clause("A8.25")
async def test_a_proposed_disposal_goes_through_its_flow_to_a_grant(world: World) -> None:
    clerk = await world.hire(world.service, ("records_clerk", world.service))
    supervisor = await world.hire(world.service, ("information_supervisor", world.service))
    manager = await world.hire(world.service, ("service_manager", world.service))
    event = proposed(world, clerk)
    await world.tell(event)
    (task,) = await world.tasks(supervisor)
    assert (task["action"], task["disposal"], task["records"]) == ("destroy", str(event.disposal), [str(event.record)])
    assert task["reason"] == ""
    request = good(await world.decide(supervisor, task))
    request = await world.decided(manager, request)
    assert (request["state"], request["requester_person"]) == ("granted", str(clerk.person))
    (issued,) = await world.events(event.disposal, "approvals.v1.grant.issued")
    grant = GrantIssued.model_validate(issued.data)
    assert (grant.disposal, grant.action, grant.records, grant.uses) == (event.disposal, "destroy", (event.record,), 1)
    assert grant.persons == (clerk.person, supervisor.person, manager.person)


@pytest.mark.invariant(4)
async def test_the_proposer_is_no_candidate_of_his_own_disposal(world: World) -> None:
    supervisor = await world.hire(world.service, ("information_supervisor", world.service))
    other = await world.hire(world.service, ("information_supervisor", world.service))
    await world.hire(world.service, ("service_manager", world.service))
    await world.tell(proposed(world, supervisor))
    assert await world.tasks(supervisor) == []
    (task,) = await world.tasks(other)
    problem(await world.decide(supervisor, task), 403, "self-approval")


async def test_a_disposal_that_nobody_could_approve_is_said_to_be_impossible(world: World) -> None:
    supervisor = await world.hire(world.service, ("information_supervisor", world.service))
    event = proposed(world, supervisor)
    await world.tell(event)
    (impossible,) = await world.events(event.disposal)
    assert impossible.type == "approvals.v1.request.impossible"
    assert impossible.data == {"disposal": str(event.disposal), "reason": "vacant-role"}
    world.with_flows()
    second = proposed(world, supervisor)
    await world.tell(second)
    (impossible,) = await world.events(second.disposal)
    assert impossible.data["reason"] == "no-flow"


async def test_the_policys_flow_serves_where_the_event_names_none_of_it(world: World) -> None:
    clerk = await world.hire(world.service)
    supervisor = await world.hire(world.service, ("information_supervisor", world.service))
    await world.hire(world.service, ("service_manager", world.service))
    event = proposed(world, clerk, flow="of-an-older-pack")
    await world.tell(event)
    (task,) = await world.tasks(supervisor)
    assert task["disposal"] == str(event.disposal)


async def test_a_disposal_has_one_request_however_often_it_is_told(world: World) -> None:
    clerk = await world.hire(world.service)
    supervisor = await world.hire(world.service, ("information_supervisor", world.service))
    await world.hire(world.service, ("service_manager", world.service))
    event = proposed(world, clerk)
    await world.tell(event, event)
    await world.tell(event)
    assert len(await world.tasks(supervisor)) == 1
    assert len(await world.events(event.disposal, "approvals.v1.request.created")) == 1


async def test_rejection_and_withdrawal_tell_retention_which_disposal_ended(world: World) -> None:
    clerk = await world.hire(world.service)
    supervisor = await world.hire(world.service, ("information_supervisor", world.service))
    await world.hire(world.service, ("service_manager", world.service))
    first, second = proposed(world, clerk), proposed(world, clerk)
    await world.tell(first, second)
    one, two = await world.tasks(supervisor)
    good(await world.decide(supervisor, one, "reject"))
    good(await world.call(clerk, "POST", f"/v1/requests/{two['request']}/withdrawal"))
    assert len(await world.events(first.disposal, "approvals.v1.request.rejected")) == 1
    assert len(await world.events(second.disposal, "approvals.v1.request.withdrawn")) == 1
