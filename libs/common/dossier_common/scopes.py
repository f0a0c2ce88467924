"""Every scope of the API, and which of them people never hold.

A scope is named here once; policy packs bundle them into roles, endpoints ask for them, and the loader of packs
refuses a name that is not here.
"""

from collections.abc import Iterable
from enum import StrEnum


class Scope(StrEnum):
    """A permission that an access token can carry."""

    RECORDS_REGISTER = "records:register"
    RECORDS_CATALOGUE = "records:catalogue"
    RECORDS_READ = "records:read"
    RECORDS_UPDATE = "records:update"
    RECORDS_CLASSIFY = "records:classify"
    RECORDS_IMPORT = "records:import"
    RECORDS_EXPORT = "records:export"
    RECORDS_COPY = "records:copy"
    RECORDS_REPORT = "records:report"
    RECORDS_DESCRIBE = "records:describe"
    CONSENTS_MANAGE = "consents:manage"
    LOANS_MANAGE = "loans:manage"
    PLANS_MANAGE = "plans:manage"
    SUSPICIONS_RESOLVE = "suspicions:resolve"
    REQUESTS_CREATE = "requests:create"
    REQUESTS_READ = "requests:read"
    REQUESTS_DECIDE = "requests:decide"
    GRANTS_READ = "grants:read"
    GRANTS_REVOKE = "grants:revoke"
    GRANTS_RESOLVE = "grants:resolve"
    EMERGENCY_USE = "emergency:use"
    EMERGENCY_REVIEW = "emergency:review"
    RETENTION_READ = "retention:read"
    HOLDS_PLACE = "holds:place"
    HOLDS_RELEASE = "holds:release"
    DISPOSALS_PROPOSE = "disposals:propose"
    DISPOSALS_EXECUTE = "disposals:execute"
    DISPOSALS_WITNESS = "disposals:witness"
    DUTIES_WORK = "duties:work"
    DUTIES_MANAGE = "duties:manage"
    AUDIT_READ = "audit:read"
    AUDIT_EXPORT = "audit:export"
    AUDIT_VERIFY = "audit:verify"
    INCIDENTS_REPORT = "incidents:report"
    INCIDENTS_HANDLE = "incidents:handle"
    COMPLAINTS_INFORMANT = "complaints:informant"
    ACCOUNTS_MANAGE = "accounts:manage"
    CLIENTS_MANAGE = "clients:manage"
    OPERATIONS_READ = "operations:read"
    ROLES_ASSIGN = "roles:assign"
    POLICY_PROPOSE = "policy:propose"
    POLICY_APPROVE = "policy:approve"
    EVENTS_PULL = "events:pull"
    PROOFS_READ = "proofs:read"


SERVICE_ONLY: frozenset[Scope] = frozenset(
    {Scope.RECORDS_DESCRIBE, Scope.GRANTS_RESOLVE, Scope.EVENTS_PULL, Scope.PROOFS_READ}
)
"""Held by the parts of Dossier alone, never by a role; they stand outside the conflict sets."""

FOR_PEOPLE: frozenset[Scope] = frozenset(Scope) - SERVICE_ONLY
"""What a role may bundle and a conflict may name."""

ONLY_PERSONS: frozenset[Scope] = frozenset({Scope.ROLES_ASSIGN, Scope.POLICY_PROPOSE, Scope.POLICY_APPROVE})
"""What decides who may do what: used by persons alone, and never held by an application that acts for itself. Who
registers applications would have it by the secret that he is shown (invariant 4)."""


def expand(patterns: Iterable[str]) -> frozenset[Scope]:
    """Scopes for people that the patterns name: ``records:read`` itself, ``records:*`` all of the family.

    A pattern that names nothing adds nothing; the loader of packs refuses it.
    """
    exact, families = set(), []
    for pattern in patterns:
        if pattern.endswith(":*"):
            families.append(pattern.removesuffix("*"))
        else:
            exact.add(pattern)
    return frozenset(
        scope for scope in FOR_PEOPLE if scope.value in exact or any(scope.value.startswith(f) for f in families)
    )
