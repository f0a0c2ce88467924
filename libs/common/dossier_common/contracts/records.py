"""Events of the records service: records, reading, imports, copies, destruction."""

from datetime import date
from typing import ClassVar
from uuid import UUID

from dossier_common.events import AccessRefused as BaseAccessRefused
from dossier_common.events import Event, Outcome


class PlanCreated(Event):
    """A collection plan took effect (E.采集流程)."""

    TYPE: ClassVar[str] = "records.v1.plan.created"

    plan: UUID
    unit: UUID
    purposes: tuple[str, ...]


class RecordRegistered(Event):
    """A customer record exists, with its level and custodian."""

    TYPE: ClassVar[str] = "records.v1.record.registered"

    record: UUID
    unit: UUID
    custodian: UUID
    customer_type: str
    importance: str
    level: str
    information_class: int
    plan: UUID
    opened_on: date
    relationship_ended_on: date | None = None
    import_id: UUID | None = None
    policy: str


class RecordUpdated(Event):
    """A new version; which fields changed, never how."""

    TYPE: ClassVar[str] = "records.v1.record.updated"

    record: UUID
    version: int
    fields: tuple[str, ...]
    policy: str


class RelationshipEnded(Event):
    """The relationship with the customer ended: retention clocks start."""

    TYPE: ClassVar[str] = "records.v1.relationship.ended"

    record: UUID
    on: date


class RecordViewed(Event):
    """Content was opened to the actor: the intent, durable before the answer (invariant 1).

    `use` counts the uses of the grant, this one included; absent where no grant was used.
    """

    TYPE: ClassVar[str] = "records.v1.record.viewed"

    record: UUID
    version: int
    purpose: str
    open: tuple[str, ...]
    masked: tuple[str, ...]
    grant: UUID | None = None
    use: int | None = None
    policy: str


class RecordsSearched(Event):
    """A search by blind index: over which field, and which records it showed."""

    TYPE: ClassVar[str] = "records.v1.records.searched"

    field: str
    found: int
    records: tuple[UUID, ...]


class ImportReceived(Event):
    """A spreadsheet was taken in; the digest is keyed."""

    TYPE: ClassVar[str] = "records.v1.import.received"

    import_id: UUID
    digest: str
    bytes: int


class ImportCompleted(Event):
    """All rows of a spreadsheet were judged."""

    TYPE: ClassVar[str] = "records.v1.import.completed"

    import_id: UUID
    accepted: int
    refused: int
    duplicates: int


class ImportFailed(Event):
    """A spreadsheet could not be read at all."""

    TYPE: ClassVar[str] = "records.v1.import.failed"
    OUTCOME: ClassVar[Outcome] = Outcome.FAILED

    import_id: UUID
    reason: str


class CopyIssued(Event):
    """A numbered, stamped copy left the system under a grant (A1.5.2.1.1, A3.4.2.3)."""

    TYPE: ClassVar[str] = "records.v1.copy.issued"

    copy_id: UUID
    number: str
    record: UUID
    grant: UUID
    action: str
    use: int
    fields: tuple[str, ...]
    policy: str


class CopyRendered(Event):
    """The content of a copy was opened to its holder: the intent, durable before the answer (invariant 1)."""

    TYPE: ClassVar[str] = "records.v1.copy.rendered"

    copy_id: UUID
    record: UUID
    policy: str


class CopyReceipted(Event):
    """The receiver signed for the copy."""

    TYPE: ClassVar[str] = "records.v1.copy.receipted"

    copy_id: UUID
    record: UUID


class CopyReturned(Event):
    """The copy came back."""

    TYPE: ClassVar[str] = "records.v1.copy.returned"

    copy_id: UUID
    record: UUID


class CopyDestroyed(Event):
    """The copy was destroyed."""

    TYPE: ClassVar[str] = "records.v1.copy.destroyed"

    copy_id: UUID
    record: UUID


class CopyLost(Event):
    """The copy is lost, which is an incident (A1.5.3.4)."""

    TYPE: ClassVar[str] = "records.v1.copy.lost"
    OUTCOME: ClassVar[Outcome] = Outcome.FAILED

    copy_id: UUID
    record: UUID


class CustodyHandedOver(Event):
    """Another person answers for the record, since the one before left or moved; `version` is its new one (A4.38)."""

    TYPE: ClassVar[str] = "records.v1.custody.handed-over"

    record: UUID
    handover: UUID
    version: int
    person_from: UUID
    person_to: UUID
    policy: str


class CustodyVacated(Event):
    """Nobody answers for the record: its custodian left or moved, and the successor may not be given it."""

    TYPE: ClassVar[str] = "records.v1.custody.vacated"

    record: UUID
    handover: UUID
    version: int
    person_from: UUID
    unit: UUID
    reason: str
    policy: str


class CustodyAssigned(Event):
    """A record that nobody answered for has a custodian again."""

    TYPE: ClassVar[str] = "records.v1.custody.assigned"

    record: UUID
    handover: UUID
    version: int
    person_to: UUID
    policy: str


class NameStruck(Event):
    """A person who left or moved stands on the list of those named for the record no more."""

    TYPE: ClassVar[str] = "records.v1.custody.name-struck"

    record: UUID
    handover: UUID
    version: int
    person: UUID
    policy: str


class CustodyListed(Event):
    """All records of who left or moved are handed over or listed as vacant; the digest is that of the list."""

    TYPE: ClassVar[str] = "records.v1.custody.listed"

    handover: UUID
    person_from: UUID
    person_to: UUID
    handed_over: int
    unassigned: int
    names_struck: int
    digest: str


class CustodyReceipted(Event):
    """The successor signed for the list with this digest (A5.3)."""

    TYPE: ClassVar[str] = "records.v1.custody.receipted"

    handover: UUID
    person_from: UUID
    person_to: UUID
    digest: str


class RecordShredded(Event):
    """The record can be read no more: the old key epoch is gone, and decryption was tried and failed (invariant 5)."""

    TYPE: ClassVar[str] = "records.v1.record.shredded"

    record: UUID
    disposal: UUID
    ring: str
    epoch_destroyed: int
    epoch_current: int
    rewrapped: int
    remaining_under_old_epoch: int
    decryption_failed: bool
    supplement: str


class DestructionRefused(Event):
    """The order was not carried out: something outstanding was found in the shredding transaction."""

    TYPE: ClassVar[str] = "records.v1.destruction.refused"
    OUTCOME: ClassVar[Outcome] = Outcome.REFUSED

    record: UUID
    disposal: UUID
    reason: str


class AccessRefused(BaseAccessRefused):
    """The records service refused a known caller."""

    TYPE: ClassVar[str] = "records.v1.access.refused"
