"""docs/operators/install-helm.md, run as it stands on a cluster, with the servers that its reader brings."""

import os
import re
import shutil
import subprocess
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Final

import yaml
from tests.cluster.cluster import Cluster
from tests.cluster.terminal import Terminal
from tests.compose.engine import COPIED, docker
from tests.docs.blocks import Block, blocks, missing

from dossier_local.state import CHECKOUT

PAGE: Final = CHECKOUT / "docs" / "operators" / "install-helm.md"
NAMESPACE: Final = "compliance"
SECONDS: Final = 900.0
ASK: Final = """
import http.client, socket, ssl, sys
tls = ssl.create_default_context(cadata='''{ca}''')
try:
    plain = socket.create_connection((sys.argv[1], 8000), timeout=10)
except OSError:
    sys.exit(print("no connection"))
caller = http.client.HTTPConnection("dossier.example")
caller.sock = tls.wrap_socket(plain, server_hostname="dossier.example")
caller.request("GET", "/.well-known/oauth-authorization-server")
print(caller.getresponse().read().decode())
"""
SERVERS: Final = 3
"""Of NATS: as many as the page's values want copies of each stream."""


class Step(IntEnum):
    """Blocks of the page, in order."""

    IMAGE = 0
    MAKE = 1
    SHOW = 2
    APPLY = 3
    BRING = 4
    ROLES = 5
    POLICY = 6
    INSTALL = 7
    CEREMONY = 8
    RENEW = 9


FIRST: Final = tuple(step for step in Step if step is not Step.RENEW)
"""What is run before the tests begin."""


@contextmanager
def explained(kubernetes: Cluster) -> Iterator[None]:
    """Whoever reads of a failure in here sees how the cluster was."""
    try:
        yield
    except AssertionError as failed:
        failed.add_note(kubernetes.state())
        raise


@dataclass
class Installed:
    """What the page made."""

    kubernetes: Cluster
    terminal: Terminal
    folder: Path
    """The reader's copy of the checkout."""
    said: dict[Step, str] = field(default_factory=dict)

    def run(self, step: Step) -> None:
        """Does what a block says, under the reader's own names."""
        self.said[step] = self.type(document()[step].text.replace("registry.example", self.kubernetes.registry))

    def type(self, text: str) -> str:
        """What commands show; where one fails, the state of the cluster is told with it."""
        with explained(self.kubernetes):
            return self.terminal.run(text, seconds=SECONDS)

    def lacking(self, step: Step) -> Iterator[str]:
        """Lines that the block shall show and did not."""
        return missing(document()[step], self.said[step])

    def kubectl(self, *words: str) -> str:
        """What kubectl says of the release's namespace."""
        return self.kubernetes.kubectl("--namespace", NAMESPACE, *words)

    def ready(self) -> dict[str, bool]:
        """The pods that shall run, by name, and which are ready."""
        return {
            pod["metadata"]["name"]: any(
                each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", ())
            )
            for pod in self.kubernetes.found("pods", "--namespace", NAMESPACE)
            if pod["status"]["phase"] != "Succeeded"
        }

    def sql(self, statement: str, database: str) -> list[str]:
        """The lines that PostgreSQL's superuser gets."""
        query = ("psql", "--username=postgres", "--tuples-only", "--no-align", "--quiet", f"--command={statement}")
        command = ("--namespace=databases", "exec", "postgres-0", "--", *query, f"--dbname=dossier_{database}")
        return self.kubernetes.kubectl(*command).split()

    def counted(self, table: str, database: str) -> int:
        """Rows of a table."""
        return int(self.sql(f"SELECT count(*) FROM {table}", database)[0])

    def secret(self, name: str, key: str) -> str:
        """What a Secret holds under a key."""
        named = f"--field-selector=metadata.name={name}"
        (found,) = self.kubernetes.found("secrets", "--namespace", NAMESPACE, named)
        return b64decode(found["data"][key]).decode()

    def enters(self, role: str, password: str) -> bool:
        """Whether PostgreSQL lets a part's role in by this password."""
        database = f"dossier_{role.removesuffix('_app')}"
        query = ("psql", "--host=postgres", f"--username={role}", f"--dbname={database}", "--command=SELECT 1")
        command = ("exec", "postgres-0", "--", "env", f"PGPASSWORD={password}", *query)
        return self.kubernetes.run("kubectl", "--namespace=databases", *command, check=False).returncode == 0

    def make_caller(self, namespace: str) -> None:
        """A pod in another namespace."""
        self.kubernetes.apply("caller.yaml", namespace=namespace, image=self.kubernetes.image)
        self.kubernetes.kubectl(
            "--namespace", namespace, "wait", "--for=condition=Ready", "pod/caller", "--timeout=60s"
        )

    def ask(self, namespace: str, service: str) -> str:
        """What a service answers to that pod, by TLS with the release's CA; or that there is no connection."""
        ca = self.kubectl("get", "configmap", "dossier-ca", "--output=jsonpath={.data.ca\\.pem}")
        command = ("exec", "--stdin", "caller", "--", "python3", "-", f"{service}.{NAMESPACE}")
        return self.kubernetes.kubectl("--namespace", namespace, *command, stdin=ASK.format(ca=ca)).strip()


