"""The commands that stand within the text of the operators' pages, and which of them a test runs."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distributions
from itertools import chain
from pathlib import Path
from typing import Any, Final

from tests.docs.blocks import FENCE, Block, blocks
from typer.main import get_command

from dossier_cli.commands import commands
from dossier_local import main as launcher
from dossier_local.state import CHECKOUT

PAGES: Final = {
    path.stem: path for path in sorted((CHECKOUT / "docs" / "operators").glob("*.md")) if "." not in path.stem
} | {"deploy": CHECKOUT / "deploy" / "README.md"}
"""Name → page. A page in another language has the commands of the English one."""
SPAN: Final = re.compile(r"(?<!`)`([^`]+)`(?!`)")
ASSIGNMENTS: Final = re.compile(r"(?:[A-Z][A-Z0-9_]*=\S* )+")
PROGRAMS: Final = re.compile(
    r"(?:(?:sudo|exec|time) )?(?:bash|sh|source|eval|cd|cp|mv|rm|mkdir|chmod|chown|ls|cat|tail|grep|sed|awk|find"
    r"|tar|gzip|rsync|ssh|scp|kill|ps|crontab|journalctl|systemctl|mount|curl|wget|openssl|git|npm|apt|apt-get|pip|uv"
    r"|python3?|pytest|make|docker|docker-compose|podman|kubectl|helm|nats|nats-server|psql|createdb|initdb|promtool) "
    r"|(?:pg_[a-z]+|(?:\./|(?:[\w.-]*/)*s?bin/)\S+)(?!\S)"
)
"""How a span begins that an operator types. PostgreSQL's programs, and those in a folder, are named alone too."""
OPEN: Final = re.compile(r"(?<!\w)[A-Z]{3,}(?![\w=])|…")
"""What a page leaves open: a word in capitals is one word, COMMAND and `…` are any number."""
REMARK: Final = re.compile(r"(?:^|(?<=\s))# .*$", re.MULTILINE)
CALLS: Final = {
    "dossier": re.compile(r"(?:^|-- |\.venv/bin/|exec \S+ )dossier ([^|]+)"),
    "dossier_local": re.compile(r"-m dossier_local ([^|]+)"),
}
"""Program of ours → how a command line calls it, and with which words."""
TREES: Final = {"dossier": get_command(commands), "dossier_local": get_command(launcher.app)}
KEYS: Final = ("list", "rotate")
"""What `dossier keys` passes on to a command line of the gateway's own."""


@dataclass(frozen=True)
class Inline:
    """A command within the text of a page."""

    page: Path
    line: int
    text: str

    @property
    def place(self) -> str:
        """Where to look for it."""
        return f"{self.page.relative_to(CHECKOUT)}:{self.line}"


def inline_commands(page: Path, text: str | None = None) -> list[Inline]:
    """The commands within the text of a page, in order, as they read when the page is shown."""
    text = text or page.read_text(encoding="utf-8")
    text = FENCE.sub(lambda fence: "\n" * fence[0].count("\n"), text)
    spans = [
        Inline(page, text.count("\n", 0, span.start()) + 1, " ".join(span[1].replace("\\|", "|").split()))
        for span in SPAN.finditer(text)
    ]
    return [span for span in spans if is_command(span.text)]


def is_command(span: str) -> bool:
    """Whether an operator types this: a program with what it is told, a program of ours, or an option of one."""
    words = ASSIGNMENTS.sub("", span)
    ours = words.partition(" ")[0] in _programs() or _whole(words) != words
    return bool(ours or words.startswith("--") or PROGRAMS.match(words))


def inline(page: str, beginning: str) -> str:
    """The one command within the text of this page that begins so, for a test that runs it: it then counts as run.

    Fails where there is none, or more than one.
    """
    found = {each.text for each in inline_commands(PAGES[page]) if each.text.startswith(beginning)}
    if beginning in found:
        return beginning
    assert len(found) == 1, f"{page}: `{beginning}` begins {sorted(found) or 'nothing'}"
    return found.pop()


# -- what is run -------------------------------------------------------------------------------------------------------


