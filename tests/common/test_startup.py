"""Faults that keep a process from starting: one line says what is wrong and where, and nothing was touched."""

import asyncio
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest
import uvicorn
from tests.support.certificates import Authority

from dossier_common.keys import SigningKey
from dossier_common.topology import PARTS
from dossier_local.cluster import Cluster
from dossier_records.keyring import FileKeyring

Environment = dict[str, str]
Fault = Callable[[Environment, Path, str], str]
"""Spoils the environment of a part, and returns how the line begins that says so."""


def file_of(folder: Path, content: bytes) -> Path:
    file = folder / "spoilt"
    file.write_bytes(content)
    return file


def setting_missing(env: Environment, folder: Path, part: str) -> str:
    del env[f"DOSSIER_{part}_DATABASE_URL"]
    return f"settings are not valid: DOSSIER_{part}_DATABASE_URL: Field required"


def password_missing(env: Environment, folder: Path, part: str) -> str:
    env[name := f"DOSSIER_{part}_DATABASE_PASSWORD_FILE"] = str(folder / "none")
    return f"settings are not valid: {name}: cannot read {folder / 'none'}: No such file or directory"


def password_unreadable(env: Environment, folder: Path, part: str) -> str:
    env[name := f"DOSSIER_{part}_DATABASE_PASSWORD_FILE"] = str(folder)
    return f"settings are not valid: {name}: cannot read {folder}: Is a directory"


def password_empty(env: Environment, folder: Path, part: str) -> str:
    env[name := f"DOSSIER_{part}_NATS_PASSWORD_FILE"] = str(file_of(folder, b"\n"))
    return f"settings are not valid: {name}: {folder / 'spoilt'} is empty"


def key_malformed(env: Environment, folder: Path, part: str) -> str:
    env[name := f"DOSSIER_{part}_SIGNING_KEY_FILE"] = str(file_of(folder, b"-----BEGIN PRIVATE KEY-----\nx"))
    return f"settings are not valid: {name}: spoilt: not an unencrypted key in PEM"


def key_of_another(env: Environment, folder: Path, part: str) -> str:
    env[name := f"DOSSIER_{part}_SIGNING_KEY_FILE"] = str(file_of(folder, SigningKey.generate().pem()))
    return f"settings are not valid: {name}: {folder / 'spoilt'} has no public key in DOSSIER_PRODUCER_KEYS_FILE"


def database_of_another_kind(env: Environment, folder: Path, part: str) -> str:
    env[name := f"DOSSIER_{part}_DATABASE_URL"] = "mysql://records_app@db/records"
    return f"settings are not valid: {name}: not an address as postgresql://"


def broker_of_another_kind(env: Environment, folder: Path, part: str) -> str:
    env[name := f"DOSSIER_{part}_NATS_URL"] = "http://nats:4222"
    return f"settings are not valid: {name}: not an address that begins with nats:// or tls://"


def certificate_without_its_key(env: Environment, folder: Path, part: str) -> str:
    authority = Authority(folder)
    authority.certify("one")
    authority.certify("other")
    env[name := f"DOSSIER_{part}_TLS_CERTIFICATE_FILE"] = str(authority.certificate("one"))
    env[f"DOSSIER_{part}_TLS_KEY_FILE"] = str(authority.key("other"))
    return f"settings are not valid: {name}: {authority.key('other')}: not the key of the certificate in"


def policy_missing(env: Environment, folder: Path, part: str) -> str:
    env["DOSSIER_POLICY"] = str(folder / "none.yaml")
    return "DOSSIER_POLICY is no valid policy: "


def policy_wrong(env: Environment, folder: Path, part: str) -> str:
    pack = Path(env["DOSSIER_POLICY"])
    for each in pack.parent.glob("*.yaml"):
        (folder / each.name).write_bytes(each.read_bytes())
    wrong = folder / pack.name
    wrong.write_text(wrong.read_text() + "\nunheard_of: 1\nno_less: 2\n")
    env["DOSSIER_POLICY"] = str(wrong)
    return f"DOSSIER_POLICY is no valid policy: {wrong.name}:"


def migrations_missing(env: Environment, folder: Path, part: str) -> str:
    env["DOSSIER_HOME"] = str(folder)
    return f"{folder}"


def log_key_malformed(env: Environment, folder: Path, part: str) -> str:
    env[name := "DOSSIER_AUDIT_LOG_KEY_FILE"] = str(file_of(folder, b""))
    return f"settings are not valid: {name}: spoilt: not an unencrypted key in PEM"


def witnesses_malformed(env: Environment, folder: Path, part: str) -> str:
    env[name := "DOSSIER_AUDIT_WITNESSES_FILE"] = str(file_of(folder, b'[{"url": 1}]'))
    return f"settings are not valid: {name}: {folder / 'spoilt'}: not a JSON list of witnesses"


def checkpoints_not_writable(env: Environment, folder: Path, part: str) -> str:
    env[name := "DOSSIER_AUDIT_CHECKPOINT_DIR"] = str(below := file_of(folder, b"") / "below")
    return f"{name}: {below} cannot be written: Not a directory"


def passphrase_empty(env: Environment, folder: Path, part: str) -> str:
    env[name := "DOSSIER_RECORDS_KEYRING_PASSPHRASE_FILE"] = str(file_of(folder, b" \n"))
    return f"settings are not valid: {name}: {folder / 'spoilt'} is empty"


def passphrase_of_another(env: Environment, folder: Path, part: str) -> str:
    passphrase = Path(env["DOSSIER_RECORDS_KEYRING_PASSPHRASE_FILE"]).read_bytes().strip()
    FileKeyring(Path(env["DOSSIER_RECORDS_KEYRING_DIR"]), passphrase)  # makes the ring
    env[name := "DOSSIER_RECORDS_KEYRING_PASSPHRASE_FILE"] = str(file_of(folder, b"another"))
    return f"{name}: not the passphrase of the keys in {env['DOSSIER_RECORDS_KEYRING_DIR']}"


