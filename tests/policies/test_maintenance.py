"""The section `maintenance` of a pack: which operations another person authorises, and that somebody can."""

import shutil
from pathlib import Path

import pytest

from dossier_common.policy import MaintenanceRule, Operation, PolicyError, load_policy
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
    (found,) = load(tmp_path, rule("new-accounts"))
    assert (found.operation, found.authorised_by) == (Operation.ACCOUNTS_CREATE, Scope.ROLES_ASSIGN)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"operation": "make.coffee"}, "maintenance.second.operation"),
        ({"valid": "P0D"}, "an authorisation lasts longer than nothing"),
        ({"authorised_by": '"grants:resolve"', "operation": "units.change"}, "no role holds 'grants:resolve'"),
        ({}, "a rule is for 'accounts.create' already"),
    ],
)
def test_a_rule_that_could_not_be_kept_is_refused_with_its_line(
    tmp_path: Path, more: dict[str, str], said: str
) -> None:
    with pytest.raises(PolicyError, match=said) as refused:
        load(tmp_path, rule("first"), rule("second", **more))
    assert {fault.line for fault in refused.value.faults} == {7}


@pytest.mark.invariant(4)
@pytest.mark.parametrize("pack", sorted(path.stem for path in FOLDER.glob("*.yaml")))
def test_who_does_an_operation_never_holds_the_scope_that_authorises_it(pack: str) -> None:
    policy = load_policy(FOLDER / f"{pack}.yaml")
    assert set(DONE_WITH) == set(Operation)
    for scope in set(DONE_WITH.values()):
        assert policy.conflicts_in({scope, Scope.ROLES_ASSIGN})
