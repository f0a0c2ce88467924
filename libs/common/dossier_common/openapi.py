"""The OpenAPI documents of the parts: written to `docs/api/`, from which the gateway makes its route table."""

import importlib
from pathlib import Path
from typing import Any

import orjson
from fastapi import FastAPI

from dossier_common.topology import PARTS


def document(part: str) -> dict[str, Any]:
    """The OpenAPI document of one part, as its application declares it."""
    app: FastAPI = importlib.import_module(f"dossier_{part}.main").create()
    return app.openapi()


def text(part: str) -> bytes:
    """The document as it stands in its file: sorted keys, two spaces, a newline at the end."""
    return orjson.dumps(document(part), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"


def write(folder: Path) -> None:
    """Writes the file of every part."""
    for part in PARTS:
        (folder / f"{part}.json").write_bytes(text(part))


def differing(folder: Path) -> list[str]:
    """The parts whose file is not what their application declares."""
    return [
        part
        for part in PARTS
        if not (folder / f"{part}.json").is_file() or (folder / f"{part}.json").read_bytes() != text(part)
    ]
