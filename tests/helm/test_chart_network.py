"""Connections in the cluster: each arrow of ARCHITECTURE.md, and nothing else."""

import re
from itertools import product

import pytest
import yaml
from tests.helm.arrows import METRICS, WEB, End, allows, calls
from tests.helm.charts import CHART, NAMESPACE, SETS, Object, render, rendered, short

from dossier_common.topology import PARTS
from dossier_local.state import CHECKOUT

RESTRICTING = [values for values in SETS if values != "other-policy"]
DATABASES, MESSAGING, DNS, INGRESS, SCRAPING = "databases", "messaging", "kube-system", "ingress-nginx", "observability"
PROCESSES = tuple(f"{part}-{process}" for part in PARTS for process in ("web", "worker"))


def ours(values: str) -> dict[str, End]:
    """Each pod of the release."""
    return {
        component: End(component, NAMESPACE, tuple(pod["metadata"]["labels"].items()))
        for component, pod in rendered(values).pods()
    }


def theirs(name: str) -> End:
    """A pod of another namespace."""
    return End(name, name, (("app", name),))


def policies(values: str) -> list[Object]:
    return list(rendered(values).of("NetworkPolicy").values())


@pytest.mark.parametrize("values", RESTRICTING)
def test_inside_the_release_the_arrows_are_allowed_and_no_other_connection(values: str) -> None:
    pods, applied = ours(values), policies(values)
    wanted = {(caller, f"{part}-web", f"{WEB}/TCP") for caller, part in calls()}
    if values == "no-ingress":  # there, people come from a network outside
        assert not allows(applied, NAMESPACE, theirs("anybody"), pods["gateway-web"], f"{WEB}/TCP")
    ports = (f"{WEB}/TCP", f"{METRICS}/TCP", "5432/TCP", "4222/TCP", f"{WEB}/UDP", "22/TCP")
    found = {
        (source, target, port)
        for source, target, port in product(pods, pods, ports)
        if source != target and allows(applied, NAMESPACE, pods[source], pods[target], port)
    }
    # Where PostgreSQL and NATS may be anywhere, their ports are open outwards; no pod of ours lets them in.
    assert found == wanted


@pytest.mark.parametrize("component", [*PROCESSES, "roles", "migrate", "streams", "partitions", "smoke"])
def test_each_reaches_the_servers_that_it_needs_and_no_other(component: str) -> None:
    pod, applied = ours("production")[component], policies("production")
    reached = {
        (namespace, port)
        for namespace, port in product(
            (DATABASES, MESSAGING, DNS, INGRESS, SCRAPING, "default"),
            ("5432/TCP", "4222/TCP", "53/UDP", "53/TCP", "443/TCP", "4318/TCP", f"{WEB}/TCP", "6443/TCP"),
        )
        if allows(applied, NAMESPACE, pod, theirs(namespace), port)
    }
    wanted = {(DNS, "53/UDP"), (DNS, "53/TCP")}
    if component in (*PROCESSES, "roles", "migrate", "partitions"):
        wanted.add((DATABASES, "5432/TCP"))
    if component.endswith("-worker") or component == "streams":
        wanted.add((MESSAGING, "4222/TCP"))
    if component.startswith(("gateway-", "records-")):
        wanted.add((SCRAPING, "4318/TCP"))  # asked for by extraEgress
    assert reached == wanted


def test_the_audit_worker_alone_reaches_witnesses_and_by_their_port_alone() -> None:
    pods, applied = ours("production"), policies("production")
    witness = End("witness", address="203.0.113.7")
    for component, port in product(pods, ("8443/TCP", "443/TCP", "80/TCP")):
        reached = allows(applied, NAMESPACE, pods[component], witness, port)
        assert reached == (component == "audit-worker" and port == "8443/TCP"), (component, port)


@pytest.mark.parametrize("component", [*PROCESSES, "roles", "migrate", "streams", "partitions", "smoke"])
def test_from_outside_the_release_there_is_the_gateway_for_the_ingress_and_metrics_for_the_scraper(
    component: str,
) -> None:
    pod, applied = ours("production")[component], policies("production")
    outside = [theirs(name) for name in (INGRESS, SCRAPING, "default", DATABASES)]
    outside += [End("neighbour", NAMESPACE, (("app", "neighbour"),)), End("address", address="203.0.113.9")]
    found = {
        (source.name, port)
        for source, port in product(outside, (f"{WEB}/TCP", f"{METRICS}/TCP", "22/TCP"))
        if allows(applied, NAMESPACE, source, pod, port)
    }
    wanted = set()
    if component == "gateway-web":
        wanted = {(INGRESS, f"{WEB}/TCP")}
    elif component.endswith("-worker"):
        wanted = {(SCRAPING, f"{METRICS}/TCP")}
    assert found == wanted


