"""The tables of the approvals service.

Free text (reason, profile, comment) is sealed before it comes here. `participants` is what invariant 4
rests on: its primary key (request, round, person) lets nobody appear twice in one round, the requester included.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from dossier_common import directory, tables

Instant = DateTime(timezone=True)


class Base(DeclarativeBase):
    """All of this part's database, the common tables included."""

    metadata = MetaData(naming_convention=tables.NAMING)
    type_annotation_map = {  # noqa: RUF012  # SQLAlchemy reads it once, from the class
        datetime: Instant,
        dict[str, Any]: JSONB,
        list[dict[str, Any]]: JSONB,
        list[str]: ARRAY(Text),
        bytes: LargeBinary,
    }


class Request(Base):
    """Somebody's request; `disposal` names the case of retention that it was opened for."""

    __tablename__ = "requests"
    __table_args__ = (
        CheckConstraint("state IN ('open', 'granted', 'rejected', 'withdrawn')", name="state"),
        Index("ix_requests_requester", "requester_person", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    action: Mapped[str] = mapped_column(String(64))
    flow: Mapped[str] = mapped_column(String(64))
    policy: Mapped[str] = mapped_column(String(80))
    purpose: Mapped[str] = mapped_column(String(64))
    fields: Mapped[list[str]]
    not_before: Mapped[datetime | None]
    until: Mapped[datetime | None]
    uses: Mapped[int | None] = mapped_column(BigInteger)
    recipient: Mapped[UUID | None]
    recipient_needs: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    limits: Mapped[dict[str, Any]]
    requester_account: Mapped[UUID]
    requester_person: Mapped[UUID]
    requester_unit: Mapped[UUID | None]
    disposal: Mapped[UUID | None] = mapped_column(unique=True)
    texts: Mapped[bytes | None]
    round: Mapped[int]
    position: Mapped[int] = mapped_column(SmallInteger)
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class RequestRecord(Base):
    """One record that a request is about, as it was described when the request was made."""

    __tablename__ = "request_records"

    request: Mapped[UUID] = mapped_column(ForeignKey("requests.id"), primary_key=True)
    record: Mapped[UUID] = mapped_column(primary_key=True, index=True)
    position: Mapped[int] = mapped_column(SmallInteger)
    unit: Mapped[UUID]
    level: Mapped[str] = mapped_column(String(64))


class RequestStage(Base):
    """One stage of a request, frozen: its offices, its quorum, its time limit.

    `vacant_since` says from when on nobody was left who could decide it; `needed` follows when one of `all` has left.
    """

    __tablename__ = "request_stages"

    request: Mapped[UUID] = mapped_column(ForeignKey("requests.id"), primary_key=True)
    position: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    title: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    offices: Mapped[list[dict[str, Any]]]
    quorum: Mapped[str] = mapped_column(String(8))
    needed: Mapped[int]
    doing: Mapped[str | None] = mapped_column(String(16))
    return_to: Mapped[int] = mapped_column(SmallInteger)
    time_limit: Mapped[str | None] = mapped_column(String(64))
    on_timeout: Mapped[str] = mapped_column(String(16))
    escalate_role: Mapped[str | None] = mapped_column(String(64))
    escalate_of: Mapped[str | None] = mapped_column(String(32))
    vacant_since: Mapped[datetime | None]


class Candidate(Base):
    """An account that may decide a stage, and its person; frozen when the request was made.

    Escalation adds to them. Who leaves or moves is removed, and those who hold the office then are added.
    """

    __tablename__ = "candidates"
    __table_args__ = (
        ForeignKeyConstraint(["request", "position"], ["request_stages.request", "request_stages.position"]),
        Index("ix_candidates_person", "person", "request"),
    )

    request: Mapped[UUID] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    account: Mapped[UUID] = mapped_column(primary_key=True)
    person: Mapped[UUID]
    escalated: Mapped[bool] = mapped_column(server_default=text("false"))
    removed_at: Mapped[datetime | None]


class Step(Base):
    """A stage that was reached, in one round: what waits for its candidates."""

    __tablename__ = "steps"
    __table_args__ = (
        ForeignKeyConstraint(["request", "position"], ["request_stages.request", "request_stages.position"]),
        CheckConstraint(
            "state IN ('open', 'approved', 'done', 'rejected', 'returned', 'expired', 'cancelled')", name="state"
        ),
        Index("uq_steps_request_round_position", "request", "round", "position", unique=True),
        Index("uq_steps_one_open", "request", unique=True, postgresql_where=text("state = 'open'")),
        Index("ix_steps_due", "due_at", postgresql_where=text("state = 'open' AND due_at IS NOT NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    request: Mapped[UUID]
    round: Mapped[int]
    position: Mapped[int] = mapped_column(SmallInteger)
    state: Mapped[str] = mapped_column(String(16))
    opened_at: Mapped[datetime]
    due_at: Mapped[datetime | None]
    escalated_at: Mapped[datetime | None]
    closed_at: Mapped[datetime | None]


class Participant(Base):
    """A person in one round of a request: the requester, or one who decided (invariant 4)."""

    __tablename__ = "participants"
    __table_args__ = (
        CheckConstraint("capacity IN ('requester', 'decider')", name="capacity"),
        UniqueConstraint("request", "round", "person", "capacity"),
    )

    request: Mapped[UUID] = mapped_column(ForeignKey("requests.id"), primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True)
    person: Mapped[UUID] = mapped_column(primary_key=True)
    capacity: Mapped[str] = mapped_column(String(16))


class Decision(Base):
    """One person's verdict in one step. He is in the round as a decider: the requester's place there is no such."""

    __tablename__ = "decisions"
    __table_args__ = (
        ForeignKeyConstraint(
            ["request", "round", "person", "capacity"],
            [f"participants.{name}" for name in ("request", "round", "person", "capacity")],
        ),
        CheckConstraint("capacity = 'decider'", name="capacity"),
        CheckConstraint("verdict IN ('approve', 'reject', 'return', 'done')", name="verdict"),
    )

    request: Mapped[UUID] = mapped_column(primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True)
    person: Mapped[UUID] = mapped_column(primary_key=True)
    capacity: Mapped[str] = mapped_column(String(16), server_default=text("'decider'"))
    account: Mapped[UUID]
    step: Mapped[UUID] = mapped_column(ForeignKey("steps.id"), index=True)
    position: Mapped[int] = mapped_column(SmallInteger)
    verdict: Mapped[str] = mapped_column(String(16))
    comment: Mapped[bytes | None]
    at: Mapped[datetime]


class Grant(Base):
    """What came of a request: who may do what, when, how often. Only its state and its count change."""

    __tablename__ = "grants"
    __table_args__ = (
        CheckConstraint("state IN ('active', 'revoked', 'returned', 'ended')", name="state"),
        CheckConstraint("until > not_before", name="term"),
        Index("ix_grants_holder", "holder_person", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    request: Mapped[UUID] = mapped_column(ForeignKey("requests.id"), unique=True)
    state: Mapped[str] = mapped_column(String(16))
    action: Mapped[str] = mapped_column(String(64))
    fields: Mapped[list[str]]
    purpose: Mapped[str] = mapped_column(String(64))
    not_before: Mapped[datetime]
    until: Mapped[datetime]
    uses: Mapped[int | None] = mapped_column(BigInteger)
    uses_counted: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    conditions: Mapped[dict[str, Any]]
    holder_account: Mapped[UUID]
    holder_person: Mapped[UUID]
    persons: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid))
    disposal: Mapped[UUID | None]
    policy: Mapped[str] = mapped_column(String(80))
    issued_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    end_reason: Mapped[bytes | None]


class GrantRecord(Base):
    """One record that a grant opens; `gone_at` when it was destroyed."""

    __tablename__ = "grant_records"

    grant: Mapped[UUID] = mapped_column(ForeignKey("grants.id"), primary_key=True)
    record: Mapped[UUID] = mapped_column(primary_key=True, index=True)
    position: Mapped[int] = mapped_column(SmallInteger)
    gone_at: Mapped[datetime | None]


class Emergency(Base):
    """Emergency access of a person to a record, with the id of its request; open until another person reviewed it.

    Nobody has two that are open to one record, so that nobody prolongs one by taking it again.
    """

    __tablename__ = "emergencies"
    __table_args__ = (
        UniqueConstraint("id", "person"),
        Index("uq_emergencies_open", "person", "record", unique=True, postgresql_where=text("reviewed_at IS NULL")),
        Index(
            "ix_emergencies_due",
            "review_by",
            postgresql_where=text("reviewed_at IS NULL AND overdue_at IS NULL"),
        ),
    )

    id: Mapped[UUID] = mapped_column(ForeignKey("requests.id"), primary_key=True)
    grant: Mapped[UUID] = mapped_column(ForeignKey("grants.id"), unique=True)
    person: Mapped[UUID]
    record: Mapped[UUID]
    review_by: Mapped[datetime]
    overdue_at: Mapped[datetime | None]
    reviewed_at: Mapped[datetime | None]


class EmergencyReview(Base):
    """The one review of an emergency access, by another person than its user (invariant 4)."""

    __tablename__ = "emergency_reviews"
    __table_args__ = (
        ForeignKeyConstraint(["emergency", "user_person"], ["emergencies.id", "emergencies.person"]),
        CheckConstraint("person <> user_person", name="another_person"),
        CheckConstraint("verdict IN ('justified', 'unjustified')", name="verdict"),
    )

    emergency: Mapped[UUID] = mapped_column(primary_key=True)
    user_person: Mapped[UUID]
    person: Mapped[UUID]
    account: Mapped[UUID]
    verdict: Mapped[str] = mapped_column(String(16))
    comment: Mapped[bytes]
    at: Mapped[datetime]


tables.attach(Base.metadata)
directory.attach(Base.metadata)
