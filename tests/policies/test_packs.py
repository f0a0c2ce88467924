"""What every pack that is shipped must keep."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from dossier_common.policy import Policy, load_policy, nodes
from dossier_common.scopes import SERVICE_ONLY, Scope

ROOT = Path(__file__).parents[2]
PACKS = sorted((ROOT / "deploy" / "policies").glob("*.yaml"))
REQUIRED_ROLES = {"system_administrator", "security_administrator", "security_auditor", "general_manager"}


@pytest.fixture(params=PACKS, ids=[path.stem for path in PACKS])
def path(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


@pytest.fixture
def policy(path: Path) -> Policy:
    return load_policy(path)


def published() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((ROOT / "docs" / "policy.schema.json").read_text(encoding="utf-8"))
    return schema


def test_the_published_schema_is_that_of_the_model() -> None:
    assert published() == json.loads(json.dumps(Policy.json_schema()))


def test_each_pack_keeps_the_published_schema(policy: Policy) -> None:
    jsonschema_rs.validator_for(published()).validate(policy.content())


def test_a_pack_that_stands_alone_keeps_the_schema_as_it_is_written(path: Path) -> None:
    written = nodes.read(path).plain()
    validator = jsonschema_rs.validator_for(published())
    assert validator.is_valid(written) == ("extends" not in written)
    assert not validator.is_valid(written | {"surprise": 1})


@pytest.mark.invariant(4)
def test_every_scope_is_held_by_someone_or_for_services(policy: Policy) -> None:
    assert policy.scopes_of(role.id for role in policy.roles) == frozenset(Scope) - SERVICE_ONLY


@pytest.mark.invariant(4)
def test_no_role_holds_two_duties(policy: Policy) -> None:
    assert {
        role.id: policy.conflicts_in(role.scopes) for role in policy.roles if policy.conflicts_in(role.scopes)
    } == {}


@pytest.mark.invariant(4)
def test_no_two_officers_roles_can_be_held_together(policy: Policy) -> None:
    officers = [role.id for role in policy.roles if role.officer]
    assert set(officers) == {"system_administrator", "security_administrator", "security_auditor"}
    for one, other in product(officers, officers):
        assert (one == other) == (not policy.conflicts_in(policy.scopes_of([one, other]))), (one, other)


@pytest.mark.invariant(4)
def test_no_officer_reads_a_record(policy: Policy) -> None:
    for role in policy.roles:
        if role.officer:
            assert not any(scope.startswith("records:") for scope in role.scopes)


def test_everyone_but_nobody_special_can_report_a_leak(policy: Policy) -> None:
    assert all(Scope.INCIDENTS_REPORT in role.scopes for role in policy.roles)


def test_every_loan_and_every_action_on_content_ends(policy: Policy) -> None:
    assert [flow.id for flow in policy.flows if flow.grant.term_max is None] == []


def test_every_case_of_use_has_one_flow(policy: Policy) -> None:
    for action, level in product(
        ["view", "copy", "print", "export", "share", "borrow", "reclassify", "destroy"], policy.levels
    ):
        assert policy.flow_for(action, level.id) is not None, (action, level.id)


def test_the_witness_and_the_executor_are_no_approvers_by_office(policy: Policy) -> None:
    for rule in policy.retention:
        offices = {approver.role for stage in policy.flow(rule.disposal.flow).stages for approver in stage.approvers}
        assert offices.isdisjoint({rule.disposal.executor, rule.disposal.witness})


def test_titles_are_in_both_languages(policy: Policy) -> None:
    items = (policy.levels, policy.fields, policy.purposes, policy.roles, policy.flows, policy.conflicts)
    titles = [title for section in items for title in (getattr(item, "title", None) for item in section)]
    stages = [stage.title for flow in policy.flows for stage in flow.stages]
    for title in (*titles, *stages):
        assert title is not None
        assert any("\u4e00" <= letter <= "\u9fff" for letter in title.zh), title
        assert title.en.isascii(), title
