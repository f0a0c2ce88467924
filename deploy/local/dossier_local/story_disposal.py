"""Step 7 of the story: the record is past its term, and is destroyed by two people after all that stood in the way."""

from typing import Any, Final

from rich.table import Table

from dossier_local.client import until
from dossier_local.people import AUDITOR
from dossier_local.story_access import CLERK, EMPLOYEE, MANAGER, SUPERVISOR, decide
from dossier_local.telling import Case, Telling

COMPLIANCE, EXECUTOR, WITNESS = "xu.dan", "wang.qiang", "gao.feng"
LAST_EVENT: Final = "retention.v1.certificate.issued"


async def hold_back(telling: Telling, case: Case) -> None:
    """The record is due; a hold stops its disposal, and another person than placed it lifts it."""
    telling.begin(
        7, "The record is past its term: a hold, then a copy stands in the way", "到期档案：先有保留，再有未收回副本"
    )
    due = await _due(telling, case, copies=1)
    ended = case.customer["relationship_ended_on"]
    telling.note(f"Relationship ended {ended}, so the record is due since {due['due_on']} ({due['rule']}).")
    new = {"record": case.record, "reason": "诉讼保全，待法务确认"}
    hold = await telling.ask(COMPLIANCE, "places a hold (法律保留)", "POST", "/v1/holds", body=new, expecting=201)
    await _propose(telling, case, "proposes to dispose of it", expecting="held")
    release, why = f"/v1/holds/{hold['id']}/release", {"reason": "诉讼已结案"}
    await telling.ask(COMPLIANCE, "tries to lift her own hold", "POST", release, body=why, expecting="same-person")
    await telling.ask(MANAGER, "lifts it (解除保留)", "POST", release, body=why)
    await _propose(telling, case, "proposes again", expecting="outstanding-copies")
    telling.note(f"Copy {case.copy_number} is still out.")
    await telling.ask(EMPLOYEE, "brings the copy back (归还)", "POST", f"/v1/copies/{case.copy}/return")
    await _due(telling, case, copies=0)


async def _due(telling: Telling, case: Case, *, copies: int) -> dict[str, Any]:
    """The record's line in the list of what is due, when it knows of this number of outstanding copies."""
    clerk = telling.client.as_(CLERK)

    async def look() -> dict[str, Any] | None:
        async for due in clerk.every("/v1/retention/due"):
            if due["record"] == case.record and due["outstanding_copies"] == copies:
                return due
        return None

    return await until(look, f"the record is due, with {copies} copies outstanding")


async def _propose(telling: Telling, case: Case, saying: str, *, expecting: int | str) -> dict[str, Any]:
    new = {"record": case.record, "reason": "保存期限届满"}
    answer: dict[str, Any] = await telling.ask(CLERK, saying, "POST", "/v1/disposals", body=new, expecting=expecting)
    return answer


async def destroy(telling: Telling, case: Case) -> None:
    """Two approve, two others destroy."""
    telling.begin(7, "Two approve, two others destroy", "两人审批，另两人执行与监销")
    disposal = await _propose(telling, case, "proposes for the third time (销毁申请)", expecting=201)
    for who in (SUPERVISOR, MANAGER):
        await decide(telling, who, await _task(telling, who, disposal["id"]), "approves the destruction")
    await _in_state(telling, disposal["id"], "approved")
    path = f"/v1/disposals/{disposal['id']}"
    first, second = f"{path}/execution", f"{path}/witness-statement"
    method, seen = {"method": "crypto_shred", "note": "密钥销毁"}, {"statement": "现场监督，销毁属实"}
    await telling.ask(
        CLERK, "who proposed it, tries to execute it", "POST", first, body=method, expecting="same-person"
    )
    await telling.ask(EXECUTOR, "turns the first key (执行)", "POST", first, body=method)
    hold = {"record": case.record, "reason": "再次保留"}
    await telling.ask(
        COMPLIANCE, "comes too late with a hold", "POST", "/v1/holds", body=hold, expecting="destruction-under-way"
    )
    await telling.ask(
        EXECUTOR, "tries to be his own witness", "POST", second, body=seen, expecting="insufficient-scope"
    )
    await telling.ask(WITNESS, "turns the second key (监销)", "POST", second, body=seen)
    destroyed = await _in_state(telling, disposal["id"], "destroyed")
    case.certificate = destroyed["certificate"]
    await _show_certificate(telling, case)


