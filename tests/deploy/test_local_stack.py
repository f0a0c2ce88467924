"""The full stack as `make up` starts it."""

import json
import sys
from pathlib import Path

import httpx
import pytest

from dossier_common.topology import PARTS
from dossier_local.launched import RunningStack
from dossier_local.organisation import second_factor
from dossier_local.second_factor import Device
from dossier_local.sign_in import person_token


def command_line(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode().split("\0")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_every_process_is_a_child_of_the_launcher_and_shows_its_part(stack: RunningStack) -> None:
    launcher = stack.state.ready()["pid"]
    for part in PARTS:
        for kind, module in (("web", "main"), ("worker", "worker")):
            pid = json.loads((stack.state.run / f"{part}-{kind}.pid").read_text())["pid"]
            assert command_line(pid)[-2:] == ["-m", f"dossier_{part}.{module}"]
            parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
            assert int(parent) == launcher


def test_every_part_is_ready_at_its_own_port(stack: RunningStack) -> None:
    assert stack.base_url == f"http://127.0.0.1:{stack.ports['gateway']}"
    for part in PARTS:
        assert httpx.get(f"http://127.0.0.1:{stack.ports[part]}/readyz", trust_env=False).status_code == 200, part


def test_what_demo_json_tells_is_for_the_owner_alone(stack: RunningStack) -> None:
    assert stack.state.demo_file.stat().st_mode & 0o777 == 0o600
    assert stack.demo["base_url"] == stack.base_url
    assert stack.demo["ports"] == stack.ports


async def test_who_left_a_session_behind_that_is_over_signs_in_anew(stack: RunningStack) -> None:
    officer = stack.demo["accounts"]["wei.guo"]
    device = Device(second_factor(stack.state, "wei.guo"))
    async with device.held():
        device.remember({"dossier-session": "over", "dossier-form": "old"})
    assert (await person_token(stack.base_url, "wei.guo", officer["password"], device)).access
    assert device.kept.cookies["dossier-session"] != "over"