def is_run(span: Inline, documents: tuple[Path, ...]) -> bool:
    """Whether a test takes it by `inline(…)`, or these documents' blocks have it, or a command that begins so.

    What it leaves open is filled there. An option alone belongs to its own page, and to a command there.
    """
    texts = [text for page, text in taken() if not _is_option(span) or PAGES[page] == span.page]
    for path in (span.page,) if _is_option(span) else documents:
        texts += _run_blocks(path)
    filled = [r"\S.*?" if left in {"…", "COMMAND"} else r"\S+?" for left in OPEN.findall(span.text)]
    fixed = [re.escape(piece) for piece in OPEN.split(span.text)]
    words = "".join(chain.from_iterable(zip(fixed, [*filled, ""], strict=True)))
    found = re.compile(rf"(?:^|(?<=[\s'\"(|;&])|(?<=\.venv/bin/)){words}(?=$|[\s'\"|;&)])")
    return any(found.search(text) for text in texts)


@cache
def taken() -> tuple[tuple[str, str], ...]:
    """Page and command of each `inline(…)` in a test."""
    found = set()
    for path in sorted((CHECKOUT / "tests").rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)) if "inline(" in source else ():
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "inline":
                words = [str(each.value) for each in node.args if isinstance(each, ast.Constant)]
                if words:
                    page, beginning = words
                    found.add((page, inline(page, beginning)))
    return tuple(sorted(found))


def _is_option(span: Inline) -> bool:
    return span.text.startswith("--")


@cache
def _run_blocks(path: Path) -> tuple[str, ...]:
    """The commands of the document's blocks, each block in one line and without its comments."""
    shell = [REMARK.sub("", block.text) for block in blocks(path) if block.language == "sh" and _is_run(block)]
    return tuple(" ".join(text.replace("\\\n", " ").split()) for text in shell)


def _is_run(block: Block) -> bool:
    """Whether it is run where it stands, or by the test that it names."""
    named = re.search(r"tests/\S+\.py", block.not_run or "")
    return block.not_run is None or (named is not None and (CHECKOUT / named[0]).is_file())


# -- commands of ours --------------------------------------------------------------------------------------------------


def calls(span: str) -> Iterator[tuple[str, list[str]]]:
    """Each call of `dossier` or of the launcher in a command line: which of them, and its words."""
    line = _whole(ASSIGNMENTS.sub("", span))
    for program, called in CALLS.items():
        for found in called.finditer(line):
            yield program, found[1].split()


def command_of(program: str, words: list[str]) -> tuple[list[str], list[str]]:
    """The command that these words call, and its options. Raises KeyError where no command has that name."""
    command: Any = TREES[program]
    path: list[str] = []
    rest = list(words)
    while (inner := getattr(command, "commands", None)) and rest and not OPEN.fullmatch(rest[0]):
        path.append(rest.pop(0))
        command = inner[path[-1]]
    if path == ["keys"] and rest:
        path.append(rest.pop(0))
    if path == ["env"]:  # what follows the part is another command's
        rest = rest[: next((place for place, word in enumerate(rest) if not word.startswith("-")), None)]
    return path, [word.partition("=")[0] for word in rest if word.startswith("-")]


@cache
def _programs() -> frozenset[str]:
    """The programs that an installation of Dossier brings."""
    ours = [each for each in distributions() if each.metadata["Name"].startswith("dossier")]
    return frozenset(entry.name for each in ours for entry in each.entry_points if entry.group == "console_scripts")


@cache
def _short() -> dict[str, str]:
    """First word → what stands before it, for commands of ours that pages tell without the program."""

    def found(program: str, command: Any) -> Iterator[tuple[str, str]]:
        for name, inner in getattr(command, "commands", {}).items():
            yield name, program
            yield from found(f"{program} {name}", inner)

    names = [*found("dossier", TREES["dossier"]), *found("python -m dossier_local", TREES["dossier_local"])]
    names += [(name, "dossier keys") for name in KEYS]
    firsts = [name for name, _ in names]
    return {name: program for name, program in names if firsts.count(name) == 1}


def _whole(words: str) -> str:
    """The words with the program before them, where it was left out. A single word is the name of something."""
    first, space, _ = words.partition(" ")
    return f"{_short()[first]} {words}" if space and first in _short() else words
