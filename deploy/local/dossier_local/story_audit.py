"""Steps 6 and 8 of the story: the auditor proves what happened to people outside; who edits the log is found out.

Everything is proved by `dossier-verify`, a program that shares no code with the parts and sees what any outsider sees:
the gateway, two public keys, and the files that the auditor kept.
"""

import asyncio
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from rich.markup import escape

from dossier_local.client import until
from dossier_local.people import ADMINISTRATOR, AUDITOR
from dossier_local.postgres import SUPERUSER, Postgres
from dossier_local.state import LauncherError, write_private
from dossier_local.story_access import CLERK, EMPLOYEE
from dossier_local.telling import Case, Otherwise, Telling

VIEWED: Final = "records.v1.record.viewed"
LOG: Final = "/v1/audit/log"
DATABASE: Final = "dossier_audit"
VERIFIER: Final = Path(sys.executable).with_name("dossier-verify")
KEYS: Final = ("--vkey", "log.vkey", "--witness", "witness.vkey")
PROOF, EVENT, TOKEN, KEPT, SAVED = "viewed.tlog-proof", "viewed.json", "token", "checkpoint", "saved"
REFUSED: Final = (
    ("audit_app", "UPDATE bodies SET outcome = 'success'"),
    ("audit_app", "DELETE FROM leaves"),
    ("audit_app", "TRUNCATE log_checkpoints"),
    ("audit_migrator", "SET ROLE audit_owner; DELETE FROM bodies"),
    ("audit_migrator", "SET ROLE audit_owner; TRUNCATE log_tiles"),
)
"""What the database refuses: to the service for want of rights, to the owner of the tables by triggers."""

READ: Final = """
SELECT b.actor, b.person, encode(b.salt, 'hex'), encode(b.body, 'hex'), encode(l.leaf, 'hex')
FROM bodies b JOIN leaves l USING (time, producer, epoch, seq) WHERE b.id = :'event';
"""
WRITE: Final = """
SET session_replication_role = replica;
UPDATE bodies SET actor = :'actor', person = :'person', body = decode(:'body', 'hex') WHERE id = :'event';
UPDATE leaves SET leaf = decode(:'leaf', 'hex'), hash = sha256(decode(:'leaf', 'hex')) WHERE id = :'event';
"""


@dataclass(frozen=True, slots=True)
class Row:
    """An event as the database holds it: who is found by searching, the body with its salt, the leaf."""

    actor: str
    person: str
    salt: bytes
    body: bytes
    leaf: bytes

    def blaming(self, actor: str, person: str) -> "Row":
        """The same event, done by somebody else."""
        body = self.body.replace(self.actor.encode(), actor.encode()).replace(self.person.encode(), person.encode())
        return replace(self, actor=actor, person=person, body=body)

    def committed(self) -> "Row":
        """With a leaf that commits to the body that is there now."""
        before = json.loads(self.leaf)["commitment"].encode()
        after = hashlib.sha256(self.salt + self.body).hexdigest().encode()
        return replace(self, leaf=self.leaf.replace(before, after))


