"""The table of the Helm chart's values in its README, made of `values.yaml` and the comments in it.

A comment belongs to the value right below it. What is said of one part is not said again of the next: a value without a
comment has that of the first one whose name ends alike.
"""

import json
import re
from collections.abc import Iterator, Mapping
from itertools import takewhile
from typing import Any, Final

import yaml

from dossier_local.state import CHECKOUT

CHART: Final = CHECKOUT / "deploy" / "helm" / "dossier"
README: Final = CHART / "README.md"
BEGIN, END = "<!-- table: values -->\n", "<!-- end of table -->"
_KEY: Final = re.compile(r"^( *)([A-Za-z]\w*):")
_COMMENT: Final = re.compile(r"^( *)# ?(.*)$")
LEAVES: Final = frozenset({"resources", "workerResources"})
"""Mappings that are read as a whole."""


def table() -> str:
    """Each value: name, default, and what the comment above it says. Raises ValueError where one lacks."""
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    said = dict(_comments(text))
    lines = ["| Value | Default | What it says |", "| --- | --- | --- |"]
    defaults = dict(_flat(yaml.safe_load(text), ""))
    if astray := [name for name in said if not any(f"{each}.".startswith(f"{name}.") for each in defaults)]:
        raise ValueError(f"values.yaml: comments above what is no value: {astray}")
    shown: set[str] = set()
    for name, default in defaults.items():
        groups = [name.rsplit(".", number)[0] for number in range(name.count("."), 0, -1)]
        for group in groups:
            if group in said and group not in shown:
                lines.append(f"| **`{group}`** | | {said[group]} |")
                shown.add(group)
        lines.append(f"| `{name}` | {_written(default)} | {_said(name, said)} |")
    return "".join(f"{line}\n" for line in lines)


def _said(name: str, said: Mapping[str, str]) -> str:
    def alike(other: str) -> int:
        """How many of the last words of both names are the same."""
        pairs = zip(reversed(name.split(".")), reversed(other.split(".")), strict=False)
        return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))

    likest = max(said, key=lambda other: (other == name, alike(other)))
    if not alike(likest):
        raise ValueError(f"values.yaml says nothing of {name}")
    return said[likest]


def write() -> None:
    """Writes the table anew. Raises ValueError where the README has no place for it."""
    README.write_text(_renewed(), encoding="utf-8")


def differs() -> bool:
    """Whether the README says something else than the values."""
    return _renewed() != README.read_text(encoding="utf-8")


def _renewed() -> str:
    text = README.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError("the chart's README has no place for the table of values")
    return f"{before}{begin}{table()}{end}{after}"


def _comments(text: str) -> Iterator[tuple[str, str]]:
    """(name of the value, its comment); the lines of a block that holds a list or a long text are passed over."""
    place: list[tuple[int, str]] = []
    comment: list[str] = []
    for line in text.splitlines():
        if found := _COMMENT.match(line):
            comment.append(found[2].replace("|", "\\|"))
        elif found := _KEY.match(line):
            indent = len(found[1])
            place = [*(each for each in place if each[0] < indent), (indent, found[2])]
            if comment:
                yield ".".join(key for _, key in place), " ".join(comment)
            comment = []
        elif not line.strip():
            comment = []


def _flat(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value and name.rpartition(".")[2] not in LEAVES:
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else key)
    else:
        yield name, value


def _written(value: Any) -> str:
    if isinstance(value, str):
        return f"`{value}`" if value else '`""`'
    return f"`{json.dumps(value)}`"
