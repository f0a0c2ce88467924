"""Links lead somewhere, tables say what the code says, and no document names the machine that it was written on."""

import re
from pathlib import Path

import pytest
from tests.docs.blocks import blocks, missing, run

from dossier_local import reference
from dossier_local.state import CHECKOUT

FOLDERS = ("docs", "deploy", "gateway", "libs", "services", "tests")
DOCUMENTS = sorted([*CHECKOUT.glob("*.md"), *(path for name in FOLDERS for path in (CHECKOUT / name).rglob("*.md"))])
LINK = re.compile(r"\[[^\]\n]+\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
HOST_PATH = re.compile(r"(?<![\w.])/(?:work|root|home|Users|tmp)/")
ADDRESS = re.compile(r"https?://([A-Za-z0-9.-]+)")
HOSTS = frozenset({"127.0.0.1", "localhost", "crm.example", "dossier.example", "witness.example", "c2sp.org"})


def _name(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


def _anchors(path: Path) -> set[str]:
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in HEADING.findall(text)}


@pytest.mark.parametrize("path", DOCUMENTS, ids=_name)
def test_every_link_leads_somewhere(path: Path) -> None:
    for link in LINK.findall(CODE.sub("", path.read_text(encoding="utf-8"))):
        target, _, anchor = link.partition("#")
        if ADDRESS.match(target):
            continue
        found = (path.parent / target).resolve() if target else path
        assert found.exists(), link
        assert found.is_relative_to(CHECKOUT), link
        assert not anchor or anchor in _anchors(found), link


@pytest.mark.parametrize("path", DOCUMENTS, ids=_name)
def test_no_document_names_a_folder_or_a_host_of_somebodys_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not HOST_PATH.search(text)
    assert set(ADDRESS.findall(text)) <= HOSTS


def test_tables_say_what_the_code_says() -> None:
    assert reference.differing() == [], "make openapi writes them"


def test_the_readme_of_common_lists_every_module() -> None:
    folder = CHECKOUT / "libs" / "common"
    named = set(re.findall(r"`(\w+)/?`", (folder / "README.md").read_text(encoding="utf-8")))
    modules = {path.stem for path in (folder / "dossier_common").iterdir() if path.suffix in {".py", ""}}
    assert {name for name in modules if not name.startswith("_")} <= named


def test_a_command_that_fails_and_a_line_that_is_missing_are_seen(tmp_path: Path) -> None:
    path = CHECKOUT / "docs" / "never.md"
    document = blocks(
        path, '```sh\nA=1\n```\n```sh\necho "x $A y"\n```\n\n```text\nx … y\nz\n```\n```sh\nfalse\necho z\n```\n'
    )
    said = run(document, tmp_path, tmp_path)
    assert list(missing(document[1], said[1])) == ["z"]
    assert len(said) == len(document)
