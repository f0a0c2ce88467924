"""Use cases of the records service: load, decide, change, emit. `reading`, `copies` and `imports` have theirs."""

from dossier_records.service.changing import change
from dossier_records.service.desk import Desk, ensure_office
from dossier_records.service.finding import Found, catalogue, explain, facts, grant_row, known_record, search, show
from dossier_records.service.handing_over import renew
from dossier_records.service.plans import create_plan, ensure_custodian, usable_plan
from dossier_records.service.registering import EVIDENCE, prepare, register

__all__ = [
    "EVIDENCE",
    "Desk",
    "Found",
    "catalogue",
    "change",
    "create_plan",
    "ensure_custodian",
    "ensure_office",
    "explain",
    "facts",
    "grant_row",
    "known_record",
    "prepare",
    "register",
    "renew",
    "search",
    "show",
    "usable_plan",
]
