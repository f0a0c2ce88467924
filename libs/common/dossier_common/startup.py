"""What a process looks at before it starts: with any fault it ends, with one line that says where to mend it."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from dossier_common.policy import PolicyError
from dossier_common.schema import Schema
from dossier_common.settings import PartSettings, load

S = TypeVar("S", bound=PartSettings)
Check = Callable[[S], object]


def prepared(cls: type[S], *checks: Check[S]) -> S:
    """Settings with which web and worker may start: the files hold what they should, and the policy is one.

    `checks` are the part's own: they raise OSError or ValueError. Raises SystemExit.
    """
    settings = load(cls)
    try:
        Schema.read(settings.part, settings.common.installed)
        _ = settings.common.pack
        for check in checks:
            check(settings)
    except PolicyError as error:
        first, *others = str(error).splitlines()
        more = f" (and {len(others)} more: dossier policy check FILE)" if others else ""
        raise SystemExit(f"{cls.__module__}: DOSSIER_POLICY is no valid policy: {first}{more}") from error
    except OSError as error:
        raise SystemExit(f"{cls.__module__}: {error.filename}: {error.strerror}") from error
    except ValueError as error:
        raise SystemExit(f"{cls.__module__}: {error}") from error
    return settings


def ensure_writable(setting: str, folder: Path) -> None:
    """The folder takes files, and is made where it is missing. Raises ValueError, which names the setting."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
            os.fsync(file.fileno())
    except OSError as error:
        raise ValueError(f"{setting}: {folder} cannot be written: {error.strerror}") from error
