"""The route table: which part answers what, and which scopes it takes. A route that is in no document does not exist.

Matching is on the decoded path of the request's own address (`scope["path"]`), segment by segment; a fixed segment
wins over a parameter. A last parameter that an operation marks with `x-dossier-rest` takes one segment or more.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from dossier_gateway.console.documents import is_public, needed

FORWARDED: Final = frozenset({"get", "put", "post", "delete", "patch"})
"""Never HEAD, whose answers end otherwise than they say, nor what speaks of the connection itself."""


@dataclass(frozen=True, slots=True)
class Route:
    """An operation of a part."""

    part: str
    method: str
    path: str
    operation: str
    scopes: tuple[frozenset[str], ...]
    """Alternatives: a caller needs all of one of them."""

    def missing(self, held: frozenset[str]) -> str | None:
        """A scope that the caller lacks, or None."""
        if any(each <= held for each in self.scopes):
            return None
        return min(self.scopes[0] - held)


@dataclass(slots=True)
class _Node:
    fixed: dict[str, "_Node"] = field(default_factory=dict)
    parameter: "tuple[str, _Node] | None" = None
    rest: "tuple[str, _Node] | None" = None
    routes: dict[str, Route] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Match:
    """The operations at a path, by method, and the values of its parameters."""

    routes: Mapping[str, Route]
    values: Mapping[str, str]


class RouteTable:
    """Made once from the parts' OpenAPI documents."""

    def __init__(self, documents: Mapping[str, Mapping[str, Any]]) -> None:
        self._root = _Node()
        self.routes: list[Route] = []
        for part, document in documents.items():
            for path, item in document.get("paths", {}).items():
                for verb, operation in item.items():
                    if verb in FORWARDED and is_public(path, operation):
                        self._add(part, verb.upper(), path, operation)

    def _add(self, part: str, method: str, path: str, operation: dict[str, Any]) -> None:
        # an operation without `security` still needs a caller: the services answer nobody else
        scopes = tuple(needed(operation) or [frozenset()])
        route = Route(part, method, path, operation["operationId"], scopes)
        node = self._root
        rest = operation.get("x-dossier-rest")
        for segment in path.strip("/").split("/"):
            if rest is not None and segment == f"{{{rest}}}":
                node.rest = node.rest or (rest, _Node())
                node = node.rest[1]
            elif segment.startswith("{"):
                if node.parameter is None:
                    node.parameter = (segment[1:-1], _Node())
                node = node.parameter[1]
            else:
                node = node.fixed.setdefault(segment, _Node())
        if method in node.routes:
            raise ValueError(f"{method} {path} is declared by {node.routes[method].part} and by {part}")
        node.routes[method] = route
        self.routes.append(route)

    def match(self, path: str) -> Match | None:
        """The operations at this path; None where there are none. Empty, `.` and `..` segments match nothing."""
        if not path.startswith("/"):
            return None
        segments = path[1:].split("/")
        if any(segment in {"", ".", ".."} for segment in segments):
            return None
        values: dict[str, str] = {}
        node = _walk(self._root, segments, 0, values)
        return Match(node.routes, values) if node else None


def _walk(node: _Node, segments: list[str], at: int, values: dict[str, str]) -> _Node | None:
    if at == len(segments):
        return node if node.routes else None
    fixed = node.fixed.get(segments[at])
    if fixed is not None:
        found = _walk(fixed, segments, at + 1, values)
        if found is not None:
            return found
    if node.parameter is not None:
        name, below = node.parameter
        found = _walk(below, segments, at + 1, values)
        if found is not None:
            values[name] = segments[at]
            return found
    if node.rest is not None:
        name, below = node.rest
        values[name] = "/".join(segments[at:])
        return below
    return None
