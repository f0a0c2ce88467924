"""A Kubernetes of one node: the project's own programs, on a node of its own, for as long as a test needs it.

Addresses are the same each time, since each cluster has a network of its own. Only the registry is on this machine too,
so that the Docker Engine can push to it.
"""

import json
import os
import re
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any, Final

from tests.cluster import programs
from tests.cluster.node import ADDRESS, Node, started
from tests.compose.engine import docker, free_port
from tests.support.certificates import Authority

from dossier_local.state import CHECKOUT

PATIENCE: Final = 300.0
FIRST_SERVICE: Final = "10.96.0.1"
"""The API server's own."""
NAMES: Final = "10.96.0.10"
PODS: Final = "10.20.0.0/16"
SERVER: Final = f"https://{ADDRESS}:6443"
USERS: Final = {"admin": "system:masters", "system:node:node": "system:nodes"}
VOLUMES: Final = 8
CNI: Final = {
    "cniVersion": "0.4.0",
    "name": "pods",
    "plugins": [
        {
            "type": "ptp",
            "ipam": {"type": "host-local", "ranges": [[{"subnet": PODS}]], "routes": [{"dst": "0.0.0.0/0"}]},
        }
    ],
}
CONTAINERD: Final = Template("""version = 2
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "$image"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "$plugins"
conf_dir = "$folder/cni"
""")
KUBELET: Final[Mapping[str, Any]] = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "kind": "KubeletConfiguration",
    "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
    "authorization": {"mode": "AlwaysAllow"},
    "cgroupDriver": "cgroupfs",
    "clusterDNS": [NAMES],
    "clusterDomain": "cluster.local",
    "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
    "evictionHard": {"memory.available": "1Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
    "imageGCHighThresholdPercent": 100,
    "oomScoreAdj": 0,
    "registryPullQPS": 0,
    "resolvConf": "",
    "serializeImagePulls": False,
}
PROXY: Final[Mapping[str, Any]] = {
    "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
    "kind": "KubeProxyConfiguration",
    "clusterCIDR": PODS,
    "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    "hostnameOverride": "node",
    "mode": "iptables",
    "oomScoreAdj": 0,
}


@dataclass
class Cluster:
    """One whose node is ready, with names, volumes and a registry."""

    folder: Path
    node: Node
    registry: str
    """Address of the registry, for the engine and for the node."""

    @property
    def image(self) -> str:
        """An image with Python that does nothing by itself."""
        return f"{self.registry}/pause:1"

    @property
    def variables(self) -> dict[str, str]:
        """What commands beside the node have to know."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        engine = {"DOCKER_CONFIG": os.environ.get("DOCKER_CONFIG", str(Path.home() / ".docker"))}
        return {"KUBECONFIG": str(self.folder / "admin.conf"), "HOME": str(home), **engine}

    def run(self, *command: str, stdin: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A command in the cluster's network."""
        done = subprocess.run(
            self.node.beside(*command),
            env=os.environ | self.variables,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert not check or done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}\n{done.stderr}"
        return done

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """What kubectl says."""
        return self.run("kubectl", *words, stdin=stdin).stdout

    def found(self, *words: str) -> list[dict[str, Any]]:
        """The objects that `kubectl get` finds."""
        items: list[dict[str, Any]] = json.loads(self.kubectl("get", *words, "--output=json"))["items"]
        return items

    def apply(self, manifest: str, **values: str) -> None:
        """Makes the objects of a file of this folder, in which `$name` stands for a value."""
        text = (Path(__file__).parent / manifest).read_text()
        self.kubectl("apply", "--filename=-", stdin=Template(text).substitute(values))

    def push(self, image: str, name: str) -> str:
        """The name under which the cluster finds an image of the engine; there it loses this name again."""
        pushed = f"{self.registry}/{name}"
        docker("tag", image, pushed)
        try:
            docker("push", "--quiet", pushed)
        finally:
            docker("rmi", pushed)
        return pushed

    def until(self, ready: Callable[[], bool], what: str) -> None:
        """Returns as soon as it is so; fails when that takes too long, or a process of the cluster has ended."""
        end = time.monotonic() + PATIENCE
        while not ready():
            assert not (ended := list(self.node.ended())), "\n".join(ended)
            assert time.monotonic() < end, f"not within {PATIENCE:.0f} s: {what}\n{self.state()}"
            time.sleep(0.5)

    def state(self) -> str:
        """What there is to see when something does not come to be."""
        words = (
            ("get", "pods,jobs,pvc", "--all-namespaces", "--output=wide"),
            ("get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"),
            ("get", "events", "--all-namespaces", "--field-selector=reason=FailedScheduling"),
            ("logs", "--selector=app.kubernetes.io/name=dossier", "--tail=3", "--prefix", "--max-log-requests=30"),
        )
        seen = [self.run("kubectl", *each, check=False).stdout.splitlines()[-30:] for each in words]
        return "\n".join((*self.node.ended(), *(line for lines in seen for line in lines)))


