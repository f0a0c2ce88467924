"""The operators' pages say all that an operator may meet: each line of a log, each problem, each variable."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import RunningStack

from dossier_common.standing import Status
from dossier_common.topology import PARTS
from dossier_local import reference
from dossier_local.environment import of_running
from dossier_local.state import CHECKOUT

PAGES = CHECKOUT / "docs" / "operators"
PRODUCT = ("libs", "gateway", "services", "deploy")
OF_THEIR_OWN = frozenset({"verifier", "witness"})
"""Programs with a README that says what they say."""
SAID = re.compile(r'(?:\.(?:info|warning|error)|_report)\(\s*"([a-z]+(?:-[a-z]+)*)"')
VARIABLE = re.compile(r"DOSSIER_[A-Z][A-Z_]*[A-Z]\b")


def _sources(*folders: str) -> Iterator[Path]:
    for folder in folders:
        for path in (CHECKOUT / folder).rglob("*.py"):
            if not OF_THEIR_OWN.intersection(path.relative_to(CHECKOUT).parts):
                yield path


def _page(name: str) -> str:
    return (PAGES / f"{name}.md").read_text(encoding="utf-8")


def _first_column(text: str) -> set[str]:
    return {
        name for line in text.splitlines() if line.startswith("| ") for name in re.findall("`([^`]+)`", _cell(line))
    }


def _cell(line: str) -> str:
    return line.split("|")[1]


def test_every_line_that_a_part_may_log_is_explained() -> None:
    said = {event for path in _sources(*PRODUCT) for event in SAID.findall(path.read_text(encoding="utf-8"))}
    assert len(said) > 20, "the pattern finds what is logged"
    assert said <= _first_column(_page("troubleshooting"))


def test_every_status_of_a_process_that_waits_is_explained() -> None:
    assert {status.value for status in Status} <= _first_column(_page("troubleshooting"))


def test_every_problem_says_what_to_look_at() -> None:
    text = _page("troubleshooting")
    table = text.partition(reference.BEGIN.format("troubles"))[2].partition(reference.END)[0]
    assert [row[:2] for row in reference.rows(table) if not row[-1]] == []


def test_what_is_written_by_hand_stays_when_the_table_of_problems_is_made_anew() -> None:
    made = reference.troubles("")
    line = next(line for line in made.splitlines() if "`rate-limited`" in line)
    assert line.endswith("|  |")
    written = made.replace(line, line.removesuffix("|  |") + "| the \\| sign |")
    assert reference.troubles(written) == written


def test_every_setting_says_what_it_means() -> None:
    rows = reference.rows(_page("configuration"))
    assert len(rows) > 60
    assert [row[0] for row in rows if not row[-1]] == []


def test_every_variable_that_the_code_names_is_on_the_page_of_settings() -> None:
    known = _first_column(_page("configuration"))
    known |= {name.replace("<PART>", part.upper()) for name in known for part in PARTS}
    named = {name for path in _sources(*PRODUCT) for name in VARIABLE.findall(path.read_text(encoding="utf-8"))}
    assert named <= known


@pytest.mark.parametrize("part", PARTS)
def test_settings_that_name_a_secret_are_marked_as_such(part: str, stack: RunningStack) -> None:
    files = {
        name: Path(value)
        for name, value in of_running(stack.state).of(part).items()
        if name.startswith(f"DOSSIER_{part.upper()}_") and name.endswith("_FILE")
    }
    secret = {name for name, path in files.items() if path.parent == stack.state.secrets}
    assert secret == {name for name in files if reference.is_secret(name)}
    assert {path.stat().st_mode & 0o777 for name, path in files.items() if name in secret} == {0o600}
