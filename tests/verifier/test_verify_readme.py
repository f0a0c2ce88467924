"""The auditors' page says what every finding and every exit code means."""

import re
from pathlib import Path
from typing import Final

from dossier_verify.errors import Exit
from dossier_verify.findings import MEANINGS

README: Final = (Path(__file__).parents[2] / "services/audit/verifier/README.md").read_text()
SOURCES: Final = list((Path(__file__).parents[2] / "services/audit/verifier/dossier_verify").glob("*.py"))


def test_every_kind_of_finding_is_explained() -> None:
    table = README.split("## What a finding means")[1].split("##")[0]
    assert set(re.findall(r"`([a-z]+-[a-z]+|forked|unsigned|inconsistent)`", table)) >= set(MEANINGS)


def test_every_exit_code_is_explained() -> None:
    table = README.split("## Exit codes")[1].split("##")[0]
    assert {int(code) for code in re.findall(r"^\| (\d) \|", table, re.MULTILINE)} == set(Exit)


def test_every_kind_that_is_raised_has_a_meaning() -> None:
    made = {
        kind
        for source in SOURCES
        for kind in re.findall(r'(?:Finding|Wrong|self\._lost)\(\s*"([a-z-]+)"', source.read_text())
    }
    assert made
    assert made <= set(MEANINGS)


def test_every_module_stands_in_the_page() -> None:
    for source in SOURCES:
        if source.stem not in {"__init__", "errors", "findings", "given", "trust"}:
            assert f"`{source.name}`" in README
