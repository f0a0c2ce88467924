"""One image and one running deployment for all tests of this folder, made by the commands of its README."""

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.compose import engine
from tests.compose.engine import COPIED, IMAGE, SHIM, Deployment, Step, docker, document, free_port

from dossier_local.state import CHECKOUT


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first of them builds the image and installs: minutes, where nothing is cached."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(scope="package")
def copy() -> Iterator[Path]:
    """The checkout, as far as the README's commands need it, with the environment that is there."""
    if reason := engine.why_not():
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="dossier-compose-"))
    try:
        listed = subprocess.run(
            ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *COPIED, ".dockerignore"),
            cwd=CHECKOUT,
            capture_output=True,
            check=True,
        )
        for name in listed.stdout.decode().split("\0"):
            if name and (CHECKOUT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(CHECKOUT / name, folder / name)
        (folder / ".venv").mkdir()
        (folder / ".venv" / "bin").symlink_to(CHECKOUT / ".venv" / "bin")
        (folder / ".venv" / ".installed").touch()
        (folder / "shim").mkdir()
        shim = folder / "shim" / "docker"
        shim.write_text(SHIM.format(docker=shutil.which("docker")))
        shim.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="package")
def deployment(copy: Path) -> Iterator[Deployment]:
    """Installed by the README's first blocks: image, settings, secrets, certificates, start, ceremony."""
    port = free_port()
    story = copy / "story"
    story.mkdir()
    project = f"dossier-test-{port}"
    bridge = json.loads(docker("network", "inspect", "bridge").stdout)[0]["IPAM"]["Config"][0]["Gateway"]
    running = Deployment(
        copy,
        port,
        project,
        {
            "COMPOSE_PROJECT_NAME": project,
            "DOSSIER_IMAGE": IMAGE,
            "DOSSIER_ISSUER": f"https://localhost:{port}",
            "DOSSIER_PORT": str(port),
            "DOSSIER_PACK": "service-desk",
            # The story's people sit on this machine, whom the engine shows by an address of its own.
            "DOSSIER_GATEWAY_ZONES": '{"172.16.0.0/12":"office","192.168.0.0/16":"office"}',
            "DOSSIER_WITNESSES_FILE": str(story / "witnesses.json"),
        },
    )
    (copy / "where").write_text(f"{copy}\n")
    blocks = document()
    build = blocks[Step.BUILD]
    build.text = build.text.replace("--tag dossier ", f"--tag {IMAGE} --build-arg REVISION=tested ")
    with engine.witnessing(story, running.secret("audit-log.vkey"), bridge) as witness:
        try:
            running.run(build)
            running.run(blocks[Step.SECRETS])
            witness()
            began = time.monotonic()
            running.run(blocks[Step.START])
            running.until_healthy()
            running.seconds_to_ready = time.monotonic() - began
            (story / "ceremony.json").write_text(running.run(blocks[Step.CEREMONY]))
            yield running
        finally:
            running.compose("down", "--volumes", "--timeout", "5", check=False)


@pytest.fixture(scope="package")
def image(copy: Path, deployment: Deployment) -> str:
    """The image that the README's first command makes."""
    assert deployment.folder == copy
    return IMAGE
