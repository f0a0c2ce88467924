"""`dossier <part> web|worker`: this process becomes one of a part's two."""

import os
import runpy
import sys
from collections.abc import Sequence
from typing import Final

from dossier_common.topology import PARTS

KINDS: Final = {"web": "main", "worker": "worker"}
"""Kinds of processes, and the module that each is."""


def become(part: str, kind: str) -> None:
    """Runs the process until SIGTERM or SIGINT, as `python -m dossier_<part>.main` or `.worker` would."""
    module = f"dossier_{part}.{KINDS[kind]}"
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def chosen(arguments: Sequence[str]) -> tuple[str, str] | None:
    """Part and kind, when that and no more is asked for: `records web`, or `web` where DOSSIER_SERVICE is records."""
    named = (os.environ.get("DOSSIER_SERVICE", ""), *arguments) if len(arguments) == 1 else tuple(arguments)
    if len(named) == 2 and named[0] in PARTS and named[1] in KINDS:
        return named[0], named[1]
    return None
