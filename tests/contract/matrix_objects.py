"""What the calls of the matrix name: good values for an object of customer service, and the same for no object."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final
from uuid import uuid4

from tests.contract.prepared import GOOD, PURPOSE, Good, Prepared

OPEN, CLASSIFIED = "internal", "confidential"
"""Levels of the records that are there: listed to all, and to the custodian alone."""
NONE_THERE: Final = frozenset(
    {"list_authorisations", "show_authorisation", "decide_authorisation", "show_checkpoint_of", "show_tile_of"}
    | {"show_entries_of", "open_bodies_of", "assign_custodian", "reset_second_factor"}
)
"""The policy of the stack wants no authorisations, its log was never restored, no record lacks a custodian, and those
who leave have no second factor: nothing is there that could be named."""
BY_BODY: Final = frozenset({"request_authorisation"})
"""What is asked for says which scope is needed."""
NEW: Final = "00000000-0000-4000-8000-000000000000"


def good(operation: str, there: Prepared, level: str | None = None) -> Good:
    """Values that name an object of another person in customer service, or nothing where none is needed.

    For an operation on records: one of the level.
    """
    if operation in TARGETS:
        return TARGETS[operation](there)[0]
    make = OVER.get(operation) or GOOD.get(operation)
    found = make(there) if make else Good()
    if level == CLASSIFIED:
        found = _about_classified(operation, found, there)
    return found


def target(operation: str, there: Prepared, level: str | None = None) -> tuple[Good, str] | None:
    """For a list or a search: how to ask for an object of another person, and the id that tells it."""
    if operation not in TARGETS:
        return None
    if level == CLASSIFIED and operation in CLASSIFIED_TARGETS:
        return CLASSIFIED_TARGETS[operation](there)
    return TARGETS[operation](there)


def is_prepared(operation: str) -> bool:
    """Whether there are good values for it."""
    return operation in GOOD or operation in OVER or operation in TARGETS


def unknown(of: Good) -> Good:
    """The same for an object that does not exist."""
    body = of.body | {"record": str(uuid4())} if isinstance(of.body, dict) and "record" in of.body else of.body
    return replace(of, path={name: _other(value) for name, value in of.path.items()}, body=body)


def _other(value: str) -> str:
    return str(uuid4()) if len(value) == len(NEW) and value.count("-") == 4 else value


def _about_classified(operation: str, of: Good, there: Prepared) -> Good:
    return replace(of, path={**of.path, "record_id": there.next("vital")}) if "record_id" in of.path else of


def _listed(pool: str, of: Callable[[Any], str] = str, **query: str) -> Callable[[Prepared], tuple[Good, str]]:
    return lambda there: (Good(query={"limit": "200", **query}), of(there.next(pool)))


def _by_record(pool: str, records: str, place: int) -> Callable[[Prepared], tuple[Good, str]]:
    """The first of a pool, which is about the record at this place of another."""
    return lambda there: (Good(query={"record": there.at(records, place), "limit": "200"}), there.at(pool, 0))


def _catalogue(pool: str) -> Callable[[Prepared], tuple[Good, str]]:
    def ask(there: Prepared) -> tuple[Good, str]:
        query = {"unit": there.at("places", 0)["unit"], "limit": "200"}
        return Good(query=query), there.at(pool, 0)

    return ask


def _search(phones: str, pool: str) -> Callable[[Prepared], tuple[Good, str]]:
    def ask(there: Prepared) -> tuple[Good, str]:
        body = {"field": "phone", "value": there.at(phones, 0), "purpose": PURPOSE}
        return Good(body=body), there.at(pool, 0)

    return ask


def _copy(there: Prepared) -> Good:
    grant = there.next("copy_grants")
    return Good(path={"record_id": there.next("records")}, body={"grant": grant["id"], "action": "copy"})


TARGETS: Final[Mapping[str, Callable[[Prepared], tuple[Good, str]]]] = {
    "list_clocks": lambda there: (Good(query={"record": there.at("ended", 0)}), there.at("ended", 0)),
    "list_due_records": _listed("ended", as_of="2026-11-01"),
    "list_holds": _by_record("holds", "records", 0),
    "list_disposals": _by_record("disposals", "ended", 8),
    "list_records": _catalogue("records"),
    "search_records": _search("phones", "records"),
    "list_copies": _listed("copies"),
    "list_requests": _listed("requests"),
    "list_tasks": _listed("tasks"),
    "list_grants": _listed("grants", lambda grant: str(grant["id"])),
    "list_handovers": _listed("handovers"),
    "list_emergency_accesses": _listed("emergencies"),
    "list_own_sessions": lambda there: (Good(), there.at("sessions", 0)["id"]),
    "list_authorisations": lambda _: (Good(), NEW),
}
"""Lists and searches, with the object that is looked for."""
CLASSIFIED_TARGETS: Final[Mapping[str, Callable[[Prepared], tuple[Good, str]]]] = {
    "list_records": _catalogue("vital"),
    "search_records": _search("vital_phones", "vital"),
}
OVER: Final[Mapping[str, Callable[[Prepared], Good]]] = {
    "read_record": lambda there: Good(path={"record_id": there.next("records")}, query={"purpose": PURPOSE}),
    "issue_copy": _copy,
    "show_authorisation": lambda _: Good(path={"authorisation_id": NEW}),
    "decide_authorisation": lambda _: Good(path={"authorisation_id": NEW}, body={"verdict": "approve"}),
}
"""Where the good values of the other test are those of somebody who holds a grant, or there are none."""
