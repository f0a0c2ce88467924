"""Pack files to one checked policy."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dossier_common.policy.checks import duties_together, findings
from dossier_common.policy.model import Policy
from dossier_common.policy.nodes import Fault, Node, PolicyError, name_of, parse, read

_PACK_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def load_policy(path: Path) -> Policy:
    """The policy in the file, merged with what it extends.

    Raises PolicyError with every fault of the first step that fails (reading, merging, shape, meaning), each with
    its file, line and key. A policy that is returned may be used.
    """
    return _checked(_merged(path, read(path), ()))


def policy_from_text(text: str, folder: Path) -> Policy:
    """The policy that a pack's text says, merged with what it extends of the packs in the folder, checked like a file.

    The text may come from anybody; in faults it is called `proposal`. Raises PolicyError as `load_policy`.
    """
    root = parse(text, "proposal")
    name = root.value.get("pack") if isinstance(root.value, dict) else None
    if name is None or not isinstance(name.value, str) or not _PACK_NAME.fullmatch(name.value):
        raise (name or root).fault("pack", "is the name of the pack")
    return _checked(_merged(folder / f"{name.value}.yaml", root, ()))


def policy_from_content(content: Mapping[str, Any], origin: str = "policy") -> Policy:
    """The policy with this merged content (`Policy.content`), checked like a file; faults have no line."""
    return _checked(_unplaced(content, origin))


def _checked(root: Node) -> Policy:
    try:
        policy = Policy.model_validate(root.plain())
    except ValidationError as error:
        raise PolicyError(_ordered(_shape_fault(root, detail) for detail in error.errors(include_url=False))) from error
    faults = []
    duties = set(duties_together(policy))
    for path, message in (*findings(policy), *duties):
        node, key = root.at(path)
        faults.append(Fault(node.file, node.line, key, message, duty=(path, message) in duties))
    if faults:
        raise PolicyError(_ordered(faults))
    return policy


def _ordered(faults: Any) -> list[Fault]:
    return sorted(dict.fromkeys(faults), key=lambda fault: (fault.file, fault.line, fault.key, fault.message))


def _shape_fault(root: Node, detail: ErrorDetails) -> Fault:
    node, key = root.at(detail["loc"])
    match detail["type"]:
        case "extra_forbidden":
            message = "unknown key"
        case "missing":
            key, message = f"{key}.{detail['loc'][-1]}".removeprefix("."), "is missing"
        case _:
            message = detail["msg"].removeprefix("Value error, ")
            if isinstance(detail["input"], str | int | float):
                message += f", not {detail['input']!r}"
    return Fault(node.file, node.line, key, message)


def _merged(path: Path, pack: Node, below: tuple[str, ...]) -> Node:
    """The pack and what it extends beside it, as one mapping without `extends` and `remove`."""
    assert isinstance(pack.value, dict)
    entries = dict(pack.value)
    name = entries.get("pack")
    if name is None or name.value != path.stem:
        raise (name or pack).fault("pack", f"the pack is called like its file, {path.stem!r}")
    extends = entries.pop("extends", None)
    if extends is None:
        base: dict[str, Node] = {}
    else:
        parent = extends.value
        if not isinstance(parent, str) or not _PACK_NAME.fullmatch(parent):
            raise extends.fault("extends", "is the name of a pack")
        if parent in {*below, path.stem}:
            raise extends.fault("extends", "a pack cannot extend itself: " + " → ".join((*below, path.stem, parent)))
        file = path.with_name(f"{parent}.yaml")
        if not file.is_file():
            raise extends.fault("extends", f"there is no pack {parent!r} beside this one")
        inherited = _merged(file, read(file), (*below, path.stem)).value
        assert isinstance(inherited, dict)
        base = inherited
    merged = dict(base)
    for section, node in entries.items():
        merged[section] = _section(merged.get(section), node, section)
    return Node(merged, pack.file, pack.line)


def _section(base: Node | None, new: Node, key: str) -> Node:
    if isinstance(new.value, list) and (base is None or isinstance(base.value, list)):
        return _list(base, new, key)
    if isinstance(new.value, dict):
        inherited = base.value if base is not None and isinstance(base.value, dict) else {}
        return _mapping(inherited, new, key)
    return new


def _mapping(base: dict[str, Node], new: Node, key: str) -> Node:
    """Key by key; `remove` takes keys away. What stands below a key is replaced as a whole."""
    assert isinstance(new.value, dict)
    kept = dict(base)
    _remove(kept, new, key)
    kept.update((name, node) for name, node in new.value.items() if name != "remove")
    return Node(kept, new.file, new.line)


def _list(base: Node | None, new: Node, key: str) -> Node:
    """Items by name, in the base's order and then in their own; an item of a known name replaces key by key."""
    assert isinstance(new.value, list)
    inherited = base.value if base is not None else []
    assert isinstance(inherited, list)
    items = {name_of(node) or f"[{number}]": node for number, node in enumerate(inherited)}
    own: set[str] = set()
    for number, item in enumerate(new.value):
        if isinstance(item.value, dict) and "remove" in item.value:
            if len(item.value) > 1:
                raise item.fault(f"{key}.remove", "stands alone in its item")
            _remove(items, item, key)
            continue
        called = name_of(item) or f"[{len(items)}+{number}]"
        if called in own:
            raise item.fault(f"{key}.{called}", "stands twice")
        own.add(called)
        items[called] = _over(items.get(called), item)
    return Node(list(items.values()), new.file, new.line)


def _over(known: Node | None, item: Node) -> Node:
    if known is None or not isinstance(known.value, dict) or not isinstance(item.value, dict):
        return item
    return Node({**known.value, **item.value}, item.file, item.line)


def _remove(items: dict[str, Node], node: Node, key: str) -> None:
    """Takes away what `remove` in the node names; a name that is not there is refused."""
    assert isinstance(node.value, dict)
    names = node.value.get("remove")
    if names is None:
        return
    if not isinstance(names.value, list):
        raise names.fault(f"{key}.remove", "is a list of ids")
    for name in names.value:
        if not isinstance(name.value, str) or items.pop(name.value, None) is None:
            raise name.fault(f"{key}.remove", f"there is no {name.value!r} to remove")


def _unplaced(value: Any, origin: str) -> Node:
    if isinstance(value, Mapping):
        return Node({str(key): _unplaced(item, origin) for key, item in value.items()}, origin, 0)
    if isinstance(value, (list, tuple)):
        return Node([_unplaced(item, origin) for item in value], origin, 0)
    return Node(value, origin, 0)
