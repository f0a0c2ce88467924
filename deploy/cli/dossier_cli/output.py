"""What the commands print."""

import json
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON")]


def print_json(content: Any) -> None:
    """One JSON value on standard output."""
    typer.echo(json.dumps(content, ensure_ascii=False))
