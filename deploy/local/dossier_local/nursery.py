"""Starts the parts' processes as copies of one that has imported what they share.

Ten interpreters that import the same libraries cost two processors ten seconds, and memory half a gigabyte. The nursery
imports once; each process of a part is a copy of it that then runs `dossier_<part>.main` or `.worker` as `python -m`
would, and becomes a child of the launcher. The nursery is gone before anyone is served, and what is started again later
is started afresh. Linux only: elsewhere every process is started afresh.
"""

import ctypes
import gc
import importlib
import json
import os
import runpy
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

SHARED: Final = (
    "dossier_common.app",
    "dossier_common.worker",
    "dossier_common.serve",
    "dossier_common.policy",
    "alembic",
)
ROOM: Final = "-" * 64
"""An argument that does nothing but leave room for the command line of a copy."""
PR_SET_PDEATHSIG: Final = 1
PR_SET_NAME: Final = 15
PR_SET_CHILD_SUBREAPER: Final = 36
PR_SET_NO_NEW_PRIVS: Final = 38
PATIENCE: Final = 5.0


def control(option: int, value: int | bytes) -> bool:
    """`prctl(2)`; False where the system does not know it."""
    if sys.platform != "linux":
        return False
    return bool(ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0)


def main() -> None:
    """Reads one job a line, answers each with the number of its process, and ends with its input."""
    for name in SHARED:
        importlib.import_module(name)
    if threading.active_count() > 1:
        raise RuntimeError("a process with threads cannot be copied")
    gc.freeze()
    launcher = os.getppid()
    while line := sys.stdin.buffer.readline():
        job: dict[str, Any] = json.loads(line)
        if _copied():
            _become(job, launcher)
            return


def _copied() -> bool:
    """Forks twice, so that the copy has no parent here; True in the copy. The first fork tells its number and ends."""
    first = os.fork()
    if first != 0:
        os.waitpid(first, 0)
        return False
    copy = os.fork()
    if copy != 0:
        os.write(1, f"{copy}\n".encode())
        os._exit(0)
    return True


def _become(job: dict[str, Any], launcher: int) -> None:
    os.setsid()
    until = time.monotonic() + PATIENCE
    while os.getppid() != launcher and time.monotonic() < until:
        time.sleep(0.001)
    control(PR_SET_PDEATHSIG, signal.Signals[job["stop_signal"]])
    if os.getppid() != launcher:
        raise RuntimeError("the launcher is gone")
    control(PR_SET_NO_NEW_PRIVS, 1)
    nothing, log = os.open(os.devnull, os.O_RDONLY), os.open(job["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for opened, standard in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(opened, standard)
    os.closerange(3, max(nothing, log) + 1)
    os.environ.clear()
    os.environ.update(job["environment"])
    os.chdir(job["folder"])
    _rename(job["name"], ["python", "-P", "-m", job["module"]])
    sys.argv = [job["module"]]
    runpy.run_module(job["module"], run_name="__main__", alter_sys=True)


def _rename(name: str, command: list[str]) -> None:
    """Shows the part to `ps`: writes over the arguments that this process was started with."""
    control(PR_SET_NAME, name.encode())
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    begin, end = int(fields[45]), int(fields[46])
    text = "\0".join(command).encode() + b"\0"
    if 0 < begin < end and len(text) <= end - begin:
        ctypes.memmove(begin, text.ljust(end - begin, b"\0"), end - begin)


if __name__ == "__main__":
    main()
