"""Static conflicts (A4.34, invariant 4): every pair of scopes that is apart, at each place where both could meet.

The table is made of the conflict sets of all packs and of what no pack may allow. The places: assignment of a role,
also by a second account of the person; registration and change of an application; issue of a token; a pack.
"""

import asyncio
import secrets
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import combinations, product
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import pytest
import yaml
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from tests.gateway.world import PASSWORD, World
from tests.support import authorization

from dossier_common.ids import new_id
from dossier_common.policy import Policy, PolicyError, load_policy
from dossier_common.policy.checks import APART
from dossier_common.scopes import ONLY_PERSONS, expand
from dossier_gateway.directory import accounts, holdings, rules
from dossier_gateway.directory.repository import AssignmentRow
from dossier_gateway.errors import DutyConflict
from dossier_gateway.oauth.clients import digest

pytestmark = [pytest.mark.invariant(4), pytest.mark.clause("A4.34")]

FOLDER: Final = Path(__file__).parents[2] / "deploy" / "policies"
PACKS: Final = {path.stem: load_policy(path) for path in sorted(FOLDER.glob("*.yaml"))}
Pair = tuple[str, str]


def _table() -> dict[Pair, dict[str, list[str]]]:
    """Pairs of scopes that are apart, each with the conflict sets that say so in each pack."""
    apart: set[Pair] = set()
    sides = [side for policy in PACKS.values() for each in policy.conflicts for side in combinations(each.between, 2)]
    for left, right in [*((expand(one), expand(other)) for one, other in sides), *APART]:
        apart |= {(str(min(pair)), str(max(pair))) for pair in product(left, right) if pair[0] != pair[1]}
    return {
        pair: {name: [each.id for each in policy.conflicts_in(pair)] for name, policy in PACKS.items()}
        for pair in sorted(apart)
    }


TABLE: Final = _table()


def names_both(told: Mapping[str, Any], pair: Pair, sets: list[str]) -> bool:
    """Whether a problem document names the sets, with both scopes on two sides of each."""
    conflicts = told["conflicts"]
    return [each["id"] for each in conflicts] == sets and all(
        set(pair) <= {scope for side in each["sides"] for scope in side} and len(each["sides"]) >= 2
        for each in conflicts
    )


def with_a_role_for_each_scope(policy: Policy) -> Policy:
    """The pack with one role for each scope of the table, called like it."""
    scopes = sorted({scope for pair in TABLE for scope in pair})
    roles = [
        {"id": scope.replace(":", "-"), "title": {"zh": scope, "en": scope}, "scopes": [scope]} for scope in scopes
    ]
    return Policy.model_validate(policy.content() | {"roles": roles})


def test_the_table_holds_what_every_pack_must_keep_apart() -> None:
    assert all(sets for found in TABLE.values() for sets in found.values())
    assert ("accounts:manage", "roles:assign") in TABLE
    assert ("audit:read", "requests:decide") in TABLE
    assert len(TABLE) > 100


# ---- assignment


@asynccontextmanager
async def undone(session: AsyncSession) -> AsyncIterator[None]:
    """What happens within leaves nothing behind."""
    step = await session.begin_nested()
    try:
        yield
    finally:
        await step.rollback()


async def accounts_of_one_person(world: World, session: AsyncSession) -> tuple[UUID, UUID]:
    """Two accounts of a new person."""
    state, person = world.proxy.own.state, new_id()
    made = [accounts.new(f"pair-{uuid4().hex[:12]}", "x", world.root, person) for _ in range(2)]
    for row in made:
        await accounts.create(
            session,
            state.policy,
            row,
            further=False,
            by=None,
            clock=state.clock,
            term=timedelta(days=1),
        )
    return made[0].id, made[1].id


@pytest.mark.parametrize("pack", PACKS)
async def test_no_pair_is_assigned_to_one_person_by_whichever_of_his_accounts(world: World, pack: str) -> None:
    state = world.proxy.own.state
    policy = with_a_role_for_each_scope(PACKS[pack])

    async def assign(session: AsyncSession, account: UUID, scope: str) -> None:
        row = AssignmentRow(new_id(), account, new_id(), scope.replace(":", "-"), world.root)
        await holdings.assign_role(session, policy, row, by=None, clock=state.clock)

    async with state.database.session() as session, session.begin() as transaction:
        one, two = await accounts_of_one_person(world, session)
        for pair in TABLE:
            for account, (first, second) in ((one, pair), (two, pair[::-1])):
                async with undone(session):
                    await assign(session, one, first)
                    with pytest.raises(DutyConflict) as refused:
                        await assign(session, account, second)
                told = refused.value.members
                assert names_both(told, pair, TABLE[pair][pack]), (pair, told)
                assert told["held"] == [first.replace(":", "-")]
                assert told["wanted"] == [second.replace(":", "-")]
        await transaction.rollback()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("system_administrator", "records_clerk"),
        ("system_administrator", "security_administrator"),
        ("security_auditor", "records_clerk"),
        ("security_auditor", "system_administrator"),
        ("security_administrator", "collector"),
        ("compliance_officer", "system_administrator"),
    ],
)
async def test_roles_of_the_pack_that_conflict_are_refused_over_http(world: World, first: str, second: str) -> None:
    one = await world.person(first)
    two = await world.person(person=one["person"])
    for account in (one, two):
        answer = await world.assign(account["id"], second)
        assert answer.status_code == 409
        problem = answer.json()
        assert problem["type"] == "urn:dossier:problem:duty-conflict"
        assert (problem["held"], problem["wanted"]) == ([first], [second])
        assert all(each["title"]["zh"] and len(each["sides"]) >= 2 for each in problem["conflicts"])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("security_auditor", "records_clerk"),
        ("system_administrator", "inspector"),
        ("security_administrator", "collector"),
        ("compliance_officer", "system_administrator"),
    ],
)
async def test_two_assignments_at_once_do_not_slip_past_each_other(world: World, first: str, second: str) -> None:
    one = await world.person()
    two = await world.person(person=one["person"])
    answers = await asyncio.gather(world.assign(one["id"], first), world.assign(two["id"], second))
    assert sorted(answer.status_code for answer in answers) == [201, 409]


