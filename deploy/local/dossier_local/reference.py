"""Tables of the documents that are made from the code: settings, problems of the API, faults of spreadsheet rows.

A table stands in its document between `<!-- table: NAME -->` and `<!-- end of table -->`.
"""

import importlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, Final, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python
from pydantic_settings import BaseSettings

from dossier_common.problems import Problem, Words
from dossier_common.settings import CommonSettings, PartSettings
from dossier_common.topology import PARTS
from dossier_local import chart_page, matrix_page
from dossier_local.state import CHECKOUT

DOCUMENTS: Final = CHECKOUT / "docs"
SECRET: Final = re.compile(r"_(password|passphrase|key)_file$")
CELL: Final = re.compile(r"(?<!\\)\|")
BEGIN, END = "<!-- table: {} -->\n", "<!-- end of table -->"


def settings(_before: str) -> str:
    """Each variable that a process reads, by the part whose it is."""
    groups = [
        ("Every process", _variables(CommonSettings, "DOSSIER_", ())),
        ("Every part, each its own", _variables(PartSettings, "DOSSIER_<PART>_", ("common",))),
    ]
    for part in PARTS:
        cls = importlib.import_module(f"dossier_{part}.settings").Settings
        groups.append((f"Only {part}", _variables(cls, cls.model_config["env_prefix"], PartSettings.model_fields)))
    header = ("Variable", "Kind", "Default", "What it says")
    tables = [(title, list(rows)) for title, rows in groups]
    return "\n".join(f"## {title}\n\n{_table(header, rows)}" for title, rows in tables if rows)


def _variables(cls: type[BaseSettings], prefix: str, known: Iterable[str]) -> Iterator[tuple[str, str, str, str]]:
    for name, field in cls.model_fields.items():
        if name not in known:
            default = "**required**" if field.is_required() else _written(field.get_default())
            yield f"`{prefix}{name.upper()}`", _kind(name, field), default, field.description or ""


def is_secret(name: str) -> bool:
    """Whether a setting of this name says where a secret lies, going by the names that they are given."""
    return SECRET.search(name.lower()) is not None


def _kind(name: str, field: FieldInfo) -> str:
    """What is to be written, in an operator's words."""
    types = [each for each in get_args(field.annotation) or (field.annotation,) if each is not NoneType]
    if get_origin(field.annotation) is Literal:
        return " or ".join(f"`{each}`" for each in types)
    if types == [Path]:
        return "folder" if name == "home" or name.endswith("_dir") else "**secret** file" if is_secret(name) else "file"
    if get_origin(field.annotation) in {dict, tuple}:
        return "JSON"
    kind = {int: "whole number", float: "number", str: "text"}[types[0]]
    bounds = [
        f"{sign} {getattr(each, attribute)}"
        for attribute, sign in (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤"))
        for each in field.metadata
        if getattr(each, attribute, None) is not None
    ]
    return " ".join([kind, ", ".join(bounds)]).strip()


def _written(value: Any) -> str:
    if value in (None, "", ()):
        return "none"
    plain = to_jsonable_python(value)
    return f"`{plain if isinstance(plain, str) else json.dumps(plain)}`"


def problems(_before: str) -> str:
    """Each problem that the API may answer with: by slug and status, with the titles that people read."""
    return _table(("Status", "Slug", "中文", "English"), _problems())


def troubles(before: str) -> str:
    """The same problems with what to look at, which is written by hand in the last column and kept."""
    known = {tuple(row[:2]): row[-1] for row in rows(before)}
    made = [(*row, known.get(row[:2], "")) for row in _problems()]
    return _table(("Status", "Slug", "中文", "English", "Look at"), made)


def rows(table: str) -> list[list[str]]:
    """The cells of a table in Markdown, without its header."""
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return [[cell.strip().replace("\\|", "|") for cell in CELL.split(line)[1:-1]] for line in lines[2:]]


def _problems() -> list[tuple[str, str, str, str]]:
    for part in PARTS:
        importlib.import_module(f"dossier_{part}.main")
    found: dict[tuple[int, str], list[Words]] = {}
    for cls in sorted(
        set(_descendants(Problem)), key=lambda each: (len(each.__mro__), each.__module__, each.__qualname__)
    ):
        # What inherits its slug is a variant with words of its own, and the same to clients. Tests have problems too.
        if "slug" in vars(cls) and cls.__module__.startswith("dossier_"):
            words = found.setdefault((cls.status, cls.slug), [])
            if cls.words not in words:
                words.append(cls.words)
    return [
        (str(status), f"`{slug}`", " / ".join(each.zh for each in words), " / ".join(each.en for each in words))
        for (status, slug), words in sorted(found.items())
    ]


def _descendants(cls: type[Problem]) -> Iterator[type[Problem]]:
    yield cls
    for each in cls.__subclasses__():
        yield from _descendants(each)


def row_faults(_before: str) -> str:
    """What can be wrong with a row of an imported spreadsheet."""
    faults = importlib.import_module("dossier_records.faults")
    made = [
        (f"`{code}`", "warning" if code in faults.WARNINGS else "refused", title.zh, title.en)
        for code, title in faults.TITLES.items()
    ]
    return _table(("Code", "The row is", "中文", "English"), made)


TABLES: Final[dict[str, tuple[str, Callable[[str], str]]]] = {
    "settings": ("operators/configuration.md", settings),
    "problems": ("integrators.md", problems),
    "troubles": ("operators/troubleshooting.md", troubles),
    "row-faults": ("integrators.md", row_faults),
}
"""Name → document, and the maker, who is given the table as it is."""


def write() -> None:
    """Writes every table anew, and the access matrix and the chart's values. Raises ValueError where the marks lack."""
    matrix_page.write()
    chart_page.write()
    for name, (document, _) in TABLES.items():
        path = DOCUMENTS / document
        path.write_text(_renewed(name, path.read_text(encoding="utf-8")), encoding="utf-8")


def differing() -> list[str]:
    """The tables that are not what the code says, the access matrix and the chart's values among them."""
    pages = {"access-matrix": matrix_page, "the chart's values": chart_page}
    old = [name for name, page in pages.items() if page.differs()]
    texts = {document: (DOCUMENTS / document).read_text(encoding="utf-8") for document, _ in TABLES.values()}
    return [
        *old,
        *(name for name, (document, _) in TABLES.items() if _renewed(name, texts[document]) != texts[document]),
    ]


def _renewed(name: str, text: str) -> str:
    begin, make = BEGIN.format(name), TABLES[name][1]
    pattern = re.compile(f"{re.escape(begin)}(.*?){re.escape(END)}", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"no place for the table {name}")
    return pattern.sub(lambda before: f"{begin}{make(before[1])}{END}", text)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
