"""Shapes of maintenance authorisations on the wire."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import StringConstraints

from dossier_common.policy import Operation
from dossier_gateway.directory.schemas import Wire

Reason = Annotated[str, StringConstraints(min_length=1, max_length=2000, strip_whitespace=True)]


class AuthorisationState(StrEnum):
    """`approved` until it is used or its term is over; both are told apart from it by their fields."""

    PENDING = "pending"
    APPROVED = "approved"
    REFUSED = "refused"


class AuthorisationVerdict(StrEnum):
    """What another person says."""

    APPROVE = "approve"
    REJECT = "reject"


class NewAuthorisation(Wire):
    """What is to be done to what, and why.

    `object` is the account, application or unit; for a new application its id, for a new unit the one above it, for a
    new account nothing.
    """

    operation: Operation
    object: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    reason: Reason


class NewDecision(Wire):
    """What another person says to it, and why."""

    verdict: AuthorisationVerdict
    comment: Annotated[str, StringConstraints(max_length=2000, strip_whitespace=True)] = ""


class Authorisation(Wire):
    """Of use for its requester until `valid_until`, once. Who has one of the scopes `deciders` says whether it is."""

    id: UUID
    operation: Operation
    object: str | None
    deciders: list[str]
    reason: str
    requester_account: UUID
    requester_person: UUID
    requested_at: datetime
    state: AuthorisationState
    decider_account: UUID | None
    decider_person: UUID | None
    comment: str | None
    decided_at: datetime | None
    valid_until: datetime | None
    used_at: datetime | None


class Authorisations(Wire):
    """A page of authorisations."""

    items: list[Authorisation]
