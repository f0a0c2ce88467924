"""Tables of the audit service: what was ingested, and how far it has confirmed it. All append-only.

A leaf is what the log will prove, a body what it hides behind a salted commitment; they lie apart, so that a body
can be erased by law while each proof stays valid.
"""

from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, Index, Integer, LargeBinary, MetaData, String, Text, Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from dossier_common import tables

APPEND_ONLY: Final = ("leaves", "bodies", "producer_heads")
"""The application role has SELECT and INSERT on these; triggers refuse the rest to the owner too (invariant 3)."""


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=tables.NAMING)


class Leaf(Base):
    """One leaf of one producer. An event of a producer that was restored can stand in two epochs, under one id."""

    __tablename__ = "leaves"

    producer: Mapped[str] = mapped_column(String(32), primary_key=True)
    epoch: Mapped[int] = mapped_column(Integer, primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    id: Mapped[UUID] = mapped_column(Uuid, index=True)
    hash: Mapped[bytes] = mapped_column(LargeBinary)
    leaf: Mapped[bytes] = mapped_column(LargeBinary)
    time: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    type: Mapped[str] = mapped_column(Text)
    ingested_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class Body(Base):
    """A body with its salt, and what of it can be searched; partitioned by the month of the event.

    What a body does not say in the form that is expected is null here, and stays in the body.
    """

    __tablename__ = "bodies"
    __table_args__ = (
        Index("ix_bodies_actor_time", "actor", "time", postgresql_where=text("actor IS NOT NULL")),
        Index("ix_bodies_person_time", "person", "time", postgresql_where=text("person IS NOT NULL")),
        Index("ix_bodies_record_time", "record", "time", postgresql_where=text("record IS NOT NULL")),
        Index("ix_bodies_records", "records", postgresql_using="gin", postgresql_where=text("records IS NOT NULL")),
        Index("ix_bodies_type_time", "type", "time"),
        Index("ix_bodies_outcome_time", "outcome", "time", postgresql_where=text("outcome <> 'success'")),
        {"postgresql_partition_by": "RANGE (time)"},
    )

    time: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
    producer: Mapped[str] = mapped_column(String(32), primary_key=True)
    epoch: Mapped[int] = mapped_column(Integer, primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    id: Mapped[UUID] = mapped_column(Uuid)
    type: Mapped[str] = mapped_column(Text)
    outcome: Mapped[str | None] = mapped_column(Text)
    actor: Mapped[UUID | None] = mapped_column(Uuid)
    person: Mapped[UUID | None] = mapped_column(Uuid)
    client: Mapped[str | None] = mapped_column(Text)
    subject: Mapped[str | None] = mapped_column(Text)
    record: Mapped[UUID | None] = mapped_column(Uuid)
    records: Mapped[list[UUID] | None] = mapped_column(ARRAY(Uuid))
    txn: Mapped[str | None] = mapped_column(Text)
    salt: Mapped[bytes] = mapped_column(LargeBinary)
    body: Mapped[bytes] = mapped_column(LargeBinary)


class ProducerHead(Base):
    """The head of one ingested batch: the newest of a producer is what its receipt says."""

    __tablename__ = "producer_heads"

    producer: Mapped[str] = mapped_column(String(32), primary_key=True)
    epoch: Mapped[int] = mapped_column(Integer, primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    hash: Mapped[bytes] = mapped_column(LargeBinary)
    signature: Mapped[bytes] = mapped_column(LargeBinary)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


tables.attach(Base.metadata)
