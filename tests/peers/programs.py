"""Programs of other people that judge the log: Tessera's fsck, and `main.go`, which asks the libraries of others.

They are built once into a cache outside the tree, keyed by what they are built from. Without Go, or without the modules
that go.sum names, the tests are skipped.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

SOURCE: Final = Path(__file__).parent
FSCK: Final = "github.com/transparency-dev/tessera/cmd/fsck"
WORKERS: Final = 16
"""A worker of fsck ends at the first wrong tile that it meets, and without any left it waits for ever."""
_ACCEPTED: Final = re.compile(r"Successfully fsck'd log with size (\d+) ")


@dataclass(frozen=True)
class Fsck:
    """What fsck found; its exit status says nothing, so that its words are read."""

    size: int | None
    """Of the log, when it is as its checkpoint says."""
    said: str


@dataclass(frozen=True)
class Peers:
    """The programs, built."""

    folder: Path

    def ask(self, questions: Iterable[dict[str, str]]) -> list[dict[str, Any]]:
        """The verdict of `main.go` on each question: `error` is empty where it accepts."""
        text = "\n".join(map(json.dumps, questions))
        command = (str(self.folder / "peers"),)
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=True, timeout=120)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def fsck(self, url: str, vkey: str, token: str = "") -> Fsck:
        """Tessera's verdict on the log at this URL (`file://` too), of which everything is read."""
        with tempfile.NamedTemporaryFile("w", suffix=".vkey") as key:
            key.write(vkey)
            key.flush()
            command = [str(self.folder / "fsck"), f"--storage_url={url}/", f"--public_key={key.name}"]
            command += ["--ui=false", f"--N={WORKERS}", *([f"--bearer_token={token}"] if token else [])]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        match = _ACCEPTED.search(done.stderr)
        assert (match is None) == ("fsck failed" in done.stderr or done.returncode != 0), done.stderr
        return Fsck(int(match[1]) if match else None, done.stderr)


def built() -> Peers:
    """The programs; built when this is the first time. Skips the test where that cannot be."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go is not installed")
    sources = [SOURCE / name for name in ("go.mod", "go.sum", "main.go")]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dossier-peers"
    folder = cache / digest[:16]
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        _build(go, folder)
    return Peers(folder)


def _build(go: str, folder: Path) -> None:
    if _go(go, "mod", "download").returncode:
        pytest.skip("the modules that go.sum names cannot be had here")
    draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".draft-"))
    try:
        done = _go(go, "build", "-mod=readonly", "-buildvcs=false", "-o", f"{draft}{os.sep}", ".", FSCK)
        assert done.returncode == 0, done.stderr
        if not folder.exists():
            draft.rename(folder)
    except OSError:
        if not folder.exists():  # else another worker has built the same meanwhile
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _go(go: str, *words: str) -> "subprocess.CompletedProcess[str]":
    command: Sequence[str] = (go, *words)
    return subprocess.run(command, cwd=SOURCE, capture_output=True, text=True, check=False)
