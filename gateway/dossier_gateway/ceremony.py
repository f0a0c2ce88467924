r"""The first start: three officers in one act, and never an account that may do everything (三员分立, A1.5).

    python -m dossier_gateway.ceremony --unit-code GROUP --unit-zh 集团 --unit-en Group \
        --system-administrator NAME --security-administrator NAME --security-auditor NAME [--json]

Prints a one-time enrolment code for each, once. It is refused as soon as there is any account.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from dossier_common.clock import Clock, SystemClock
from dossier_common.database import Database
from dossier_common.ids import new_id
from dossier_common.policy import Policy, load_policy
from dossier_common.settings import load
from dossier_gateway.directory import accounts, holdings, repository, units
from dossier_gateway.directory.repository import AssignmentRow, Reading, UnitRow
from dossier_gateway.settings import Settings

OFFICERS: Final = ("system_administrator", "security_administrator", "security_auditor")


class AlreadyHeld(Exception):
    """There are accounts: the ceremony is over for good."""


@dataclass(frozen=True, slots=True)
class Root:
    """The root of the organisation tree."""

    code: str
    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class Officer:
    """One of the three, and the code with which he sets his password."""

    role: str
    username: str
    account: UUID
    person: UUID
    enrolment_code: str


@dataclass(frozen=True, slots=True)
class Ceremony:
    """What the ceremony made."""

    unit: UUID
    officers: tuple[Officer, ...]

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        officers = [
            {
                "role": each.role,
                "username": each.username,
                "account": str(each.account),
                "person": str(each.person),
                "enrolment_code": each.enrolment_code,
            }
            for each in self.officers
        ]
        return {"unit": str(self.unit), "officers": officers}


async def ceremony(
    database: Database,
    policy: Policy,
    clock: Clock,
    *,
    root: Root,
    names: Sequence[tuple[str, str]],
    term: timedelta = timedelta(days=7),
) -> Ceremony:
    """Makes the root unit and the officers, in one transaction. `names` are (username, display name), as OFFICERS.

    Three different persons. Raises AlreadyHeld, and what the directory raises.
    """
    async with database.transaction() as session:
        await repository.lock_ceremony(session)
        if await Reading(session).any_account():
            raise AlreadyHeld("There are accounts already: the ceremony is held once.")
        unit = UnitRow(new_id(), root.code, root.zh, root.en, "group", None)
        await units.create(session, policy, unit, by=None, clock=clock)
        officers = []
        for role, (username, display_name) in zip(OFFICERS, names, strict=True):
            row = accounts.new(username, display_name, unit.id, None)
            code = await accounts.create(session, policy, row, further=False, by=None, clock=clock, term=term)
            assignment = AssignmentRow(new_id(), row.id, row.person, role, unit.id)
            await holdings.assign_role(session, policy, assignment, by=None, clock=clock)
            officers.append(Officer(role, username, row.id, row.person, code))
        return Ceremony(unit.id, tuple(officers))


def _arguments(given: Sequence[str] | None, prog: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for role in OFFICERS:
        option = role.replace("_", "-")
        parser.add_argument(f"--{option}", required=True, metavar="NAME", help="name of the account")
        parser.add_argument(f"--{option}-title", metavar="TEXT", help="name of the person, as others see it")
    parser.add_argument("--unit-code", default="GROUP")
    parser.add_argument("--unit-zh", default="集团")
    parser.add_argument("--unit-en", default="Group")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args(given)


async def _run(given: argparse.Namespace, settings: Settings) -> Ceremony:
    database = Database(settings)
    try:
        options = vars(given)
        names = [(options[role], options[f"{role}_title"] or options[role]) for role in OFFICERS]
        return await ceremony(
            database,
            load_policy(settings.common.policy),
            SystemClock(),
            root=Root(given.unit_code, given.unit_zh, given.unit_en),
            names=names,
            term=timedelta(days=settings.enrolment_days),
        )
    finally:
        await database.close()


def main(arguments: Sequence[str] | None = None, prog: str = "python -m dossier_gateway.ceremony") -> int:
    """Exit status 1 when the ceremony was held before; without arguments, those of the process."""
    given = _arguments(arguments, prog)
    try:
        made = asyncio.run(_run(given, load(Settings)))
    except AlreadyHeld as error:
        print(error, file=sys.stderr)  # noqa: T201  # a command
        return 1
    if given.json:
        print(json.dumps(made.as_dict()))  # noqa: T201  # a command
        return 0
    for officer in made.officers:
        print(f"{officer.role:<24}{officer.username:<24}{officer.enrolment_code}")  # noqa: T201  # a command
    return 0


if __name__ == "__main__":
    sys.exit(main())
