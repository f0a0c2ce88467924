"""`python -m dossier_local.migrate upgrade|check`: the process behind `dossier_local.migrations`.

It reads the jobs from standard input when its imports are done, and forks once per part: Alembic keeps its context in a
module, so two migrations cannot share a process.
"""

import json
import os
import sys
import traceback
from pathlib import Path

import alembic.command
from alembic.config import Config

import dossier_common.migrations  # imported before the fork, for all parts
import dossier_common.tables  # noqa: F401


def migrate(action: str, part_folder: Path, url: str) -> None:
    """Runs one action on one database. Raises what Alembic and the driver raise."""
    config = Config(part_folder / "alembic.ini")
    config.set_main_option("script_location", str(part_folder / "migrations").replace("%", "%%"))
    os.environ["DOSSIER_MIGRATOR_URL"] = url
    if action == "upgrade":
        alembic.command.upgrade(config, "head")
    else:
        alembic.command.check(config)


def main() -> int:
    """Exit status 1 when one of the parts failed; its traceback is on standard error."""
    action = sys.argv[1]
    jobs: dict[str, dict[str, str]] = json.load(sys.stdin)
    children: dict[int, str] = {}
    for part, job in jobs.items():
        child = os.fork()
        if child == 0:
            status = 1
            try:
                migrate(action, Path(job["folder"]), job["url"])
                status = 0
            except BaseException:  # noqa: BLE001  # the child must not return into its parent's code
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        children[child] = part
    failed = []
    while children:
        child, status = os.wait()
        if os.waitstatus_to_exitcode(status) != 0:
            failed.append(children[child])
        del children[child]
    if failed:
        print(f"{action} failed: {', '.join(sorted(failed))}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
