"""Shapes of partners on the wire."""

from datetime import date, datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import StringConstraints

from dossier_gateway.directory.rules import WithdrawalReason
from dossier_gateway.directory.schemas import Maybe, Wire, Words

Registration = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[0-9A-Z][0-9A-Z.-]*$")]


class PartnerState(StrEnum):
    """Nothing is handed to a partner that is ended."""

    ACTIVE = "active"
    ENDED = "ended"


class PartnerEvidence(StrEnum):
    """What a flow may ask of a partner."""

    AGREEMENT = "agreement"
    ASSESSMENT = "assessment"


class NewPartner(Wire):
    """Another company; `registration` is its number in the register of companies."""

    title: Words
    registration: Registration | None = None


class PartnerPatch(Wire):
    """What is to be otherwise; without `registration` when that is null."""

    title: Maybe[Words] = None
    registration: Registration | None = None
    state: Maybe[PartnerState] = None


class Partner(Wire):
    """A partner, with the agreements and assessments that are in force."""

    id: UUID
    title: str
    registration: str | None
    state: PartnerState
    qualifications: list[PartnerEvidence]
    version: int


class Partners(Wire):
    """A page of partners."""

    items: list[Partner]


class NewPartnerQualification(Wire):
    """What was signed or assessed, with a reference to the evidence and its term."""

    qualification: PartnerEvidence
    evidence: Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True)]
    valid_from: date
    valid_until: date | None = None


class PartnerQualification(Wire):
    """An agreement or an assessment of a partner."""

    id: UUID
    partner: UUID
    qualification: PartnerEvidence
    evidence: str
    valid_from: date
    valid_until: date | None
    withdrawn_at: datetime | None
    withdrawn_for: WithdrawalReason | None


class PartnerQualifications(Wire):
    """A page of what was recorded of a partner."""

    items: list[PartnerQualification]