async def find_and_prove(telling: Telling, case: Case) -> None:
    """Step 6: who saw the record, a proof of it that is checked offline, and the whole log."""
    telling.begin(6, "The auditor finds all of it, and proves it to anyone", "审计员查得全过程，并可向任何人证明")
    query: dict[str, Any] = {"record": case.record, "type": VIEWED, "order": "oldest"}
    found = await telling.ask(AUDITOR, "asks who was shown the record", "GET", "/v1/audit/events", limit=200, **query)
    names = telling.names()
    for event in found["items"]:
        telling.note(f"{event['time']}  {names[event['person']]}  {', '.join(event['data']['open'])}")
    granted = [event for event in found["items"] if event["data"]["grant"] == case.grant]
    telling.check(that=len(granted) == 2, what="she read twice under her grant, and both readings are in the log")
    case.viewed = granted[0]["id"]
    desk = await _desk(telling)
    event = await telling.ask(AUDITOR, "opens the first of them", "GET", f"/v1/audit/events/{case.viewed}")
    write_private(desk / EVENT, json.dumps(event).encode())
    telling.note(f"leaf {event['leaf']}")
    await _cosigned(telling, f"/v1/audit/events/{case.viewed}/proof")
    proof = await telling.ask(AUDITOR, "takes its proof (证明)", "GET", f"/v1/audit/events/{case.viewed}/proof")
    write_private(desk / PROOF, proof.encode())
    case.index = next(int(line[6:]) for line in proof.splitlines() if line.startswith("index "))
    telling.say("Anyone", "checks it offline, with two public keys and no access to Dossier (离线验证)")
    await _verify(telling, "proof", PROOF, "--event", EVENT, *KEYS, expecting=0)
    telling.say(telling.person(AUDITOR), "verifies the whole log, bodies too, and keeps its checkpoint")
    await _verify_log(telling, "--save", SAVED, "--keep", KEPT, expecting=0)


async def change_nothing(telling: Telling, case: Case) -> None:
    """Step 6: neither officer can change anything, nor can the audit service's own database roles."""
    telling.begin(6, "And can change none of it", "但任何人都不能更改")
    event, none = f"/v1/audit/events/{case.viewed}", "method-not-allowed"
    await telling.ask(AUDITOR, "tries to rewrite the event", "PUT", event, body={}, expecting=none)
    await telling.ask(AUDITOR, "tries to delete it", "DELETE", event, expecting=none)
    await telling.ask(AUDITOR, "tries to write to the log", "POST", LOG, body={}, expecting="not-found")
    await telling.ask(ADMINISTRATOR, "tries to delete it too", "DELETE", event, expecting=none)
    await telling.ask(ADMINISTRATOR, "may not even read it", "GET", event, expecting="insufficient-scope")
    telling.say("Somebody", "has the passwords of the audit service's database roles")
    for role, statement in REFUSED:
        try:
            await _sql(telling, f"BEGIN; {statement}; ROLLBACK", role)
        except LauncherError as error:
            why = str(error).partition("ERROR:")[2].strip().split("\n", 1)[0]
            telling.note(f"{role}=> {statement}   → {why}")
            telling.check(that="permission denied" in why or "append-only" in why, what="it is for want of rights")
        else:
            raise Otherwise(f"Step {telling.step}: {role} was to be refused, but may {statement}.")


async def find_tampering(telling: Telling, case: Case) -> None:
    """Step 8. The row is put back whatever happens."""
    telling.begin(
        8, "Someone edits one audit row as the database superuser", "有人以数据库超级用户身份篡改一行审计记录"
    )
    row = await _read(telling, case.viewed)
    forged = row.blaming(telling.id_of(CLERK), telling.id_of(CLERK, "person"))
    telling.check(that=forged.body != row.body, what="the body says who viewed the record")
    try:
        telling.say(
            "The superuser", f"makes {CLERK} of {EMPLOYEE} in the first reading of step 4, triggers switched off"
        )
        await _write(telling, case.viewed, forged)
        shown = await telling.ask(AUDITOR, "opens the event", "GET", f"/v1/audit/events/{case.viewed}")
        telling.note(f"Viewed by {telling.names()[shown['person']]}: so the API says now.")
        telling.check(that=shown["person"] == forged.person, what="the API shows the forgery")
        await _find(telling, case)
        telling.say("The superuser", "puts the row back")
        await _write(telling, case.viewed, row)
        await _content(telling)
        telling.say("The superuser", "is thorough: the same body, and a leaf with a commitment that fits it")
        await _write(telling, case.viewed, forged.committed())
        await _find(telling, case)
    finally:
        await _write(telling, case.viewed, row)
    telling.say("The superuser", "puts the row back")
    await _content(telling)


