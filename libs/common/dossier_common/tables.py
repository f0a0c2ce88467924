"""Tables that every part has in its own database: outbox and heads, cursors, handled events, idempotency keys."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    Uuid,
    text,
)

NAMING: Final = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

metadata = MetaData(naming_convention=NAMING)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("type", Text, nullable=False),
    Column("time", DateTime(timezone=True), nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("epoch", Integer),
    Column("seq", BigInteger),
    Column("salt", LargeBinary),
    Column("leaf", LargeBinary),
    Index("ix_outbox_unnumbered", "id", postgresql_where=text("seq IS NULL")),
    Index("uq_outbox_epoch_seq", "epoch", "seq", unique=True, postgresql_where=text("seq IS NOT NULL")),
)

outbox_heads = Table(
    "outbox_heads",
    metadata,
    Column("epoch", Integer, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("hash", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=False),
)

outbox_state = Table(
    "outbox_state",
    metadata,
    Column("only", SmallInteger, primary_key=True, server_default=text("1")),
    Column("epoch", Integer, nullable=False, server_default=text("1")),
    Column("seq", BigInteger, nullable=False, server_default=text("0")),
    Column("hash", LargeBinary, nullable=False, server_default=text(r"'\x" + "00" * 32 + "'")),
    Column("published_seq", BigInteger, nullable=False, server_default=text("0")),
    Column("receipt_epoch", Integer, nullable=False, server_default=text("0")),
    Column("receipt_seq", BigInteger, nullable=False, server_default=text("0")),
    Column("receipt_at", DateTime(timezone=True)),
)

cursors = Table(
    "cursors",
    metadata,
    Column("producer", String(32), primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("applied_at", DateTime(timezone=True), nullable=False),
    Column("fresh_at", DateTime(timezone=True)),
)
"""`fresh_at`: everything that the producer committed before this instant is applied here."""

handled_events = Table(
    "handled_events",
    metadata,
    Column("producer", String(32), primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Index("ix_handled_events_at", "at"),
)
"""Events that a handler has seen: after a producer's restore the same one can come again in a new epoch."""

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("caller", Text, primary_key=True),
    Column("key", String(200), primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("status", SmallInteger),
    Column("answer", LargeBinary),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Index("ix_idempotency_keys_created_at", "created_at"),
)


def attach(target: MetaData) -> None:
    """Puts these tables beside a part's own, so that `alembic check` sees all of its database."""
    for table in metadata.sorted_tables:
        table.to_metadata(target)
