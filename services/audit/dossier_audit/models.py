"""Tables of the audit service: what was ingested, how far it has confirmed it, and the log over it. All append-only.

A leaf is what the log proves, a body what it hides behind a salted commitment; they lie apart, so that a body can be
erased by law while each proof stays valid. Where a leaf stands in the log is said by runs: one row for consecutive
leaves of one producer, not one for each.
"""

from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    DateTime,
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
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from dossier_common import tables

APPEND_ONLY: Final = (
    *("leaves", "bodies", "producer_heads", "erasures"),
    *("logs", "log_runs", "log_tiles", "log_checkpoints", "log_publications", "log_cosignatures"),
)
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

    What a body does not say in the form that is expected is null here, and stays in the body. Of a body that was
    erased by law a stub is left: no salt, no body, nothing of whom it was about.
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
    salt: Mapped[bytes | None] = mapped_column(LargeBinary)
    body: Mapped[bytes | None] = mapped_column(LargeBinary)


class ProducerHead(Base):
    """The head of one ingested batch: the newest of a producer is what its receipt says."""

    __tablename__ = "producer_heads"

    producer: Mapped[str] = mapped_column(String(32), primary_key=True)
    epoch: Mapped[int] = mapped_column(Integer, primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    hash: Mapped[bytes] = mapped_column(LargeBinary)
    signature: Mapped[bytes] = mapped_column(LargeBinary)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class Erasure(Base):
    """A body that a law wanted erased: by which order, and when. Nothing else lets a body be changed."""

    __tablename__ = "erasures"

    producer: Mapped[str] = mapped_column(String(32), primary_key=True)
    epoch: Mapped[int] = mapped_column(Integer, primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    order: Mapped[str] = mapped_column(Text)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class Log(Base):
    """A log. A second one is opened only when the database was restored behind a checkpoint of the first."""

    __tablename__ = "logs"

    generation: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    origin: Mapped[str] = mapped_column(Text)
    predecessor_origin: Mapped[str | None] = mapped_column(Text)
    predecessor_size: Mapped[int | None] = mapped_column(BigInteger)
    predecessor_root: Mapped[bytes | None] = mapped_column(LargeBinary)
    opened_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class Run(Base):
    """Consecutive leaves of one producer in a log: leaf `first_index + i` is (producer, epoch, first_seq + i).

    `hashes` are the leaf hashes as they were put into the tree: of them the partial tile of level 0 is made, so that it
    does not follow a leaf that somebody changes.
    """

    __tablename__ = "log_runs"
    __table_args__ = (Index("uq_log_runs_producer_epoch_first_seq", "producer", "epoch", "first_seq", unique=True),)

    generation: Mapped[int] = mapped_column(Integer, primary_key=True)
    first_index: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    producer: Mapped[str] = mapped_column(String(32))
    epoch: Mapped[int] = mapped_column(Integer)
    first_seq: Mapped[int] = mapped_column(BigInteger)
    count: Mapped[int] = mapped_column(Integer)
    hashes: Mapped[bytes] = mapped_column(LargeBinary)


class LogTile(Base):
    """A full tile and the root over it. Partial ones are made from runs and roots when they are asked for."""

    __tablename__ = "log_tiles"

    generation: Mapped[int] = mapped_column(Integer, primary_key=True)
    level: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    index: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    hashes: Mapped[bytes] = mapped_column(LargeBinary)
    root: Mapped[bytes] = mapped_column(LargeBinary)


class LogCheckpoint(Base):
    """A signed checkpoint, written with what it promises."""

    __tablename__ = "log_checkpoints"

    generation: Mapped[int] = mapped_column(Integer, primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    root: Mapped[bytes] = mapped_column(LargeBinary)
    note: Mapped[str] = mapped_column(Text)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class Publication(Base):
    """A checkpoint of which a copy lies outside this database: only such are shown."""

    __tablename__ = "log_publications"

    generation: Mapped[int] = mapped_column(Integer, primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class Cosignature(Base):
    """A witness's signature line for a checkpoint."""

    __tablename__ = "log_cosignatures"

    generation: Mapped[int] = mapped_column(Integer, primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    witness: Mapped[str] = mapped_column(Text, primary_key=True)
    line: Mapped[str] = mapped_column(Text)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


tables.attach(Base.metadata)
