"""Events of the gateway: directory, sign-ins, tokens, refusals at the edge."""

from datetime import date, datetime
from typing import ClassVar
from uuid import UUID

from dossier_common.events import AccessRefused as BaseAccessRefused
from dossier_common.events import Event, Outcome


class UnitCreated(Event):
    """A unit of the organisation tree: group, company, department or project."""

    TYPE: ClassVar[str] = "gateway.v1.unit.created"

    unit: UUID
    parent: UUID | None = None
    kind: str
    code: str


class UnitChanged(Event):
    """A unit has another title."""

    TYPE: ClassVar[str] = "gateway.v1.unit.changed"

    unit: UUID


class UnitMoved(Event):
    """A unit stands under another, with all that is below it."""

    TYPE: ClassVar[str] = "gateway.v1.unit.moved"

    unit: UUID
    parent_from: UUID
    parent_to: UUID


class AccountCreated(Event):
    """An account of one person, in its home unit."""

    TYPE: ClassVar[str] = "gateway.v1.account.created"

    account: UUID
    person: UUID
    unit: UUID
    clearance: str


class AccountChanged(Event):
    """Which fields of an account are others now; of the home unit also before and after, of a name never."""

    TYPE: ClassVar[str] = "gateway.v1.account.changed"

    account: UUID
    person: UUID
    changed: tuple[str, ...]
    unit_from: UUID
    unit_to: UUID


class AccountEnabled(Event):
    """A disabled account may be signed in to again; what it had open stays ended."""

    TYPE: ClassVar[str] = "gateway.v1.account.enabled"

    account: UUID
    person: UUID
    state: str


class AccountEnrolled(Event):
    """The person set the password of his account, with a one-time code."""

    TYPE: ClassVar[str] = "gateway.v1.account.enrolled"

    account: UUID
    person: UUID


class AccountDisabled(Event):
    """The account may do nothing any more; `reason` is one of a closed list."""

    TYPE: ClassVar[str] = "gateway.v1.account.disabled"

    account: UUID
    person: UUID
    reason: str


class PersonOffboarded(Event):
    """A person left, or moved to another unit, with all of his accounts (A4.38, A2.6).

    It comes after the events of what ended with it: accounts, roles, clearance, sessions, tokens. `kind` is `leaving`
    or `transfer`; `units_left` are those in which he worked or held a role. Why he left stays in the directory.
    """

    TYPE: ClassVar[str] = "gateway.v1.person.offboarded"

    offboarding: UUID
    kind: str
    person: UUID
    accounts: tuple[UUID, ...]
    units_left: tuple[UUID, ...]
    unit_to: UUID | None = None
    successor_account: UUID
    successor_person: UUID
    successor_clearance: str


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


class ClearanceChanged(Event):
    """What an account may be cleared for, before and after."""

    TYPE: ClassVar[str] = "gateway.v1.clearance.changed"

    account: UUID
    person: UUID
    clearance_from: str
    clearance_to: str


class RoleAssigned(Event):
    """A role in a unit (A4.34); with `valid_until` it counts no longer from then on."""

    TYPE: ClassVar[str] = "gateway.v1.role.assigned"

    assignment: UUID
    account: UUID
    person: UUID
    role: str
    unit: UUID
    valid_until: datetime | None = None


class RoleRevoked(Event):
    """The end of a role assignment; without an actor its term was over."""

    TYPE: ClassVar[str] = "gateway.v1.role.revoked"

    assignment: UUID
    account: UUID
    person: UUID
    role: str
    unit: UUID


class QualificationRecorded(Event):
    """An agreement was signed, a training passed (B2.5.4)."""

    TYPE: ClassVar[str] = "gateway.v1.qualification.recorded"

    account: UUID
    person: UUID
    qualification: str
    valid_from: date | None = None
    valid_until: date | None = None
    record: UUID | None = None


class QualificationWithdrawn(Event):
    """What was recorded of a person counts no more."""

    TYPE: ClassVar[str] = "gateway.v1.qualification.withdrawn"

    account: UUID
    person: UUID
    qualification: str
    record: UUID
    reason: str


class PartnerRegistered(Event):
    """Another company, to which information may be handed (B3.5)."""

    TYPE: ClassVar[str] = "gateway.v1.partner.registered"

    partner: UUID
    state: str


