"""docs/operators/embedded.md, and what other pages say of this way to run, typed into a copy of the checkout."""

import base64
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.docs.inline import inline
from tests.support.waiting import happens

from dossier_local.launched import START_SECONDS, STOP_SECONDS
from dossier_local.postgres import Postgres
from dossier_local.processes import clean_up, guard, started
from dossier_local.state import CHECKOUT, State

pytestmark = pytest.mark.timeout(900)
LINKED = ("bin", "lib", "pyvenv.cfg")
"""What makes an environment of a folder; the copy has links to those of the checkout."""
OFFICERS = {"system-administrator": "wei.guo", "security-administrator": "luo.an", "security-auditor": "shen.cha"}


@dataclass(frozen=True)
class Checkout:
    """A copy of the checkout. What runs there is the copy's own code, and removes nothing elsewhere."""

    folder: Path

    def state(self, name: str = ".dossier") -> State:
        return State(self.folder / name)

    def variables(self, name: str) -> dict[str, str]:
        foreign = ("MAKE", "MFLAGS", "DOSSIER_", "PYTEST")
        ours = [Path(path) for path in sys.path if Path(path) != CHECKOUT and Path(path).is_relative_to(CHECKOUT)]
        own = [str(self.folder / path.relative_to(CHECKOUT)) for path in ours if ".venv" not in path.parts]
        return {each: value for each, value in os.environ.items() if not each.startswith(foreign)} | {
            "DOSSIER_STATE": str(self.folder / name),
            "PYTHON": "/nonexistent",  # nothing is installed into the environment that is linked here
            "PYTHONPATH": os.pathsep.join(own),
        }

    def equip(self) -> None:
        """Makes `.venv` where there is none, as `make setup` leaves it."""
        environment = self.folder / ".venv"
        if not environment.exists():
            environment.mkdir()
            for name in LINKED:
                (environment / name).symlink_to(CHECKOUT / ".venv" / name)
            (environment / ".installed").touch()

    def typed(self, line: str, state: str = ".dossier", status: int = 0) -> str:
        """What a command says. Fails when it ends with another status."""
        done = subprocess.run(
            ("bash", "-c", line),
            cwd=self.folder,
            env=self.variables(state),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == status, f"{line} ended with {done.returncode}:\n{done.stdout[-6000:]}"
        return done.stdout

    @contextmanager
    def staying(self, line: str, state: str = ".dossier") -> Iterator["subprocess.Popen[bytes]"]:
        """A command that starts everything and stays, as in a terminal of its own."""
        log = self.folder / f"{state}.log"
        with log.open("wb") as output:
            terminal = subprocess.Popen(
                (*guard(signal.SIGTERM), "bash", "-c", line),
                cwd=self.folder,
                env=self.variables(state),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            ready = happens(lambda: "Ctrl-C stops it." in log.read_text() or terminal.poll() is not None, START_SECONDS)
            assert ready, log.read_text()
            assert terminal.poll() is None, log.read_text()
            yield terminal
        finally:
            if terminal.poll() is None:
                os.killpg(terminal.pid, signal.SIGTERM)
                terminal.wait(STOP_SECONDS)


def end(state: State) -> None:
    """Whatever a test has left: nothing runs from there, and no data lie elsewhere."""
    if not state.run.exists():
        return
    if launcher := state.holder():
        os.kill(launcher, signal.SIGTERM)
        happens(lambda: state.holder() is None, STOP_SECONDS)
    servers = Postgres(state)
    clean_up(state, servers.data)
    servers.wipe()


@pytest.fixture(scope="module")
def copy() -> Iterator[Checkout]:
    """What git knows, in a folder that PostgreSQL's user can reach."""
    if not (CHECKOUT / ".venv" / "pyvenv.cfg").exists():
        pytest.skip("the commands need an environment that `make setup` has made")
    made = Checkout(Path(tempfile.mkdtemp(prefix="dossier-page-")))
    made.folder.chmod(0o711)
    command = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    listed = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    try:
        for name in filter(None, listed.split("\0")):
            if (CHECKOUT / name).is_file():
                (made.folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(CHECKOUT / name, made.folder / name)
        made.equip()
        where = ".venv/bin/python -c 'from dossier_local.state import CHECKOUT; print(CHECKOUT)'"
        assert made.typed(where).strip() == str(made.folder.resolve()), "no command means another checkout"
        yield made
    finally:
        for name in (".dossier/demo", ".dossier", "bare"):
            end(made.state(name))
        shutil.rmtree(made.folder)


@pytest.fixture
def checkout(copy: Checkout) -> Checkout:
    copy.equip()
    return copy


def processes(state: State) -> dict[str, int]:
    """Those of the stack that runs from there."""
    return {path.stem: json.loads(path.read_text())["pid"] for path in state.run.glob("*.pid")}


def living(pids: dict[str, int]) -> list[str]:
    return [name for name, pid in pids.items() if started(pid) is not None]


def environment_of(part: str, command: str) -> str:
    """The page's line for a command with the environment of a part, filled in."""
    line = inline("embedded", ".venv/bin/python -m dossier_local env")
    return line.replace("PART", part).replace("COMMAND", command)


def asked(state: State, token: str = "", path: str = "/v1/me") -> tuple[int, Any]:
    """What the gateway answers to the one whose token this is."""
    caller = http.client.HTTPConnection("127.0.0.1", state.ready()["ports"]["gateway"], timeout=60)
    try:
        caller.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        answer = caller.getresponse()
        return answer.status, json.load(answer)
    finally:
        caller.close()


def test_setup_has_nothing_to_do_and_openapi_writes_the_tables_that_are_there(checkout: Checkout) -> None:
    checkout.typed(inline("install-helm", "make setup"))
    page, document = Path("docs/operators/configuration.md"), Path("docs/api/gateway.json")
    written = {path: (checkout.folder / path).read_bytes() for path in (page, document)}
    (checkout.folder / page).write_bytes(written[page].replace(b"| `2000` |", b"| `2001` |"))
    (checkout.folder / document).unlink()
    checkout.typed(inline("configuration", "make openapi"))
    assert {path: (checkout.folder / path).read_bytes() for path in written} == written


def test_bench_measures_the_gateway_the_log_and_readings(checkout: Checkout) -> None:
    # Measuring takes long, and nothing else may run meanwhile.
    said = checkout.typed(f"{inline('sizes-and-ports', 'make bench')} ARGS='--collect-only --quiet'")
    for measured in sorted(CHECKOUT.glob("tests/benchmarks/bench_*.py")):
        assert f"{measured.name}::test_" in said


def test_the_demo_ends_with_0_and_leaves_what_its_auditor_kept(checkout: Checkout) -> None:
    assert "Every step went as told." in checkout.typed(inline("embedded", "make demo"))
    assert checkout.state(".dossier/demo").holder() is None
    kept = checkout.folder / ".dossier" / "demo" / "auditor"
    assert {"viewed.tlog-proof", "checkpoint", "log.vkey", "witness.vkey"} <= {path.name for path in kept.iterdir()}
    verify = "../../../.venv/bin/dossier-verify proof viewed.tlog-proof --event viewed.json"
    assert "verified" in checkout.typed(f"cd {kept} && {verify} --vkey log.vkey --witness witness.vkey")


def test_bare_it_has_no_organisation_the_ceremony_comes_next_and_down_ends_it(checkout: Checkout) -> None:
    state = checkout.state("bare")
    with checkout.staying(inline("embedded", ".venv/bin/python -m dossier_local up --bare"), "bare") as terminal:
        assert "accounts" not in json.loads(state.demo_file.read_text())
        names = " ".join(f"--{office} {name}" for office, name in OFFICERS.items())
        said = checkout.typed(environment_of("gateway", f".venv/bin/dossier ceremony --json {names}"), "bare")
        assert len({each["enrolment_code"] for each in json.loads(said)["officers"]}) == len(OFFICERS)
        pids = processes(state)
        assert len(living(pids)) > 10
        checkout.typed(inline("embedded", "make down"), "bare")
        assert living(pids) == []
        assert terminal.wait(60) == 0
    assert "Nothing runs from" in checkout.typed(inline("embedded", "make down"), "bare")
    assert "Nothing runs from" in checkout.typed(inline("embedded", "make status"), "bare", status=2)


def test_detached_it_runs_on_and_gives_commands_the_environment_of_a_part(checkout: Checkout) -> None:
    state = checkout.state()
    said = checkout.typed(inline("embedded", ".venv/bin/python -m dossier_local up --detach"))
    try:
        assert "Dossier is ready" in said
        assert "li.na" in said
        variables = {line.partition("=")[0] for line in checkout.typed(environment_of("records", "env")).splitlines()}
        assert "DOSSIER_RECORDS_KEYRING_DIR" in variables
        assert not [name for name in variables if name.startswith("DOSSIER_GATEWAY_")]
        health = f".venv/bin/{inline('configuration', 'dossier-health')}"
        checkout.typed(environment_of("records", f"{health} records worker"))
        checkout.typed(environment_of("records", f"env DOSSIER_SERVICE=records {health}"))
        backlog = f".venv/bin/dossier backlog records {inline('operating', '--json')}"
        assert json.loads(checkout.typed(environment_of("records", backlog)))["over_limit"] == 0
        tokens_end_with_their_keys(checkout)
        pids = processes(state)
    finally:
        checkout.typed(inline("embedded", "make down"))
    assert state.holder() is None
    assert living(pids) == []


def tokens_end_with_their_keys(checkout: Checkout) -> None:
    """What docs/operators/operating.md says of keys that have to go now, and of those that others saw."""
    state = checkout.state()

    def rotated(how: str) -> dict[str, str]:
        """Key id by place, once the gateway publishes just these."""
        said = checkout.typed(environment_of("gateway", f".venv/bin/dossier keys {how}"))
        ring = {line.split()[0]: line.split()[1] for line in said.splitlines()}
        published = happens(
            lambda: {key["kid"] for key in asked(state, path="/oauth/jwks.json")[1]["keys"]} == set(ring.values()), 60
        )
        assert published, said
        return ring

    token = checkout.typed(inline("embedded", "make token")).strip()
    first = rotated("list")
    second = rotated(inline("operating", "rotate --at-once"))
    assert second["retired"] == first["current"]
    assert asked(state, token)[0] == 200, "who has a token of a former key is not refused"
    third = rotated(inline("operating", "rotate --compromised"))
    assert not set(third.values()) & set(second.values())
    assert asked(state, token)[0] == 401
    anew = checkout.typed(inline("embedded", "make token")).strip()
    assert asked(state, anew)[1]["username"] == "li.na"


def test_up_stays_until_ctrl_c_and_nothing_is_cleaned_before(checkout: Checkout) -> None:
    state = checkout.state()
    line = inline("configuration", "DOSSIER_GATEWAY_ACCESS_TOKEN_MINUTES=")
    assert line.endswith(f"=5 {inline('embedded', 'make up')}")
    with checkout.staying(line) as terminal:
        ready = state.ready()
        said = checkout.typed(inline("embedded", "make status"))
        assert f"Dossier runs from {state.folder} (process {ready['pid']}): {ready['base_url']}" in said
        token = checkout.typed(inline("embedded", "make token AS=li.na")).strip()
        claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
        assert claims["exp"] - claims["iat"] == 5 * 60
        assert asked(state, token)[1]["username"] == "li.na"
        pids = processes(state)
        of_a_demo = state.folder / "demo" / "auditor"
        of_a_demo.mkdir(parents=True, exist_ok=True)
        assert "already runs from" in checkout.typed(inline("embedded", "make clean"), status=2)
        assert of_a_demo.is_dir()
        assert living(pids) == list(pids)
        assert all((checkout.folder / ".venv" / name).exists() for name in LINKED)
        assert asked(state, token)[0] == 200
        log = state.logs / "postgres.log"
        before = log.stat().st_size
        os.killpg(terminal.pid, signal.SIGINT)
        terminal.wait(60)
        assert living(pids) == []
    ended = log.read_bytes()[before:].decode()
    assert "database system is shut down" in ended
    assert "terminating connection" not in ended, "all parts had ended before PostgreSQL did"
    (checkout.folder / ".ruff_cache").mkdir(exist_ok=True)
    checkout.typed(inline("embedded", "make clean"))
    assert [name for name in (".venv", ".dossier", ".ruff_cache") if (checkout.folder / name).exists()] == []
    assert list(checkout.folder.rglob("__pycache__")) == []
    assert (checkout.folder / "Makefile").exists()
    assert all((CHECKOUT / ".venv" / name).exists() for name in LINKED), "of the links themselves nothing more is gone"