async def test_a_role_that_ended_conflicts_with_nothing_and_one_of_a_disabled_account_does(world: World) -> None:
    one = await world.person()
    ends = (world.clock.now() + timedelta(hours=1)).isoformat()
    body = {"role": "records_clerk", "unit": str(world.root), "valid_until": ends}
    path = f"/v1/accounts/{one['id']}/roles"
    assert (await world.call("secadmin", "POST", path, json=body)).status_code == 201
    disabling = await world.call("sysadmin", "POST", f"/v1/accounts/{one['id']}/disabling", json={"reason": "absence"})
    assert disabling.status_code == 200
    two = await world.person(person=one["person"])
    assert (await world.assign(two["id"], "security_auditor")).status_code == 409
    world.clock.ahead += timedelta(hours=1)
    world._tokens.clear()
    assert (await world.assign(two["id"], "security_auditor")).status_code == 201
    world._tokens.clear()


# ---- applications


async def register(world: World, scopes: list[str]) -> httpx.Response:
    body = {
        "id": f"duty-{uuid4().hex[:12]}",
        "title": "x",
        "grant_types": ["client_credentials"],
        "scopes": scopes,
    }
    return await world.call("sysadmin", "POST", "/v1/clients", json=body)


async def test_no_application_is_registered_for_a_pair(world: World) -> None:
    pack = world.proxy.own.state.policy.pack
    for pair, sets in TABLE.items():
        answer = await register(world, list(pair))
        assert answer.status_code == 409, pair
        problem = answer.json()
        assert problem["type"] == "urn:dossier:problem:duty-conflict"
        assert problem["wanted"] == sorted(pair)
        assert names_both(problem, pair, sets[pack]), (pair, problem)


async def test_no_application_is_changed_to_hold_a_pair(world: World) -> None:
    pack = world.proxy.own.state.policy.pack
    made = (await register(world, ["incidents:report"])).json()
    for pair, sets in TABLE.items():
        answer = await world.call(
            "sysadmin",
            "PATCH",
            f"/v1/clients/{made['id']}",
            json={"scopes": list(pair)},
            headers={"If-Match": '"1"'},
        )
        assert answer.status_code == 409, pair
        assert answer.json()["held"] == ["incidents:report"]
        assert names_both(answer.json(), pair, sets[pack]), (pair, answer.json())
    seen = await world.call("sysadmin", "GET", f"/v1/clients/{made['id']}")
    assert (seen.json()["scopes"], seen.json()["version"]) == (["incidents:report"], 1)


# ---- tokens, where a row got past all that


async def test_no_token_of_an_application_carries_a_pair(world: World) -> None:
    name, secret = f"duty-{uuid4().hex[:12]}", secrets.token_urlsafe(32)
    database, pack = world.proxy.own.state.database, world.proxy.own.state.policy.pack
    async with database.transaction() as session:
        await session.execute(
            text(
                "INSERT INTO clients (id, title, secret, grant_types, scopes, redirect_uris, first_party, state,"
                " registered_at) VALUES (:id, 'x', :secret, '{client_credentials}', :scopes, '{}', false, 'active',"
                " :now)"
            ),
            {
                "id": name,
                "secret": digest(secret),
                "scopes": sorted({scope for pair in TABLE for scope in pair}),
                "now": world.clock.now(),
            },
        )
    before, issued = len(await world.events("gateway.v1.token.issued")), 0
    for pair, sets in TABLE.items():
        form = {"grant_type": "client_credentials", "scope": " ".join(pair)}
        answer = await world.http.post("/oauth/token", data=form, auth=(name, secret))
        if not ONLY_PERSONS.isdisjoint(pair):  # one of the two no application ever gets
            (left,) = set(pair) - ONLY_PERSONS
            assert (answer.status_code, answer.json()["scope"]) == (200, left), pair
            issued += 1
            continue
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope"), pair
        said = answer.json()["error_description"]
        assert said.startswith("duty-conflict: ")
        assert all(part in said for part in (*pair, *sets[pack])), (pair, said)
    assert 0 < issued < len(TABLE)
    assert len(await world.events("gateway.v1.token.issued")) == before + issued
    alone = {"grant_type": "client_credentials", "scope": "records:read"}
    assert (await world.http.post("/oauth/token", data=alone, auth=(name, secret))).status_code == 200


