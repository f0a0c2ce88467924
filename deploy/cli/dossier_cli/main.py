"""The `dossier` command: runs the parts, and the steps of operators beside them."""

import sys

from dossier_cli.errors import Refused
from dossier_cli.parts import become, chosen


def app() -> None:
    """Runs one command. Exit status 1 with one line on standard error for what is refused, 2 for a wrong call."""
    if process := chosen(sys.argv[1:]):
        become(*process)  # before the command line is imported: a part has no use for its memory
        return
    from dossier_cli.commands import commands

    try:
        commands(prog_name="dossier")
    except Refused as refused:
        sys.exit(f"dossier {sys.argv[1]}: {refused}")
