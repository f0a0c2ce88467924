"""Tables of the documents that are made from the code: settings, problems of the API, faults of spreadsheet rows.

A table stands in its document between `<!-- table: NAME -->` and `<!-- end of table -->`.
"""

import importlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from pydantic_core import to_jsonable_python
from pydantic_settings import BaseSettings

from dossier_common.problems import Problem, Words
from dossier_common.settings import CommonSettings, PartSettings
from dossier_common.topology import PARTS
from dossier_local import matrix_page
from dossier_local.state import CHECKOUT

DOCUMENTS: Final = CHECKOUT / "docs"
BEGIN, END = "<!-- table: {} -->\n", "<!-- end of table -->"


def settings() -> str:
    """Each variable that a part reads, by its class."""
    own = [importlib.import_module(f"dossier_{part}.settings").Settings for part in PARTS]
    rows = [*_variables(CommonSettings, "DOSSIER_", ()), *_variables(PartSettings, "DOSSIER_<PART>_", ("common",))]
    for cls in own:
        rows += _variables(cls, cls.model_config["env_prefix"], PartSettings.model_fields)
    return _table(("Variable", "Default", "What it says"), rows)


def _variables(cls: type[BaseSettings], prefix: str, known: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    for name, field in cls.model_fields.items():
        if name not in known:
            default = "required" if field.is_required() else _written(field.get_default())
            yield f"`{prefix}{name.upper()}`", default, field.description or ""


def _written(value: Any) -> str:
    if value in (None, "", ()):
        return "none"
    plain = to_jsonable_python(value)
    return f"`{plain if isinstance(plain, str) else json.dumps(plain)}`"


def problems() -> str:
    """Each problem that the API may answer with: by slug and status, with the titles that people read."""
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
    rows = [
        (str(status), f"`{slug}`", " / ".join(each.zh for each in words), " / ".join(each.en for each in words))
        for (status, slug), words in sorted(found.items())
    ]
    return _table(("Status", "Slug", "中文", "English"), rows)


def _descendants(cls: type[Problem]) -> Iterator[type[Problem]]:
    yield cls
    for each in cls.__subclasses__():
        yield from _descendants(each)


def row_faults() -> str:
    """What can be wrong with a row of an imported spreadsheet."""
    faults = importlib.import_module("dossier_records.faults")
    rows = [
        (f"`{code}`", "warning" if code in faults.WARNINGS else "refused", title.zh, title.en)
        for code, title in faults.TITLES.items()
    ]
    return _table(("Code", "The row is", "中文", "English"), rows)


TABLES: Final[dict[str, tuple[str, Callable[[], str]]]] = {
    "settings": ("operators.md", settings),
    "problems": ("integrators.md", problems),
    "row-faults": ("integrators.md", row_faults),
}
"""Name → document and maker."""


def write() -> None:
    """Writes every table anew into its document, and the access matrix. Raises ValueError where the marks lack."""
    matrix_page.write()
    for name, (document, _) in TABLES.items():
        path = DOCUMENTS / document
        path.write_text(_renewed(name, path.read_text(encoding="utf-8")), encoding="utf-8")


def differing() -> list[str]:
    """The tables that are not what the code says, the access matrix among them."""
    old = ["access-matrix"] if matrix_page.differs() else []
    texts = {document: (DOCUMENTS / document).read_text(encoding="utf-8") for document, _ in TABLES.values()}
    return [
        *old,
        *(name for name, (document, _) in TABLES.items() if _renewed(name, texts[document]) != texts[document]),
    ]


def _renewed(name: str, text: str) -> str:
    begin, make = BEGIN.format(name), TABLES[name][1]
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(END)}", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"no place for the table {name}")
    return pattern.sub(lambda _: f"{begin}{make()}{END}", text)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
