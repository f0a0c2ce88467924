"""What the compose files say, read without an engine."""

import json
import os
import re
import shutil
import subprocess
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.compose.engine import PROCESSES

from dossier_cli.accounts import USERS
from dossier_common.settings import CommonSettings, PartSettings
from dossier_common.topology import PARTS
from dossier_local.state import CHECKOUT

FOLDER = CHECKOUT / "deploy" / "compose"
FILES = ("compose.yaml", "compose.observability.yaml")
VARIABLE = re.compile(r"\$\{([A-Z_]+)")


@cache
def read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))
    return content


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = read("compose.yaml")["services"]
    return found


def test_every_container_is_read_only_and_may_do_nothing_that_it_does_not_need() -> None:
    added = {name: each for name, each in read(FILES[1])["services"].items() if "image" in each}
    for name, service in (services() | added).items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "mem_limit" in service, name
        assert service["logging"]["options"]["max-size"], name
        assert "privileged" not in service, name
        assert "cap_add" not in service, name
    assert set(PROCESSES) <= set(services())


def test_only_the_gateway_has_a_port_and_only_two_networks_lead_out() -> None:
    assert [name for name, service in services().items() if "ports" in service] == ["gateway"]
    networks = read("compose.yaml")["networks"]
    assert {name for name, network in networks.items() if not network.get("internal")} == {"edge", "witnesses"}
    on = {net: {name for name, each in services().items() if net in each["networks"]} for net in networks}
    assert on["edge"] == {"gateway"}
    assert on["witnesses"] == {"audit-worker"}
    assert on["parts"] == set(PROCESSES)
    assert on["data"] == {*PROCESSES, "postgres", "roles", "migrate", "ceremony"}
    assert on["events"] == {*PROCESSES, "nats", "streams"}


def test_each_variable_that_is_set_is_a_setting_and_each_setting_that_is_needed_is_set() -> None:
    for part in PARTS:
        settings: type[PartSettings] = import_module(f"dossier_{part}.settings").Settings
        known = {
            f"{cls.model_config.get('env_prefix', '')}{name.upper()}": field.is_required()
            for cls in (settings, CommonSettings)
            for name, field in cls.model_fields.items()
        }
        for service in (part, f"{part}-worker"):
            given = set(services()[service]["environment"]) | {"DOSSIER_API_DIR"}  # the image sets that
            assert given <= set(known), service
            assert {name for name, required in known.items() if required} <= given, service


def test_each_file_that_is_named_is_a_secret_of_that_container() -> None:
    for name, service in services().items():
        files = [str(value) for value in service.get("environment", {}).values() if "/run/secrets/" in str(value)]
        assert {Path(file).name for file in files} <= set(service["secrets"]), name


def test_every_secret_is_one_that_the_command_line_makes() -> None:
    made = {
        *("postgres-superuser", "gateway-token-key.pem", "audit-log-key.pem", "audit-log.vkey", "producer-keys.json"),
        *(f"postgres-{part}-{role}" for part in PARTS for role in ("app", "migrator")),
        *(f"{part}-signing-key.pem" for part in PARTS),
        *(f"nats-{user}" for user in USERS),
        "records-keyring-passphrase",
    }
    issued = {f"{name}{kind}" for name in (*PARTS, "nats", "postgres", "operator") for kind in (".pem", "-key.pem")}
    assert set(read("compose.yaml")["secrets"]) == made | issued | {"ca.pem"}
    for name, secret in read("compose.yaml")["secrets"].items():
        folder = "CERTIFICATES:-./certificates" if name in issued | {"ca.pem"} else "SECRETS:-./secrets"
        assert secret["file"] == f"${{DOSSIER_{folder}}}/{name}"


def test_the_example_names_every_variable_and_its_default() -> None:
    text = "".join((FOLDER / name).read_text(encoding="utf-8") for name in FILES)
    example = (FOLDER / ".env.example").read_text(encoding="utf-8")
    named = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", example, re.MULTILINE))
    assert set(VARIABLE.findall(text)) | {"COMPOSE_PROJECT_NAME"} == set(named)
    for name, default in re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", text):
        assert named[name] == default, name


def test_peers_are_the_web_processes_where_they_listen() -> None:
    peers = json.loads((FOLDER / "peers.json").read_text(encoding="utf-8"))
    for part in PARTS:
        port = services()[part]["environment"][f"DOSSIER_{part.upper()}_LISTEN_PORT"]
        assert peers[part] == f"https://{part}:{port}"


def test_prometheus_scrapes_every_worker() -> None:
    (job,) = yaml.safe_load((FOLDER / "observability" / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"{part}-worker:8001" for part in PARTS]}]
    traced = read(FILES[1])["services"]
    for service in PROCESSES:
        assert set(traced[service]["networks"]) == {*services()[service]["networks"], "telemetry"}, service


def test_docker_compose_2_reads_the_files_as_they_are_meant(tmp_path: Path) -> None:
    if shutil.which("go") is None:
        pytest.skip("the library of docker compose 2 needs Go to be built")
    folder = tmp_path / "deploy"
    for name in ("compose", "policies", "postgres", "nats"):
        shutil.copytree(
            CHECKOUT / "deploy" / name, folder / name, ignore=shutil.ignore_patterns("secrets", "certificates")
        )
    shutil.copyfile(FOLDER / ".env.example", folder / "compose" / ".env")
    loader = tmp_path / "loader"
    build = ("go", "build", "-o", loader, ".")
    subprocess.run(build, cwd=Path(__file__).parent / "loader", check=True, timeout=280)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("COMPOSE", "DOSSIER"))}
    done = subprocess.run(
        (loader, *FILES),
        cwd=folder / "compose",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    read_there = {name: networks for name, *networks in map(str.split, done.stdout.splitlines())}
    assert set(read_there) == (set(services()) | {"collector", "prometheus"}) - {"ceremony"}
    assert read_there["audit-worker"] == ["data", "events", "parts", "telemetry", "witnesses"]
    assert read_there["gateway"] == ["data", "edge", "events", "parts", "telemetry"]


def test_prometheus_takes_its_configuration() -> None:
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is not there: Debian's package prometheus has it")
    path = FOLDER / "observability" / "prometheus.yml"
    done = subprocess.run((tool, "check", "config", "--syntax-only", path), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "path", ["deploy/image/Dockerfile", ".ci/images/postgres/Dockerfile", ".ci/images/nats/Dockerfile"]
)
def test_hadolint_has_nothing_to_say(path: str) -> None:
    tool = shutil.which("hadolint", path=f"{CHECKOUT / '.venv' / 'bin'}:{os.environ['PATH']}")
    if tool is None:
        pytest.skip("hadolint is not there: `make setup` installs it")
    done = subprocess.run((tool, CHECKOUT / path), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
