"""`python -P -m tests.faults.launch`: launcher and demo organisation, the parts' processes through `points`."""

import sys
from collections.abc import Sequence
from dataclasses import replace

from tests.faults.folder import FOLDER, MODULE, PROCESS, Folder

from dossier_local import organisation, supervisor
from dossier_local.cluster import Cluster
from dossier_local.main import say, until_signalled
from dossier_local.processes import Program
from dossier_local.stack import running
from dossier_local.state import LauncherError, State

LONGEST_WAIT = 1.0
"""Seconds before a killed process is started again, at most: here none dies of what a longer wait could mend."""


def instrumented(cluster: Cluster) -> Sequence[Program]:
    """The processes of all parts, each run by `tests.faults.points`."""
    folder = Folder(cluster.state.folder / "faults")
    folder.make()
    listed = []
    for program in supervisor.programs(cluster):
        if not program.name.endswith(("-web", "-worker")):
            listed.append(program)
            continue
        *python, flag, module = program.command
        assert flag == "-m"
        added = {MODULE: module, PROCESS: program.name, FOLDER: str(folder.path)}
        command = (*python, flag, "tests.faults.points")
        listed.append(replace(program, command=command, environment={**program.environment, **added}))
    return listed


async def stay() -> int:
    assert hasattr(supervisor, "LONGEST_WAIT")
    supervisor.LONGEST_WAIT = LONGEST_WAIT  # type: ignore[misc]
    async with running(State.chosen(), say, parts=instrumented) as stack:
        stack.write_demo(await organisation.ensure(stack))
        stack.write_ready()
        await stack.supervisor.until_failure()
    return 0


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # it is a text file here
    try:
        sys.exit(until_signalled(stay, interrupted=0))
    except LauncherError as error:
        say(str(error))
        sys.exit(1)
