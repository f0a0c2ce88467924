"""Pure decisions of the directory."""

from collections.abc import Collection, Iterable
from datetime import date
from enum import StrEnum
from ipaddress import ip_address
from itertools import combinations
from urllib.parse import urlsplit

from dossier_common.identity import Subject
from dossier_common.policy import Policy
from dossier_common.policy import Qualification as QualificationRule
from dossier_gateway.errors import DutyConflict, SelfManagement, UnknownReference


class UnitKind(StrEnum):
    """Levels of the organisation tree, from the top."""

    GROUP = "group"
    COMPANY = "company"
    DEPARTMENT = "department"
    PROJECT = "project"


class DisablingReason(StrEnum):
    """Why an account or an application is disabled."""

    ABSENCE = "absence"
    DUTY_ENDED = "duty_ended"
    SUSPICION = "suspicion"
    VIOLATION = "violation"
    LOST_CREDENTIAL = "lost_credential"
    DUPLICATE = "duplicate"


class WithdrawalReason(StrEnum):
    """Why a qualification counts no more."""

    MISTAKE = "mistake"
    TERMINATED = "terminated"
    FAILED_REVIEW = "failed_review"
    VIOLATION = "violation"
    REPLACED = "replaced"


_UNDER = {
    UnitKind.GROUP: frozenset({UnitKind.GROUP, UnitKind.COMPANY, UnitKind.DEPARTMENT, UnitKind.PROJECT}),
    UnitKind.COMPANY: frozenset({UnitKind.COMPANY, UnitKind.DEPARTMENT, UnitKind.PROJECT}),
    UnitKind.DEPARTMENT: frozenset({UnitKind.DEPARTMENT, UnitKind.PROJECT}),
    UnitKind.PROJECT: frozenset({UnitKind.PROJECT}),
}


def may_stand_under(kind: str, parent: str) -> bool:
    """Whether a unit of this kind may be below one of that kind: never higher than its parent."""
    return UnitKind(kind) in _UNDER[UnitKind(parent)]


def ensure_not_himself(actor: Subject, person: object) -> None:
    """Raises SelfManagement when the actor is that person, by whichever of his accounts."""
    if actor.person is not None and actor.person == person:
        raise SelfManagement("Another officer has to do this.")


def ensure_no_conflict(policy: Policy, held: Collection[str], wanted: str) -> None:
    """Raises DutyConflict when a person with these roles, in all of his accounts, may not have that one too."""
    scopes = scopes_of_known(policy, [*held, wanted])
    if policy.conflicts_in(scopes):
        raise DutyConflict.between(policy, scopes, held, [wanted])


def ensure_no_scope_conflict(policy: Policy, held: Collection[str], wanted: Collection[str]) -> None:
    """Raises DutyConflict when one client, which holds some already, may not hold the wanted scopes together."""
    if policy.conflicts_in(wanted):
        raise DutyConflict.between(policy, wanted, held, wanted)


def scopes_of_known(policy: Policy, roles: Iterable[str]) -> frozenset[str]:
    """What these roles bundle; those that the policy has no more bundle nothing."""
    known = {role.id for role in policy.roles}
    return frozenset(map(str, policy.scopes_of(role for role in roles if role in known)))


def conflict_words(policy: Policy, granted: Collection[str], elsewhere: Collection[str]) -> str | None:
    """Why no token is issued with these scopes to who holds the others elsewhere, naming both sides; None if it may be.

    In the characters of an OAuth2 error's description (RFC 6749, 5.2).
    """
    together = {*granted, *elsewhere}
    broken = [each for each in policy.conflicts_in(together) if policy.sides_of(each.id, granted)]
    if not broken:
        return None
    told = (
        f"{each.id}: " + " against ".join(" ".join(side) for side in policy.sides_of(each.id, together))
        for each in broken
    )
    return f"duty-conflict: {'; '.join(told)}"


def conflicting_roles(policy: Policy) -> dict[tuple[str, str], list[str]]:
    """Pairs of roles that no person holds together, with the ids of the conflict sets that say so."""
    found = {}
    for one, other in combinations(policy.roles, 2):
        conflicts = policy.conflicts_in(one.scopes + other.scopes)
        if conflicts:
            found[one.id, other.id] = [each.id for each in conflicts]
    return found


def ensure_term(valid_from: date, valid_until: date | None) -> date | None:
    """The last day that was named. Raises UnknownReference when it lies before the first."""
    if valid_until is not None and valid_until < valid_from:
        raise UnknownReference("valid_until", "A term ends after it began.")
    return valid_until


def term_of(rule: QualificationRule, valid_from: date, valid_until: date | None) -> date | None:
    """The last day of a qualification: as evidenced, but no later than the policy's term."""
    latest = rule.term.after(valid_from) if rule.term is not None else None
    if latest is None or valid_until is None:
        return valid_until or latest
    return min(valid_until, latest)


def redirect_fault(uri: str) -> str | None:
    """Why a redirect cannot be registered: https, or http on a loopback address; no fragment, no wildcard."""
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        return "not a URI"
    if not uri.isascii() or not uri.isprintable() or any(sign in uri for sign in " \"'\\;,*<>"):
        return "has characters that a redirect cannot have"
    if not parts.hostname or parts.username or parts.password or "#" in uri or (port is not None and not port):
        return "needs a host, and has no user, no fragment"
    if parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname)):
        return None
    return "is https, or http on a loopback address"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