async def _find(telling: Telling, case: Case) -> None:
    """The verifier names the row that was edited, itself."""
    said = await _verify_log(telling, "--checkpoint", KEPT, "--against", SAVED, expecting=1)
    named = any(f"at leaf {case.index}, " in line for line in said)
    telling.check(that=named, what=f"the verifier names leaf {case.index}, event {case.viewed}")


async def _content(telling: Telling) -> None:
    await _verify_log(telling, "--checkpoint", KEPT, "--against", SAVED, expecting=0)


# -- the auditor's desk ---------------------------------------------------------------------------------------------


async def _desk(telling: Telling) -> Path:
    """The auditor's folder, with the public keys of the log and of its witness."""
    desk = telling.state.auditor
    shutil.rmtree(desk, ignore_errors=True)
    desk.mkdir(mode=0o700)
    metadata = await telling.client.anonymously("GET", "/.well-known/oauth-authorization-server")
    log = metadata.expecting(200)["dossier_audit_log"]
    (witness,) = json.loads((telling.state.folder / "witnesses.json").read_text())
    for name, key in (("log", log["vkey"]), ("witness", witness["vkey"])):
        write_private(desk / f"{name}.vkey", f"{key}\n".encode())
    telling.note(f"Files of this step are kept in {desk}.")
    return desk


async def _cosigned(telling: Telling, path: str) -> None:
    """Waits until what is shown there bears the witness's signature beside the log's: it comes within a second."""

    async def look() -> bool | None:
        answer = await telling.client.as_(AUDITOR).get(path)
        return (answer.status == 200 and answer.body.count("\n— ") == 2) or None

    await until(look, "the witness has cosigned")


async def _verify_log(telling: Telling, *arguments: str, expecting: int) -> Sequence[str]:
    """The whole log, read through the gateway with the auditor's token."""
    token = telling.state.auditor / TOKEN
    write_private(token, (await telling.client.as_(AUDITOR).token()).access.encode())
    await _cosigned(telling, f"{LOG}/checkpoint")
    address = f"{telling.client.base_url}{LOG}"
    ca = ("--ca-file", str(telling.elsewhere.ca)) if telling.elsewhere else ()
    try:
        return await _verify(
            telling, "log", address, *ca, *KEYS, "--token-file", TOKEN, "--bodies", *arguments, expecting=expecting
        )
    finally:
        token.unlink()


async def _verify(telling: Telling, *arguments: str, expecting: int) -> Sequence[str]:
    """What `dossier-verify` printed. Raises Otherwise when it ended with another status."""
    telling.console.print(f"     [dim]$ dossier-verify {escape(' '.join(arguments))}[/dim]", soft_wrap=True)
    process = await asyncio.create_subprocess_exec(
        VERIFIER,
        *arguments,
        cwd=telling.state.auditor,
        env={"PATH": os.defpath, "PYTHONUTF8": "1"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    said = output.decode().splitlines()
    for line in said:
        telling.note(line)
    telling.check(that=process.returncode == expecting, what=f"dossier-verify ends with {expecting}")
    telling.verdicts.append((telling.step, f"dossier-verify {arguments[0]}", said[-1]))
    return said


# -- the database ---------------------------------------------------------------------------------------------------


async def _sql(telling: Telling, script: str, role: str, **values: str) -> str:
    variables = "".join(f"\\set {name} '{value}'\n" for name, value in values.items())
    run = telling.elsewhere.sql if telling.elsewhere else Postgres(telling.state).psql
    return await asyncio.to_thread(run, variables + script, DATABASE, role)


async def _read(telling: Telling, event: str) -> Row:
    row = await _sql(telling, READ, SUPERUSER, event=event)
    actor, person, *data = row.strip().split("|")
    return Row(actor, person, *map(bytes.fromhex, data))


async def _write(telling: Telling, event: str, row: Row) -> None:
    """As a superuser can: with `session_replication_role` no trigger refuses it."""
    values = {"actor": row.actor, "person": row.person, "body": row.body.hex(), "leaf": row.leaf.hex()}
    await _sql(telling, WRITE, SUPERUSER, event=event, **values)
