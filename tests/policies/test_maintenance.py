"""The section `maintenance` of a pack: which operations another person authorises, and that somebody can."""

import shutil
from pathlib import Path

import pytest

from dossier_common.policy import Concerning, MaintenanceRule, Operation, PolicyError, load_policy
from dossier_common.scopes import Scope
from dossier_gateway.directory.authorisations import DONE_WITH

FOLDER = Path(__file__).parents[2] / "deploy" / "policies"
HEAD = "pack: trial\ntitle: {zh: x, en: x}\nsource: x\nextends: baseline\n"


def rule(name: str, **more: str) -> str:
    fields = {"title": "{zh: x, en: x}", "operation": "accounts.create", "valid": "PT4H"} | more
    return f"  - {{id: {name}, {', '.join(f'{key}: {value}' for key, value in fields.items())}}}\n"


def load(tmp_path: Path, *rules: str) -> tuple[MaintenanceRule, ...]:
    shutil.copy(FOLDER / "baseline.yaml", tmp_path)
    (tmp_path / "trial.yaml").write_text(HEAD + "maintenance:\n" + "".join(rules), encoding="utf-8")
    return load_policy(tmp_path / "trial.yaml").maintenance


def test_a_rule_names_an_operation_and_is_authorised_by_who_assigns_roles(tmp_path: Path) -> None:
    (found,) = (each for each in load(tmp_path, rule("new-accounts")) if each.id == "new-accounts")
    assert (found.operation, found.authorised_by) == (Operation.ACCOUNTS_CREATE, Scope.ROLES_ASSIGN)
    assert found.concerning is Concerning.ANYONE


@pytest.mark.parametrize(
    ("operation", "roles", "found"),
    [
        ("enrolments.issue", ["records_clerk"], "for-all"),
        ("enrolments.issue", [], "for-all"),
        ("enrolments.issue", ["records_clerk", "security_auditor"], "officer-enrolment"),
        ("second_factor.reset", ["records_clerk", "gone_since"], None),
        ("second_factor.reset", ["cashier"], "officer-second-factor"),
        ("accounts.create", ["security_auditor"], None),
    ],
)
def test_the_rule_for_officers_counts_before_that_for_everybody(
    tmp_path: Path, operation: str, roles: list[str], found: str | None
) -> None:
    shutil.copy(FOLDER / "baseline.yaml", tmp_path)
    cashier = "roles:\n  - {id: cashier, title: {zh: x, en: x}, second_factor: true}\n"
    general = "maintenance:\n" + rule("for-all", operation="enrolments.issue")
    (tmp_path / "trial.yaml").write_text(HEAD + cashier + general, encoding="utf-8")
    policy = load_policy(tmp_path / "trial.yaml")
    applying = policy.maintenance_for(operation, roles)
    assert (applying.id if applying else None) == found


@pytest.mark.invariant(4)
def test_about_who_decides_somebody_else_does() -> None:
    rule = load_policy(FOLDER / "baseline.yaml").maintenance_for("second_factor.reset", ["security_administrator"])
    assert rule is not None
    assert rule.deciders({"accounts:manage"}) == (Scope.ROLES_ASSIGN,)
    assert rule.deciders({"roles:assign", "policy:propose"}) == (Scope.ROLES_ASSIGN, Scope.AUDIT_READ)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"operation": "make.coffee"}, "maintenance.second.operation"),
        ({"valid": "P0D"}, "an authorisation lasts longer than nothing"),
        ({"authorised_by": '"grants:resolve"', "operation": "units.change"}, "no role holds 'grants:resolve'"),
        ({}, "a rule is for 'accounts.create' already"),
        ({"operation": "units.change", "concerning": "officers"}, "'units.change' is not done to an account"),
        ({"operation": "sessions.end", "otherwise_by": '"roles:assign"'}, "who holds another scope decides"),
        ({"operation": "sessions.end", "otherwise_by": '"grants:resolve"'}, "no role holds 'grants:resolve'"),
    ],
)
def test_a_rule_that_could_not_be_kept_is_refused_with_its_line(
    tmp_path: Path, more: dict[str, str], said: str
) -> None:
    with pytest.raises(PolicyError, match=said) as refused:
        load(tmp_path, rule("first"), rule("second", **more))
    assert {fault.line for fault in refused.value.faults} == {7}


@pytest.mark.invariant(4)
@pytest.mark.parametrize("name", ["officer-enrolment", "officer-second-factor"])
def test_no_pack_takes_the_guard_from_the_accounts_of_officers(tmp_path: Path, name: str) -> None:
    with pytest.raises(PolicyError, match="on an officer's account needs another person's word"):
        load(tmp_path, rule(name))


@pytest.mark.invariant(4)
@pytest.mark.parametrize("pack", sorted(path.stem for path in FOLDER.glob("*.yaml")))
def test_who_does_an_operation_never_holds_the_scope_that_authorises_it(pack: str) -> None:
    policy = load_policy(FOLDER / f"{pack}.yaml")
    assert set(DONE_WITH) == set(Operation)
    deciding = {Scope.ROLES_ASSIGN} | {each for rule in policy.maintenance for each in rule.deciders(set(Scope))}
    for scope in set(DONE_WITH.values()):
        assert all(policy.conflicts_in({scope, each}) for each in deciding)
