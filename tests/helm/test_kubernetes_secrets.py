"""`dossier kubernetes-secrets`: what it prints, and when it prints nothing."""

import base64
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from tests.helm.charts import VERSIONS

from dossier_cli import secret_files
from dossier_common.topology import PARTS

ISSUER = "https://dossier.example"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("deployment")
    secret_files.make(folder / "secrets", ISSUER)
    assert dossier("certificates", folder / "certificates", "--host", "dossier.example").returncode == 0
    return folder / "secrets", folder / "certificates"


def dossier(*words: str | Path, **more: Any) -> "subprocess.CompletedProcess[str]":
    command = (sys.executable, "-m", "dossier_cli", *map(str, words))
    return subprocess.run(command, text=True, timeout=120, check=False, **{"capture_output": True} | more)


def printed(*words: str | Path) -> dict[str, dict[str, Any]]:
    done = dossier("kubernetes-secrets", *words)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["apiVersion"], said["kind"]) == ("v1", "List")
    return {each["metadata"]["name"]: each for each in said["items"]}


def test_each_secret_arrives_byte_by_byte(folders: tuple[Path, Path]) -> None:
    made = printed(folders[0], "--certificates", folders[1])
    for part in PARTS:
        for key, value in made[f"dossier-{part}"]["data"].items():
            assert base64.b64decode(value) == (folders[0] / key).read_bytes()
        pair = made[f"dossier-{part}-tls"]["data"]
        assert base64.b64decode(pair["tls.key"]) == (folders[1] / f"{part}-key.pem").read_bytes()
        assert base64.b64decode(pair["ca.crt"]) == (folders[1] / "ca.pem").read_bytes()


@pytest.mark.parametrize("version", VERSIONS)
def test_each_object_is_valid(folders: tuple[Path, Path], version: str) -> None:
    for each in printed(folders[0], "--certificates", folders[1], "--namespace", "compliance").values():
        kubernetes_validate.validate(each, version, strict=True)
        assert each["metadata"]["namespace"] == "compliance"


def test_no_part_is_given_what_is_another_s(folders: tuple[Path, Path]) -> None:
    made = printed(folders[0], "--certificates", folders[1])
    keys = [
        (name, key)
        for name, each in made.items()
        if each["type" if "type" in each else "kind"] == "Opaque"
        for key in each["data"]
    ]
    assert len({key for _, key in keys}) == len(keys), "a secret is in one place"
    for part in PARTS:
        others = [other for other in PARTS if other != part]
        assert not [
            key for name, key in keys if name == f"dossier-{part}" and any(other in key.split("-") for other in others)
        ]
        assert not any("migrator" in key for key in made[f"dossier-{part}"]["data"])


def test_what_is_public_is_in_config_maps_and_nothing_else_is(folders: tuple[Path, Path]) -> None:
    made = printed(folders[0], "--certificates", folders[1])
    public = {name: set(each["data"]) for name, each in made.items() if each["kind"] == "ConfigMap"}
    assert public == {"dossier-public": {"producer-keys.json", "audit-log.vkey"}, "dossier-ca": {"ca.pem"}}
    assert "PRIVATE" not in json.dumps([made[name] for name in public])


def test_the_key_of_the_ca_stays_where_it_is(folders: tuple[Path, Path]) -> None:
    key = base64.b64encode((folders[1] / "ca-key.pem").read_bytes()).decode()
    assert key not in json.dumps(printed(folders[0], "--certificates", folders[1]))


def test_without_certificates_there_are_none_and_without_a_superuser_his_secret_is_not_there(tmp_path: Path) -> None:
    secret_files.make(tmp_path / "secrets", ISSUER)
    (tmp_path / "secrets" / "postgres-superuser").unlink()
    made = printed(tmp_path / "secrets")
    assert not any(name.endswith("-tls") for name in made)
    assert "dossier-postgres-superuser" not in made


def test_a_file_that_is_not_there_is_named_in_one_line(tmp_path: Path) -> None:
    secret_files.make(tmp_path / "secrets", None)  # without an issuer there is no vkey of the log
    done = dossier("kubernetes-secrets", tmp_path / "secrets")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "audit-log.vkey" in line


def test_a_terminal_is_shown_no_secret(folders: tuple[Path, Path]) -> None:
    ours, theirs = pty.openpty()
    try:
        done = dossier("kubernetes-secrets", folders[0], capture_output=False, stdout=theirs, stderr=subprocess.PIPE)
    finally:
        os.close(theirs)
    assert done.returncode == 1
    assert "kubectl apply" in done.stderr
    try:
        shown = os.read(ours, 1 << 16)
    except OSError:  # Linux's end of a terminal to which nothing was written
        shown = b""
    finally:
        os.close(ours)
    assert shown == b""
