"""What administrators do to applications and to the policy, and what they are allowed."""

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from dossier_common.events import Event


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
