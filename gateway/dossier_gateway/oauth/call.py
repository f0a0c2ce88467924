"""What one run of Authlib's core works on. The core is synchronous and knows no session: a ContextVar carries it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from dossier_common.contracts.gateway import AccessRefused, TokensRevoked
from dossier_common.events import Event
from dossier_common.ids import new_id
from dossier_gateway.oauth import repository
from dossier_gateway.oauth.errors import OutsideZone

_current: ContextVar["Call"] = ContextVar("oauth_call")


@dataclass
class Call:
    """One request to the OAuth2 server, in one transaction; its events go to the outbox when the core is done."""

    session: Session
    now: datetime
    family_term: timedelta
    browser: UUID | None = None
    browser_until: datetime | None = None
    signed_in_at: datetime | None = None
    family: UUID = field(default_factory=new_id)
    nonce: str | None = None
    audience: str | None = None
    refresh_scope: str | None = None
    refresh_until: datetime | None = None
    events: list[Event] = field(default_factory=list)
    outside: str | None = None
    """The client that was refused for where it is."""
    zone: str | None = None
    """Where the request comes from; None where that does not matter."""

    def ensure_within(self, client: str, zones: Sequence[str]) -> None:
        """Raises OutsideZone, which is recorded, when the client has zones and the request is from elsewhere."""
        if zones and self.zone not in zones:
            self.outside = client
            self.events.append(AccessRefused(operation="issue_token", slug="outside-zone"))
            raise OutsideZone

    def revoke_family(self, family: UUID, client: str, account: UUID | None, reason: str) -> None:
        """No token of the family holds any more."""
        repository.revoke(self.session, family, self.now + self.family_term)
        self.events.append(TokensRevoked(family=family, client_id=client, account=account, reason=reason))

    def revoke_token(self, token: UUID, until: datetime, client: str, reason: str) -> None:
        """This one access token, which is of no family, does not hold any more."""
        repository.revoke(self.session, token, until)
        self.events.append(TokensRevoked(token=str(token), client_id=client, reason=reason))


def current() -> Call:
    """The call that is being worked on."""
    return _current.get()


@contextmanager
def working_on(call: Call) -> Iterator[None]:
    """Makes it the current one."""
    token = _current.set(call)
    try:
        yield
    finally:
        _current.reset(token)
