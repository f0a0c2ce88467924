"""Kubernetes's own evaluator of the Pod Security Standards, built from `podsecurity/` into a cache outside the tree.

Without Go, or without the modules that go.sum names, the tests are skipped.
"""

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest

SOURCE: Final = Path(__file__).parent / "podsecurity"


def forbidden(pods: Sequence[dict[str, Any]]) -> list[str]:
    """Why the restricted profile refuses each pod; empty for one that it allows."""
    lines = "\n".join(json.dumps({"metadata": pod["metadata"], "spec": pod["spec"]}) for pod in pods)
    done = subprocess.run((_built(),), input=lines, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line)["forbidden"] for line in done.stdout.splitlines()]


def _built() -> str:
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go is not installed")
    sources = [SOURCE / name for name in ("go.mod", "go.sum", "main.go")]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dossier-podsecurity"
    program = cache / digest[:16]
    if not program.exists():
        cache.mkdir(parents=True, exist_ok=True)
        if _go(go, "mod", "download").returncode:
            pytest.skip("the modules that go.sum names cannot be had here")
        with tempfile.TemporaryDirectory(dir=cache, prefix=".draft-") as draft:
            built = Path(draft) / "podsecurity"
            done = _go(go, "build", "-mod=readonly", "-buildvcs=false", "-o", str(built), ".")
            assert done.returncode == 0, done.stderr
            built.replace(program)
    return str(program)


def _go(go: str, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run((go, *words), cwd=SOURCE, capture_output=True, text=True, check=False)
