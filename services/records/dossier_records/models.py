"""Tables of the records service.

Nothing in them is personal data in the clear: fields are sealed, searches are by keyed blind index, and the keys
that wrap the data keys are not in PostgreSQL.
"""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Date,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from dossier_common import directory, tables


class Base(DeclarativeBase):
    """The records database."""

    metadata = MetaData(naming_convention=tables.NAMING)
    type_annotation_map = {  # noqa: RUF012  # SQLAlchemy's declaration
        UUID: Uuid,
        datetime: DateTime(timezone=True),
        date: Date,
        bytes: LargeBinary,
    }


class Plan(Base):
    """A collection plan: which fields, of whom, for which purposes."""

    __tablename__ = "plans"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(200))
    unit: Mapped[UUID]
    purposes: Mapped[list[str]] = mapped_column(ARRAY(String(64)))
    fields: Mapped[list[str]] = mapped_column(ARRAY(String(64)))
    customer_types: Mapped[list[str]] = mapped_column(ARRAY(String(64)))
    until: Mapped[date | None]
    created_by: Mapped[UUID | None]
    created_at: Mapped[datetime]


class RingEpoch(Base):
    """An epoch of a key ring. Its key lives in the key provider; here stands only whether it may be used."""

    __tablename__ = "ring_epochs"
    __table_args__ = (
        CheckConstraint("state IN ('open', 'closing', 'destroyed')", name="state"),
        Index("uq_ring_epochs_open", "ring", unique=True, postgresql_where=text("state = 'open'")),
    )

    ring: Mapped[str] = mapped_column(String(80), primary_key=True)
    epoch: Mapped[int] = mapped_column(Integer, primary_key=True)
    state: Mapped[str] = mapped_column(String(16))


class Record(Base):
    """What is known of a customer record without opening it.

    Nobody is its custodian where who answered for it left, and the successor may not be given it.
    """

    __tablename__ = "records"
    __table_args__ = (
        CheckConstraint("status IN ('active', 'ended', 'destroying', 'destroyed')", name="status"),
        Index("ix_records_unit_id", "unit", "id"),
        Index("ix_records_level_id", "level", "id"),
        Index("ix_records_custodian_id", "custodian", "id"),
        Index("ix_records_named", "named", postgresql_using="gin", postgresql_where=text("named <> '{}'")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, Identity(always=True), unique=True)
    customer_type: Mapped[str] = mapped_column(String(64))
    importance: Mapped[str] = mapped_column(String(64))
    level: Mapped[str] = mapped_column(String(64))
    information_class: Mapped[int] = mapped_column(SmallInteger)
    unit: Mapped[UUID]
    custodian: Mapped[UUID | None]
    named: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid), server_default=text("'{}'"))
    purposes: Mapped[list[str]] = mapped_column(ARRAY(String(64)))
    status: Mapped[str] = mapped_column(String(16))
    version: Mapped[int] = mapped_column(Integer)
    plan_id: Mapped[UUID] = mapped_column(ForeignKey("plans.id"))
    source: Mapped[dict[str, Any]] = mapped_column(JSONB)
    opened_on: Mapped[date]
    relationship_ended_on: Mapped[date | None]
    import_id: Mapped[UUID | None]
    policy: Mapped[str] = mapped_column(String(80))
    registered_at: Mapped[datetime]


class RecordVersion(Base):
    """A version's sealed fields, and its data key wrapped under an epoch of a ring."""

    __tablename__ = "record_versions"
    __table_args__ = (
        ForeignKeyConstraint(["ring", "key_epoch"], ["ring_epochs.ring", "ring_epochs.epoch"]),
        Index("ix_record_versions_ring_key_epoch", "ring", "key_epoch"),
    )

    record_id: Mapped[UUID] = mapped_column(ForeignKey("records.id"), primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True)
    ring: Mapped[str] = mapped_column(String(80))
    key_epoch: Mapped[int] = mapped_column(Integer)
    wrapped_key: Mapped[bytes]
    sealed: Mapped[bytes]
    author: Mapped[UUID | None]
    at: Mapped[datetime]


class BlindIndex(Base):
    """Keyed digest of a normalised value: an exact match can be found, a value cannot be read."""

    __tablename__ = "blind_indexes"
    __table_args__ = (
        Index("ix_blind_indexes_field_digest", "field", "digest"),
        Index("uq_blind_indexes_identifier", "digest", unique=True, postgresql_where=text("field = 'identifier'")),
    )

    record_id: Mapped[UUID] = mapped_column(ForeignKey("records.id"), primary_key=True)
    field: Mapped[str] = mapped_column(String(64), primary_key=True)
    digest: Mapped[bytes]


class Consent(Base):
    """What the customer agreed to; `evidence` is a reference to a document, sealed by the data key of `version`."""

    __tablename__ = "consents"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    record_id: Mapped[UUID] = mapped_column(ForeignKey("records.id"), index=True)
    purposes: Mapped[list[str]] = mapped_column(ARRAY(String(64)))
    given_on: Mapped[date]
    version: Mapped[int] = mapped_column(Integer)
    evidence: Mapped[bytes]


class Grant(Base):
    """Projection of approvals' grants, and the count of their uses here."""

    __tablename__ = "grants"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    action: Mapped[str] = mapped_column(String(32))
    records: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid))
    fields: Mapped[list[str]] = mapped_column(ARRAY(String(64)))
    purpose: Mapped[str] = mapped_column(String(64))
    not_before: Mapped[datetime]
    until: Mapped[datetime]
    uses: Mapped[int | None] = mapped_column(Integer)
    used: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    conditions: Mapped[dict[str, Any]] = mapped_column(JSONB)
    holder_account: Mapped[UUID]
    holder_person: Mapped[UUID]
    state: Mapped[str] = mapped_column(String(16))


