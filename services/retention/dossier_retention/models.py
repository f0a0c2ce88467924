"""Tables of the retention service, with its projections of records and copies. Free text is sealed bytes."""

from datetime import date, datetime
from typing import Final
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    Date,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    Uuid,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from dossier_common import directory, tables

_INSTANT: Final = DateTime(timezone=True)


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=tables.NAMING)


class Record(Base):
    """A record as the records service tells of it; whoever decides over its disposal locks this row first."""

    __tablename__ = "records"

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    unit: Mapped[UUID] = mapped_column(Uuid)
    level: Mapped[str] = mapped_column(Text)
    customer_type: Mapped[str] = mapped_column(Text)
    opened_on: Mapped[date] = mapped_column(Date)
    relationship_ended_on: Mapped[date | None] = mapped_column(Date)
    destroyed_at: Mapped[datetime | None] = mapped_column(_INSTANT)


class RetentionClock(Base):
    """A term that runs; `due_on` is the first day on which disposal may be proposed (A4.26)."""

    __tablename__ = "clocks"
    __table_args__ = (Index("ix_clocks_due_on_record", "due_on", "record"),)

    record: Mapped[UUID] = mapped_column(Uuid, ForeignKey("records.id"), primary_key=True)
    rule: Mapped[str] = mapped_column(Text)
    started_on: Mapped[date] = mapped_column(Date)
    due_on: Mapped[date] = mapped_column(Date)
    policy: Mapped[str] = mapped_column(String(80))


class Copy(Base):
    """A controlled copy, and what became of it."""

    __tablename__ = "copies"
    __table_args__ = (Index("ix_copies_outstanding", "record", postgresql_where=text("state = 'open'")),)

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    record: Mapped[UUID] = mapped_column(Uuid, index=True)
    number: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(16))


class Hold(Base):
    """A hold; disposal is frozen until another person lifts it (invariant 4)."""

    __tablename__ = "holds"
    __table_args__ = (
        Index("ix_holds_standing", "record", postgresql_where=text("released_at IS NULL")),
        CheckConstraint("released_by <> placed_by", name="another_person"),
        CheckConstraint("(released_at IS NULL) = (released_by IS NULL)", name="released"),
    )

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    record: Mapped[UUID] = mapped_column(Uuid, ForeignKey("records.id"), index=True)
    reason: Mapped[bytes] = mapped_column(LargeBinary)
    placed_by: Mapped[UUID] = mapped_column(Uuid)
    placed_at: Mapped[datetime] = mapped_column(_INSTANT)
    released_by: Mapped[UUID | None] = mapped_column(Uuid)
    released_at: Mapped[datetime | None] = mapped_column(_INSTANT)
    release_reason: Mapped[bytes | None] = mapped_column(LargeBinary)


class Disposal(Base):
    """A case: proposed, approved, executed, witnessed, destroyed. At most one is open over a record."""

    __tablename__ = "disposals"
    __table_args__ = (
        Index(
            "uq_disposals_open_record",
            "record",
            unique=True,
            postgresql_where=text("state IN ('proposed', 'approved', 'executing')"),
        ),
    )

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    record: Mapped[UUID] = mapped_column(Uuid, ForeignKey("records.id"), index=True)
    rule: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(16))
    round: Mapped[int] = mapped_column(Integer)
    reason: Mapped[bytes] = mapped_column(LargeBinary)
    policy: Mapped[str] = mapped_column(String(80))
    proposed_at: Mapped[datetime] = mapped_column(_INSTANT)
    approved_at: Mapped[datetime | None] = mapped_column(_INSTANT)
    grant: Mapped[UUID | None] = mapped_column("grant_id", Uuid, index=True)
    grant_until: Mapped[datetime | None] = mapped_column(_INSTANT)
    method: Mapped[str | None] = mapped_column(String(32))
    note: Mapped[bytes | None] = mapped_column(LargeBinary)
    executed_at: Mapped[datetime | None] = mapped_column(_INSTANT)
    statement: Mapped[bytes | None] = mapped_column(LargeBinary)
    ordered_at: Mapped[datetime | None] = mapped_column(_INSTANT)
    closed_at: Mapped[datetime | None] = mapped_column(_INSTANT)
    failure: Mapped[str | None] = mapped_column(String(64))


class Participant(Base):
    """Who did what in which round: the key keeps a person from two duties (invariant 4)."""

    __tablename__ = "participants"

    disposal: Mapped[UUID] = mapped_column(Uuid, ForeignKey("disposals.id"), primary_key=True)
    round: Mapped[int] = mapped_column(Integer, primary_key=True)
    person: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    duty: Mapped[str] = mapped_column(String(16))


class Certificate(Base):
    """An entry of the register of destruction (A4.26): the signed text, as it was issued."""

    __tablename__ = "certificates"

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    disposal: Mapped[UUID] = mapped_column(Uuid, ForeignKey("disposals.id"), unique=True)
    document: Mapped[bytes] = mapped_column(LargeBinary)
    signature: Mapped[bytes] = mapped_column(LargeBinary)
    issued_at: Mapped[datetime] = mapped_column(_INSTANT)


tables.attach(Base.metadata)
directory.attach(Base.metadata)
