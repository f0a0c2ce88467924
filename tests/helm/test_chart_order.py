"""In which order the chart does things, which policy it gives, and that it makes no secret."""

import re
import shutil
from pathlib import Path

import pytest
import yaml
from tests.helm.charts import CHART, CLAIMS, SETS, Object, environment, files, helm, render, rendered, short

from dossier_common.policy import load_policy
from dossier_local.state import CHECKOUT


def hooks(made: list[Object]) -> list[tuple[int, str, str]]:
    """(weight, kind, name) of what runs before an installation, in the order in which Helm does it."""
    found = []
    for each in made:
        notes = each["metadata"].get("annotations", {})
        if "pre-install" in notes.get("helm.sh/hook", ""):
            assert notes["helm.sh/hook"] == "pre-install,pre-upgrade"
            assert notes["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
            found.append((int(notes["helm.sh/hook-weight"]), each["kind"], short(each)))
    return sorted(found)


def test_roles_come_before_migrations_and_streams_last() -> None:
    ordered = hooks(list(rendered("production").objects))
    jobs = [name for _, kind, name in ordered if kind == "Job"]
    assert jobs == ["roles", "migrate", "streams"]
    weights = {name: weight for weight, kind, name in ordered if kind == "Job"}
    assert len(set(weights.values())) == 3
    before = {(kind, name) for weight, kind, name in ordered if weight < min(weights.values())}
    assert before == {("ServiceAccount", "jobs"), *(("NetworkPolicy", name) for name in jobs)}


def test_without_a_superuser_there_is_no_job_of_roles() -> None:
    assert set(rendered("minimal").of("Job")) == {"migrate", "streams"}


def test_a_job_needs_nothing_that_comes_after_it() -> None:
    made = rendered("production")
    later = {
        each["metadata"]["name"] for each in made.objects if each["kind"] in {"ConfigMap", "PersistentVolumeClaim"}
    }
    for name in ("roles", "migrate", "streams"):
        assert not {source for _, source, _ in files(made.pod(name)).values()} & later


@pytest.mark.parametrize("pack", sorted((CHECKOUT / "deploy" / "policies").glob("*.yaml")), ids=lambda path: path.stem)
def test_each_pack_of_the_image_can_be_chosen(pack: Path) -> None:
    made = render(SETS["minimal"], "--set", f"policy.pack={pack.stem}")
    assert environment(made.pod("records-web"))["DOSSIER_POLICY"] == f"/opt/dossier/deploy/policies/{pack.name}"


def test_a_pack_of_one_s_own_arrives_as_it_was_written_and_restarts_the_parts(tmp_path: Path) -> None:
    packs = CHECKOUT / "deploy" / "policies"
    ours = tmp_path / "ours.yaml"
    ours.write_text("pack: ours\nextends: baseline\ntitle: {zh: 本公司, en: Our own}\n")
    given = {"ours": ours, "baseline": packs / "baseline.yaml"}
    words = [word for name, path in given.items() for word in ("--set-file", f"policy.packs.{name}={path}")]
    made = render(SETS["minimal"], "--set", "policy.pack=ours", *words)
    path = Path(environment(made.pod("audit-worker"))["DOSSIER_POLICY"])
    assert path == Path("/etc/dossier/ours.yaml")
    arrived = tmp_path / "arrived"
    arrived.mkdir()
    for name in given:
        (arrived / f"{name}.yaml").write_text(made.of("ConfigMap")[""]["data"][f"{name}.yaml"])
    assert load_policy(arrived / path.name).title.en == "Our own"
    assert load_policy(arrived / "baseline.yaml").digest == load_policy(packs / "baseline.yaml").digest
    before, after = (each.pod("audit-web")["metadata"]["annotations"] for each in (rendered("minimal"), made))
    assert before["checksum/configuration"] != after["checksum/configuration"]


@pytest.mark.invariant(7)
@pytest.mark.parametrize("values", SETS)
def test_the_chart_makes_no_secret_and_holds_none(values: str) -> None:
    made = rendered(values)
    assert made.of("Secret") == {}
    assert "BEGIN PRIVATE KEY" not in made.text
    for component, pod in made.pods():
        for name, value in environment(pod).items():
            secret = re.search(r"PASSWORD|PASSPHRASE|SECRET|_KEY|TOKEN", name)
            assert not secret or value.startswith("/"), (component, name)
            assert not re.search(r"//[^/@]*:[^/@]*@", value), (component, name, "a password in an address")


def test_a_variable_that_the_chart_makes_cannot_be_given_beside_it() -> None:
    said = helm(
        *("template", "prod", CHART, "--values", SETS["minimal"], "--kube-version", "1.33"),
        *("--set-string", "records.env.DOSSIER_RECORDS_LISTEN_PORT=9000"),
        check=False,
    )
    assert said.returncode != 0
    assert "DOSSIER_RECORDS_LISTEN_PORT is set by the chart from other values" in said.stderr


@pytest.mark.parametrize("values", SETS)
def test_the_notes_name_what_there_is(values: str, tmp_path: Path) -> None:
    chart = tmp_path / "dossier"  # `helm template` shows no notes: in this copy they are an object
    shutil.copytree(CHART, chart)
    notes = (chart / "templates" / "NOTES.txt").rename(chart / "notes.txt")
    shown = 'kind: Notes\napiVersion: v1\ntext: {{ tpl (.Files.Get "notes.txt") . | toJson }}\n'
    (chart / "templates" / "notes.yaml").write_text(shown)
    assert notes.exists()
    made = render(SETS[values], chart=chart)
    (said,) = (each["text"] for each in made.objects if each["kind"] == "Notes")
    named = set(re.findall(r"(?:deployment/|Service |volumes |and )((?:prod|our)-[a-z-]+)", said))
    claims = {CLAIMS[values == "own-secrets"].format(folder) for folder in ("keyring", "supplements")}
    assert named == claims | {
        f"prod-dossier-{name}" for name in ("gateway-web", *([] if made.of("Ingress") else ["gateway"]))
    }
    there = {each["metadata"]["name"] for each in made.objects if "metadata" in each}
    assert named <= there | (claims if values == "own-secrets" else set())
    assert "dossier ceremony --system-administrator NAME" in said
    assert "helm test --namespace compliance prod" in said
    assert ("tls.mutual is off" in said) == ("https" not in made.of("ConfigMap")[""]["data"]["peers.json"])


def test_the_version_of_the_chart_is_that_of_the_product() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    (version,) = re.findall(r'^version = "(.*)"$', (CHECKOUT / "pyproject.toml").read_text(), re.MULTILINE)
    assert chart["version"] == chart["appVersion"] == version
