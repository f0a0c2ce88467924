"""Use cases of registered applications. Every change is an event; what an application may ask for is in each."""

import secrets
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common import outbox, preconditions
from dossier_common.clock import Clock
from dossier_common.contracts.gateway import (
    ClientChanged,
    ClientDisabled,
    ClientEnabled,
    ClientRegistered,
    ClientSecretEnded,
    ClientSecretIssued,
)
from dossier_common.identity import Subject
from dossier_common.policy import Operation, Policy
from dossier_common.problems import Conflict, NotFound
from dossier_common.topology import PARTS
from dossier_gateway.directory import access, client_repository, client_rules, rules
from dossier_gateway.directory.authorisations import authorised
from dossier_gateway.directory.client_repository import ClientRow
from dossier_gateway.directory.rules import DisablingReason
from dossier_gateway.errors import Taken
from dossier_gateway.oauth.clients import CLI, CONSOLE, digest
from dossier_gateway.tokens import Terms

RESERVED = frozenset({*PARTS, CONSOLE, CLI})


@dataclass(frozen=True, slots=True)
class Change:
    """Who changes an application, when, and by which authorisation."""

    policy: Policy
    by: Subject
    clock: Clock
    authorisation: UUID | None

    async def ensure_authorised(self, session: AsyncSession, operation: Operation, client: str) -> None:
        """Raises AuthorisationRequired where the policy wants one, and it is not there."""
        await authorised(
            session,
            self.policy,
            operation,
            object_=client,
            authorisation=self.authorisation,
            by=self.by,
            clock=self.clock,
        )


async def register(session: AsyncSession, client: ClientRow, zones: Collection[str], change: Change) -> str | None:
    """Registers an application; its secret, if it is confidential and has no keys to authenticate with.

    `zones` are those of this deployment. Raises Taken, DutyConflict, UnknownReference, AuthorisationRequired.
    """
    rules.ensure_no_scope_conflict(change.policy, (), client.scopes)
    client_rules.ensure_consistent(client, zones)
    await change.ensure_authorised(session, Operation.CLIENTS_REGISTER, client.id)
    secret = _new_secret() if client.confidential and client.jwks is None else None
    now = change.clock.now()
    kept = client.id not in RESERVED
    if not kept or not await client_repository.add_client(session, client, digest(secret) if secret else None, now):
        raise Taken("A client has this id.")
    registered = ClientRegistered(client_id=client.id, scopes=tuple(client.scopes))
    await outbox.add(session, registered, by=change.by, at=now)
    return secret


def _new_secret() -> str:
    return secrets.token_urlsafe(32)


async def _locked(session: AsyncSession, client_id: str) -> ClientRow:
    client = await client_repository.client_for_update(session, client_id)
    if client is None:
        raise NotFound("There is no such client.")
    return client


async def alter(
    session: AsyncSession,
    client_id: str,
    wanted: dict[str, Any],
    zones: Collection[str],
    change: Change,
    *,
    if_match: str | None,
) -> ClientRow:
    """Other values of the named fields; keys that are given for the first time end the secret.

    Its tokens, and those that persons got by it, lose what it may no longer have within two seconds. Raises NotFound,
    PreconditionMissing, Stale, DutyConflict, UnknownReference, AuthorisationRequired.
    """
    client = await _locked(session, client_id)
    preconditions.require_match(if_match, client.version)
    after = replace(client, **wanted)
    rules.ensure_no_scope_conflict(change.policy, client.scopes, after.scopes)
    client_rules.ensure_consistent(after, zones if "zones" in wanted else {*zones, *client.zones})
    changed = tuple(sorted(name for name in wanted if getattr(after, name) != getattr(client, name)))
    if not changed:
        return client
    await change.ensure_authorised(session, Operation.CLIENTS_CHANGE, client.id)
    values = {name: getattr(after, name) for name in changed}
    if "jwks" in changed:
        values |= {"secret": None, "former_secret": None, "former_until": None}
        after = replace(after, former_until=None)
    await client_repository.change_client(session, client.id, **values)
    event = ClientChanged(
        client_id=client.id, changed=changed, scopes_from=tuple(client.scopes), scopes_to=tuple(after.scopes)
    )
    await outbox.add(session, event, by=change.by, at=change.clock.now())
    return replace(after, version=client.version + 1)


async def issue_secret(
    session: AsyncSession, client_id: str, overlap: timedelta, change: Change
) -> tuple[ClientRow, str]:
    """Another secret; the one before holds for `overlap`, so that nothing stops while it is replaced.

    Raises NotFound, Conflict for a client that has none, AuthorisationRequired.
    """
    client = await _locked(session, client_id)
    if not client.confidential or client.jwks is not None:
        raise Conflict("The client does not authenticate by a secret.")
    await change.ensure_authorised(session, Operation.CLIENTS_CHANGE, client.id)
    secret, now = _new_secret(), change.clock.now()
    until = now + overlap
    await client_repository.replace_secret(session, client.id, digest(secret), until if overlap else None)
    issued = ClientSecretIssued(client_id=client.id, former_until=until)
    await outbox.add(session, issued, by=change.by, at=now)
    return replace(client, version=client.version + 1, former_until=until if overlap else None), secret


async def end_former_secret(session: AsyncSession, client_id: str, change: Change) -> None:
    """The secret before the present one holds no more. Raises NotFound."""
    client = await _locked(session, client_id)
    now = change.clock.now()
    if client.former_until is None or client.former_until <= now:
        raise NotFound("No former secret holds.")
    await client_repository.change_client(session, client.id, former_secret=None, former_until=None)
    await outbox.add(session, ClientSecretEnded(client_id=client.id), by=change.by, at=now)


async def disable(
    session: AsyncSession, client_id: str, reason: DisablingReason, change: Change, terms: Terms
) -> ClientRow:
    """It gets no token any more, and those that are out, its own and those of persons, end. Raises NotFound, Conflict.

    Taking away needs no authorisation: it is what is done first when something is wrong.
    """
    client = await _locked(session, client_id)
    if client.state == "disabled":
        raise Conflict("The client is disabled already.")
    now = change.clock.now()
    await client_repository.change_client(session, client.id, state="disabled")
    disabled = ClientDisabled(client_id=client.id, reason=reason.value)
    await outbox.add(session, disabled, by=change.by, at=now)
    await access.end_client_access(session, client.id, "client-disabled", by=change.by, now=now, terms=terms)
    return replace(client, state="disabled", version=client.version + 1)


async def enable(session: AsyncSession, client_id: str, change: Change) -> ClientRow:
    """It may ask for tokens again; its scopes are held against the policy of today.

    Raises NotFound, Conflict, DutyConflict, AuthorisationRequired.
    """
    client = await _locked(session, client_id)
    if client.state != "disabled":
        raise Conflict("The client is not disabled.")
    rules.ensure_no_scope_conflict(change.policy, (), client.scopes)
    await change.ensure_authorised(session, Operation.CLIENTS_ENABLE, client.id)
    await client_repository.change_client(session, client.id, state="active")
    await outbox.add(session, ClientEnabled(client_id=client.id), by=change.by, at=change.clock.now())
    return replace(client, state="active", version=client.version + 1)
