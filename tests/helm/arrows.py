"""What NetworkPolicies allow, computed as their definition says, and what ARCHITECTURE.md lets them.

Source: Kubernetes, `networking.k8s.io/v1`. A pod that some policy of a direction selects takes (sends) what any of them
lets in (out), and nothing else; a connection needs both ends.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any, Final

from dossier_common.topology import FOLLOWS, PARTS, PUBLISHERS

WEB, METRICS = 8000, 8001
NAME_LABEL: Final = "kubernetes.io/metadata.name"


@dataclass(frozen=True)
class End:
    """One end of a connection: a pod by namespace and labels, or an address outside (of both, a pod has no address)."""

    name: str
    namespace: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    address: str = ""


def calls() -> Iterator[tuple[str, str]]:
    """(component, part): which web process each process calls, by what the parts do.

    Sources: the gateway forwards to all; everybody else asks it for keys and tokens; a worker pulls the feeds of
    whom it follows; a publisher's worker asks for its receipts; records resolves grants, approvals describes records.
    """
    for part in PARTS:
        if part != "gateway":
            yield "gateway-web", part
            yield f"{part}-web", "gateway"
        yield f"{part}-worker", "gateway"
        for followed in FOLLOWS[part]:
            yield f"{part}-worker", followed
        if part in PUBLISHERS:
            yield f"{part}-worker", "audit"
    yield "records-web", "approvals"
    yield "approvals-web", "records"
    yield "smoke", "gateway"


def allows(policies: Sequence[Mapping[str, Any]], namespace: str, source: End, target: End, port: str) -> bool:
    """Whether a connection can be made; `port` is `8000/TCP`, for example."""
    ends = (("Egress", "egress", "to", source, target), ("Ingress", "ingress", "from", target, source))
    for kind, rules, peers, end, other in ends:
        of_end = [each["spec"] for each in policies if kind in each["spec"]["policyTypes"]]
        of_end = [spec for spec in of_end if end.namespace == namespace and _selects(spec["podSelector"], end.labels)]
        if of_end and not any(
            _matches(rule, peers, other, namespace, port) for spec in of_end for rule in spec.get(rules, ())
        ):
            return False
    return True


def _matches(rule: Mapping[str, Any], peers: str, other: End, namespace: str, port: str) -> bool:
    number, protocol = port.split("/")
    ports = rule.get("ports")
    if ports and not any(str(each["port"]) == number and each.get("protocol", "TCP") == protocol for each in ports):
        return False
    return not rule.get(peers) or any(_is_peer(peer, other, namespace) for peer in rule[peers])


def _is_peer(peer: Mapping[str, Any], other: End, namespace: str) -> bool:
    if "ipBlock" in peer:  # of addresses outside alone: plug-ins differ in whether a pod's is one
        block = peer["ipBlock"]
        return (
            bool(other.address) and _in(other.address, [block["cidr"]]) and not _in(other.address, block.get("except"))
        )
    if other.address:
        return False
    if "namespaceSelector" in peer:
        if not _selects(peer["namespaceSelector"], ((NAME_LABEL, other.namespace),)):
            return False
    elif other.namespace != namespace:
        return False
    return _selects(peer.get("podSelector", {}), other.labels)


def _in(address: str, networks: Sequence[str] | None) -> bool:
    return any(ip_address(address) in ip_network(each) for each in networks or ())


def _selects(selector: Mapping[str, Any], labels: Sequence[tuple[str, str]]) -> bool:
    assert selector.keys() <= {"matchLabels"}, "this evaluator knows no expressions"
    wanted: dict[str, str] = selector.get("matchLabels", {})
    return wanted.items() <= dict(labels).items()