def index_key_missing(env: Environment, folder: Path, part: str) -> str:
    passphrase = Path(env["DOSSIER_RECORDS_KEYRING_PASSPHRASE_FILE"]).read_bytes().strip()
    env[name := "DOSSIER_RECORDS_KEYRING_DIR"] = str(keys := folder / "keys")
    FileKeyring(keys, passphrase).create("secret-1", 1)
    return f"{name}: {keys} lacks index.1.key, without which no value is found"


def keyring_not_writable(env: Environment, folder: Path, part: str) -> str:
    env[name := "DOSSIER_RECORDS_KEYRING_DIR"] = str(below := file_of(folder, b"") / "below")
    return f"{name}: {below} cannot be written: Not a directory"


def supplements_not_writable(env: Environment, folder: Path, part: str) -> str:
    env[name := "DOSSIER_RECORDS_SUPPLEMENT_DIR"] = str(below := file_of(folder, b"") / "below")
    return f"{name}: {below} cannot be written: Not a directory"


def token_keys_malformed(env: Environment, folder: Path, part: str) -> str:
    env[name := "DOSSIER_GATEWAY_TOKEN_KEY_FILE"] = str(file_of(folder, b"{}"))
    return f"{name}: spoilt: neither a key in PEM nor a ring of keys"


def documents_missing(env: Environment, folder: Path, part: str) -> str:
    env["DOSSIER_API_DIR"] = str(folder)
    return f"no route table from {folder}: "


def vkey_given_twice(env: Environment, folder: Path, part: str) -> str:
    env[name := "DOSSIER_GATEWAY_AUDIT_LOG_VKEY_FILE"] = str(file_of(folder, b"vkey"))
    return f"settings are not valid: {name}: stands in the place of DOSSIER_GATEWAY_AUDIT_LOG_VKEY: both are set"


OF_ALL: tuple[Fault, ...] = (
    setting_missing,
    password_missing,
    password_unreadable,
    password_empty,
    key_malformed,
    key_of_another,
    database_of_another_kind,
    broker_of_another_kind,
    certificate_without_its_key,
    policy_missing,
    policy_wrong,
    migrations_missing,
)
OF_ONE: dict[str, tuple[Fault, ...]] = {
    "dossier_gateway.main": (token_keys_malformed, documents_missing, vkey_given_twice),
    "dossier_records.main": (passphrase_empty, passphrase_of_another, index_key_missing, keyring_not_writable),
    "dossier_records.worker": (passphrase_empty, keyring_not_writable, supplements_not_writable),
    "dossier_audit.main": (log_key_malformed, witnesses_malformed),
    "dossier_audit.worker": (log_key_malformed, witnesses_malformed, checkpoints_not_writable),
}
KINDS = ("main", "worker")
"""They begin alike, so that each fault is tried with one of them."""
TABLE = [
    *((f"dossier_{part}.{KINDS[number % 2]}", fault) for part in PARTS for number, fault in enumerate(OF_ALL)),
    *((module, fault) for module, faults in OF_ONE.items() for fault in faults),
]


@pytest.mark.parametrize(("module", "fault"), TABLE, ids=lambda value: getattr(value, "__name__", value))
def test_a_fault_ends_the_process_with_one_line(cluster: Cluster, tmp_path: Path, module: str, fault: Fault) -> None:
    part = module.removeprefix("dossier_").partition(".")[0]
    environment = cluster.environment.of(part)
    expected = fault(environment, tmp_path, part.upper())
    line = ended(environment, module)
    place, _, said = line.partition(": ")
    assert place.startswith(f"dossier_{part}.")
    assert said.startswith(expected)
    assert "\n" not in line


def ended(environment: Environment, module: str) -> str:
    """The line with which a process ends that is run in this one, up to the moment that it would listen."""
    started = AssertionError("it started")
    with (
        patch.dict(os.environ, environment, clear=True),
        patch.dict(sys.modules),
        patch.object(uvicorn, "run", side_effect=started),
        patch.object(asyncio, "Runner", side_effect=started),
    ):
        sys.modules.pop(module, None)
        with pytest.raises(SystemExit) as end:
            runpy.run_module(module, run_name="__main__")
    return str(end.value.code)


def subprocess_line(environment: Environment, module: str) -> str:
    """The same in a process of its own, which has to end by itself with status 1."""
    command = (sys.executable, "-P", "-m", module)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.parametrize(
    ("part", "kind", "fault"),
    [
        ("gateway", "main", policy_wrong),
        ("records", "worker", supplements_not_writable),
        ("approvals", "main", password_missing),
        ("retention", "worker", key_malformed),
        ("audit", "main", certificate_without_its_key),
    ],
)
def test_the_line_is_all_that_the_process_says(
    cluster: Cluster, tmp_path: Path, part: str, kind: str, fault: Fault
) -> None:
    environment = cluster.environment.of(part)
    expected = fault(environment, tmp_path, part.upper())
    assert expected in subprocess_line(environment, f"dossier_{part}.{kind}")


def test_a_fault_leaves_the_key_ring_as_it_is(cluster: Cluster, tmp_path: Path) -> None:
    environment = cluster.environment.of("records")
    ring = Path(environment["DOSSIER_RECORDS_KEYRING_DIR"])
    expected = passphrase_of_another(environment, tmp_path, "RECORDS")
    before = {each.name: each.read_bytes() for each in ring.iterdir()}
    assert before
    assert expected in ended(environment, "dossier_records.main")
    assert {each.name: each.read_bytes() for each in ring.iterdir()} == before