@contextmanager
def running() -> Iterator[Cluster]:
    """A cluster; nothing of it is left afterwards."""
    program = programs.built()
    folder = Path(tempfile.mkdtemp(prefix="dossier-cluster-"))
    try:
        node = started(folder, program)
        try:
            cluster = Cluster(folder, node, f"127.0.0.1:{free_port()}")
            _configure(cluster)
            _start(cluster)
            yield cluster
        finally:
            node.end()
    finally:
        shutil.rmtree(folder)


def _configure(cluster: Cluster) -> None:
    folder = cluster.folder
    authority = Authority(folder / "certificates")
    authority.certify("server", ADDRESS, FIRST_SERVICE, "kubernetes.default.svc")
    authority.certify("accounts")
    (folder / "users.csv").write_text("".join(f"{each},{each},{each},{group}\n" for each, group in USERS.items()))
    for user, name in (("admin", "admin.conf"), ("system:node:node", "node.conf")):
        context = {"cluster": "tests", "user": user}
        configuration = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tests", "cluster": {"server": SERVER, "certificate-authority": str(authority.ca)}}],
            "users": [{"name": user, "user": {"token": user}}],
            "contexts": [{"name": "tests", "context": context}],
            "current-context": "tests",
        }
        (folder / name).touch(0o600)
        (folder / name).write_text(json.dumps(configuration))
    (folder / "cni").mkdir()
    (folder / "cni" / "pods.conflist").write_text(json.dumps(CNI))
    given = {"image": cluster.image, "plugins": str(programs.PLUGINS), "folder": str(folder)}
    (folder / "containerd.toml").write_text(CONTAINERD.substitute(given))
    (folder / "kubelet.yaml").write_text(json.dumps({**KUBELET, "cgroupRoot": f"/{cluster.node.group}"}))
    connection = {"kubeconfig": str(folder / "admin.conf")}
    (folder / "proxy.yaml").write_text(json.dumps({**PROXY, "clientConnection": connection}))


def _start(cluster: Cluster) -> None:
    folder, node = cluster.folder, cluster.node
    certificates, admin = folder / "certificates", f"--kubeconfig={folder / 'admin.conf'}"
    accounts = certificates / "accounts-key.pem"
    (folder / "images").mkdir()
    node.start("registry", cluster.registry, folder / "images", "/proc/1/ns/net", network=False)
    node.start("containerd", "--config", folder / "containerd.toml", program="containerd")
    node.start("etcd", folder / "etcd")
    node.start(
        "kube-apiserver",
        "--etcd-servers=http://127.0.0.1:2379",
        f"--advertise-address={ADDRESS}",
        "--service-cluster-ip-range=10.96.0.0/16",
        f"--tls-cert-file={certificates / 'server.pem'}",
        f"--tls-private-key-file={certificates / 'server-key.pem'}",
        f"--token-auth-file={folder / 'users.csv'}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged",
        "--kubelet-preferred-address-types=InternalIP",
        f"--service-account-key-file={certificates / 'accounts.pem'}",
        f"--service-account-signing-key-file={accounts}",
        "--service-account-issuer=https://kubernetes.default.svc",
    )
    cluster.until(lambda: not cluster.run("kubectl", "get", "--raw=/readyz", check=False).returncode, "the API answers")
    node.start(
        "kube-controller-manager",
        admin,
        "--leader-elect=false",
        f"--service-account-private-key-file={accounts}",
        f"--root-ca-file={certificates / 'ca.pem'}",
    )
    node.start("kube-scheduler", admin, "--leader-elect=false")
    node.start("policies", folder / "admin.conf")
    node.start("kube-proxy", f"--config={folder / 'proxy.yaml'}")
    node.start(
        "kubelet",
        f"--config={folder / 'kubelet.yaml'}",
        f"--kubeconfig={folder / 'node.conf'}",
        "--hostname-override=node",
        f"--node-ip={ADDRESS}",
    )
    for number in range(VOLUMES):
        path = folder / "volumes" / str(number)
        path.mkdir(parents=True)
        cluster.apply("volume.yaml", name=f"volume{number}", path=str(path))
    image = _pause(cluster)
    cluster.push(image, "pause:1")
    docker("rmi", image)
    cluster.apply("system.yaml", image=cluster.image, program=str(node.program), names=NAMES)
    cluster.kubectl(
        "wait", "--for=condition=Available", "--namespace=kube-system", "deployment/names", "--timeout=120s"
    )


def _pause(cluster: Cluster) -> str:
    """An image that does nothing, made on the one that Dossier's is made on."""
    (base,) = re.findall("^ARG BASE=(.*)$", (CHECKOUT / "deploy/image/Dockerfile").read_text(), re.MULTILINE)
    name = f"dossier-cluster-pause:{secrets.token_hex(8)}"  # a folder's name is not always one of an image
    docker("build", "--quiet", "--tag", name, "-", stdin=f'FROM {base}\nCMD ["sleep", "infinity"]\n')
    return name
