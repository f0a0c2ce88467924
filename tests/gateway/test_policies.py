"""Versions of the policy: proposed by one person, judged in full, approved by another, noted when they take effect."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import delete, insert, text, update
from sqlalchemy.exc import IntegrityError, ProgrammingError
from tests.gateway.world import World

from dossier_common.contracts.audit import ALARMS
from dossier_common.ids import new_id
from dossier_common.policy import Policy, Role, load_policy, policy_from_content
from dossier_common.policy.vocabulary import Title
from dossier_common.scopes import Scope
from dossier_gateway.models import PolicyDecision, PolicyVersion
from dossier_gateway.policies import service

HEAD = "pack: {name}\ntitle: {{zh: 试行, en: Trial}}\nsource: none\nextends: baseline\n"
PATH = "/v1/policies"
APPROVER = "policy_approver"
PROPOSER = "policy_proposer"


@pytest.fixture(scope="module", autouse=True)
def offices(world: World) -> Iterator[None]:
    """Two roles that one person may hold together: in the packs that are shipped a static conflict keeps them apart."""
    state, callers = world.proxy.own.state, world.proxy.own.state.callers
    before: Policy = state.policy
    both = (
        Role(id=APPROVER, title=Title(zh="批准", en="Approver"), scopes=(Scope.POLICY_APPROVE,)),
        Role(id=PROPOSER, title=Title(zh="提出", en="Proposer"), scopes=(Scope.POLICY_PROPOSE,)),
    )
    wider = before.model_copy(update={"roles": (*before.roles, *both)})
    state.policy = callers._policy = state.oauth._policy = wider
    yield
    state.policy = callers._policy = state.oauth._policy = before


def pack(name: str, body: str = "") -> str:
    return HEAD.format(name=name) + body


def roles(*scopes: str) -> str:
    """The two roles of these tests, so that what is held in them is known to the new pack too."""
    listed = ", ".join(f'"{scope}"' for scope in scopes)
    return f"roles:\n  - {{id: seat_agent, scopes: [{listed}]}}\n"


async def propose(world: World, as_: str, said: str) -> httpx.Response:
    return await world.call(as_, "POST", PATH, json={"text": said})


async def proposed(world: World, as_: str, said: str) -> dict[str, Any]:
    answer = await propose(world, as_, said)
    assert answer.status_code == 201, answer.text
    version: dict[str, Any] = answer.json()
    return version


async def decide(world: World, as_: str, digest: str, verdict: str = "approve") -> httpx.Response:
    body = {"verdict": verdict, "comment": "经保密领导小组讨论"}
    return await world.call(as_, "POST", f"{PATH}/{digest}/approval", json=body)


def slug(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("type", "").rsplit(":", 1)[-1]


async def events_of(world: World, digest: str) -> list[str]:
    async with world.proxy.own.state.database.session() as session:
        query = text("SELECT type FROM outbox WHERE position(:digest IN convert_from(body, 'UTF8')) > 0 ORDER BY id")
        return [row.type for row in await session.execute(query, {"digest": digest})]


@pytest.fixture
async def approver(world: World) -> str:
    return str((await world.person(APPROVER))["username"])


async def test_a_version_is_proposed_and_another_person_approves_it(world: World, approver: str) -> None:
    said = pack("trial-one", "passwords: {min_length: 14}\n")
    answer = await propose(world, "secadmin", said)
    version = answer.json()
    assert (answer.status_code, answer.headers["Location"]) == (201, f"{PATH}/{version['digest']}")
    assert (version["state"], version["pack"], version["text"]) == ("proposed", "trial-one", said)
    assert version["content"]["passwords"]["min_length"] == 14
    assert policy_from_content(version["content"]).digest == version["digest"]
    after = (await decide(world, approver, version["digest"])).json()
    assert (after["state"], after["takes_effect"]) == ("approved", "next-start-with-this-file")
    assert (after["decision"]["verdict"], after["decision"]["comment"]) == ("approve", "经保密领导小组讨论")
    assert after["decision"]["person"] != after["proposer_person"]
    assert await events_of(world, version["digest"]) == ["gateway.v1.policy.proposed", "gateway.v1.policy.approved"]


async def test_everybody_reads_versions_and_those_who_decide_them_the_comments(world: World, approver: str) -> None:
    version = await proposed(world, "secadmin", pack("trial-read"))
    assert (await decide(world, approver, version["digest"], "reject")).json()["state"] == "rejected"
    for who, comment in (("auditor", None), ("secadmin", "经保密领导小组讨论")):
        listed = (await world.call(who, "GET", f"{PATH}?limit=200")).json()["items"]
        (found,) = [each for each in listed if each["digest"] == version["digest"]]
        assert found["decision"]["comment"] == comment
        assert "text" not in found
        shown = (await world.call(who, "GET", f"{PATH}/{version['digest']}")).json()
        assert shown["text"] == pack("trial-read")
    assert (await events_of(world, version["digest"]))[-1] == "gateway.v1.policy.rejected"
    assert slug(await world.call("auditor", "GET", f"{PATH}/sha256:{'0' * 64}")) == (404, "not-found")
    assert slug(await world.call("auditor", "GET", f"{PATH}/sha256:x")) == (422, "invalid-request")
    first = await world.call("auditor", "GET", f"{PATH}?limit=1")
    following = first.headers["Link"].split("<")[1].split(">")[0]
    second = (await world.call("auditor", "GET", following)).json()["items"]
    assert first.json()["items"][0]["digest"] != second[0]["digest"]


async def test_a_faulty_text_comes_back_with_every_finding(world: World) -> None:
    said = pack(
        "trial-faulty",
        "flows:\n  - id: view\n    stages:\n      - {name: a, role: porter, of: company}\n"
        "fields:\n  - {id: phone, headers: [电话, 姓名]}\n",
    )
    answer = await propose(world, "secadmin", said)
    assert slug(answer) == (422, "invalid-request")
    assert [(each["line"], each["key"]) for each in answer.json()["findings"]] == [
        *[(8, "flows.view.stages.a.role"), (10, "fields.phone.headers")]
    ]
    assert {each["pointer"] for each in answer.json()["errors"]} == {"/body/text"}
    assert "proposal:8: flows.view.stages.a.role: unknown role 'porter'" in answer.text


@pytest.mark.parametrize(
    "said",
    [
        *("", "- a\n", "pack: [", "pack: ../baseline\n", "a: " + "[" * 100_000, "a: " + "9" * 5000),
        *('a: "\\ud800"\n', 'a: "\\0"\n', "pack: x\nextends: /etc/passwd\n", "x" * (256 * 1024 + 1)),
    ],
    ids=range(10),
)
async def test_a_text_that_nobody_meant_as_a_pack_is_refused_and_nothing_worse(world: World, said: str) -> None:
    assert slug(await propose(world, "secadmin", said)) == (422, "invalid-request")


async def test_the_same_meaning_is_proposed_once(world: World) -> None:
    said = pack("trial-twice")
    answers = await asyncio.gather(*(propose(world, "secadmin", said) for _ in range(2)))
    assert sorted(answer.status_code for answer in answers) == [201, 409]
    again = await propose(world, "secadmin", said + "# another comment\n")
    assert slug(again) == (409, "version-known")
    assert again.json()["state"] == "proposed"


@pytest.mark.invariant(4)
async def test_a_role_that_holds_two_duties_is_a_duty_conflict(world: World) -> None:
    said = pack("trial-duties", 'roles:\n  - {id: security_auditor, scopes: ["audit:read", "requests:decide"]}\n')
    answer = await propose(world, "secadmin", said)
    assert slug(answer) == (409, "duty-conflict")
    assert "breaks the conflict 'audit-apart'" in answer.text
    for fewer in ("conflicts:\n  - remove: [audit-apart]\n", "case_conflicts:\n  - remove: [place-and-release]\n"):
        assert slug(await propose(world, "secadmin", pack("trial-fewer", fewer))) == (409, "duty-conflict")


NARROW = """conflicts:
  - id: agent-apart
    title: {zh: 座席与登记分离, en: Agents register nothing}
    between:
      - ["records:register"]
      - ["suspicions:resolve"]
