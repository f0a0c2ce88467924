"""The chart, rendered by Helm as an operator would."""

import functools
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from dossier_local.state import CHECKOUT

CHART: Final = CHECKOUT / "deploy" / "helm" / "dossier"
SETS: Final = {path.name.removesuffix("-values.yaml"): path for path in sorted((CHART / "ci").glob("*-values.yaml"))}
"""Values of operators who differ: name → file."""
VERSIONS: Final = ("1.30", "1.33", "1.36")
"""Of Kubernetes."""
RELEASE: Final = "prod"
NAMESPACE: Final = "compliance"
CLAIMS: Final = ("prod-dossier-{}", "our-{}")
"""Names of volume claims: the chart's, and those of the set `own-secrets`."""

Object = dict[str, Any]


def helm(*words: str | Path, check: bool = True) -> "subprocess.CompletedProcess[str]":
    """What Helm says; it knows no cluster, and nothing of the one who runs the tests. Skips where there is no Helm."""
    program = shutil.which("helm")
    if program is None:
        pytest.skip("Helm is not installed")
    with tempfile.TemporaryDirectory() as home:
        own = {"HOME": home, "PATH": os.environ["PATH"], "KUBECONFIG": f"{home}/none"}
        command = (program, *map(str, words))
        done = subprocess.run(command, env=own, capture_output=True, text=True, timeout=120, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done


@dataclass(frozen=True)
class Rendered:
    """Everything that one set of values makes."""

    objects: tuple[Object, ...]
    text: str

    def of(self, kind: str) -> dict[str, Object]:
        """The objects of a kind, by name without the release's."""
        return {short(each): each for each in self.objects if each["kind"] == kind}

    def pods(self) -> Iterator[tuple[str, Object]]:
        """Component and pod (`metadata` and `spec`) of everything that makes pods."""
        for each in self.objects:
            spec = each.get("spec", {})
            pod = (
                each
                if each["kind"] == "Pod"
                else spec.get("jobTemplate", each)["spec"].get("template")
                if spec
                else None
            )
            if pod is not None:
                yield pod["metadata"]["labels"]["app.kubernetes.io/component"], pod

    def pod(self, component: str) -> Object:
        return dict(self.pods())[component]


def short(each: Object) -> str:
    """The object's name without the release's; empty for the one that has just the release's."""
    name: str = each["metadata"]["name"]
    return re.sub(f"^{RELEASE}-dossier-?", "", name)


def container(pod: Object) -> Object:
    """The pod's only container."""
    (only,) = pod["spec"]["containers"]
    assert "initContainers" not in pod["spec"]
    found: Object = only
    return found


def environment(pod: Object) -> dict[str, str]:
    """Variables of the pod's container."""
    return {each["name"]: each["value"] for each in container(pod).get("env", ())}


def files(pod: Object) -> dict[str, tuple[str, str, str]]:
    """Path → (kind, name, key) of each file that a Secret or ConfigMap brings into the pod's container."""
    mounts = {each["name"]: each["mountPath"] for each in container(pod)["volumeMounts"]}
    found = {}
    for volume in pod["spec"]["volumes"]:
        sources = volume["projected"]["sources"] if "projected" in volume else [volume]
        for source in sources:
            for kind, name in (("secret", "secretName"), ("configMap", "name")):
                if kind in source:
                    one = source[kind]
                    for item in one.get("items", ()):
                        found[f"{mounts[volume['name']]}/{item['path']}"] = (
                            kind,
                            one.get(name, one.get("name")),
                            item["key"],
                        )
    return found


@functools.cache
def rendered(values: str, version: str = VERSIONS[1]) -> Rendered:
    """The chart with one of SETS, for this version of Kubernetes."""
    return render(SETS[values], version=version)


def render(values: Path, *more: str, version: str = VERSIONS[1], chart: Path = CHART) -> Rendered:
    """The chart with a file of values, and further words of `helm template`."""
    said = helm(
        "template", RELEASE, chart, "--namespace", NAMESPACE, "--values", values, "--kube-version", version, *more
    )
    objects = tuple(each for each in yaml.safe_load_all(said.stdout) if each)
    return Rendered(objects, said.stdout)


def merged(values: Mapping[str, Any], folder: Path) -> Path:
    """A file with these values."""
    path = folder / "values.yaml"
    path.write_text(json.dumps(values))
    return path
