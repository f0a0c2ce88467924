"""`python -m dossier_local.migrate upgrade|check`: the process behind `dossier_local.migrations`.

It reads the jobs from standard input when its imports are done, and forks once per part: Alembic keeps its context in a
module, so two migrations cannot share a process.
"""

import json
import os
import sys
import traceback

import dossier_common.tables  # noqa: F401  # imported before the fork, for all parts
from dossier_cli import migrate


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
                os.environ.update(job)
                (migrate.upgrade if action == "upgrade" else migrate.check)(part)
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
