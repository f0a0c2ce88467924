"""The revisions of a part's database that this version knows, read from its migrations without running them."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True)
class Schema:
    """The revision that this version works with, and the older ones that lead to it."""

    part: str
    head: str
    older: frozenset[str]

    @classmethod
    def read(cls, part: str, home: Path) -> Self:
        """From the folder that is laid out as the checkout. Raises ValueError for one without these migrations."""
        folder = (home / part if part == "gateway" else home / "services" / part) / "migrations" / "versions"
        known: dict[str, frozenset[str]] = dict(_revision(file) for file in sorted(folder.glob("*.py")))
        heads = set(known).difference(*known.values()) if known else set()
        if len(heads) != 1:
            raise ValueError(
                f"{folder}: {len(heads)} newest migrations of {part} instead of one; DOSSIER_HOME says where Dossier "
                "is installed"
            )
        (head,) = heads
        return cls(part, head, frozenset(known) - heads)


def _revision(file: Path) -> tuple[str, frozenset[str]]:
    """A migration's own revision, and those that come before it."""
    values = dict(_assigned(ast.parse(file.read_bytes(), str(file))))
    revision, before = values.get("revision"), values.get("down_revision")
    if not isinstance(revision, str):
        raise ValueError(f"{file}: a migration without a revision")  # noqa: TRY004  # a wrong file, not a wrong type
    return revision, frozenset([before] if isinstance(before, str) else before or ())


def _assigned(module: ast.Module) -> Iterator[tuple[str, str | tuple[str, ...] | None]]:
    for statement in module.body:
        target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
        if isinstance(target, ast.Name) and target.id in {"revision", "down_revision"}:
            assert isinstance(statement, ast.Assign | ast.AnnAssign)
            assert statement.value is not None
            yield target.id, ast.literal_eval(statement.value)
