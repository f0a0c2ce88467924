"""Values with which each operation succeeds, taken from the prepared state: a table by operationId."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

POOLS, ROTA, SEEN = "DOSSIER_CONTRACT_POOLS", "DOSSIER_CONTRACT_ROTA", "DOSSIER_CONTRACT_SEEN"
"""Environment: files with the prepared state and with who calls, and the file to be written."""
PURPOSE: Final = "complaint_handling"
EXPLAINED: Final = {"action": "view", "purpose": PURPOSE}
AGREEMENT: Final = {"qualification": "agreement", "evidence": "contract", "valid_from": "2026-11-01"}


@dataclass(frozen=True)
class Good:
    """Values with which an operation succeeds, for a caller who may call it."""

    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    file: str | None = None
    """Content of a CSV file, for what takes files."""


class Prepared:
    """The prepared state. Things of a pool are taken in turn, as some can be used once only."""

    def __init__(self, pools: Mapping[str, list[Any]]) -> None:
        self._pools = pools
        self._taken: Counter[str] = Counter()
        self._named: Counter[str] = Counter()

    def next(self, pool: str) -> Any:
        """The next of a pool, and the first again after the last."""
        things = self._pools[pool]
        self._taken[pool] += 1
        return things[(self._taken[pool] - 1) % len(things)]

    def at(self, pool: str, place: int) -> Any:
        """One of a pool, the same each time."""
        return self._pools[pool][place]

    def name(self, of: str) -> str:
        """A name that nothing has yet."""
        self._named[of] += 1
        return f"{of}-{self._named[of]}"


def _by_id(parameter: str, pool: str, body: Any = None) -> Callable[[Prepared], Good]:
    return lambda there: Good(path={parameter: there.next(pool)}, body=body)


def _about(pool: str) -> Callable[[Prepared], Good]:
    return lambda there: Good(query={"record": there.next(pool)})


def _begun(pool: str) -> Callable[[Prepared], Good]:
    return lambda there: Good(body={"record": there.next(pool), "reason": "保存期限届满"})


def _role(there: Prepared) -> Good:
    assignment = there.next("assignments")
    return Good(path={"account_id": assignment["account"], "assignment_id": assignment["id"]})


def _read(there: Prepared) -> Good:
    grant = there.next("grants")
    return Good(path={"record_id": grant["record"]}, query={"purpose": PURPOSE, "grant": grant["id"]})


def _copy(there: Prepared) -> Good:
    grant = there.next("copy_grants")
    return Good(path={"record_id": grant["record"]}, body={"grant": grant["id"], "action": "copy"})


def _change(there: Prepared) -> Good:
    body = {"fields": {"remarks": "偏好邮件联系"}}
    return Good(path={"record_id": there.next("records")}, headers={"If-Match": "*"}, body=body)


def _plan(there: Prepared) -> Good:
    fields = ["name", "identifier_type", "identifier", "phone", "remarks"]
    body = {"title": "回访", "purposes": ["service"], "fields": fields, "customer_types": ["person"]}
    return Good(body=body | {"unit": there.next("places")["unit"]})


def _unit(there: Prepared) -> Good:
    title = {"zh": "项目组", "en": "Project"}
    return Good(body={"code": there.name("unit"), "title": title, "kind": "project", "parent": there.next("units")})


def _account(there: Prepared) -> Good:
    return Good(body={"username": there.name("user"), "display_name": "新员工", "unit": there.next("units")})


def _client(there: Prepared) -> Good:
    body = {"id": there.name("client"), "title": "应用", "grant_types": ["client_credentials"], "scopes": []}
    return Good(body=body | {"scopes": ["records:catalogue"]})


def _enrolment(there: Prepared) -> Good:
    return Good(body={"code": there.next("enrolments"), "password": "correct-horse-7-battery"})


def _assigned(there: Prepared) -> Good:
    return Good(path={"account_id": there.next("accounts")}, body={"role": "collector", "unit": there.next("units")})


def _qualification(there: Prepared) -> Good:
    body = {"qualification": "training_passed", "evidence": "contract", "valid_from": "2026-11-01"}
    return Good(path={"account_id": there.next("accounts")}, body=body)


def _search(there: Prepared) -> Good:
    return Good(body={"field": "phone", "value": there.next("phones"), "purpose": PURPOSE})


def _events(there: Prepared) -> Good:
    return Good(query={"record": there.next("records"), "from": "2026-01-01T00:00:00Z", "order": "oldest"})


def _leaving(body: Any = None) -> Callable[[Prepared], Good]:
    return _by_id("account_id", "leaving_accounts", body)


def _offboarding(there: Prepared) -> Good:
    successor = there.next("successors")
    body = {"kind": "leaving", "reason": "resignation", "successor": successor}
    return Good(path={"account_id": there.next("leaving_accounts")}, body=body)


def _withdrawal(there: Prepared) -> Good:
    kept = there.next("qualifications")
    path = {"account_id": kept["account"], "qualification_id": kept["id"]}
    return Good(path=path, body={"reason": "mistake"})


def _session(there: Prepared) -> Good:
    session = there.next("sessions")
    return Good(path={"account_id": session["account"], "session_id": session["id"]})


def _own_session(there: Prepared) -> Good:
    return Good(path={"session_id": there.next("sessions")["id"]})


def _changed(parameter: str, pool: str, body: Any) -> Callable[[Prepared], Good]:
    return lambda there: Good(path={parameter: there.next(pool)}, headers={"If-Match": "*"}, body=body)


def _item(there: Prepared) -> Good:
    path = {"handover_id": there.next("handovers"), "record_id": there.next("handed_over")}
    return Good(path=path, body={"custodian": there.next("places")["custodian"]})


def _emergency(there: Prepared) -> Good:
    return Good(body={"record": there.next("records"), "purpose": PURPOSE, "reason": "客户来电报失"})


def _of_partner(there: Prepared) -> Good:
    kept = there.next("partner_qualifications")
    path = {"partner_id": kept["partner"], "qualification_id": kept["id"]}
    return Good(path=path, body={"reason": "mistake"})


def _revocation(there: Prepared) -> Good:
    return Good(path={"grant_id": there.next("revoking_grants")["id"]}, body={"reason": "不再需要"})


GOOD: Final[Mapping[str, Callable[[Prepared], Good]]] = {
    "show_unit": _by_id("unit_id", "units"),
    "create_unit": _unit,
    "create_account": _account,
    "show_account": _by_id("account_id", "accounts"),
    "issue_enrolment": _by_id("account_id", "accounts"),
    "change_clearance": _changed("account_id", "accounts", {"clearance": "internal"}),
    "assign_role": _assigned,
    "list_assignments": _by_id("account_id", "accounts"),
    "revoke_role": _role,
    "record_qualification": _qualification,
    "list_qualifications": _by_id("account_id", "accounts"),
    "enrol": _enrolment,
    "register_client": _client,
    "show_client": _by_id("client_id", "clients"),
    "create_plan": _plan,
    "show_plan": _by_id("plan_id", "plans"),
    "register_record": lambda there: Good(body=there.next("new_records")),
    "list_records": lambda there: Good(query={"unit": there.next("places")["unit"], "status": "active"}),
    "read_record": _read,
    "change_record": _change,
    "search_records": _search,
    "explain_access": lambda there: Good(path={"record_id": there.next("records")}, query=EXPLAINED),
    "start_import": lambda there: Good(query=there.next("places"), file=there.next("sheets")),
    "show_import": _by_id("import_id", "imports"),
    "issue_copy": _copy,
    "list_copies": _about("records"),
    "show_copy": _by_id("copy_id", "copies"),
    "render_copy": _by_id("copy_id", "copies"),
    "receipt_copy": _by_id("copy_id", "copy_receipts"),
    "return_copy": _by_id("copy_id", "copy_returns"),
    "destroy_copy": _by_id("copy_id", "copy_destructions"),
    "lose_copy": _by_id("copy_id", "copy_losses"),
    "preview_request": lambda there: Good(body=there.next("wishes")),
    "create_request": lambda there: Good(body=there.next("wishes")),
    "show_request": _by_id("request_id", "requests"),
    "withdraw_request": _by_id("request_id", "requests"),
    "decide_task": _by_id("task_id", "tasks", {"verdict": "approve", "comment": "同意"}),
    "show_grant": lambda there: Good(path={"grant_id": there.next("grants")["id"]}),
    "return_grant": lambda there: Good(path={"grant_id": there.next("returning_grants")["id"]}),
    "revoke_grant": _revocation,
    "list_clocks": _about("ended"),
    "list_due_records": lambda _: Good(query={"as_of": "2026-11-01"}),
    "place_hold": _begun("records"),
    "list_holds": _about("records"),
    "show_hold": _by_id("hold_id", "holds"),
    "release_hold": _by_id("hold_id", "holds", {"reason": "诉讼已结案"}),
    "propose_disposal": _begun("due"),
    "list_disposals": _about("ended"),
    "show_disposal": _by_id("disposal_id", "disposals"),
    "execute_disposal": _by_id("disposal_id", "approved", {"method": "crypto_shred", "note": "密钥销毁"}),
    "witness_disposal": _by_id("disposal_id", "executing", {"statement": "现场监督，销毁属实"}),
    "show_certificate": _by_id("certificate_id", "certificates"),
    "list_audit_events": _events,
    "open_audit_event": _by_id("event_id", "events"),
    "prove_audit_event": _by_id("event_id", "events"),
    "show_tile": lambda _: Good(path={"level": "0", "number": "000"}),
    "show_entries": lambda _: Good(path={"number": "000"}),
    "open_bodies": lambda _: Good(path={"number": "000"}),
    "show_checkpoint_of": lambda _: Good(path={"generation": "2"}),
    "show_tile_of": lambda _: Good(path={"generation": "2", "level": "0", "number": "000"}),
    "show_entries_of": lambda _: Good(path={"generation": "2", "number": "000"}),
    "open_bodies_of": lambda _: Good(path={"generation": "2", "number": "000"}),
    "change_account": _changed("account_id", "accounts", {"display_name": "新名"}),
    "disable_account": _leaving({"reason": "suspicion"}),
    "enable_account": _leaving(),
    "offboard_person": _offboarding,
    "show_offboarding": _by_id("account_id", "left_accounts"),
    "expire_password": _leaving(),
    "reset_second_factor": _leaving(),
    "list_sessions": _leaving(),
    "end_sessions": _leaving(),
    "end_session": _session,
    "end_own_session": _own_session,
    "withdraw_qualification": _withdrawal,
    "change_own_password": lambda _: Good(body={"password": "wrong-horse-7", "new_password": "correct-horse-8"}),
    "change_unit": _changed("unit_id", "own_units", {"title": {"zh": "项目二组", "en": "Project two"}}),
    "change_client": _changed("client_id", "own_clients", {"title": "应用二"}),
    "disable_client": _by_id("client_id", "own_clients", {"reason": "suspicion"}),
    "enable_client": _by_id("client_id", "own_clients"),
    "issue_client_secret": _by_id("client_id", "own_clients", {"overlap": "PT1H"}),
    "end_former_client_secret": _by_id("client_id", "own_clients"),
    "request_authorisation": lambda _: Good(body={"operation": "accounts.create", "reason": "新员工入职"}),
    "register_partner": lambda there: Good(body={"title": there.name("合作机构")}),
    "show_partner": _by_id("partner_id", "partners"),
    "change_partner": _changed("partner_id", "partners", {"title": "合作机构二"}),
    "list_partner_qualifications": _by_id("partner_id", "partners"),
    "record_partner_qualification": _by_id("partner_id", "partners", AGREEMENT),
    "withdraw_partner_qualification": _of_partner,
    "show_policy": _by_id("digest", "policies"),
    "decide_policy": _by_id("digest", "policies", {"verdict": "approve", "comment": "同意"}),
    "propose_policy": lambda _: Good(body={"text": "pack: contract"}),
    "show_handover": _by_id("handover_id", "handovers"),
    "list_handover_items": _by_id("handover_id", "handovers"),
    "receipt_handover": _by_id("handover_id", "handovers", {"digest": "0" * 64}),
    "assign_custodian": _item,
    "use_emergency_access": _emergency,
    "show_emergency_access": _by_id("emergency_id", "emergencies"),
    "review_emergency_access": _by_id("emergency_id", "emergencies", {"verdict": "justified", "comment": "属实"}),
}
"""operationId → good values. What is not here needs none."""