class GrantUse(Base):
    """A use that came with an Idempotency-Key: its repetition for 24 hours, on the same version, counts no more."""

    __tablename__ = "grant_uses"

    grant_id: Mapped[UUID] = mapped_column(ForeignKey("grants.id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    record_id: Mapped[UUID]
    version: Mapped[int] = mapped_column(Integer)
    at: Mapped[datetime]


class Hold(Base):
    """Projection of retention's holds that are in force."""

    __tablename__ = "holds"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    record_id: Mapped[UUID] = mapped_column(index=True)


class Copy(Base):
    """A numbered controlled copy, and its fate (A3.4.2.3)."""

    __tablename__ = "copies"
    __table_args__ = (
        CheckConstraint("state IN ('issued', 'receipted', 'returned', 'destroyed', 'lost')", name="state"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, Identity(always=True), unique=True)
    record_id: Mapped[UUID] = mapped_column(ForeignKey("records.id"), index=True)
    version: Mapped[int] = mapped_column(Integer)
    grant_id: Mapped[UUID] = mapped_column(ForeignKey("grants.id"))
    action: Mapped[str] = mapped_column(String(32))
    fields: Mapped[list[str]] = mapped_column(ARRAY(String(64)))
    holder: Mapped[UUID]
    state: Mapped[str] = mapped_column(String(16))
    issued_at: Mapped[datetime]
    changed_at: Mapped[datetime]


class Import(Base):
    """A spreadsheet that is being, or was, taken in; the file itself is sealed and goes when it is done."""

    __tablename__ = "imports"
    __table_args__ = (CheckConstraint("state IN ('received', 'running', 'done', 'failed')", name="state"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    plan_id: Mapped[UUID] = mapped_column(ForeignKey("plans.id"))
    unit: Mapped[UUID]
    custodian: Mapped[UUID]
    account: Mapped[UUID | None]
    person: Mapped[UUID | None]
    client: Mapped[str] = mapped_column(String(200))
    media_type: Mapped[str] = mapped_column(String(100))
    charset: Mapped[str | None] = mapped_column(String(40))
    received_at: Mapped[datetime]
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(Text)
    sealed: Mapped[bytes | None]
    rows: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    judged: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    accepted: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    refused: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    duplicates: Mapped[int] = mapped_column(Integer, server_default=text("0"))


class ImportRefusal(Base):
    """A row that was refused: which fields, and why; never what stood in them."""

    __tablename__ = "import_refusals"

    import_id: Mapped[UUID] = mapped_column(ForeignKey("imports.id"), primary_key=True)
    row: Mapped[int] = mapped_column(Integer, primary_key=True)
    faults: Mapped[list[dict[str, str]]] = mapped_column(JSONB)


class CustodyHandover(Base):
    """A person left or moved: the records that he answered for go to his successor (A4.38, A5.3).

    Its id is that of the gateway's act. `after` is how far the present pass has come; `returned_at` says from when on
    somebody who had left may answer for records again.
    """

    __tablename__ = "custody_handovers"
    __table_args__ = (
        CheckConstraint("state IN ('running', 'complete', 'receipted')", name="state"),
        CheckConstraint("(state = 'running') = (digest IS NULL)", name="digest"),
        Index("ix_custody_handovers_running", "id", postgresql_where=text("state = 'running'")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    person_from: Mapped[UUID] = mapped_column(index=True)
    person_to: Mapped[UUID] = mapped_column(index=True)
    successor_account: Mapped[UUID]
    clearance: Mapped[str] = mapped_column(String(64))
    units: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid))
    state: Mapped[str] = mapped_column(String(16))
    after: Mapped[UUID | None]
    handed_over: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    unassigned: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    names_struck: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    digest: Mapped[str | None] = mapped_column(String(64))
    opened_at: Mapped[datetime]
    completed_at: Mapped[datetime | None]
    receipted_at: Mapped[datetime | None]
    returned_at: Mapped[datetime | None]


class CustodyItem(Base):
    """A line of the list: a record as it was described when it was handed over, or why it was not. It never changes."""

    __tablename__ = "custody_items"
    __table_args__ = (
        CheckConstraint("state IN ('handed_over', 'unassigned')", name="state"),
        CheckConstraint("(state = 'unassigned') = (reason IS NOT NULL)", name="reason"),
    )

    handover_id: Mapped[UUID] = mapped_column(ForeignKey("custody_handovers.id"), primary_key=True)
    record_id: Mapped[UUID] = mapped_column(ForeignKey("records.id"), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger)
    customer_type: Mapped[str] = mapped_column(String(64))
    level: Mapped[str] = mapped_column(String(64))
    unit: Mapped[UUID]
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(String(32))


class DestructionOrder(Base):
    """An order of retention, and how far its execution has come; each step can be repeated after a crash."""

    __tablename__ = "destruction_orders"
    __table_args__ = (
        CheckConstraint(
            "step IN ('ordered', 'closing', 'rewrapping', 'supplement', 'destroying', 'done', 'refused')", name="step"
        ),
    )

    disposal_id: Mapped[UUID] = mapped_column(primary_key=True)
    record_id: Mapped[UUID]
    step: Mapped[str] = mapped_column(String(16))
    ring: Mapped[str | None] = mapped_column(String(80))
    epoch_old: Mapped[int | None] = mapped_column(Integer)
    rewrapped: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    supplement: Mapped[str | None] = mapped_column(String(200))
    old_version: Mapped[int | None] = mapped_column(Integer)
    old_wrapped_key: Mapped[bytes | None]
    old_sealed: Mapped[bytes | None]
    ordered_at: Mapped[datetime]


tables.attach(Base.metadata)
directory.attach(Base.metadata)
