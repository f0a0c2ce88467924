"""The witness of the full stack: it runs beside the parts, knows the log's key, and the audit part knows its own."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tomllib

import httpx
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from tests.support.waiting import eventually

from dossier_local.launched import RunningStack
from dossier_local.witness import origin


def port(stack: RunningStack) -> int:
    number: int = json.loads((stack.state.run / "ports.json").read_text())["witness"]
    return number


async def healthy(stack: RunningStack) -> int | None:
    try:
        async with httpx.AsyncClient(trust_env=False) as http:
            return (await http.get(f"http://127.0.0.1:{port(stack)}/healthz")).status_code
    except httpx.TransportError:
        return None


async def test_it_answers_at_its_own_port(stack: RunningStack) -> None:
    assert await healthy(stack) == 200
    assert port(stack) not in stack.ports.values()


def test_it_trusts_the_audit_logs_key_under_the_address_of_each_log(stack: RunningStack) -> None:
    key = load_pem_private_key((stack.state.secrets / "audit-log-key.pem").read_bytes(), password=None)
    public = key.public_key().public_bytes_raw()  # type: ignore[union-attr]  # an Ed25519 key has it, else this fails
    config = tomllib.loads((stack.state.witness / "witness.toml").read_text())
    first, second = (each["vkey"].split("+", 2) for each in config["logs"][:2])
    authority = stack.base_url.removeprefix("http://")
    assert (first[0], second[0]) == (f"{authority}/v1/audit/log", f"{authority}/v1/audit/logs/2")
    assert first[1] == hashlib.sha256(first[0].encode() + b"\n\x01" + public).hexdigest()[:8]


def test_the_audit_part_is_told_its_address_and_the_key_that_it_shows(stack: RunningStack) -> None:
    (known,) = json.loads((stack.state.folder / "witnesses.json").read_text())
    command = (sys.executable, "-P", "-m", "dossier_witness", "show", "--config", stack.state.witness / "witness.toml")
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert known == {"url": f"http://127.0.0.1:{port(stack)}", "vkey": shown.splitlines()[0]}


async def test_the_audit_log_is_cosigned(stack: RunningStack) -> None:
    digest = hashlib.sha256(origin(stack.base_url).encode()).hexdigest()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port(stack)}", trust_env=False) as http:

        async def cosigned() -> bool:
            return (await http.get(f"/logs/{digest}/checkpoint")).status_code == 200

        await eventually(cosigned, expected=True)


def test_its_keys_and_memory_are_for_the_owner_alone(stack: RunningStack) -> None:
    for folder in (stack.state.witness, stack.state.checkpoints):
        assert folder.stat().st_mode & 0o777 == 0o700
    for path in stack.state.witness.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600, path


async def test_killed_it_comes_back_with_its_memory(stack: RunningStack) -> None:
    pid_file = stack.state.run / "witness.pid"
    before = json.loads(pid_file.read_text())["pid"]
    key = (stack.state.witness / "key.pem").read_bytes()
    os.kill(before, signal.SIGKILL)

    async def again() -> bool:
        return json.loads(pid_file.read_text())["pid"] != before and await healthy(stack) == 200

    await eventually(again, expected=True)
    assert (stack.state.witness / "key.pem").read_bytes() == key