@pytest.mark.parametrize("pack", PACKS)
def test_what_a_person_holds_elsewhere_counts_when_his_token_is_issued(pack: str) -> None:
    policy = PACKS[pack]
    for pair, sets in TABLE.items():
        for mine, elsewhere in (pair, pair[::-1]):
            said = rules.conflict_words(policy, [mine], [elsewhere]) or ""
            assert all(part in said for part in (*pair, *sets[pack])), pair
            assert rules.conflict_words(policy, [mine], [mine]) is None
            assert rules.conflict_words(policy, [], pair) is None
            assert said.isascii()  # as RFC 6749, 5.2 wants a description
            assert not {'"', "\\"} & set(said)


async def test_a_person_with_two_duties_gets_a_token_by_none_of_his_accounts(world: World) -> None:
    one = await world.person("records_clerk")
    two = await world.person(person=one["person"])
    async with world.proxy.own.state.database.transaction() as session:
        await session.execute(
            text(
                "INSERT INTO assignments (id, account, person, role, unit, assigned_at)"
                " VALUES (:id, :account, :person, 'security_auditor', :unit, :now)"
            ),
            {
                "id": new_id(),
                "account": UUID(two["id"]),
                "person": UUID(two["person"]),
                "unit": world.root,
                "now": world.clock.now(),
            },
        )
    for account in (one, two):
        said = await refused_token(world, account["username"])
        assert said["error"] == "invalid_scope"
        assert all(part in said["error_description"] for part in ("audit-apart", "audit:read", "records:"))


async def refused_token(world: World, username: str) -> dict[str, Any]:
    """What the token endpoint says to a person who has signed in."""
    browser, flow = await world.browser(), authorization.Flow()
    location = await authorization.sign_in(browser, username, PASSWORD, flow)
    code = flow.code(location, world.settings.common.issuer)
    answer = await world.http.post("/oauth/token", data=flow.exchange(code))
    assert answer.status_code == 400
    said: dict[str, Any] = answer.json()
    return said


# ---- packs


@pytest.mark.parametrize("pack", PACKS)
def test_a_pack_with_a_role_that_bundles_a_pair_is_refused_by_file_line_and_key(pack: str, tmp_path: Path) -> None:
    for path in FOLDER.glob("*.yaml"):
        shutil.copy(path, tmp_path)
    roles = [
        {"id": f"both-{number}", "title": {"zh": "x", "en": "x"}, "scopes": list(pair)}
        for number, pair in enumerate(TABLE)
    ]
    trial = {"pack": "trial", "title": {"zh": "x", "en": "x"}, "source": "x", "extends": pack}
    lines = [*yaml.safe_dump(trial, allow_unicode=True, sort_keys=False).splitlines(), "roles:"]
    first = len(lines) + 1
    lines += [f"  - {yaml.safe_dump(role, default_flow_style=True, width=10_000).strip()}" for role in roles]
    (tmp_path / "trial.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(PolicyError) as refused:
        load_policy(tmp_path / "trial.yaml")
    said = {str(fault) for fault in refused.value.faults}
    for number, sets in enumerate(TABLE.values()):
        for each in sets[pack]:
            assert (
                f"trial.yaml:{first + number}: roles.both-{number}.scopes:"
                f" the role 'both-{number}' breaks the conflict {each!r}" in said
            )


@pytest.mark.parametrize("pack", PACKS)
def test_a_pack_that_takes_a_conflict_set_away_is_refused(pack: str, tmp_path: Path) -> None:
    for path in FOLDER.glob("*.yaml"):
        shutil.copy(path, tmp_path)
    for conflict in PACKS[pack].conflicts:
        trial = {"pack": "trial", "title": {"zh": "x", "en": "x"}, "source": "x", "extends": pack}
        removed = trial | {"conflicts": [{"remove": [conflict.id]}]}
        (tmp_path / "trial.yaml").write_text(yaml.safe_dump(removed, allow_unicode=True), encoding="utf-8")
        with pytest.raises(PolicyError, match="lets one person hold"):
            load_policy(tmp_path / "trial.yaml")


# ---- the matrix


async def test_the_matrix_of_roles_says_which_two_nobody_holds(world: World) -> None:
    clerk = await world.person("records_clerk")
    told = (await world.call(clerk["username"], "GET", "/v1/conflicts")).json()
    policy = world.proxy.own.state.policy
    apart = {frozenset(each["roles"]): each["conflicts"] for each in told["roles"]}
    for one, other in combinations(policy.roles, 2):
        found = [each.id for each in policy.conflicts_in(one.scopes + other.scopes)]
        assert apart.get(frozenset({one.id, other.id}), []) == found
    assert "accounts-apart" in apart[frozenset({"system_administrator", "records_clerk"})]
