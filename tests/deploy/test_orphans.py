"""The launcher takes note of the end of orphans, so that none stays behind as a zombie."""

import subprocess
import sys

import pytest

SCRIPT = """
import subprocess, sys, time
from dossier_local.nursery import PR_SET_CHILD_SUBREAPER, control
from dossier_local.processes import Orphans, _children

if not control(PR_SET_CHILD_SUBREAPER, 1):
    sys.exit("no subreaper")
subprocess.run(["sh", "-c", "sleep 0.1 & exit 0"], check=True)
own = subprocess.Popen(["sh", "-c", "exit 7"])
orphans, until = Orphans(), time.monotonic() + 20
while set(_children()) != {own.pid} and time.monotonic() < until:
    orphans.bury([own.pid])
    time.sleep(0.05)
print(set(_children()) == {own.pid}, own.wait())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands orphans to the launcher")
def test_orphans_are_buried_and_whoever_waits_for_his_own_child_learns_its_status() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "7"]
