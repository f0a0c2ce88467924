"""YAML with the place of every key, so that a fault can name its file and line."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

import yaml

MAX_PACK_BYTES = 1024 * 1024
MAX_DEPTH = 20
MAX_DIGITS = 15
"""Of a whole number, so that canonical JSON can say it (RFC 8785: below 2^53)."""
_TEXT = "tag:yaml.org,2002:str"


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a pack, and where; `line` counts from 1, 0 where there is no file."""

    file: str
    line: int
    key: str
    message: str
    duty: bool = False
    """Whether it lets one person hold two duties (invariant 4)."""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}: " if self.line else ""
        return f"{place}{self.key}: {self.message}" if self.key else f"{place}{self.message}"


class PolicyError(ValueError):
    """A pack cannot be used; its text has one line for each fault."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class Node:
    """A value of a pack and the place where it stands; of a mapping's entry, the place of its key."""

    value: Union[bool, int, float, str, "list[Node]", "dict[str, Node]", None]
    file: str
    line: int

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def fault(self, key: str, message: str) -> PolicyError:
        """An error at this place."""
        return PolicyError([Fault(self.file, self.line, key, message)])

    def at(self, path: Sequence[str | int]) -> tuple["Node", str]:
        """The deepest node on the path, and the path in words, items of lists by their id.

        Steps that pydantic adds for its own branches are passed over.
        """
        node, words = self, ""
        for step in path:
            if isinstance(node.value, dict):
                # a mapping that the model reads as a list (the clauses) is stepped into by number
                key = list(node.value)[step] if isinstance(step, int) else step
                if key in node.value:
                    words += f".{key}" if words else key
                    node = node.value[key]
            elif isinstance(node.value, list) and isinstance(step, int):
                node = node.value[step]
                words += f".{name}" if (name := name_of(node)) else f"[{step}]"
        return node, words


def name_of(node: Node) -> str | None:
    """What an item of a list is called: its id, a stage's name, an access rule's level."""
    if isinstance(node.value, dict):
        for key in ("id", "name", "level"):
            found = node.value.get(key)
            if found is not None and isinstance(found.value, str):
                return found.value
    return None


class _PackLoader(yaml.SafeLoader):
    """YAML 1.2's core scalars alone: `no` and `on` are words, and 22:00 is not a number."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - the shape that PyYAML gives it


for _tag, _pattern, _first in (
    ("bool", r"^(?:true|false)$", ("t", "f")),
    ("null", r"^(?:null|~|)$", ("n", "~", "")),
    ("int", r"^[-+]?[0-9]+$", tuple("-+0123456789")),
    ("float", r"^[-+]?[0-9]+\.[0-9]+$", tuple("-+0123456789")),
):
    _PackLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))


def read(path: Path) -> Node:
    """The mapping in the file.

    Raises PolicyError for a file that cannot be read or is no YAML, for a key that stands twice, and for anchors,
    aliases and tags: a pack is written out.
    """
    file = path.name
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_PACK_BYTES + 1)
        _ensure_short(content, file)
        return parse(content.decode("utf-8"), file)
    except OSError as error:
        raise PolicyError([Fault(file, 1, "", f"cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise PolicyError([Fault(file, 1, "", "is not UTF-8")]) from error


def parse(text: str, file: str) -> Node:
    """As `read`, of a text that is called `file` in faults; it may come from anybody."""
    _ensure_short(text.encode(errors="replace"), file)
    try:
        _ensure_plain(text, file)
        root = yaml.compose(text, Loader=_PackLoader)
    except yaml.MarkedYAMLError as error:
        raise PolicyError(
            [Fault(file, _line(error.problem_mark or error.context_mark), "", f"is not YAML: {error.problem}")]
        ) from error
    except yaml.YAMLError as error:
        raise PolicyError([Fault(file, 1, "", "is not YAML")]) from error
    if not isinstance(root, yaml.MappingNode):
        raise PolicyError([Fault(file, 1, "", "is not a mapping")])
    return _node(root, file, root.start_mark.line + 1, "")


def _ensure_short(content: bytes, file: str) -> None:
    if len(content) > MAX_PACK_BYTES:
        raise PolicyError([Fault(file, 1, "", f"longer than {MAX_PACK_BYTES} bytes")])


def _ensure_plain(text: str, file: str) -> None:
    """Refuses aliases, and a depth that would exhaust the stack of what reads the text next."""
    depth = 0
    for event in yaml.parse(text, Loader=_PackLoader):
        if isinstance(event, yaml.AliasEvent):
            raise PolicyError([Fault(file, _line(event.start_mark), "", "aliases are not allowed")])
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise PolicyError([Fault(file, _line(event.start_mark), "", f"deeper than {MAX_DEPTH} levels")])


def _line(mark: Any) -> int:
    return 1 if mark is None else mark.line + 1


def _node(source: yaml.Node, file: str, line: int, key: str) -> Node:
    if isinstance(source, yaml.MappingNode):
        entries: dict[str, Node] = {}
        for key_node, value_node in source.value:
            at = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != _TEXT:
                raise PolicyError([Fault(file, at, key, "keys are words")])
            name = _words(key_node, file, at, key)
            if name in entries:
                raise PolicyError([Fault(file, at, f"{key}.{name}".strip("."), "stands twice")])
            entries[name] = _node(value_node, file, at, f"{key}.{name}".strip("."))
        return Node(entries, file, line)
    if isinstance(source, yaml.SequenceNode):
        return Node(
            [
                _node(item, file, item.start_mark.line + 1, f"{key}[{number}]")
                for number, item in enumerate(source.value)
            ],
            file,
            line,
        )
    return Node(_scalar(source, file, line, key), file, line)


def _words(source: yaml.Node, file: str, line: int, key: str) -> str:
    """The words of a scalar, which an escape could have made such that no database and no UTF-8 takes them."""
    value: str = source.value
    if any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in value):
        raise PolicyError([Fault(file, line, key, "has a character that no text can have")])
    return value


def _scalar(source: yaml.Node, file: str, line: int, key: str) -> bool | float | str | None:
    value = _words(source, file, line, key)
    match source.tag.removeprefix("tag:yaml.org,2002:"):
        case "str":
            return value
        case "null":
            return None
        case "bool":
            return value == "true"
        case "int":
            if len(value) > MAX_DIGITS:
                raise PolicyError([Fault(file, line, key, "is too large a number")])
            return int(value)
        case "float":
            return float(value)
        case _:
            raise PolicyError([Fault(file, line, key, "tags are not allowed")])
