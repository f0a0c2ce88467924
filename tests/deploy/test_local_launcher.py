import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support.waiting import happens

from dossier_local.cluster import temporary_state
from dossier_local.main import clean
from dossier_local.postgres import Postgres
from dossier_local.processes import clean_up, guard, started
from dossier_local.state import LauncherError, State, internal_ports, public_port

DRIVER = Path(__file__).with_name("launch_dummies.py")
PROCESSES = 12  # two for each of five parts, PostgreSQL, NATS


@pytest.fixture
def state() -> Iterator[State]:
    with temporary_state() as made:
        yield made


class Launcher:
    def __init__(self, state: State, popen: "subprocess.Popen[bytes]", log: Path) -> None:
        self.state, self.popen, self._log = state, popen, log

    def said(self) -> str:
        return self._log.read_text()

    def ready(self) -> bool:
        try:
            return bool(self.state.ready()["pid"] == self.popen.pid)
        except LauncherError:
            return False

    def pids(self) -> dict[str, int]:
        return {path.stem: json.loads(path.read_text())["pid"] for path in self.state.run.glob("*.pid")}


@contextmanager
def launch(state: State, command: tuple[str, ...] = (), **environment: str) -> Iterator[Launcher]:
    log = state.logs / f"launcher-{time.monotonic_ns()}.log"
    with log.open("wb") as output:
        popen = subprocess.Popen(
            command or (sys.executable, "-P", str(DRIVER)),
            env=os.environ | {"DOSSIER_STATE": str(state.folder)} | environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    launcher = Launcher(state, popen, log)
    try:
        assert happens(lambda: launcher.ready() or popen.poll() is not None, 60), launcher.said()
        yield launcher
    finally:
        if popen.poll() is None:
            popen.send_signal(signal.SIGTERM)
        popen.wait(60)


def living(pids: dict[str, int]) -> list[str]:
    return [name for name, pid in pids.items() if started(pid) is not None]


def test_all_run_and_a_signal_stops_all_and_data_survive(state: State) -> None:
    with launch(state) as first:
        pids = first.pids()
        assert len(living(pids)) == PROCESSES
        assert re.search(r"^records +ready", first.said(), re.MULTILINE)
        Postgres(state).psql("CREATE TABLE kept (value int); INSERT INTO kept VALUES (42)")
    assert first.popen.returncode == 0
    assert living(pids) == []
    assert not state.ready_file.exists()
    with launch(state):
        assert Postgres(state).psql("SELECT value FROM kept").strip() == "42"


def test_a_second_launcher_in_the_same_folder_is_refused_in_one_sentence(state: State) -> None:
    with launch(state) as first:
        with launch(state) as second:
            assert second.popen.wait(30) == 1
        assert second.said().strip() == (
            f"Dossier already runs from {state.folder} (process {first.popen.pid}) at {state.ready()['base_url']}: "
            "stop it with Ctrl-C there, or choose another folder with DOSSIER_STATE."
        )
        assert len(living(first.pids())) == PROCESSES


def test_a_busy_port_is_stepped_over_and_said(state: State) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        wanted = busy.getsockname()[1]
        port, remark = public_port(state, wanted)
        assert port > wanted
        assert remark == f"Port {wanted} is busy, so the gateway listens on {port}."
    assert public_port(state, None) == (port, None), "the folder keeps the port that was chosen once"
    with socket.create_server(("127.0.0.1", port)):
        later, remark = public_port(state, None)
        assert later > port
        assert remark is not None
        assert "this run only" in remark
    assert public_port(state, None) == (port, None)


def test_internal_ports_are_kept_while_they_are_free(state: State) -> None:
    ports = internal_ports(state, ("a", "b"))
    assert internal_ports(state, ("a", "b")) == ports
    with socket.create_server(("127.0.0.1", ports["a"])):
        again = internal_ports(state, ("a", "b"))
    assert again["a"] != ports["a"]
    assert again["b"] == ports["b"]


def test_what_dies_is_said_and_started_again(state: State) -> None:
    with launch(state) as launcher:
        before = launcher.pids()
        for name in ("records-worker", "nats", "postgres"):
            os.kill(before[name], signal.SIGKILL)
        for name in ("records-worker", "nats", "postgres"):
            assert happens(lambda name=name: f"{name} is ready again" in launcher.said(), 20), launcher.said()  # type: ignore[misc]
            assert f"{name} was killed by signal 9; it is started again in 0.5 s" in launcher.said()
        after = launcher.pids()
        assert len(living(after)) == PROCESSES
        assert {name for name in after if after[name] != before[name]} == {"records-worker", "nats", "postgres"}


@pytest.mark.skipif(not guard(signal.SIGTERM), reason="this system does not tell children that their parent died")
def test_children_end_when_the_launcher_is_killed(state: State) -> None:
    with launch(state) as launcher:
        pids = launcher.pids()
        launcher.popen.kill()
        launcher.popen.wait()
        assert happens(lambda: living(pids) == [], 20), living(pids)


def test_what_a_killed_launcher_left_is_ended_at_the_next_start(state: State) -> None:
    with launch(state) as killed:
        left = killed.pids()
        for name in ("audit-web", "nats", "postgres"):  # frozen, they do not hear the signal that asks them to end
            os.kill(left[name], signal.SIGSTOP)
        killed.popen.kill()
        killed.popen.wait()
    assert set(living(left)) >= {"audit-web", "nats", "postgres"}
    with launch(state) as following:
        assert living(left) == []
        assert "Ended what a killed run had left: " in following.said()
        assert len(living(following.pids())) == PROCESSES
    assert living(following.pids()) == []


def test_a_pid_that_belongs_to_another_process_now_is_left_alone(state: State) -> None:
    with subprocess.Popen(("sleep", "60")) as other:
        (state.run / "records-web.pid").write_text(json.dumps({"pid": other.pid, "started": "before"}))
        assert clean_up(state, None) == []
        assert other.poll() is None
        other.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can lie where PostgreSQL's user cannot go")
def test_root_in_a_closed_folder_keeps_data_where_postgres_can_reach_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    state = State(tmp_path / "state")
    monkeypatch.setenv("DOSSIER_STATE", str(state.folder))
    state.make()
    try:
        with launch(state):
            home = state.postgres.readlink()
            assert (home / "data" / "PG_VERSION").exists()
            assert not home.is_relative_to(tmp_path)
            Postgres(state).psql("CREATE TABLE kept ()")
        with launch(state):
            assert Postgres(state).psql("SELECT count(*) FROM kept").strip() == "0"
    finally:
        clean()
    assert not home.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can lie where PostgreSQL's user cannot go")
def test_data_of_a_deleted_closed_folder_go_at_the_next_start(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    forgotten, following = State(tmp_path / "forgotten"), State(tmp_path / "following")
    for state in (forgotten, following):
        state.make()
    Postgres(forgotten)
    left = forgotten.postgres.readlink()
    shutil.rmtree(forgotten.folder)
    assert left.exists()
    Postgres(following)
    assert not left.exists()
    Postgres(following).wipe()


def _for_nobody() -> tuple[str, ...]:
    """An interpreter of this version that user nobody can run."""
    for candidate in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        command = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", candidate)
        script = (
            "import subprocess, sys; "
            f"sys.exit(sys.version_info[:2] != {sys.version_info[:2]!r} or subprocess.call([sys.executable, '-c', '']))"
        )
        try:
            done = subprocess.run((*command, "-c", script), capture_output=True, check=False)
        except FileNotFoundError:
            continue
        if done.returncode == 0:
            return (*command, "-P", str(DRIVER))
    return ()


@pytest.mark.skipif(os.geteuid() != 0 or not _for_nobody(), reason="needs root and a Python that others can run")
def test_an_ordinary_user_runs_all_as_himself(state: State) -> None:
    os.chown(state.folder, 65534, 65534)
    for folder in state.folder.iterdir():
        os.chown(folder, 65534, 65534)
    with launch(state, _for_nobody(), PYTHONPATH=os.pathsep.join(sys.path), HOME="/nonexistent") as launcher:
        pids = launcher.pids()
        assert len(living(pids)) == PROCESSES, launcher.said()
        assert {Path(f"/proc/{pid}").stat().st_uid for pid in pids.values()} == {65534}
    assert launcher.popen.returncode == 0
    assert living(pids) == []


def test_secrets_and_logs_are_for_the_owner_alone(state: State) -> None:
    with launch(state):
        for folder in (state.secrets, state.logs, state.run, state.nats, state.keyring):
            assert folder.stat().st_mode & 0o077 == 0
        for path in (*state.secrets.iterdir(), state.nats / "accounts.conf", *state.logs.glob("*-web.log")):
            assert path.stat().st_mode & 0o777 == 0o600, path


def test_the_lock_is_free_when_nobody_holds_it(state: State) -> None:
    with state.lock():
        assert state.holder() == os.getpid()
        with pytest.raises(LauncherError, match="already runs from"), state.lock():
            pass
    assert state.holder() is None


def test_two_launchers_that_start_at_once_do_not_take_the_same_port(tmp_path: Path) -> None:
    here, _ = public_port(State(tmp_path), None)
    script = "import sys; from dossier_local.state import reserve; sys.exit(reserve(int(sys.argv[1])))"
    assert subprocess.run([sys.executable, "-c", script, str(here)], check=False).returncode == 0, "it was taken twice"
