"""What `dossier-verify` says of the log that is served: from outside, by code that shares nothing with the writer."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, STDOUT
from typing import Final

import httpx
from tests.faults.client import AUDITOR
from tests.faults.rounds import Rig

from dossier_local.state import write_private

VERIFIED, VERIFIED_AFTER_A_RESTORE = 0, 4
SECONDS: Final = 120


async def verified(rig: Rig) -> list[str]:
    """What is wrong with the log; nothing when signatures, tree, chains and bodies are right, after a restore too."""
    stack = rig.stack
    async with httpx.AsyncClient(base_url=stack.base_url, trust_env=False, timeout=10) as http:
        log = (await http.get("/.well-known/oauth-authorization-server")).json()["dossier_audit_log"]
    token = await rig.traffic.token(AUDITOR)
    write_private(stack.folder.path / "token", token.encode())
    write_private(stack.folder.path / "vkey", log["vkey"].encode())
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "dossier_verify.main", "log", log["url"]),
        *("--vkey", str(stack.folder.path / "vkey"), "--token-file", str(stack.folder.path / "token")),
        *("--bodies", "--json"),
        stdout=PIPE,
        stderr=STDOUT,
    )
    async with asyncio.timeout(SECONDS):
        said, _ = await process.communicate()
    restored = rig.checker.log.generation > 1
    expected = VERIFIED_AFTER_A_RESTORE if restored else VERIFIED
    return [] if process.returncode == expected else [f"dossier-verify ended with {process.returncode}: {_short(said)}"]


def _short(said: bytes) -> str:
    try:
        return json.dumps(json.loads(said).get("findings"))[:500]
    except ValueError:
        return said.decode(errors="replace")[-500:]