def test_without_narrower_values_servers_may_be_anywhere_and_nobody_scrapes() -> None:
    pods, applied = ours("minimal"), policies("minimal")
    for where in (theirs("anywhere"), End("elsewhere", address="203.0.113.9"), End("elsewhere", address="2001:db8::9")):
        assert allows(applied, NAMESPACE, pods["records-worker"], where, "5432/TCP")
        assert allows(applied, NAMESPACE, pods["records-worker"], where, "4222/TCP")
        assert not allows(applied, NAMESPACE, pods["records-web"], where, "4222/TCP")
        assert not allows(applied, NAMESPACE, pods["records-web"], where, "443/TCP")
        assert allows(applied, NAMESPACE, where, pods["gateway-web"], f"{WEB}/TCP")
        assert not allows(applied, NAMESPACE, where, pods["records-web"], f"{WEB}/TCP")
        assert not allows(applied, NAMESPACE, where, pods["records-worker"], f"{METRICS}/TCP")


def test_networks_and_ports_of_servers_are_those_of_the_values() -> None:
    pods, applied = ours("own-secrets"), policies("own-secrets")
    postgresql, nats = End("postgresql", address="10.1.2.3"), End("nats", address="10.1.2.4")
    assert allows(applied, NAMESPACE, pods["audit-worker"], postgresql, "6432/TCP")
    assert allows(applied, NAMESPACE, pods["audit-worker"], nats, "4222/TCP")
    for refused, port in ((postgresql, "5432/TCP"), (nats, "6432/TCP"), (End("next", address="10.1.2.5"), "6432/TCP")):
        assert not allows(applied, NAMESPACE, pods["audit-worker"], refused, port)
    inside, excepted = End("office", address="10.1.1.1"), End("guests", address="10.9.1.1")
    balanced = ours("no-ingress")["gateway-web"]
    assert allows(policies("no-ingress"), NAMESPACE, inside, balanced, f"{WEB}/TCP")
    assert not allows(policies("no-ingress"), NAMESPACE, excepted, balanced, f"{WEB}/TCP")


def test_an_empty_list_of_peers_is_nobody() -> None:
    nobody = [f"networkPolicy.{name}=[]" for name in ("gatewayFrom", "postgresqlTo", "natsTo", "dnsTo")]
    made = render(SETS["minimal"], *(word for each in nobody for word in ("--set-json", each)))
    applied = list(made.of("NetworkPolicy").values())
    pods = ours("minimal")
    assert not allows(applied, NAMESPACE, theirs("anybody"), pods["gateway-web"], f"{WEB}/TCP")
    assert not allows(applied, NAMESPACE, pods["records-worker"], theirs(DNS), "53/UDP")
    assert not allows(applied, NAMESPACE, pods["records-worker"], theirs(DATABASES), "5432/TCP")


def test_jobs_bring_their_policies_along_since_they_run_before_all_else() -> None:
    hooks = {
        short(each) for each in policies("production") if "helm.sh/hook" in each["metadata"].get("annotations", {})
    }
    assert hooks == {"roles", "migrate", "streams"}


def test_a_cluster_without_network_policies_gets_none() -> None:
    assert policies("other-policy") == []


def test_the_chart_s_table_of_arrows_is_what_the_parts_do() -> None:
    text = (CHART / "templates" / "_arrows.tpl").read_text(encoding="utf-8")
    (table,) = re.findall(r'define "dossier.arrows" -}}\n(.*?){{- end -}}', text, re.DOTALL)
    said = {(caller, part) for caller, parts in yaml.safe_load(table).items() for part in parts}
    assert said == set(calls())


def test_the_table_knows_each_call_that_the_code_of_a_part_makes() -> None:
    constants = {"OWNER": "approvals"}  # of dossier_records.grants
    found = {
        (path.relative_to(CHECKOUT / "services").parts[0], constants.get(called, called.strip('"')))
        for path in (CHECKOUT / "services").rglob("*.py")
        for called in re.findall(r'peers\.get\(\s*("\w+"|[A-Z]+)', path.read_text(encoding="utf-8"))
    }
    assert found == {("records", "approvals"), ("approvals", "records")}, "a new arrow: tell tests.helm.arrows.calls"
