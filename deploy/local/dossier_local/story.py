"""The main job as a story, told on real parts with a spreadsheet of 1,040 rows, in eight steps."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from datetime import date
from typing import Final

from rich.console import Console
from rich.table import Table

from dossier_local import customer_files, organisation, story_access, story_audit, story_disposal
from dossier_local.client import connected
from dossier_local.customer_files import Sheet
from dossier_local.customers import PERSON, Row
from dossier_local.elsewhere import Elsewhere
from dossier_local.people import ADMINISTRATOR, AUDITOR
from dossier_local.stack import Stack
from dossier_local.state import LauncherError
from dossier_local.telling import Case, Otherwise, Telling

Step = Callable[[Telling, Case], Awaitable[None]]
STEPS: Final[tuple[Step, ...]] = (
    story_access.import_customers,
    story_access.find_customer,
    story_access.ask_for_access,
    story_access.read_and_copy,
    story_access.refuse_others,
    story_audit.find_and_prove,
    story_audit.change_nothing,
    story_disposal.hold_back,
    story_disposal.destroy,
    story_disposal.read_no_more,
    story_audit.find_tampering,
)
CAST: Final = (
    *(story_access.CLERK, story_access.EMPLOYEE, story_access.HEAD, story_access.OTHER_HEAD),
    *(story_access.MANAGER, story_access.SUPERVISOR, ADMINISTRATOR, AUDITOR),
    *(story_disposal.COMPLIANCE, story_disposal.EXECUTOR, story_disposal.WITNESS),
)
LONG_ENDED: Final = date(2020, 1, 1)
WIDTH: Final = 120
"""Columns where there is no terminal that says how many it has."""


async def run(stack: Stack | Elsewhere) -> int:
    """Builds the organisation and tells the story; 0 when every step went as told."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    stack.say("Building the demo organisation: ceremony of the three officers, units, accounts, roles …")
    demo = await organisation.ensure(stack)
    stack.write_demo(demo)
    began = time.monotonic()
    async with connected(stack.base_url, demo, tls=stack.tls) as client:
        telling = Telling(console, client, demo, stack.state, stack if isinstance(stack, Elsewhere) else None)
        case = a_case(customer_files.sheet())
        try:
            await asyncio.gather(*(client.as_(name).token() for name in CAST))
            for step in STEPS:
                await step(telling, case)
            await summarise(telling, time.monotonic() - began)
        except (Otherwise, LauncherError) as error:
            where = "" if isinstance(error, Otherwise) else f"Step {telling.step}: "
            console.print(f"\n{where}{error}", style="bold red", markup=False, soft_wrap=True)
            return 1
    console.print("\n[bold green]Every step went as told.[/bold green]")
    return 0


def a_case(sheet: Sheet) -> Case:
    """A customer of this spreadsheet whose relationship ended long ago, and one of a level that few may know of."""
    wrong = {refusal.row for refusal in sheet.refusals}
    phones = Counter(row["phone"] for row in sheet.rows)
    good = [
        row
        for number, row in enumerate(sheet.rows, start=2)
        if number not in wrong and phones[row["phone"]] == 1 and row["customer_type"] == PERSON
    ]
    customer = next(row for row in good if row["importance"] == "重要" and _ended_long_ago(row))
    unseen = next(row for row in good if row["importance"] == "核心")
    return Case(sheet, customer, unseen)


def _ended_long_ago(row: Row) -> bool:
    ended = row["relationship_ended_on"]
    return bool(ended) and date.fromisoformat(ended) < LONG_ENDED


async def summarise(telling: Telling, seconds: float) -> None:
    """Records, events by type from the audit log, what the verifier said of it, refusals."""
    records = [record async for record in telling.client.as_(story_access.CLERK).every("/v1/records")]
    kinds = Counter([event["type"] async for event in telling.client.as_(AUDITOR).every("/v1/audit/events")])
    telling.console.print("\n[bold]Summary · 小结[/bold]")
    by_status = Counter(record["status"] for record in records)
    said = ", ".join(f"{count:,} {status}" for status, count in by_status.items())
    telling.note(f"Records: {said}. Told in {seconds:.1f} s.")
    telling.note(f"Events in the audit log: {kinds.total():,}")
    telling.table(_columns(kinds))
    telling.note(f"Verifications, as expected: {len(telling.verdicts)}")
    verdicts = Table("Step", "Command", "It said", box=None, pad_edge=False)
    for step, command, said in telling.verdicts:
        verdicts.add_row(f"{step.split(' ', 1)[0]}", command, said)
    telling.table(verdicts)
    telling.note(f"Refusals, as expected: {len(telling.refusals)}")
    table = Table("Step", "Who", "Asked", "Refused", box=None, pad_edge=False)
    for each in telling.refusals:
        table.add_row(f"{each.step.split(' ', 1)[0]}", each.who, each.asked, f"{each.status} {each.slug}")
    telling.table(table)


def _columns(kinds: Mapping[str, int]) -> Table:
    table = Table("Type", "Number", box=None, pad_edge=False)
    for kind, count in sorted(kinds.items()):
        table.add_row(f"{kind}", f"{count:,}")
    return table
