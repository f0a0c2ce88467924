"""Steps 1 to 5 of the story: customers come in, one is found, asked for, read, copied, and kept from others."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from dossier_local.client import until
from dossier_local.customer_files import as_csv
from dossier_local.customers import COLUMNS
from dossier_local.people import ADMINISTRATOR, AUDITOR, SERVICE
from dossier_local.state import LauncherError
from dossier_local.telling import Case, Telling

CLERK, EMPLOYEE, HEAD, OTHER_HEAD = "zhang.li", "li.na", "zhao.jun", "sun.tao"
MANAGER, SUPERVISOR = "liu.yang", "chen.jing"
PROFILE: Final = {"department": "销售部", "office": "客户开发专员"}
WANTED: Final = ("name", "phone", "address")
SHORT_TERM: Final = timedelta(seconds=6)
SHOWN_FAULTS: Final = 8


async def import_customers(telling: Telling, case: Case) -> None:
    """Step 1."""
    telling.begin(1, "A clerk imports customers from a spreadsheet", "信息管理专员导入客户表")
    content = as_csv(case.sheet.rows, "gb18030")
    received = await telling.ask(
        CLERK,
        f"sends a spreadsheet of {len(case.sheet.rows):,} rows, as the office's program wrote it (CSV, GB18030)",
        "POST",
        "/v1/imports",
        expecting=202,
        content=content,
        headers={"Content-Type": "text/csv; charset=gb18030"},
        plan=telling.demo["plan"],
        unit=telling.demo["units"][SERVICE],
        custodian=telling.id_of(CLERK, "person"),
    )
    report = await _followed(telling, received["id"], len(case.sheet.rows))
    telling.check(that=report["state"] == "done", what="the import ends")
    accepted, refused = report["accepted"], report["refused"]
    telling.note(f"{accepted:,} rows accepted, {refused} refused, {report['duplicates']} known before.")
    telling.check(that=accepted == case.sheet.accepted, what=f"{case.sheet.accepted} rows are accepted")
    await _show_faults(telling, case, received["id"])
    await _show_levels(telling, accepted)


async def _followed(telling: Telling, import_id: str, rows: int) -> dict[str, Any]:
    columns = (TextColumn("     {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=telling.console) as progress:
        task = progress.add_task("rows judged", total=rows)

        async def look() -> dict[str, Any] | None:
            report: dict[str, Any] = (await clerk.get(f"/v1/imports/{import_id}", limit=1)).expecting(200)
            progress.update(task, completed=report["judged"])
            return report if report["state"] in {"done", "failed"} else None

        clerk = telling.client.as_(CLERK)
        return await until(look, "the import ends", seconds=60)


async def _show_faults(telling: Telling, case: Case, import_id: str) -> None:
    clerk = telling.client.as_(CLERK)
    refused = [row async for row in clerk.every(f"/v1/imports/{import_id}", "errors")]
    found = {(row["row"], fault["field"], fault["code"]) for row in refused for fault in row["faults"]}
    expected = {(each.row, each.field, each.code) for each in case.sheet.refusals}
    telling.check(that=expected <= found, what="each faulty row is refused for its own fault")
    telling.check(that={row["row"] for row in refused} == {row for row, _, _ in expected}, what="no other row is")
    shown: dict[str, tuple[int, dict[str, Any]]] = {}
    for row in refused:
        shown.setdefault(row["faults"][0]["code"], (row["row"], row["faults"][0]))
    table = Table("Row", "Column", "Why refused", box=None, pad_edge=False)
    for number, fault in list(shown.values())[:SHOWN_FAULTS]:
        column = COLUMNS.get(fault["field"], (fault["field"], ""))[0]
        table.add_row(str(number), column, f"{fault['title']['zh']} · {fault['title']['en']}")
    telling.note("For example:")
    telling.table(table)


async def _show_levels(telling: Telling, accepted: int) -> None:
    levels = Counter([record["level"] async for record in telling.client.as_(CLERK).every("/v1/records")])
    counts = ", ".join(f"{level} {count}" for level, count in levels.most_common())
    telling.note(f"Levels that the policy set (定级): {counts}.")
    telling.check(that=levels.total() >= accepted and len(levels) > 1, what="each record has a level")


async def find_customer(telling: Telling, case: Case) -> None:
    """Step 2."""
    telling.begin(2, "An employee finds one by phone number, masked", "员工凭电话查询，只见脱敏信息")
    found = await telling.ask(
        EMPLOYEE,
        "looks for the customer who just called, by his phone number",
        "POST",
        "/v1/records/search",
        body={"field": "phone", "value": case.customer["phone"], "purpose": case.purpose},
    )
    telling.check(that=len(found["items"]) == 1, what="there is one such customer")
    (match,) = found["items"]
    case.record = match["record"]["id"]
    telling.note(f"Record {match['record']['number']}, level {match['record']['level']}: {_fields(match['fields'])}")
    values = {field["value"] for field in match["fields"].values() if field["value"] is not None}
    secret = {case.customer[name] for name in ("name", "identifier", "phone", "address")}
    telling.check(that=match["fields"]["phone"]["state"] == "masked", what="the phone is masked")
    telling.check(that=not values & secret, what="nothing is shown open")
    explained = await telling.ask(
        EMPLOYEE,
        "asks what it would take to see more",
        "GET",
        f"/v1/records/{case.record}/access",
        action="view",
        purpose=case.purpose,
    )
    telling.check(that=bool(explained["approvals_needed"]), what="she is told what it takes")
    for needed in explained["approvals_needed"]:
        telling.note(f"It takes an approval of “{needed['action']}”, by {telling.stages(needed['stages'])}.")
    unseen = await telling.ask(
        EMPLOYEE,
        "looks for a customer of the level confidential (机密), who is listed to his keepers alone",
        "POST",
        "/v1/records/search",
        body={"field": "phone", "value": case.unseen["phone"], "purpose": case.purpose},
    )
    telling.check(that=unseen["items"] == [], what="she does not learn that there is such a record")
    telling.note("Nothing found: she does not learn that there is such a record.")


def _fields(fields: dict[str, Any]) -> str:
    shown = [
        f"{COLUMNS[name][0]} {field['value']}" for name, field in fields.items() if name in COLUMNS and field["value"]
    ]
    return "，".join(shown)


async def ask_for_access(telling: Telling, case: Case) -> None:
    """Step 3."""
    telling.begin(3, "She asks, and two others decide", "申请查阅，两级审批")
    wish = _wish("view", case) | {"fields": list(WANTED), "uses": 2, "until": _in(timedelta(hours=2))}
    outlook = await telling.ask(EMPLOYEE, "asks who would decide", "POST", "/v1/requests/preview", body=wish)
    telling.note(f"Flow {outlook['flow']}: {telling.stages(outlook['stages'])}. Nothing was changed.")
    what = "asks to see name, phone and address twice, to handle a complaint (处理投诉)"
    request = await telling.ask(EMPLOYEE, what, "POST", "/v1/requests", body=wish, expecting=201)
    first = await task_of(telling, HEAD, request["id"])
    await decide(telling, EMPLOYEE, first, "tries to approve it herself", expecting="insufficient-scope")
    await decide(telling, HEAD, first, "head of her department, approves")
    second = await task_of(telling, MANAGER, request["id"])
    await decide(telling, HEAD, second, "tries to decide the second stage too", expecting="same-person")
    await decide(telling, EMPLOYEE, second, "tries that as well", expecting="insufficient-scope")
    decided = await decide(telling, MANAGER, second, "head of the owner's department, approves")
    telling.check(that=decided["state"] == "granted" and decided["grant"], what="two approvals make a grant")
    case.grant = decided["grant"]
    grant = await telling.ask(EMPLOYEE, "looks at her grant", "GET", f"/v1/grants/{case.grant}")
    telling.note(f"Fields {', '.join(grant['fields'])}; {grant['uses']} uses; until {grant['until']}.")
    telling.check(that=grant["uses"] == 2, what="the grant has two uses")
    own = await telling.ask(
        HEAD, "asks for the same record for himself", "POST", "/v1/requests", body=_wish("view", case), expecting=201
    )
    task = await task_of(telling, OTHER_HEAD, own["id"])
    await decide(telling, HEAD, task, "tries to sign his own request", expecting="self-approval")
    await telling.ask(HEAD, "takes it back", "POST", f"/v1/requests/{own['id']}/withdrawal")


def _wish(action: str, case: Case) -> dict[str, Any]:
    return {
        "action": action,
        "records": [case.record],
        "purpose": case.purpose,
        "reason": "客户来电投诉，需核对身份并回访",
        "requester_profile": PROFILE,
    }


def _in(delay: timedelta) -> str:
    return (datetime.now(UTC) + delay).isoformat()


async def task_of(telling: Telling, who: str, request: str) -> str:
    """The task of a request that waits for somebody. Raises LauncherError when none does."""
    tasks = (await telling.client.as_(who).get("/v1/tasks", limit=200)).expecting(200)["items"]
    found: list[str] = [task["id"] for task in tasks if task["request"] == request]
    if not found:
        raise LauncherError(f"Step {telling.step}: the request does not wait for {who}.")
    return found[0]


async def decide(telling: Telling, who: str, task: str, saying: str, *, expecting: int | str = 200) -> dict[str, Any]:
    """Somebody approves, or tries to."""
    verdict = {"verdict": "approve", "comment": "同意"}
    path = f"/v1/tasks/{task}/decision"
    decided: dict[str, Any] = await telling.ask(who, saying, "POST", path, body=verdict, expecting=expecting)
    return decided


async def read_and_copy(telling: Telling, case: Case) -> None:
    """Step 4."""
    telling.begin(4, "She reads within term and count, and gets one copy", "在期限和次数内查阅，领取一份复制件")
    for count in ("reads under the grant", "reads once more"):
        content = await _read(telling, case, count)
        fields = content["fields"]
        telling.note(f"{_fields(fields)}；watermark 水印 {content['watermark']}")
        opened = {name for name, field in fields.items() if field["state"] == "open"}
        telling.check(that=opened == set(WANTED), what="just what was granted is open")
        as_sent = all(fields[name]["value"] == case.customer[name] for name in WANTED)
        telling.check(that=as_sent, what="what is open is what the spreadsheet said")
    await _read(telling, case, "reads a third time", expecting="grant-exhausted")
    await telling.ask(
        EMPLOYEE,
        "asks for a copy under the grant to view",
        "POST",
        f"/v1/records/{case.record}/copies",
        body={"grant": case.grant, "action": "copy"},
        expecting="grant-required",
    )
    wish = _wish("copy", case) | {"fields": ["name", "phone"]}
    request = await telling.ask(EMPLOYEE, "asks for a copy (复制)", "POST", "/v1/requests", body=wish, expecting=201)
    task = await task_of(telling, SUPERVISOR, request["id"])
    decided = await decide(telling, SUPERVISOR, task, "releases it (A8.23)")
    issued = {"grant": decided["grant"], "action": "copy"}
    path = f"/v1/records/{case.record}/copies"
    copy = await telling.ask(EMPLOYEE, "has the copy issued", "POST", path, body=issued, expecting=201)
    case.copy, case.copy_number = copy["id"], copy["number"]
    telling.note(f"{copy['stamp']}, number {copy['number']}, fields {', '.join(copy['fields'])}.")
    content = await telling.ask(EMPLOYEE, "has it printed", "GET", f"/v1/copies/{case.copy}/content")
    telling.check(that=content["fields"]["name"] == case.customer["name"], what="the copy shows the customer")
    receipted = await telling.ask(EMPLOYEE, "signs for it (签收)", "POST", f"/v1/copies/{case.copy}/receipt")
    telling.check(that=receipted["state"] == "receipted", what="the copy is receipted")
    await telling.ask(EMPLOYEE, "wants a second one", "POST", path, body=issued, expecting="grant-exhausted")


async def _read(telling: Telling, case: Case, saying: str, *, expecting: int | str = 200, grant: str = "") -> Any:
    path, used = f"/v1/records/{case.record}", grant or case.grant
    return await telling.ask(EMPLOYEE, saying, "GET", path, expecting=expecting, purpose=case.purpose, grant=used)


async def refuse_others(telling: Telling, case: Case) -> None:
    """Step 5."""
    telling.begin(5, "Administrator and expired grant are refused, on record", "系统管理员与过期授权均被拒绝并留痕")
    wish = _wish("view", case) | {"fields": ["name"], "until": _in(SHORT_TERM)}
    what = f"asks for another reading within {SHORT_TERM.seconds} seconds"
    request = await telling.ask(EMPLOYEE, what, "POST", "/v1/requests", body=wish, expecting=201)
    await decide(telling, HEAD, await task_of(telling, HEAD, request["id"]), "approves")
    decided = await decide(telling, MANAGER, await task_of(telling, MANAGER, request["id"]), "approves")
    await _read(telling, case, "reads while the grant lasts", grant=decided["grant"])
    await telling.ask(
        ADMINISTRATOR,
        "keeps the accounts, and tries to read the record",
        "GET",
        f"/v1/records/{case.record}",
        expecting="insufficient-scope",
        purpose=case.purpose,
    )
    left = datetime.fromisoformat(decided["until"]) - datetime.now(UTC)
    await asyncio.sleep(max(left.total_seconds(), 0) + 0.05)
    await _read(telling, case, "reads when it is over", grant=decided["grant"], expecting="grant-required")
    await _find_refusals(telling, ADMINISTRATOR, case, {"insufficient-scope"})
    await _find_refusals(telling, EMPLOYEE, case, {"grant-exhausted", "grant-required"})


async def _find_refusals(telling: Telling, whose: str, case: Case, slugs: set[str]) -> None:
    """The auditor finds the refusals of a person that concern the record, as soon as their events are in the log."""
    query: dict[str, Any] = {"actor": telling.id_of(whose), "record": case.record, "outcome": "refused"}

    async def look() -> set[str] | None:
        events = (await telling.client.as_(AUDITOR).get("/v1/audit/events", limit=200, **query)).expecting(200)
        return found if slugs <= (found := {event["data"]["slug"] for event in events["items"]}) else None

    await until(look, f"the refusals of {whose} are in the log")
    saying = f"looks for what was refused to {whose}"
    events = await telling.ask(AUDITOR, saying, "GET", "/v1/audit/events", limit=200, **query)
    for event in events["items"]:
        telling.note(f"{event['time']}  {event['type']}  {event['data']['operation']}  {event['data']['slug']}")
