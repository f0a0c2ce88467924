"""What was installed works: the story from outside, a restart of all, a killed worker. The tests follow one another."""

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.compose.engine import PROCESSES, Deployment, Step, docker, document, until
from tests.docs.inline import inline

from dossier_local.client import connected
from dossier_local.elsewhere import Elsewhere
from dossier_local.people import AUDITOR
from dossier_local.state import State

VERIFIER = Path(sys.executable).with_name("dossier-verify")


async def counted(deployment: Deployment) -> tuple[int, int]:
    """Records that the clerk lists, and events that the auditor lists."""
    state = State(deployment.state)
    there = Elsewhere(state, deployment.base_url, deployment.ca, "psql", print)
    async with connected(deployment.base_url, json.loads(state.demo_file.read_text()), tls=there.tls) as client:
        records = [each async for each in client.as_("zhang.li").every("/v1/records")]
        events = [each async for each in client.as_(AUDITOR).every("/v1/audit/events")]
        token = await client.as_(AUDITOR).token()
        (state.auditor / "token").write_text(token.access)
    return len(records), len(events)


def grown(deployment: Deployment) -> subprocess.CompletedProcess[str]:
    """Whether the log has only grown since the checkpoint that the story's auditor kept."""
    return subprocess.run(
        (
            *(VERIFIER, "consistency", "checkpoint", f"{deployment.base_url}/v1/audit/log"),
            *("--ca-file", deployment.ca, "--vkey", "log.vkey", "--token-file", "token"),
        ),
        cwd=State(deployment.state).auditor,
        capture_output=True,
        text=True,
        check=False,
    )


def test_all_processes_are_healthy_and_in_their_limits(deployment: Deployment) -> None:
    print(f"ready after {deployment.seconds_to_ready:.0f} s")
    found = deployment.inspected()
    assert {deployment.health()[service] for service in PROCESSES} == {"healthy"}
    assert all(each["RestartCount"] == 0 for each in found.values()), deployment.logs()


def test_the_ceremony_is_held_once(deployment: Deployment) -> None:
    officers = json.loads((deployment.state / "ceremony.json").read_text())["officers"]
    assert len({each["person"] for each in officers}) == 3
    names = ("--system-administrator", "a", "--security-administrator", "b", "--security-auditor", "c")
    again = deployment.compose("run", "--rm", "-T", "ceremony", "--json", *names, check=False)
    assert again.returncode == 1
    assert again.stdout == ""
    logs = deployment.compose("logs", "--no-color").stdout
    assert not any(each["enrolment_code"] in logs for each in officers)


def test_the_story_is_told_from_outside_through_tls(deployment: Deployment) -> None:
    psql = f"{shutil.which('docker')} exec -i {deployment.containers()['postgres']} psql"
    command = (sys.executable, "-m", "dossier_local", "story", "--at", deployment.base_url, "--ca", deployment.ca)
    told = subprocess.run(
        (*command, "--state", deployment.state, "--psql", psql),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert told.returncode == 0, f"{told.stdout[-6000:]}\n{told.stderr}\n{deployment.logs()}"
    assert "Every step went as told." in told.stdout
    assert told.stdout.count("WRONG") >= 2, "the superuser's edits are found"


async def test_after_all_was_stopped_and_started_everything_is_still_there(deployment: Deployment) -> None:
    before = await counted(deployment)
    assert before[0] > 900
    deployment.run(document()[Step.AGAIN])
    deployment.until_healthy()
    records, events = await counted(deployment)
    assert records == before[0]
    assert events >= before[1]
    done = await asyncio.to_thread(grown, deployment)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_a_worker_that_is_killed_starts_again(deployment: Deployment) -> None:
    state: dict[str, Any] = deployment.inspected()["records-worker"]["State"]
    program = f"import os; os.kill({state['Pid']}, 9)"
    options = ("--rm", "--pid=host", "--user=0", "--cap-drop=ALL", "--cap-add=KILL", "--no-healthcheck")
    docker("run", *options, "--entrypoint=python", deployment.variables["DOSSIER_IMAGE"], "-c", program)

    def again() -> bool:
        found = deployment.inspected()["records-worker"]
        return bool(found["RestartCount"] and found["State"]["Pid"] not in {0, state["Pid"]})

    until(again, "the worker starts again")
    deployment.until_healthy()


def test_the_memory_of_all_parts_together(deployment: Deployment) -> None:
    there = deployment.containers()
    ids = [there[service] for service in PROCESSES]
    said = docker("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}", *ids).stdout
    used = {line.split()[0]: float(line.split()[1].removesuffix("MiB")) for line in said.splitlines()}
    print(said, f"together: {sum(used.values()):.0f} MiB", sep="")
    assert len(used) == len(PROCESSES)
    assert sum(used.values()) < 1024 * 1.25, "1 GiB is the aim; what allocators keep after a story varies"


def test_what_the_readme_shows_besides_works(deployment: Deployment) -> None:
    blocks = document()
    assert len(blocks) == len(Step), "each block is a step, and run by a test"
    try:
        said = deployment.run(blocks[Step.LOOK], seconds=120)
    except subprocess.TimeoutExpired:  # an engine of version 20.10 may lose the end of an `exec` on a busy machine
        said = deployment.run(blocks[Step.LOOK])
    assert all(service in said for service in PROCESSES)
    deployment.run(blocks[Step.OBSERVE])
    backlog = inline("operating", "docker compose exec PART").replace("exec PART", "exec -T records")  # no terminal
    assert json.loads(deployment.type(backlog.replace("…", "backlog records --json")))["over_limit"] == 0
    job = inline("operating", "docker compose run --rm migrate")
    assert json.loads(deployment.type(job.replace("…", "partitions --json"))) == {"made": []}
    deployment.run(blocks[Step.RENEW])
    deployment.run(blocks[Step.ROTATE])
    deployment.until_healthy()