async def _task(telling: Telling, who: str, disposal: str) -> str:
    async def look() -> str | None:
        tasks = (await telling.client.as_(who).get("/v1/tasks", limit=200)).expecting(200)["items"]
        return next((task["id"] for task in tasks if task["disposal"] == disposal), None)

    return await until(look, f"the disposal waits for {who}")


async def _in_state(telling: Telling, disposal: str, state: str) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        case: dict[str, Any] = (await telling.client.as_(CLERK).get(f"/v1/disposals/{disposal}")).expecting(200)
        return case if case["state"] == state else None

    return await until(look, f"the disposal is {state}")


async def _show_certificate(telling: Telling, case: Case) -> None:
    path = f"/v1/certificates/{case.certificate}"
    shown = await telling.ask(CLERK, "opens the certificate of destruction (销毁证明)", "GET", path)
    names = telling.names()
    persons = {
        "proposed by": [shown["proposer_person"]],
        "approved by": shown["approver_persons"],
        "executed by": [shown["executor_person"]],
        "witnessed by": [shown["witness_person"]],
    }
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_row("certificate", shown["id"])
    table.add_row("method, time", f"{shown['method']}, {shown['destroyed_at']}")
    for duty, who in persons.items():
        table.add_row(f"{duty}", ", ".join(names[each] for each in who))
    table.add_row("signature", f"{shown['kid'][:8]}… {shown['signature'][:24]}…")
    telling.table(table)
    everyone = [each for who in persons.values() for each in who]
    telling.check(that=len(set(everyone)) == len(everyone), what="all of them are different persons")
    telling.check(that=shown["record"] == case.record, what="the certificate is of this record")


async def read_no_more(telling: Telling, case: Case) -> None:
    """Nothing reads the record again, and the auditor sees its whole life."""
    telling.begin(7, "Nothing can read it again", "销毁后任何人不可再读")
    path = f"/v1/records/{case.record}"
    for who in (EMPLOYEE, CLERK):
        await telling.ask(who, "tries to read the record", "GET", path, expecting="not-found", purpose=case.purpose)
    query = {"field": "phone", "value": case.customer["phone"], "purpose": case.purpose}
    found = await telling.ask(EMPLOYEE, "searches for the phone number again", "POST", "/v1/records/search", body=query)
    telling.check(that=found["items"] == [], what="the search finds nothing")
    telling.note("Nothing found.")
    await _show_events(telling, case)


async def _show_events(telling: Telling, case: Case) -> None:
    async def look() -> bool | None:
        answer = await telling.client.as_(AUDITOR).get("/v1/audit/events", record=case.record, type=LAST_EVENT)
        return bool(answer.expecting(200)["items"]) or None

    await until(look, "the certificate is in the log")
    events = (
        await telling.ask(
            AUDITOR,
            "lists the life of the record (全过程留痕)",
            "GET",
            "/v1/audit/events",
            record=case.record,
            order="oldest",
            limit=200,
        )
    )["items"]
    names = telling.names()
    table = Table("Time", "Who", "Event", "", box=None, pad_edge=False)
    for event in events:
        who = names.get(event["person"] or event["actor"] or "", event["client"] or "—")
        slug = event["data"].get("slug", "") if event["outcome"] == "refused" else ""
        table.add_row(f"{event['time'][11:23]}", who, event["type"], slug)
    telling.table(table)
    types = {event["type"] for event in events}
    told = {
        *("records.v1.record.registered", "records.v1.record.viewed"),
        *("approvals.v1.request.created", "approvals.v1.step.decided", "approvals.v1.grant.issued"),
        *(
            "records.v1.copy.issued",
            "records.v1.copy.returned",
            "retention.v1.hold.placed",
            "retention.v1.hold.released",
        ),
        *("retention.v1.disposal.executed", "records.v1.record.shredded", LAST_EVENT),
    }
    telling.check(that=told <= types, what=f"the log has all of it (missing: {', '.join(sorted(told - types))})")
