"""Values: wrong ones are refused with a sentence, and every one is explained."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.docs.blocks import blocks
from tests.helm.charts import CHART, SETS, VERSIONS, helm, merged, render

from dossier_local import chart_page
from dossier_local.state import CHECKOUT

GUIDE = CHECKOUT / "docs" / "operators" / "install-helm.md"
GOOD = yaml.safe_load(SETS["minimal"].read_text())
REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "no issuer": ({"issuer": ""}, "issuer", "an https address without a path and without a slash at the end"),
    "plain http": ({"issuer": "http://dossier.example"}, "issuer", "an https address"),
    "a slash at the end": ({"issuer": "https://dossier.example/"}, "issuer", "without a slash at the end"),
    "a password in an address": (
        {"postgresql": {"url": "postgresql://records:secret@db:5432"}},
        "postgresql",
        "no user, no password, no database",
    ),
    "an sslmode that there is not": (
        {"postgresql": {"url": "postgresql://db?sslmode=yes"}},
        "postgresql",
        "then sslmode if you like",
    ),
    "verify-ca of anybody": (
        {"postgresql": {"url": "postgresql://db?sslmode=verify-ca"}},
        "ca",
        "sslmode=verify-ca needs a CA of yours",
    ),
    "NATS by http": ({"nats": {"url": "http://nats:4222"}}, "nats", "tls://host:port or nats://host:port"),
    "two copies of a stream": ({"nats": {"replicas": 2}}, "replicas", "1, 3, 5"),
    "two of records": ({"records": {"replicas": 2}}, "replicas", "keys are in files on one volume"),
    "records by load": ({"records": {"autoscaling": {"enabled": True}}}, "records", "autoscaling"),
    "no gateway": ({"gateway": {"replicas": 0}}, "replicas", "1"),
    "a number as text": ({"gateway": {"replicas": "2"}}, "replicas", "integer"),
    "an Ingress without a certificate": (
        {"ingress": {"enabled": True}},
        "tlsSecret",
        "an Ingress needs the Secret of its public certificate",
    ),
    "a value that there is not": ({"gatewya": {"replicas": 2}}, "gatewya", "not allowed"),
    "a value of another part": ({"approvals": {"zones": {}}}, "zones", "not allowed"),
    "a secret as a variable": (
        {"extraEnv": {"DOSSIER_RECORDS_KEYRING_PASSPHRASE": "x"}},
        "KEYRING_PASSPHRASE",
        "secrets are files, never variables",
    ),
    "a variable in small letters": ({"audit": {"env": {"tz": "UTC"}}}, "tz", "capitals, digits and underscores"),
    "a proxy that is no network": (
        {"gateway": {"trustedProxies": ["ingress"]}},
        "trustedProxies",
        "such as 10.0.0.0/8",
    ),
    "a zone that is no network": ({"gateway": {"zones": {"office": "10.0.0.0/8"}}}, "office", "such as 10.0.0.0/8"),
    "a peer that is nobody": ({"networkPolicy": {"gatewayFrom": [{}]}}, "gatewayFrom", "1"),
    "a pack that there is not": ({"policy": {"pack": "strict"}}, "pack", "service-desk"),
    "a pack that was not given": (
        {"policy": {"pack": "ours", "packs": {"other": "x"}}},
        "policy.pack",
        "ours is no pack",
    ),
    "a tag as digest": ({"image": {"digest": "1.2.3"}}, "digest", "sha256: and 64 hexadecimal digits"),
    "a size without a unit": ({"records": {"keyring": {"size": "1"}}}, "size", "a size such as 1Gi"),
    "a witness without a key": (
        {"audit": {"witnesses": [{"url": "https://w.example/add-checkpoint"}]}},
        "witnesses",
        "vkey",
    ),
    "a Secret with a strange name": ({"secrets": {"records": "My Secret"}}, "secrets", "a name of an object"),
    "fewer at most than at least": (
        {"gateway": {"autoscaling": {"enabled": True, "minReplicas": 4, "maxReplicas": 3}}},
        "gateway.autoscaling",
        "maxReplicas is less than minReplicas",
    ),
}


def with_values(changed: dict[str, Any]) -> dict[str, Any]:
    together = dict(GOOD)
    for name, value in changed.items():
        together[name] = {**GOOD[name], **value} if isinstance(value, dict) and name in GOOD else value
    return together


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_values_are_refused_with_the_place_and_a_sentence(name: str, tmp_path: Path) -> None:
    changed, place, sentence = REFUSED[name]
    path = merged(with_values(changed), tmp_path)
    said = helm("template", "prod", CHART, "--values", path, "--kube-version", VERSIONS[0], check=False)
    assert said.returncode != 0
    assert place in said.stderr
    assert sentence in said.stderr
    assert said.stdout == ""


def test_without_values_all_that_is_required_is_named() -> None:
    said = helm("template", "prod", CHART, "--kube-version", VERSIONS[0], check=False)
    assert said.returncode != 0
    assert all(name in said.stderr for name in ("issuer", "postgresql", "nats"))


@pytest.mark.parametrize(
    "changed",
    [
        {"global": {"of": "a parent chart"}},
        {"issuer": "https://dossier.example:8443"},
        {"postgresql": {"url": "postgresql://[2001:db8::1]:5432/?sslmode=verify-full"}},
        {"nats": {"url": "tls://10.0.0.1"}},
        {"gateway": {"zones": {"2001:db8::/32": "office"}, "trustedProxies": ["2001:db8::/64"]}},
        {"extraEnv": {"TZ": "Asia/Shanghai", "DOSSIER_GATEWAY_TOKEN_KEY_FILES": "no secret, and never read"}},
        {"records": {"resources": {"requests": {"cpu": 2}, "limits": {"ephemeral-storage": "1Gi"}}}},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_what_is_unusual_and_right_is_taken(changed: dict[str, Any], tmp_path: Path) -> None:
    assert render(merged(with_values(changed), tmp_path)).objects


def leaves(value: Any, name: str = "") -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, f"{name}.{key}")
    else:
        yield name


def known(schema: dict[str, Any], whole: dict[str, Any], name: str = "") -> Iterator[str]:
    """Every name that the schema allows, down to what it leaves open."""
    if "$ref" in schema:
        schema = whole["definitions"][schema["$ref"].rpartition("/")[2]]
    properties = schema.get("properties", {})
    if schema.get("type") == "object":
        assert "additionalProperties" in schema or name == ".global", f"{name} takes anything"
    if not properties:
        yield name
    for key, inner in properties.items():
        yield from known(inner, whole, f"{name}.{key}")


def test_the_schema_knows_each_value_and_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    allowed = set(known(schema, schema))
    given = {re.sub(r"(\.(requests|limits)).*", r"\1", name) for name in leaves(values)}
    unsaid = {".global", *(name for name in allowed if name.endswith((".requests", ".limits")))}
    assert given - unsaid == {name for name in allowed - unsaid if not name.endswith(("esources",))}


def test_the_readme_explains_each_value_as_the_file_does() -> None:
    assert not chart_page.differs(), "run `make openapi`"
    rows = re.findall(r"^\| `([\w.]+)` \| .* \| (.*) \|$", chart_page.README.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) > 90
    assert all(said for _, said in rows)


def test_each_command_of_helm_in_the_guide_is_one_that_works(tmp_path: Path) -> None:
    written = re.findall(r"```(?:yaml)\n# (\S+\.yaml)\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    values = dict(written)
    assert values
    for name, content in written:
        (tmp_path / name).write_text(content)
    tried = 0
    for block in blocks(GUIDE):
        for line in block.text.replace("\\\n", " ").splitlines():
            words = re.findall(r"--(?:set|set-string|set-file|values) \S+", line)
            if re.match(r"helm (install|upgrade|template|lint)\b", line.strip()):
                given = [part for word in words for part in word.split(" ", 1)]
                given = [str(tmp_path / each) if each in values else each for each in given]
                assert helm("template", "prod", CHART, "--kube-version", VERSIONS[0], *given).stdout
                tried += 1
    assert tried >= 2
