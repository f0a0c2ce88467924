"""Tables that the gateway owns: the directory, credentials, and what the OAuth2 server keeps.

Of codes, refresh tokens, sessions and client secrets only SHA-256 digests are kept: each has 256 random bits.

One file, as in every part, though it is long: it is read as one list, and foreign keys join all its subjects.
"""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from dossier_common import tables


class Base(DeclarativeBase):
    """All tables of the gateway's database."""

    metadata = MetaData(naming_convention=tables.NAMING)
    type_annotation_map = {  # noqa: RUF012  # read by the declarative base
        UUID: Uuid,
        datetime: DateTime(timezone=True),
        str: Text,
        bytes: LargeBinary,
        list[str]: ARRAY(Text),
    }


class Unit(Base):
    """A node of the organisation tree. The ceremony makes the one root."""

    __tablename__ = "units"
    __table_args__ = (
        CheckConstraint("kind IN ('group', 'company', 'department', 'project')", name="kind"),
        CheckConstraint("parent <> id", name="parent"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(String(64), unique=True)
    title_zh: Mapped[str] = mapped_column(String(200))
    title_en: Mapped[str] = mapped_column(String(200))
    kind: Mapped[str] = mapped_column(String(16))
    parent: Mapped[UUID | None] = mapped_column(ForeignKey("units.id"), index=True)
    created_at: Mapped[datetime]
    version: Mapped[int] = mapped_column(server_default=text("1"))


class Account(Base):
    """An account of one person; a person may have several, none is shared."""

    __tablename__ = "accounts"
    __table_args__ = (CheckConstraint("state IN ('invited', 'active', 'disabled')", name="state"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    person: Mapped[UUID] = mapped_column(index=True)
    username: Mapped[str] = mapped_column(String(64), unique=True)
    display_name: Mapped[str] = mapped_column(String(100))
    unit: Mapped[UUID] = mapped_column(ForeignKey("units.id"), index=True)
    clearance: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime]
    version: Mapped[int] = mapped_column(server_default=text("1"))


class Credential(Base):
    """The password of an account (Argon2id), and how many attempts failed since the last that did not.

    `must_change`: whatever its age, the next sign-in asks for another one (A6.3.2: changed at once when suspected).
    """

    __tablename__ = "credentials"

    account: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    hash: Mapped[str]
    changed_at: Mapped[datetime]
    failures: Mapped[int]
    locked_until: Mapped[datetime | None]
    must_change: Mapped[bool] = mapped_column(server_default=text("false"))


class FormerPassword(Base):
    """Earlier passwords, which the policy refuses for a while (C2.3.3)."""

    __tablename__ = "former_passwords"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    account: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"), index=True)
    hash: Mapped[str]
    replaced_at: Mapped[datetime]


class SecondFactor(Base):
    """The secret of an account's one-time codes, sealed and bound to the account; `step` is the last that was used."""

    __tablename__ = "second_factors"

    account: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    secret: Mapped[bytes]
    step: Mapped[int] = mapped_column(BigInteger)
    enrolled_at: Mapped[datetime]


class RecoveryCode(Base):
    """A code that stands in once for a one-time code; of its 128 random bits the SHA-256 digest is kept."""

    __tablename__ = "recovery_codes"

    digest: Mapped[bytes] = mapped_column(primary_key=True)
    account: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"), index=True)
    used_at: Mapped[datetime | None]


class SignInStep(Base):
    """Somebody between his password and his session: bound to one browser, for minutes, and gone with the session.

    `amr` is what he has proved so far, `secret` the sealed one that he is enrolling. With `session`, it is no sign-in,
    but an enrolment by someone who is signed in.
    """

    __tablename__ = "sign_in_steps"

    digest: Mapped[bytes] = mapped_column(primary_key=True)
    account: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"), index=True)
    amr: Mapped[list[str]]
    secret: Mapped[bytes | None]
    session: Mapped[UUID | None] = mapped_column(ForeignKey("browser_sessions.id", ondelete="CASCADE"))
    expires_at: Mapped[datetime] = mapped_column(index=True)


class EnrolmentCode(Base):
    """A one-time code with which a person sets the first password of his account."""

    __tablename__ = "enrolment_codes"

    digest: Mapped[bytes] = mapped_column(primary_key=True)
    account: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"), index=True)
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class Assignment(Base):
    """A role in a unit (A4.34)."""

    __tablename__ = "assignments"
    __table_args__ = (UniqueConstraint("account", "role", "unit"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    account: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"))
    person: Mapped[UUID] = mapped_column(index=True)
    role: Mapped[str] = mapped_column(String(64))
    unit: Mapped[UUID] = mapped_column(ForeignKey("units.id"))
    assigned_at: Mapped[datetime]
    valid_until: Mapped[datetime | None]


class Qualification(Base):
    """Something that a person has: an agreement signed, a training passed; with its term."""

    __tablename__ = "qualifications"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    account: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"), index=True)
    person: Mapped[UUID] = mapped_column(index=True)
    qualification: Mapped[str] = mapped_column(String(64))
    evidence: Mapped[str] = mapped_column(String(500))
    valid_from: Mapped[date]
    valid_until: Mapped[date | None]
    recorded_at: Mapped[datetime]
    withdrawn_at: Mapped[datetime | None]
    withdrawn_for: Mapped[str | None] = mapped_column(String(32))


class Partner(Base):
    """Another company, to which information may be handed; ended, to which it may not any more."""

    __tablename__ = "partners"
    __table_args__ = (CheckConstraint("state IN ('active', 'ended')", name="state"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(200))
    registration: Mapped[str | None] = mapped_column(String(64), unique=True)
    state: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime]
    version: Mapped[int] = mapped_column(server_default=text("1"))


class PartnerQualification(Base):
    """An agreement that a partner signed, or an assessment of it, with its term."""

    __tablename__ = "partner_qualifications"
    __table_args__ = (CheckConstraint("qualification IN ('agreement', 'assessment')", name="qualification"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    partner: Mapped[UUID] = mapped_column(ForeignKey("partners.id"), index=True)
    qualification: Mapped[str] = mapped_column(String(16))
    evidence: Mapped[str] = mapped_column(String(500))
    valid_from: Mapped[date]
    valid_until: Mapped[date | None]
    recorded_at: Mapped[datetime]
    withdrawn_at: Mapped[datetime | None]
    withdrawn_for: Mapped[str | None] = mapped_column(String(32))


class Authorisation(Base):
    """What an administrator asked to be allowed, and whether another person allowed it; of use once.

    `reason` and `comment` are sealed. `concerned_person` is whose account it is about, `deciders` the scopes of which
    one decides. That nobody asks or decides for himself or about himself is a constraint too (invariant 4).
    """

    __tablename__ = "authorisations"
    __table_args__ = (
        CheckConstraint("state IN ('pending', 'approved', 'refused')", name="state"),
        CheckConstraint("decider_person <> requester_person", name="persons"),
        CheckConstraint("concerned_person NOT IN (requester_person, decider_person)", name="concerned"),
        CheckConstraint("(state = 'pending') = (decider_person IS NULL)", name="decided"),
        CheckConstraint("used_at IS NULL OR state = 'approved'", name="used"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    operation: Mapped[str] = mapped_column(String(32))
    object: Mapped[str | None] = mapped_column(String(64))
    concerned_person: Mapped[UUID | None]
    deciders: Mapped[list[str]]
    reason: Mapped[bytes]
    requester_account: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"), index=True)
    requester_person: Mapped[UUID]
    requested_at: Mapped[datetime]
    state: Mapped[str] = mapped_column(String(16))
    decider_account: Mapped[UUID | None]
    decider_person: Mapped[UUID | None]
    comment: Mapped[bytes | None]
    decided_at: Mapped[datetime | None]
    valid_until: Mapped[datetime | None]
    used_at: Mapped[datetime | None]


class Client(Base):
    """A registered application; the parts of Dossier are clients too, but stand in PRODUCER_KEYS_FILE alone.

    It authenticates by a secret, or by a key of `jwks`, or is public. `zones`: from where its tokens are of use; empty
    is everywhere. The secret before the present one holds until `former_until`. `last_used_at`: to the minute.
    """

    __tablename__ = "clients"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    title: Mapped[str] = mapped_column(String(200))
    secret: Mapped[bytes | None]
    grant_types: Mapped[list[str]]
    scopes: Mapped[list[str]]
    redirect_uris: Mapped[list[str]]
    post_logout_redirect_uris: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    jwks: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    zones: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    former_secret: Mapped[bytes | None]
    former_until: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    first_party: Mapped[bool]
    state: Mapped[str] = mapped_column(String(16))
    registered_at: Mapped[datetime]
    version: Mapped[int] = mapped_column(server_default=text("1"))


class BrowserSession(Base):
    """A person who signed in with a browser, from an address in `zone`.

    `last_seen_at` is of the minute; a code or a token that is asked for moves it. Left alone it ends at `idle_ends_at`.
    """

    __tablename__ = "browser_sessions"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    digest: Mapped[bytes] = mapped_column(unique=True)
    account: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"), index=True)
    amr: Mapped[list[str]] = mapped_column(server_default=text("'{pwd}'"))
    zone: Mapped[str] = mapped_column(String(64))
    signed_in_at: Mapped[datetime]
    last_seen_at: Mapped[datetime]
    idle_ends_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    ended_at: Mapped[datetime | None]


class AuthorizationCode(Base):
    """A code of at most a minute; its first presentation uses it up, whatever comes of it."""

    __tablename__ = "authorization_codes"

    digest: Mapped[bytes] = mapped_column(primary_key=True)
    client: Mapped[str] = mapped_column(String(64))
    account: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"))
    session: Mapped[UUID] = mapped_column(ForeignKey("browser_sessions.id"))
    family: Mapped[UUID]
    redirect_uri: Mapped[str]
    scope: Mapped[str]
    challenge: Mapped[str] = mapped_column(String(43))
    nonce: Mapped[str | None]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    used_at: Mapped[datetime | None]


class RefreshToken(Base):
    """A refresh token of a family; a used one that comes again revokes the family (RFC 9700, 4.14.2)."""

    __tablename__ = "refresh_tokens"

    digest: Mapped[bytes] = mapped_column(primary_key=True)
    family: Mapped[UUID] = mapped_column(index=True)
    client: Mapped[str] = mapped_column(String(64))
    account: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"), index=True)
    session: Mapped[UUID] = mapped_column(ForeignKey("browser_sessions.id"), index=True)
    scope: Mapped[str]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    used_at: Mapped[datetime | None]


class Revocation(Base):
    """An access token (by `jti`) or a family of them (by `sid`) that is refused until it would have ended anyway."""

    __tablename__ = "revocations"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    until: Mapped[datetime] = mapped_column(index=True)


class ClientAssertion(Base):
    """The `jti` of an assertion that was used (RFC 7523, 3)."""

    __tablename__ = "client_assertions"

    client: Mapped[str] = mapped_column(String(64), primary_key=True)
    jti: Mapped[str] = mapped_column(String(200), primary_key=True)
    expires_at: Mapped[datetime] = mapped_column(index=True)


class Offboarding(Base):
    """A person left, or moved to another unit: one act over all of his accounts, and who goes on with his work."""

    __tablename__ = "offboardings"
    __table_args__ = (
        CheckConstraint("kind IN ('leaving', 'transfer')", name="kind"),
        CheckConstraint("successor_person <> person", name="successor"),
        CheckConstraint("(kind = 'transfer') = (unit_to IS NOT NULL)", name="unit_to"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(String(32))
    person: Mapped[UUID] = mapped_column(index=True)
    accounts: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid))
    units_left: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid))
    unit_to: Mapped[UUID | None] = mapped_column(ForeignKey("units.id"))
    successor_account: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"))
    successor_person: Mapped[UUID] = mapped_column(index=True)
    by_account: Mapped[UUID | None]
    at: Mapped[datetime]


class PolicyVersion(Base):
    """A version of the policy: its text, and its merged content, of which the digest is. One is active.

    Without a proposer it came with the deployment's file.
    """

    __tablename__ = "policy_versions"
    __table_args__ = (
        CheckConstraint("state IN ('proposed', 'approved', 'rejected', 'active', 'superseded')", name="state"),
        CheckConstraint("(proposer_account IS NULL) = (proposer_person IS NULL)", name="proposer"),
        UniqueConstraint("digest", "proposer_person"),
        Index("uq_policy_versions_active", "state", unique=True, postgresql_where=text("state = 'active'")),
    )

    digest: Mapped[str] = mapped_column(String(80), primary_key=True)
    id: Mapped[UUID] = mapped_column(unique=True)
    pack: Mapped[str] = mapped_column(String(64))
    text: Mapped[str]
    content: Mapped[dict[str, Any]] = mapped_column(JSONB)
    state: Mapped[str] = mapped_column(String(16))
    proposer_account: Mapped[UUID | None]
    proposer_person: Mapped[UUID | None]
    proposed_at: Mapped[datetime]
    activated_at: Mapped[datetime | None]


class PolicyDecision(Base):
    """The one decision on a proposed version, by another person than its proposer (invariant 4)."""

    __tablename__ = "policy_decisions"
    __table_args__ = (
        ForeignKeyConstraint(
            ["digest", "proposer_person"], ["policy_versions.digest", "policy_versions.proposer_person"]
        ),
        CheckConstraint("person <> proposer_person", name="another_person"),
        CheckConstraint("verdict IN ('approve', 'reject')", name="verdict"),
    )

    digest: Mapped[str] = mapped_column(String(80), primary_key=True)
    proposer_person: Mapped[UUID]
    person: Mapped[UUID]
    account: Mapped[UUID]
    verdict: Mapped[str] = mapped_column(String(16))
    comment: Mapped[bytes]
    at: Mapped[datetime]


tables.attach(Base.metadata)
