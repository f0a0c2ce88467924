"""Child processes: started so that they end with the launcher, and found again when they did not."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from dossier_local.nursery import PR_SET_CHILD_SUBREAPER, ROOM, control
from dossier_local.state import State, open_private, write_private


@dataclass(frozen=True)
class User:
    """Whom a program runs as."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class Program:
    """One process of the stack: what runs, how it is asked to end, and how long it may take."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 10
    user: User | None = None
    folder: Path | None = None


class Adopted:
    """A child that this process did not start itself: what `subprocess.Popen` offers, as far as it is used here."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Exit status, negative for a signal, or nothing while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired."""
        until = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if until is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            time.sleep(0.01)
        return status

    def send_signal(self, number: int) -> None:
        """Nothing when it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends it without asking."""
        self.send_signal(signal.SIGKILL)


class Process:
    """A running program.

    It has a session of its own, so that Ctrl-C reaches the launcher alone and the order of stopping is kept. On Linux
    the kernel sends it its stop signal when the launcher dies, however that happens; elsewhere the next start does.
    """

    def __init__(self, program: Program, state: State, adopted: Adopted | None = None) -> None:
        self.program = program
        self._pid_file = state.run / f"{program.name}.pid"
        self._popen = adopted or self._started(program, state)
        write_private(self._pid_file, json.dumps({"pid": self.pid, "started": started(self.pid)}).encode())

    @staticmethod
    def _started(program: Program, state: State) -> "subprocess.Popen[bytes]":
        with open_private(state.logs / f"{program.name}.log") as log:
            who = program.user
            return subprocess.Popen(
                (*guard(program.stop_signal), *program.command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(program.environment),
                cwd=program.folder or state.folder,
                start_new_session=True,
                user=who.uid if who else None,
                group=who.gid if who else None,
                extra_groups=[] if who else None,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    def status(self) -> int | None:
        """Exit status (negative: the signal that ended it), or nothing while it runs."""
        return self._popen.poll()

    def ask(self) -> None:
        """Asks it to end. Does not wait."""
        if self._popen.poll() is None:
            self._popen.send_signal(self.program.stop_signal)

    def ended(self, seconds: float) -> bool:
        """Waits until it has ended, at most so long."""
        try:
            self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        self._pid_file.unlink(missing_ok=True)
        return True

    def kill(self) -> None:
        """Ends it without asking, and waits."""
        self._popen.kill()
        self._popen.wait()
        self._pid_file.unlink(missing_ok=True)

    def stop(self) -> None:
        """Asks, waits, and kills what does not listen."""
        self.ask()
        if not self.ended(self.program.stop_seconds):
            self.kill()


class Nursery:
    """The launcher's side of `dossier_local.nursery`; leaving the context ends it, and none of its copies."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._works = control(PR_SET_CHILD_SUBREAPER, 1)
        self._asked = False
        with open_private(state.logs / "nursery.log") as log:
            self._popen = subprocess.Popen(
                (*guard(signal.SIGTERM), sys.executable, "-P", "-m", "dossier_local.nursery", ROOM),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._popen.terminate()
        self.close()

    def close(self) -> None:
        """Ends the nursery when it has done what it was asked for; can be repeated."""
        if not self._asked:
            self._popen.terminate()
        self._popen.communicate()

    def start(self, program: Program) -> Process:
        """Starts a program of the form `python … -m <module>` as a copy, or afresh where copies cannot be had."""
        *_, flag, module = program.command
        if not self._works or flag != "-m" or program.user is not None:
            return Process(program, self._state)
        self._asked = True
        job = {
            "name": program.name,
            "module": module,
            "environment": dict(program.environment),
            "folder": str(program.folder or self._state.folder),
            "log": str(self._state.logs / f"{program.name}.log"),
            "stop_signal": program.stop_signal.name,
        }
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        try:
            self._popen.stdin.write(json.dumps(job).encode() + b"\n")
            self._popen.stdin.flush()
        except BrokenPipeError:
            self._works = False
        answer = self._popen.stdout.readline()
        if not answer:
            self._works = False
            return Process(program, self._state)
        return Process(program, self._state, Adopted(int(answer)))


class Orphans:
    """Children that became this process's when their own parent was killed: nobody else takes note of their end."""

    def __init__(self) -> None:
        self._ended: set[int] = set()

    def bury(self, known: Collection[int]) -> None:
        """Takes note of those that had ended at the last call already; `known` have somebody who does."""
        ended = {pid for pid in _children() if started(pid) is None} - set(known)
        for pid in ended & self._ended:  # what is waited for elsewhere, as by `subprocess.run`, is gone by now
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        self._ended = ended


def _children() -> list[int]:
    """Of this process, where the system tells."""
    try:
        lists = [path.read_text() for path in Path("/proc/self/task").glob("*/children")]
    except FileNotFoundError:
        return []
    return [int(pid) for each in lists for pid in each.split()]


def stop_all(processes: Sequence[Process]) -> None:
    """Stops these together: all are asked before the first is waited for."""
    for process in processes:
        process.ask()
    for process in processes:
        process.stop()


@cache
def guard(on_death: signal.Signals) -> tuple[str, ...]:
    """Words before a command that bind its life to this process's: `setpriv` of util-linux, where it is."""
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    if setpriv is None:
        return ()
    words = (setpriv, "--no-new-privs", "--pdeathsig", on_death.name.removeprefix("SIG"))
    works = subprocess.run((*words, "true"), capture_output=True, check=False).returncode == 0
    return (*words, "--") if works else ()


def started(pid: int) -> str | None:
    """When this process started, as a text that differs for a later process of the same number; nothing if it ended."""
    stat = Path(f"/proc/{pid}/stat")
    if sys.platform == "linux":
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] in {"Z", "X"} else fields[19]
    said = subprocess.run(("ps", "-o", "lstart=", "-p", str(pid)), capture_output=True, text=True, check=False)
    return said.stdout.strip() or None


def runs_with(pid: int, word: str) -> bool:
    """Whether this process runs and its command line contains the word."""
    if sys.platform == "linux":
        try:
            return word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            return False
    said = subprocess.run(("ps", "-ww", "-o", "args=", "-p", str(pid)), capture_output=True, text=True, check=False)
    return word in said.stdout


def clean_up(state: State, data_folder: Path | None) -> list[str]:
    """Ends what a killed launcher left running in this state folder; its names, in the order in which they ended.

    The caller holds the lock of the folder, so nothing that runs from it can belong to a living launcher.
    """
    found: dict[str, int] = {}
    for path in sorted(state.run.glob("*.pid")):
        left = json.loads(path.read_text())
        if left["started"] is not None and started(left["pid"]) == left["started"]:
            found[path.stem] = left["pid"]
    postmaster = _postmaster(data_folder) if data_folder else None
    if postmaster is not None:
        found["postgres"] = postmaster
    last = ("nats", "postgres")
    order = [name for name in found if name not in last] + [name for name in last if name in found]
    services = [name for name in order if name not in last]
    _end({name: found[name] for name in services}, signal.SIGTERM, 8)
    _end({name: found[name] for name in order if name == "nats"}, signal.SIGTERM, 5)
    _end({name: found[name] for name in order if name == "postgres"}, signal.SIGINT, 15)
    for path in state.run.glob("*.pid"):
        path.unlink()
    return order


def _postmaster(data_folder: Path) -> int | None:
    path = data_folder / "postmaster.pid"
    try:
        text = path.read_text()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not re.match(r"^\d+\n", text):
        return None
    pid = int(text.splitlines()[0])
    return pid if runs_with(pid, str(data_folder)) else None


def _end(processes: Mapping[str, int], first: signal.Signals, seconds: float) -> None:
    for signal_, wait in ((first, seconds), (signal.SIGKILL, 5)):
        born = {pid: started(pid) for pid in processes.values()}
        alive = [pid for pid, when in born.items() if when is not None]
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal_)
                os.kill(pid, signal.SIGCONT)  # one that was frozen hears it now
        until = time.monotonic() + wait
        while any(started(pid) == born[pid] for pid in alive) and time.monotonic() < until:
            time.sleep(0.02)
