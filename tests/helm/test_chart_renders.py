"""What the chart makes is what Kubernetes takes: by its schemas, and by its strictest profile for pods."""

import functools
import json
from typing import Any

import kubernetes_validate
import pytest
from kubernetes_validate import utils
from tests.helm import evaluator
from tests.helm.charts import CHART, SETS, VERSIONS, helm, rendered

CHECKED: set[tuple[str, str]] = set()
"""Version and object, of those that were found right; sets of values have most objects in common."""


@pytest.fixture(autouse=True, scope="module")
def _schemas_read_once() -> Any:
    """The validator reads its files anew for each object; here once."""
    read = utils.schema_contents
    utils.schema_contents = functools.cache(read)
    yield
    utils.schema_contents = read


def validate(each: dict[str, Any], version: str) -> None:
    """Raises ValidationError, or SchemaNotFoundError for an unknown kind."""
    text = json.dumps(each, sort_keys=True)
    if (version, text) not in CHECKED:
        kubernetes_validate.validate(each, version, strict=True)
        CHECKED.add((version, text))


def test_there_are_values_of_at_least_six_operators() -> None:
    assert len(SETS) >= 6


@pytest.mark.parametrize("values", SETS)
def test_lint_finds_nothing(values: str) -> None:
    said = helm("lint", "--strict", "--values", SETS[values], CHART, check=False)
    assert said.returncode == 0, said.stdout
    assert "[WARNING]" not in said.stdout


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("values", SETS)
def test_each_object_is_valid_for_this_kubernetes(values: str, version: str) -> None:
    for each in rendered(values, version).objects:
        validate(each, version)


def test_the_validator_refuses_what_is_wrong_and_what_it_does_not_know() -> None:
    policy = next(iter(rendered("minimal").of("NetworkPolicy").values()))
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(policy | {"spec": policy["spec"] | {"podSelectors": {}}}, VERSIONS[0])
    with pytest.raises(kubernetes_validate.SchemaNotFoundError):
        validate(policy | {"apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor"}, VERSIONS[0])


@pytest.mark.parametrize("values", SETS)
def test_names_are_those_of_the_release_and_unique(values: str) -> None:
    objects = rendered(values).objects
    names = [(each["kind"], each["metadata"]["name"]) for each in objects]
    assert len(set(names)) == len(names)
    assert all(name.startswith("prod-dossier") for _, name in names)
    assert all(each["metadata"]["labels"]["app.kubernetes.io/instance"] == "prod" for each in objects)


def test_every_pod_is_allowed_by_the_restricted_profile() -> None:
    pods = [(f"{values}: {component}", pod) for values in SETS for component, pod in rendered(values).pods()]
    assert len(pods) >= 14 * len(SETS)
    why = evaluator.forbidden([pod for _, pod in pods])
    assert {name: said for (name, _), said in zip(pods, why, strict=True) if said} == {}


def test_the_evaluator_refuses_a_pod_that_is_less_than_restricted() -> None:
    pod = rendered("minimal").pod("records-web")
    loosened = json.loads(json.dumps(pod))
    del loosened["spec"]["securityContext"]["seccompProfile"]
    loosened["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    (said,) = evaluator.forbidden([loosened])
    assert "seccompProfile" in said
    assert "allowPrivilegeEscalation" in said


@pytest.mark.parametrize("values", SETS)
def test_every_pod_has_a_read_only_root_and_no_token_of_the_cluster(values: str) -> None:
    accounts = rendered(values).of("ServiceAccount")
    for component, pod in rendered(values).pods():
        spec = pod["spec"]
        (container,) = spec["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True, component
        assert spec["securityContext"]["runAsUser"] == 10001, component
        assert spec["automountServiceAccountToken"] is False, component
        assert spec["enableServiceLinks"] is False, component
        account = accounts[spec["serviceAccountName"].removeprefix("prod-dossier-")]
        assert account["automountServiceAccountToken"] is False
        assert container["resources"]["limits"]["memory"], component
        assert container["resources"]["requests"]["cpu"], component
