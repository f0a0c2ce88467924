"""A policy of one's own, given as the guide says."""

import shlex
from pathlib import Path

import pytest
from tests.docs.inline import inline
from tests.helm.charts import SETS, render

from dossier_local.state import CHECKOUT

PACK = CHECKOUT / "deploy" / "policies" / "baseline.yaml"


def test_a_policy_of_ones_own_is_what_all_parts_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = PACK.read_text().replace("pack: baseline", "pack: ours")
    (tmp_path / "ours.yaml").write_text(ours)
    monkeypatch.chdir(tmp_path)
    rendered = render(SETS["minimal"], *shlex.split(inline("install-helm", "--set policy.pack")))
    maps = rendered.of("ConfigMap").values()
    assert [each["data"]["ours.yaml"] for each in maps if "ours.yaml" in each.get("data", {})] == [ours]
    named = [
        variable["value"]
        for _, pod in rendered.pods()
        for container in pod["spec"]["containers"]
        for variable in container.get("env", ())
        if variable["name"] == "DOSSIER_POLICY"
    ]
    assert len(named) >= 10
    assert {Path(each).name for each in named} == {"ours.yaml"}
