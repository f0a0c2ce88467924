"""Who calls: the subject that a verified token names."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True)
class RoleIn:
    """A role that an account holds in one unit."""

    role: str
    unit: UUID


@dataclass(frozen=True, slots=True)
class Subject:
    """Who calls, by account and by person, and in which capacity. Made from a verified token only (invariant 6).

    `account` and `person` are absent for an application that acts for itself; `service` is then the part's
    name where the caller is a part of Dossier, and else None.
    """

    client: str
    scopes: frozenset[str]
    account: UUID | None = None
    person: UUID | None = None
    units: frozenset[UUID] = frozenset()
    roles: tuple[RoleIn, ...] = ()
    clearance: str = ""
    qualifications: frozenset[str] = frozenset()
    address: str = ""
    zone: str = ""
    txn: str = ""
    service: str | None = None
    _marks: dict[str, Any] = field(default_factory=dict, init=False, compare=False, repr=False)

    def marks(self) -> dict[str, Any]:
        """What every event says of its actor: account, person, client, transaction."""
        if not self._marks:
            found = {"actor": self.account, "person": self.person, "client": self.client, "txn": self.txn}
            self._marks.update({name: str(value) for name, value in found.items() if value})
        return self._marks

    @property
    def known_as(self) -> str:
        """A stable name of the caller, for idempotency keys and rate limits."""
        return str(self.account) if self.account else self.client

    def holds(self, role: str) -> frozenset[UUID]:
        """Units in which the caller holds this role."""
        return frozenset(held.unit for held in self.roles if held.role == role)
