"""What the documents say can be done, done: their commands in order, against the full stack."""

import re
import shutil
from pathlib import Path

import pytest
from tests.conftest import RunningStack
from tests.docs.blocks import blocks, missing, run

from dossier_local.state import CHECKOUT

DOCUMENTS = (
    CHECKOUT / "README.md",
    CHECKOUT / "README.zh-CN.md",
    *sorted((CHECKOUT / "docs").glob("*.md")),
    *sorted((CHECKOUT / "docs" / "operators").glob("*.md")),
    CHECKOUT / "deploy" / "README.md",
    CHECKOUT / "deploy" / "cli" / "README.md",
)
STARTS_OR_STOPS = frozenset({"up", "demo", "down", "test", "check", "bench", "faults", "clean"})
TARGET = re.compile(r"^([a-z]+):.*## ", re.MULTILINE)
MENTIONED = re.compile(r"\bmake (?:-s )?([a-z]+)\b(?!-)")


def _name(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if blocks(path)], ids=_name)
def test_every_command_works_as_it_stands(path: Path, stack: RunningStack, tmp_path: Path) -> None:
    if shutil.which("curl") is None or not (CHECKOUT / ".venv" / ".installed").exists():
        pytest.skip("the commands need curl, and an environment that `make setup` has made")
    document = [block for block in blocks(path) if block.not_run is None]
    said = run(document, stack.state.folder, tmp_path)
    for block, output in zip(document, said, strict=False):
        lacking = list(missing(block, output))
        assert not lacking, f"{block.place} lacks {lacking}:\n{output}"
    assert len(said) == len(document) + 1, f"{document[len(said) - 1].place} failed:\n{said[-1]}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=_name)
def test_every_target_of_make_that_is_named_exists(path: Path) -> None:
    targets = set(TARGET.findall((CHECKOUT / "Makefile").read_text()))
    text = path.read_text(encoding="utf-8")
    code = [block.text for block in blocks(path)] + re.findall(r"`([^`\n]+)`", text)
    named = {target for piece in code for target in MENTIONED.findall(piece)}
    assert named <= targets


@pytest.mark.parametrize("path", DOCUMENTS, ids=_name)
def test_a_block_that_starts_or_stops_a_stack_is_not_run_and_says_why(path: Path) -> None:
    for block in blocks(path):
        named = set(MENTIONED.findall(block.text))
        assert block.not_run or not named & STARTS_OR_STOPS, block.place


@pytest.mark.parametrize("folder", [CHECKOUT, CHECKOUT / "docs" / "operators"], ids=_name)
def test_both_languages_give_the_same_commands_under_as_many_headings(folder: Path) -> None:
    def commands(path: Path) -> list[str]:
        lines = [line.partition("  # ")[0].rstrip() for block in blocks(path) for line in block.text.splitlines()]
        return [line.partition("    # ")[0] for line in lines]

    english, chinese = folder / "README.md", folder / "README.zh-CN.md"
    assert commands(english) == commands(chinese)
    headings = [re.findall(r"^#+(?= )", path.read_text(encoding="utf-8"), re.MULTILINE) for path in (english, chinese)]
    assert headings[0] == headings[1]
