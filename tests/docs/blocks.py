"""The blocks of a Markdown document, and what running them says."""

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dossier_local.state import CHECKOUT

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_RUN = re.compile(r"<!-- not run: (\S.*) -->\n$")
RUN = frozenset({"sh", "python"})
EXPECTED = frozenset({"console", "json", "text"})
MARK = "\x1e"


@dataclass
class Block:
    """A block that can be run, and the lines that its output must have."""

    place: str
    language: str
    text: str
    not_run: str | None
    expected: tuple[str, ...] = ()


def blocks(path: Path, text: str | None = None) -> list[Block]:
    """All blocks that a reader would run, in order; a block right after one of them is what it prints."""
    text = text or path.read_text(encoding="utf-8")
    found: list[Block] = []
    end = 0
    for fence in FENCE.finditer(text):
        language, content = fence.groups()
        between = text[end : fence.start()]
        if language in RUN:
            reason = NOT_RUN.search(between)
            line = text.count("\n", 0, fence.start()) + 1
            place = f"{path.relative_to(CHECKOUT)}:{line}"
            found.append(Block(place, language, content, reason[1] if reason else None))
        elif language in EXPECTED and found and not between.strip():
            found[-1].expected = tuple(line for line in content.splitlines() if line.strip())
        end = fence.end()
    return found


def missing(block: Block, output: str) -> Iterator[str]:
    """Expected lines that the output has not; white space does not count, `…` stands for anything in a line."""
    said = [re.sub(r"\s", "", line) for line in output.splitlines()]
    for line in block.expected:
        pieces = [re.escape(re.sub(r"\s", "", piece)) for piece in line.split("…")]
        pattern = re.compile(".*".join(pieces))
        if not any(pattern.search(each) for each in said):
            yield line


def run(document: list[Block], state: Path, folder: Path, *, seconds: float = 180) -> list[str]:
    """What each block printed, in one shell for the document, as a reader would; stops at the first that fails."""
    script = ["set -eo pipefail", "exec 2>&1"]
    for number, block in enumerate(document):
        script.append(f"printf '{MARK}'")
        if block.language == "sh":
            script.append(block.text)
        else:
            program = folder / f"block{number}.py"
            program.write_text(block.text, encoding="utf-8")
            script.append(f".venv/bin/python -W error '{program}'")
    program = folder / "document.sh"
    program.write_text("\n".join([*script, f"printf '{MARK}'"]), encoding="utf-8")
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "DOSSIER_"))
    }
    done = subprocess.run(
        ("bash", str(program)),
        cwd=CHECKOUT,
        env=inherited | {"DOSSIER_STATE": str(state)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    return done.stdout.split(MARK)[1:]
