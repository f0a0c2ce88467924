"""The root of `dossier`: its groups of commands, and the processes of the parts."""

import sys
from typing import Final, Literal

import typer

from dossier_cli import operating, preparing
from dossier_cli.parts import KINDS, become
from dossier_common.topology import PARTS

RICH: Final[Literal["rich"] | None] = "rich" if sys.stdout.isatty() and sys.stderr.isatty() else None
"""Colours and boxes are for people."""

commands = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=RICH,
    help="Runs the parts of Dossier, and the steps of its operators.",
)


def _part_group(part: str) -> typer.Typer:
    """`dossier <part> web|worker`; the short way to it is in `main`."""
    group = typer.Typer(no_args_is_help=True, help=f"Run a process of {part}.", rich_markup_mode=RICH)

    def add(kind: str, doing: str) -> None:
        @group.command(kind, help=f"{doing} until SIGTERM; settings come from the environment.")
        def run() -> None:
            become(part, kind)

    for kind, doing in zip(KINDS, ("Serves HTTP", "Runs relay, consumers and jobs"), strict=True):
        add(kind, doing)
    return group


preparing.add_to(commands)
operating.add_to(commands)
for _part in PARTS:
    commands.add_typer(_part_group(_part), name=_part)
