"""Getting in: enrolment, passwords, second factors, sessions, tokens, refusals at the edge."""

from typing import ClassVar
from uuid import UUID

from dossier_common.events import AccessRefused as BaseAccessRefused
from dossier_common.events import Event, Outcome


class AccountEnrolled(Event):
    """The person set the password of his account, with a one-time code."""

    TYPE: ClassVar[str] = "gateway.v1.account.enrolled"

    account: UUID
    person: UUID


class EnrolmentIssued(Event):
    """A one-time code for setting a password was given out; the one before it is void."""

    TYPE: ClassVar[str] = "gateway.v1.enrolment.issued"

    account: UUID
    person: UUID


class PasswordChanged(Event):
    """The person replaced his password (A6.3.2: these events are the register of changes)."""

    TYPE: ClassVar[str] = "gateway.v1.password.changed"

    account: UUID
    person: UUID


class PasswordExpired(Event):
    """An officer had a password changed at once, on suspicion (A6.3.2): the next sign-in asks for another."""

    TYPE: ClassVar[str] = "gateway.v1.password.expired"

    account: UUID
    person: UUID


class SecondFactorEnrolled(Event):
    """The person proved that he has the device that makes his one-time codes (RFC 6238); one before it is void."""

    TYPE: ClassVar[str] = "gateway.v1.second-factor.enrolled"

    account: UUID
    person: UUID


class SecondFactorReset(Event):
    """An officer removed the second factor of a person who lost it; he enrols anew, where his roles need one."""

    TYPE: ClassVar[str] = "gateway.v1.second-factor.reset"

    account: UUID
    person: UUID


class RecoveryCodeUsed(Event):
    """A recovery code stood in for a one-time code; `left` is how many remain."""

    TYPE: ClassVar[str] = "gateway.v1.recovery-code.used"

    account: UUID
    person: UUID
    left: int


class SignedIn(Event):
    """A person signed in; `amr` says how (RFC 8176)."""

    TYPE: ClassVar[str] = "gateway.v1.session.signed-in"

    account: UUID
    person: UUID
    session: UUID | None = None
    amr: tuple[str, ...] = ()


class SignInFailed(Event):
    """A sign-in to a known account failed; unknown names are only counted, so that nobody can fill the log."""

    TYPE: ClassVar[str] = "gateway.v1.session.sign-in-failed"
    OUTCOME: ClassVar[Outcome] = Outcome.FAILED

    account: UUID
    locked: bool


class SignedOut(Event):
    """A session with a browser was ended; its tokens with it."""

    TYPE: ClassVar[str] = "gateway.v1.session.signed-out"

    account: UUID
    person: UUID


class SessionEnded(Event):
    """A session with a browser was ended before its time, with its tokens, by the actor: its person or an officer."""

    TYPE: ClassVar[str] = "gateway.v1.session.ended"

    session: UUID
    account: UUID
    person: UUID
    reason: str


class TokenIssued(Event):
    """An access token, by its id."""

    TYPE: ClassVar[str] = "gateway.v1.token.issued"

    token: str
    client_id: str
    account: UUID | None = None
    person: UUID | None = None
    scopes: tuple[str, ...]


class TokensRevoked(Event):
    """A family of tokens, or one token of an application, was revoked.

    A code or a refresh token came a second time (RFC 9700), or the client asked (RFC 7009).
    """

    TYPE: ClassVar[str] = "gateway.v1.tokens.revoked"

    family: UUID | None = None
    token: str | None = None
    client_id: str
    account: UUID | None = None
    reason: str


class TokenKeysRotated(Event):
    """Another key signs tokens, or the next one was published; by their thumbprints (RFC 7638)."""

    TYPE: ClassVar[str] = "gateway.v1.token-keys.rotated"

    key_from: str
    key_to: str
    key_next: str
    retired: tuple[str, ...]
    compromised: bool


class AccessRefused(BaseAccessRefused):
    """The gateway refused a known caller."""

    TYPE: ClassVar[str] = "gateway.v1.access.refused"


class RefusalsCounted(Event):
    """How many anonymous calls were refused in one minute: 401 and 429."""

    TYPE: ClassVar[str] = "gateway.v1.refusals.counted"
    OUTCOME: ClassVar[Outcome] = Outcome.REFUSED

    minute: str
    unauthenticated: int
    rate_limited: int