def document() -> list[Block]:
    """The blocks of the page that a reader runs, one for each step."""
    return blocks(PAGE)


def _shown(language: str, beginning: str) -> str:
    """The page's block of something else than commands that begins so."""
    (found,) = re.findall(
        rf"^```{language}\n({re.escape(beginning)}.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL
    )
    return str(found)


@contextmanager
def installed(kubernetes: Cluster) -> Iterator[Installed]:
    """All of the page's blocks in one shell."""
    folder = kubernetes.folder / "checkout"
    _copy(folder)
    (folder / "values.yaml").write_text(
        _shown("yaml", "# values.yaml").replace("registry.example", kubernetes.registry)
    )
    temporary = kubernetes.folder / "tmp"
    temporary.mkdir()
    variables = os.environ | kubernetes.variables | {"TMPDIR": str(temporary), "BUILDKIT_PROGRESS": "plain"}
    terminal = Terminal(kubernetes.node.beside(), folder, variables)
    try:
        done = Installed(kubernetes, terminal, folder)
        assert len(document()) == len(Step), "each block is a step"
        for step in FIRST:
            done.run(step)
            if step == Step.BRING:
                with explained(kubernetes):
                    _servers(kubernetes)
        yield done
    finally:
        terminal.close()
        docker("rmi", f"{kubernetes.registry}/dossier:0.1.0", check=False)


def _copy(folder: Path) -> None:
    """What git knows and the commands need, with the environment that is there."""
    command = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *COPIED, ".dockerignore")
    listed = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (CHECKOUT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(CHECKOUT / name, folder / name)
    (folder / ".venv").mkdir()
    (folder / ".venv" / "bin").symlink_to(CHECKOUT / ".venv" / "bin")


def _servers(kubernetes: Cluster) -> None:
    """PostgreSQL and NATS, as the page asks for them."""
    settings = f"--from-file={CHECKOUT / 'deploy' / 'postgres' / 'postgresql.conf'}"
    kubernetes.kubectl("--namespace=databases", "create", "configmap", "postgresql", settings)
    files = {"cert_file": "tls.crt", "key_file": "tls.key", "ca_file": "ca.crt"}
    asked = _shown("text", "jetstream ")
    for setting, file in files.items():
        asked = asked.replace(f"{setting}: …", f"{setting}: /run/tls/{file}")
    for number in range(SERVERS):
        kubernetes.apply("route.yaml", name=f"nats-{number}")
    kubernetes.apply(
        "servers.yaml",
        postgres=kubernetes.push(_image_of("postgres"), "postgres"),
        nats=kubernetes.push(_image_of("nats"), "nats"),
        settings=asked.strip().replace("\n", "\n    "),
    )
    for namespace, name in (("databases", "postgres"), ("messaging", "nats")):
        kubernetes.kubectl(f"--namespace={namespace}", "rollout", "status", f"statefulset/{name}", "--timeout=180s")


def _image_of(server: str) -> str:
    """The image that compose.yaml names, or its variable."""
    services = yaml.safe_load((CHECKOUT / "deploy" / "compose" / "compose.yaml").read_text())["services"]
    named = re.fullmatch(r"\$\{(\w+):-(.+)\}", services[server]["image"])
    assert named
    return os.environ.get(named[1]) or named[2]
