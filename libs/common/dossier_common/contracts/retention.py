"""Events of the retention service: clocks, holds, disposals, certificates."""

from datetime import date
from typing import ClassVar
from uuid import UUID

from dossier_common.events import AccessRefused as BaseAccessRefused
from dossier_common.events import Event


class ClockStarted(Event):
    """A retention term runs; `due_on` is the first day on which disposal may be proposed (A4.26)."""

    TYPE: ClassVar[str] = "retention.v1.clock.started"

    record: UUID
    rule: str
    started_on: date
    due_on: date
    policy: str


class HoldPlaced(Event):
    """Disposal is frozen."""

    TYPE: ClassVar[str] = "retention.v1.hold.placed"

    hold: UUID
    record: UUID


class HoldReleased(Event):
    """A hold was lifted, by another person than placed it."""

    TYPE: ClassVar[str] = "retention.v1.hold.released"

    hold: UUID
    record: UUID


class DisposalProposed(Event):
    """Somebody asked for a record to be disposed of (A8.25); approvals opens a request for him."""

    TYPE: ClassVar[str] = "retention.v1.disposal.proposed"

    disposal: UUID
    record: UUID
    unit: UUID
    level: str
    proposer_account: UUID
    proposer_person: UUID
    flow: str
    policy: str


class DisposalApproved(Event):
    """The grant for the destruction arrived."""

    TYPE: ClassVar[str] = "retention.v1.disposal.approved"

    disposal: UUID
    record: UUID
    grant: UUID


class DisposalRejected(Event):
    """The case ended without destruction."""

    TYPE: ClassVar[str] = "retention.v1.disposal.rejected"

    disposal: UUID
    record: UUID
    reason: str


class DisposalExecuted(Event):
    """The executor turned the first key; from here on a new hold is refused."""

    TYPE: ClassVar[str] = "retention.v1.disposal.executed"

    disposal: UUID
    record: UUID
    executor_person: UUID
    method: str


class DestructionOrdered(Event):
    """The witness turned the second key: the records service destroys (A1.5.2.2.3)."""

    TYPE: ClassVar[str] = "retention.v1.destruction.ordered"

    disposal: UUID
    record: UUID
    grant: UUID
    method: str
    executor_person: UUID
    witness_person: UUID


class DisposalFailed(Event):
    """The records service refused the order; the case is open again."""

    TYPE: ClassVar[str] = "retention.v1.disposal.failed"

    disposal: UUID
    record: UUID
    reason: str


class CertificateIssued(Event):
    """The register of destruction has an entry (A4.26: time, method, content)."""

    TYPE: ClassVar[str] = "retention.v1.certificate.issued"

    certificate: UUID
    disposal: UUID
    record: UUID
    method: str


class AccessRefused(BaseAccessRefused):
    """The retention service refused a known caller."""

    TYPE: ClassVar[str] = "retention.v1.access.refused"
