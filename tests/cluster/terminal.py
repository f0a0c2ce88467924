"""A shell at a terminal, which is given the blocks of a page one after another, as by somebody who reads it."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

MARK: Final = "\x1e"
ROWS, COLUMNS = 50, 200
CONTROL: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[^\n]*\r(?!\n)|\r")
"""What a terminal is told and does not show, and what was overwritten."""


class Terminal:
    """Bash that stops at the first command that fails; standard input, output and errors are one terminal."""

    def __init__(self, prefix: Sequence[str], folder: Path, variables: Mapping[str, str]) -> None:
        self._screen, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        script, self._script = os.pipe()
        self._shell = subprocess.Popen(
            (*prefix, "bash", f"/dev/fd/{script}"),
            cwd=folder,
            env=variables,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            pass_fds=(script,),
            start_new_session=True,
        )
        os.close(slave)
        os.close(script)
        self.run("set -eo pipefail", seconds=10)

    def run(self, text: str, *, seconds: float) -> str:
        """What the commands show. Fails where one of them fails, or all of them take too long."""
        os.write(self._script, f"{text}\nprintf '\\036'\n".encode())
        end, said = time.monotonic() + seconds, b""
        while MARK.encode() not in said:
            left = end - time.monotonic()
            assert left > 0, f"not within {seconds} s:\n{text}\n{_shown(said)}"
            if select.select([self._screen], [], [], left)[0]:
                try:
                    read = os.read(self._screen, 65536)
                except OSError:  # the shell has ended, and nobody else has the terminal open
                    read = b""
                assert read, f"failed:\n{text}\n{_shown(said)}"
                said += read
        return _shown(said).removesuffix(MARK)

    def close(self) -> None:
        """Ends the shell."""
        os.close(self._script)
        self._shell.wait(10)
        os.close(self._screen)


def _shown(said: bytes) -> str:
    return CONTROL.sub("", said.decode(errors="replace"))