class PartnerChanged(Event):
    """Which fields of a partner are others now; of its state also before and after."""

    TYPE: ClassVar[str] = "gateway.v1.partner.changed"

    partner: UUID
    changed: tuple[str, ...]
    state_from: str
    state_to: str


class PartnerQualified(Event):
    """A partner signed an agreement, or was assessed; with the term."""

    TYPE: ClassVar[str] = "gateway.v1.partner.qualified"

    partner: UUID
    record: UUID
    qualification: str
    valid_from: date
    valid_until: date | None = None


class PartnerQualificationWithdrawn(Event):
    """An agreement or an assessment of a partner counts no more."""

    TYPE: ClassVar[str] = "gateway.v1.partner.qualification-withdrawn"

    partner: UUID
    record: UUID
    qualification: str
    reason: str


class ClientRegistered(Event):
    """An application, and the scopes that it may ask for."""

    TYPE: ClassVar[str] = "gateway.v1.client.registered"

    client_id: str
    scopes: tuple[str, ...]


class ClientChanged(Event):
    """Which fields of an application are others now; of its scopes also before and after."""

    TYPE: ClassVar[str] = "gateway.v1.client.changed"

    client_id: str
    changed: tuple[str, ...]
    scopes_from: tuple[str, ...]
    scopes_to: tuple[str, ...]


class ClientSecretIssued(Event):
    """An application got another secret; the one before holds until then."""

    TYPE: ClassVar[str] = "gateway.v1.client.secret-issued"

    client_id: str
    former_until: datetime


class ClientSecretEnded(Event):
    """The secret before the present one holds no more."""

    TYPE: ClassVar[str] = "gateway.v1.client.secret-ended"

    client_id: str


class ClientDisabled(Event):
    """An application gets no token any more, and those that it has are refused."""

    TYPE: ClassVar[str] = "gateway.v1.client.disabled"

    client_id: str
    reason: str


class ClientEnabled(Event):
    """A disabled application may ask for tokens again."""

    TYPE: ClassVar[str] = "gateway.v1.client.enabled"

    client_id: str


class AuthorisationRequested(Event):
    """An administrator asks to be allowed a maintenance operation."""

    TYPE: ClassVar[str] = "gateway.v1.authorisation.requested"

    authorisation: UUID
    operation: str
    object: str | None = None


class AuthorisationDecided(Event):
    """Another person has allowed a maintenance operation, or has not."""

    TYPE: ClassVar[str] = "gateway.v1.authorisation.decided"

    authorisation: UUID
    operation: str
    object: str | None = None
    requester_account: UUID
    requester_person: UUID
    verdict: str
    valid_until: datetime | None = None


class AuthorisationUsed(Event):
    """A maintenance operation was done, in the same transaction."""

    TYPE: ClassVar[str] = "gateway.v1.authorisation.used"

    authorisation: UUID
    operation: str
    object: str | None = None


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


class PolicyProposed(Event):
    """A version of the policy was proposed, to take the place of the active one."""

    TYPE: ClassVar[str] = "gateway.v1.policy.proposed"

    digest: str
    pack: str
    active: str | None = None
    proposer_account: UUID
    proposer_person: UUID


class PolicyApproved(Event):
    """Another person approved a version of the policy."""

    TYPE: ClassVar[str] = "gateway.v1.policy.approved"

    digest: str
    pack: str
    active: str | None = None
    proposer_person: UUID
    decider_account: UUID
    decider_person: UUID


class PolicyRejected(Event):
    """Another person rejected a version of the policy."""

    TYPE: ClassVar[str] = "gateway.v1.policy.rejected"

    digest: str
    pack: str
    active: str | None = None
    proposer_person: UUID
    decider_account: UUID
    decider_person: UUID


class PolicyActivated(Event):
    """The gateway started with another version of the policy than the one before; `approved` by two persons or not."""

    TYPE: ClassVar[str] = "gateway.v1.policy.activated"

    digest: str
    pack: str
    before: str | None = None
    approved: bool


class PolicyUnapproved(Event):
    """A version that nobody approved took the place of another, by the deployment's file."""

    TYPE: ClassVar[str] = "gateway.v1.policy.unapproved"

    digest: str
    before: str


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
