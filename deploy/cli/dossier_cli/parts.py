"""`dossier <part> web|worker`: this process becomes one of a part's two."""

import runpy
import sys
from typing import Final

KINDS: Final = {"web": "main", "worker": "worker"}
"""Kinds of processes, and the module that each is."""


def become(part: str, kind: str) -> None:
    """Runs the process until SIGTERM or SIGINT, as `python -m dossier_<part>.main` or `.worker` would."""
    module = f"dossier_{part}.{KINDS[kind]}"
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
