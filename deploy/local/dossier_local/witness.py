"""The witness of the embedded stack: the program that an audit department runs elsewhere, in a folder of its own.

Here it shares a machine with the log that it witnesses, so it shows how, and proves little to an outsider.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from dossier_local import keys
from dossier_local.processes import Program
from dossier_local.state import LauncherError, State, write_private

PROGRAM: Final = "witness"
NAME: Final = "dossier.localhost/witness"
COMMAND: Final = (sys.executable, "-P", "-m", "dossier_witness")
GENERATIONS: Final = range(1, 10)
"""Logs that it would cosign; elsewhere a person adds each new one, after a look at why there is one."""
_KEY, _STATE, _CONFIG = "key.pem", "state.sqlite", "witness.toml"


def origin(base_url: str, generation: int = 1) -> str:
    """Origin of a log that the audit part serves behind this gateway: its address without the scheme.

    A log of a later generation takes the place of one that was set back by a restore.
    """
    path = "/v1/audit/log" if generation == 1 else f"/v1/audit/logs/{generation}"
    return f"{base_url.partition('://')[2]}{path}"


def log_vkey(state: State, base_url: str, generation: int = 1) -> str:
    """The vkey of that log."""
    return keys.vkey(origin(base_url, generation), keys.ED25519, keys.public_bytes(keys.audit_log_key(state)))


def prepare(state: State, base_url: str, port: int) -> Path:
    """The witness's configuration, for this log and port; its key and memory are made at the first time.

    Raises LauncherError when the program does not make them.
    """
    settings = {"name": NAME, "key_file": _KEY, "state": _STATE, "listen": f"127.0.0.1:{port}"}
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    for generation in GENERATIONS:
        lines += ["", "[[logs]]", f"vkey = {json.dumps(log_vkey(state, base_url, generation))}"]
    config = state.witness / _CONFIG
    write_private(config, "\n".join([*lines, ""]).encode())
    if not (state.witness / _KEY).exists():
        (state.witness / _STATE).unlink(missing_ok=True)  # its key was never written, so nothing was cosigned with it
        made = subprocess.run(
            (*COMMAND, "keygen", "--config", str(config)), capture_output=True, text=True, check=False
        )
        if made.returncode:
            raise LauncherError(f"The witness's key cannot be made: {made.stderr.strip()}")
    return config


def witnesses_file(state: State, base_url: str, port: int) -> Path:
    """File that tells the audit part whom to ask for cosignatures."""
    prepare(state, base_url, port)
    public = keys.public_bytes(state.witness / _KEY)
    known = [{"url": f"http://127.0.0.1:{port}", "vkey": keys.vkey(NAME, keys.COSIGNATURE, public)}]
    path = state.folder / "witnesses.json"
    write_private(path, json.dumps(known, indent=2).encode())
    return path


def program(state: State, base_url: str, port: int) -> Program:
    """The witness as a process of the stack."""
    config = prepare(state, base_url, port)
    environment = os.environ | {"TMPDIR": str(state.temporary)}
    return Program(PROGRAM, (*COMMAND, "run", "--config", str(config)), environment, folder=state.witness)
