"""Where the harness and the processes under fault meet: files in the state folder, and their names.

The product has no hook for faults. Each process is started through `tests.faults.points`, which looks for these
files at the places where it wrapped the product.
"""

import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Final

MODULE: Final = "DOSSIER_FAULTS_MODULE"
PROCESS: Final = "DOSSIER_FAULTS_PROCESS"
FOLDER: Final = "DOSSIER_FAULTS_FOLDER"


class Folder:
    """The files of one stack. Whoever writes one writes it whole, by a rename."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def make(self) -> None:
        self.path.mkdir(exist_ok=True)

    # -- points: the harness arms one, the process that reaches it falls

    def arm(self, process: str, point: str, *, passes: int = 0, action: signal.Signals = signal.SIGKILL) -> None:
        """Lets the process reach the point so often; the next time it does `action` to itself."""
        self.forget(process, point)
        self._write(self._armed(process, point), {"passes": passes, "action": int(action)})

    def disarm(self, process: str, point: str) -> None:
        self._armed(process, point).unlink(missing_ok=True)

    def fired(self, process: str, point: str) -> bool:
        """Whether the armed point was reached, and the action taken."""
        return self._fired(process, point).exists()

    def reached(self, process: str, point: str) -> None:
        """Called in the process: does to itself what the armed point says."""
        armed = self._armed(process, point)
        try:
            order = json.loads(armed.read_text())
        except FileNotFoundError:
            return
        if order["passes"] > 0:
            self._write(armed, order | {"passes": order["passes"] - 1})
            return
        armed.rename(self._fired(process, point))
        os.kill(os.getpid(), order["action"])

    def tell(self, process: str, what: str) -> None:
        """Called in the process: what the harness asked for has taken effect."""
        self._fired(process, what).touch()

    def forget(self, process: str, what: str) -> None:
        self._fired(process, what).unlink(missing_ok=True)

    # -- clocks

    def set_clock(self, process: str, seconds: float) -> None:
        """Puts the clock of this process ahead, or back with a negative number."""
        self._write(self.path / f"clock.{process}", seconds)

    def clock(self, process: str) -> float:
        try:
            return float(json.loads((self.path / f"clock.{process}").read_text()))
        except FileNotFoundError:
            return 0.0

    # -- mutants, read when a process starts

    def set_mutants(self, process: str, names: Sequence[str]) -> None:
        self._write(self.path / f"mutants.{process}", list(names))

    def mutants(self, process: str) -> list[str]:
        try:
            return list(json.loads((self.path / f"mutants.{process}").read_text()))
        except FileNotFoundError:
            return []

    def _armed(self, process: str, point: str) -> Path:
        return self.path / f"armed.{process}.{point}"

    def _fired(self, process: str, point: str) -> Path:
        return self.path / f"fired.{process}.{point}"

    def _write(self, path: Path, content: object) -> None:
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.write_text(json.dumps(content))
        draft.replace(path)
