"""Use cases of registered applications. Every change is an event; what an application may ask for is in each."""

import secrets
from collections.abc import Collection

from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common import outbox
from dossier_common.clock import Clock
from dossier_common.contracts.gateway import ClientRegistered
from dossier_common.identity import Subject
from dossier_common.policy import Policy
from dossier_common.topology import PARTS
from dossier_gateway.directory import client_repository, client_rules, rules
from dossier_gateway.directory.client_repository import ClientRow
from dossier_gateway.errors import Taken
from dossier_gateway.oauth.clients import CLI, CONSOLE, digest

RESERVED = frozenset({*PARTS, CONSOLE, CLI})


async def register(
    session: AsyncSession, policy: Policy, client: ClientRow, zones: Collection[str], *, by: Subject, clock: Clock
) -> str | None:
    """Registers an application; its secret, if it is confidential and has no keys to authenticate with.

    `zones` are those of this deployment. Raises Taken, DutyConflict, UnknownReference.
    """
    rules.ensure_no_scope_conflict(policy, (), client.scopes)
    client_rules.ensure_consistent(client, zones)
    secret = secrets.token_urlsafe(32) if client.confidential and client.jwks is None else None
    now = clock.now()
    kept = client.id not in RESERVED
    if not kept or not await client_repository.add_client(session, client, digest(secret) if secret else None, now):
        raise Taken("A client has this id.")
    registered = ClientRegistered(client_id=client.id, scopes=tuple(client.scopes))
    await outbox.add(session, registered, by=by, at=now)
    return secret