"""


@pytest.mark.invariant(4)
async def test_what_people_hold_now_is_judged_and_named_by_roles_and_number(world: World, approver: str) -> None:
    version = await proposed(world, "secadmin", pack("trial-now", NARROW))
    people = [await world.person("channel_clerk", "information_officer") for _ in range(2)]
    third = await world.person("channel_clerk")
    await world.person("information_officer", person=third["person"])
    for answer in (
        await propose(world, "secadmin", pack("trial-now-too", NARROW)),
        await decide(world, approver, version["digest"]),
    ):
        assert slug(answer) == (409, "duty-conflict")
        assert answer.json()["held"] == [
            {"roles": ["channel_clerk", "information_officer"], "conflicts": ["agent-apart"], "persons": 3}
        ]
        assert people[0]["person"] not in answer.text
    assert (await world.call("auditor", "GET", f"{PATH}/{version['digest']}")).json()["state"] == "proposed"
    assert (await decide(world, approver, version["digest"], "reject")).status_code == 200


@pytest.mark.invariant(4)
async def test_what_an_application_may_ask_for_is_judged_too(world: World) -> None:
    client = {"id": "policy-client", "title": "应用", "grant_types": ["client_credentials"]}
    body = client | {"scopes": ["records:import", "suspicions:resolve"]}
    registered = await world.call("sysadmin", "POST", "/v1/clients", json=body)
    assert registered.status_code == 201, registered.text
    narrow = NARROW.replace("records:register", "records:import")
    answer = await propose(world, "secadmin", pack("trial-client", narrow))
    assert slug(answer) == (409, "duty-conflict")
    assert {"client": "policy-client", "conflicts": ["agent-apart"]} in answer.json()["clients"]


@pytest.mark.invariant(4)
async def test_who_proposes_does_not_approve_by_any_of_his_accounts(world: World, approver: str) -> None:
    one = await world.person(PROPOSER, APPROVER)
    two = await world.person(PROPOSER, APPROVER, person=one["person"])
    version = await proposed(world, one["username"], pack("trial-alone"))
    for who in (one, two):
        assert slug(await decide(world, who["username"], version["digest"])) == (403, "same-person")
    refused = [each for each in await world.events("gateway.v1.access.refused") if each.data["slug"] == "same-person"]
    assert {each.actor for each in refused} >= {UUID(one["id"]), UUID(two["id"])}
    both = await asyncio.gather(*(decide(world, who["username"], version["digest"]) for who in (one, two)))
    assert [slug(answer) for answer in both] == [(403, "same-person")] * 2
    assert (await decide(world, approver, version["digest"])).json()["state"] == "approved"
    assert slug(await decide(world, one["username"], version["digest"])) == (403, "same-person")


@pytest.mark.invariant(4)
async def test_two_approvers_at_once_are_one_decision(world: World, approver: str) -> None:
    other = str((await world.person(APPROVER))["username"])
    version = await proposed(world, "secadmin", pack("trial-race"))
    answers = await asyncio.gather(
        decide(world, approver, version["digest"]), decide(world, other, version["digest"], "reject")
    )
    assert sorted(slug(answer) for answer in answers)[1] == (409, "already-decided")
    assert answers[0].status_code + answers[1].status_code == 200 + 409
    assert len(await events_of(world, version["digest"])) == 2


async def test_who_may_not_is_refused(world: World, approver: str) -> None:
    version = await proposed(world, "secadmin", pack("trial-scopes"))
    assert slug(await propose(world, approver, pack("x"))) == (403, "insufficient-scope")
    assert slug(await decide(world, "secadmin", version["digest"])) == (403, "insufficient-scope")
    assert slug(await decide(world, approver, "sha256:" + "0" * 64)) == (404, "not-found")


@pytest.mark.invariant(4)
async def test_the_database_itself_refuses_an_approval_by_the_proposer_and_a_second_one(
    world: World, approver: str
) -> None:
    version = await proposed(world, "secadmin", pack("trial-database"))
    database = world.proxy.own.state.database
    row = {
        "digest": version["digest"],
        "proposer_person": version["proposer_person"],
        "account": new_id(),
        "person": version["proposer_person"],
        "verdict": "approve",
        "comment": b"x",
        "at": world.clock.now(),
    }

    async def insertion(**changed: Any) -> None:
        async with database.transaction() as session:
            await session.execute(insert(PolicyDecision).values(row | changed))

    with pytest.raises(IntegrityError, match="another_person"):
        await insertion()
    with pytest.raises(IntegrityError, match="fk_policy_decisions"):
        await insertion(proposer_person=new_id())
    assert (await decide(world, approver, version["digest"])).status_code == 200
    with pytest.raises(IntegrityError, match="pk_policy_decisions"):
        await insertion(person=new_id())
    for statement in (
        update(PolicyVersion).values(proposer_person=new_id()),
        update(PolicyVersion).values(text=""),
        update(PolicyDecision).values(verdict="approve"),
        delete(PolicyDecision),
        delete(PolicyVersion),
    ):
        with pytest.raises(ProgrammingError, match="permission denied"):
            async with database.transaction() as session:
                await session.execute(statement)


@pytest.fixture
async def nothing_deployed(world: World) -> AsyncIterator[None]:
    """Until the test is over, as before the first start: what other tests proposed has no part in it."""
    yield
    async with world.proxy.own.state.database.transaction() as session:
        await session.execute(update(PolicyVersion).where(PolicyVersion.state == "active").values(state="superseded"))


@pytest.mark.usefixtures("nothing_deployed")
async def test_what_the_parts_started_with_is_active_and_what_nobody_approved_is_an_alarm(
    world: World, approver: str
) -> None:
    database, now = world.proxy.own.state.database, world.clock.now()
    file = world.settings.common.policy
    first, said = load_policy(file), file.read_text(encoding="utf-8")

    async def note(policy: Policy, said: str) -> bool:
        async with database.transaction() as session:
            return await service.note_deployed(session, policy, said, now)

    async def state(digest: str) -> tuple[str, str | None]:
        shown = (await world.call("auditor", "GET", f"{PATH}/{digest}")).json()
        return shown["state"], shown["proposer_person"]

    assert sorted(await asyncio.gather(*(note(first, said) for _ in range(3)))) == [False, False, True]
    assert await state(first.digest) == ("active", None)
    assert await events_of(world, first.digest) == ["gateway.v1.policy.activated"], "the seed is no alarm"
    assert slug(await decide(world, approver, first.digest)) == (409, "already-decided")
    version = await proposed(world, "secadmin", pack("trial-next"))
    assert (await world.events("gateway.v1.policy.proposed"))[-1].data["active"] == first.digest
    assert (await decide(world, approver, version["digest"])).status_code == 200
    assert await note(policy_from_content(version["content"]), version["text"])
    assert await state(version["digest"]) == ("active", version["proposer_person"])
    assert (await state(first.digest))[0] == "superseded"
    (activated,) = [
        each for each in await world.events("gateway.v1.policy.activated") if each.data["digest"] == version["digest"]
    ]
    assert (activated.data["approved"], activated.data["before"]) == (True, first.digest)
    assert await world.events("gateway.v1.policy.unapproved") == []
    assert await note(first, said)
    (alarm,) = await world.events("gateway.v1.policy.unapproved")
    assert (alarm.data["digest"], alarm.data["before"]) == (first.digest, version["digest"])
    assert alarm.type in ALARMS


async def test_the_packs_of_the_deployment_are_those_that_a_text_may_extend(world: World) -> None:
    beside: Path = world.settings.common.policy.parent
    assert (beside / "baseline.yaml").is_file()
    other = pack("trial-desk").replace("extends: baseline", "extends: service-desk")
    version = await proposed(world, "secadmin", other)
    assert version["content"]["source"] == "none"
    assert any(flow["id"] == "view-by-outsider" for flow in version["content"]["flows"])
