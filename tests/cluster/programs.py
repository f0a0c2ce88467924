"""The program of the cluster, built once a machine, and what else has to be there."""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from tests.compose import engine

SOURCES: Final = Path(__file__).parent
CACHE: Final = Path(os.environ.get("ENGINE_HOME") or "/var/tmp/dossier-engine") / "cluster"
PLUGINS: Final = Path("/usr/lib/cni")
NEEDED: Final = {
    "go": "Go",
    "kubectl": "kubectl",
    "helm": "Helm",
    "containerd": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "ip": "iproute2",
    "nsenter": "util-linux",
    f"{PLUGINS}/ptp": "containernetworking-plugins",
}


def why_not() -> str | None:
    """Why no cluster can be made here, in one line."""
    if os.geteuid() != 0:
        return "a node has namespaces, mounts and firewall rules of its own, which only root can make"
    if lacking := [package for program, package in NEEDED.items() if shutil.which(program) is None]:
        return f"a cluster needs what is not installed: {', '.join(lacking)}"
    return engine.why_not()


def built() -> Path:
    """The program, made of these sources; the others of its digest are used as they are, older ones are removed."""
    sources = sorted([*SOURCES.glob("*.go"), SOURCES / "go.mod", SOURCES / "go.sum"])
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    program = CACHE / digest
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two who begin at once build once
        if not program.exists():
            for each in CACHE.glob("[0-9a-f]*"):
                each.unlink()
            with tempfile.TemporaryDirectory(dir=CACHE) as folder:
                made = Path(folder) / "cluster"
                command = ("go", "build", "-trimpath", f"-ldflags=-s -w {_version()}", "-o", made, ".")
                subprocess.run(command, cwd=SOURCES, env=os.environ | {"CGO_ENABLED": "0"}, check=True)
                made.rename(program)
    return program


def _version() -> str:
    """What the linker is told for the programs to say which Kubernetes they are."""
    (version,) = re.findall(r"^\tk8s\.io/kubernetes (v1\.(\d+)\.\d+)$", (SOURCES / "go.mod").read_text(), re.MULTILINE)
    said = {"gitVersion": version[0], "gitMajor": "1", "gitMinor": version[1], "gitTreeState": "clean"}
    return " ".join(f"-X k8s.io/component-base/version.{name}={value}" for name, value in said.items())


if __name__ == "__main__":
    built()
