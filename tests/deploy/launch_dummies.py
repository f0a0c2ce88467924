"""The launcher with its real PostgreSQL and NATS, and dummies in place of the parts."""

import sys
from collections.abc import Sequence
from pathlib import Path

from dossier_common.topology import PARTS
from dossier_local.cluster import Cluster
from dossier_local.main import say, until_signalled
from dossier_local.processes import Program
from dossier_local.stack import running
from dossier_local.state import LauncherError, State

DUMMY = Path(__file__).with_name("dummy_part.py")


def dummies(cluster: Cluster) -> Sequence[Program]:
    ports = cluster.environment.ports
    listed = []
    for part in PARTS:
        for kind, port in (("web", ports[part]), ("worker", ports[f"{part}-worker"])):
            command = (sys.executable, "-S", "-P", str(DUMMY), str(port))
            listed.append(Program(f"{part}-{kind}", command, {}))
    return listed


async def stay() -> int:
    async with running(State.chosen(), say, parts=dummies, migrate=False) as stack:
        for line in stack.supervisor.lines():
            say(line)
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
