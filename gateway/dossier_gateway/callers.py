"""Who calls: an access token, seen in the light of what the directory says now.

What the directory says is kept for a second, so that a revoked role, a disabled account and a revoked token are felt
within two, at every replica, whatever the token says.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from dossier_common.auth import ACCESS_TYPE
from dossier_common.clock import Clock
from dossier_common.database import Database
from dossier_common.identity import RoleIn, Subject
from dossier_common.policy import Policy
from dossier_common.problems import Unauthenticated
from dossier_gateway import second_factor
from dossier_gateway.directory import client_repository, repository
from dossier_gateway.kept import Kept
from dossier_gateway.oauth.clients import CLI, CONSOLE
from dossier_gateway.tokens import Access, Tokens

FRESH = 1.0
SIZE: Final = 20_000
BUILT_IN: Final = frozenset({CLI, CONSOLE})


@dataclass(frozen=True, slots=True)
class Standing:
    """What an account or a client is, and may, at this moment."""

    scopes: frozenset[str]
    units: frozenset[UUID] = frozenset()
    roles: tuple[RoleIn, ...] = ()
    clearance: str = ""
    qualifications: frozenset[str] = frozenset()
    zones: frozenset[str] = frozenset()
    """From where the tokens of a client are of use; empty is everywhere."""
    without: "Standing | None" = None
    """What is left in a session without a second factor, where a role asks for one."""


_HOUSE: Final = Standing(frozenset())
"""The clients that are built in: always active, of use everywhere."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A verified caller: the same object for as long as the directory says the same of account and client."""

    access: Access
    standing: Standing
    client: Standing
    subject: Subject
    transactions: dict[tuple[str, str], tuple[bytes, float]] = field(default_factory=dict, compare=False)
    """The Txn-Tokens that were made for him, by address and part, and until when each is used again."""

    def within(self, zone: str) -> bool:
        """Whether his token is of use from there."""
        return not self.client.zones or zone in self.client.zones


class Callers:
    """Resolves access tokens; has the shape of a Verifier for the gateway's own endpoints."""

    def __init__(self, database: Database, policy: Policy, tokens: Tokens, clock: Clock) -> None:
        self._database, self._policy, self._tokens, self._clock = database, policy, tokens, clock
        self._standings: Kept[UUID | str, tuple[Standing | None, float]] = Kept(SIZE)
        self._callers: Kept[UUID, Caller] = Kept(SIZE)
        self._revoked: frozenset[UUID] = frozenset()
        self._revoked_at = float("-inf")
        self._loading: dict[UUID | str, asyncio.Task[None]] = {}

    async def verify(self, token: str, token_type: str) -> Subject:
        """The subject of an access token for the gateway. Raises Unauthenticated, also for a Txn-Token."""
        if token_type != ACCESS_TYPE:
            raise Unauthenticated("The gateway takes access tokens.", error="invalid_request")
        return (await self.resolve(token)).subject

    async def resolve(self, token: str) -> Caller:
        """The caller. Raises Unauthenticated, and what the database raises when it is away."""
        access = self._tokens.verify(token, self._clock.now())
        if access.service is not None:
            subject = Subject(client=access.client, scopes=access.scopes, service=access.service)
            return Caller(access, Standing(access.scopes), _HOUSE, subject)
        now = time.monotonic()
        if now - self._revoked_at > FRESH:
            await self._once("revoked", self._load_revoked)
        if access.token in self._revoked or access.family in self._revoked:
            raise Unauthenticated("The token was revoked.")
        standing = await self._standing(access.account or access.client, now)
        client = standing if access.account is None else await self._standing(access.client, now)
        if standing is None or client is None:
            raise Unauthenticated("The account or client is not active.")
        return self._caller(access, standing, client)

    async def _standing(self, key: UUID | str, now: float) -> Standing | None:
        if key in BUILT_IN:
            return _HOUSE
        kept = self._standings.get(key)
        if kept is None or now - kept[1] > FRESH:
            await self._once(key, lambda: self._load(key))
            kept = self._standings.get(key)
            assert kept is not None
        return kept[0]

    def _caller(self, access: Access, standing: Standing, client: Standing) -> Caller:
        known = self._callers.get(access.token)
        if known is not None and known.standing is standing and known.client is client:
            return known
        seen = standing if access.second_factor else standing.without or standing
        subject = Subject(
            client=access.client,
            scopes=access.scopes & seen.scopes & (access.scopes if client is _HOUSE else client.scopes),
            account=access.account,
            person=access.person,
            units=seen.units,
            roles=seen.roles,
            clearance=seen.clearance,
            qualifications=seen.qualifications,
        )
        caller = Caller(access, standing, client, subject)
        self._callers[access.token] = caller
        return caller

    async def _once(self, key: UUID | str, load: Callable[[], Awaitable[None]]) -> None:
        """Loads for all that wait for the same; a caller that leaves does not stop the load of the others."""
        running = self._loading.get(key)
        if running is None:

            async def run() -> None:
                try:
                    await load()
                finally:
                    del self._loading[key]

            running = self._loading[key] = asyncio.create_task(run())
        await asyncio.shield(running)

    async def _load_revoked(self) -> None:
        started = time.monotonic()
        async with self._database.session() as session:
            self._revoked = await repository.revoked(session, self._clock.now())
        self._revoked_at = started

    async def _load(self, key: UUID | str) -> None:
        started = time.monotonic()
        async with self._database.session() as session:
            if isinstance(key, UUID):
                standing = await self._account(repository.Reading(session), key)
            else:
                found = await client_repository.client(session, key)
                if found is None or found.state != "active":
                    standing = None
                else:
                    standing = Standing(frozenset(found.scopes), zones=frozenset(found.zones))
        before = self._standings.get(key)
        if before is not None and before[0] == standing:
            standing = before[0]
        self._standings[key] = (standing, started)

    async def _account(self, reading: repository.Reading, account_id: UUID) -> Standing | None:
        account = await reading.account(account_id)
        if account is None or account.state != "active":
            return None
        held = await reading.assignments(account_id, self._clock.now())
        qualified = await reading.valid_qualifications(account.person, self._clock.now().date())

        def standing(amr: tuple[str, ...], without: Standing | None) -> Standing:
            counting = set(second_factor.in_force(self._policy, [each.role for each in held], amr))
            counted = [each for each in held if each.role in counting]
            return Standing(
                scopes=frozenset(map(str, self._policy.scopes_of(counting))),
                units=frozenset({account.unit, *(each.unit for each in counted)}),
                roles=tuple(RoleIn(each.role, each.unit) for each in counted),
                clearance=account.clearance,
                qualifications=qualified,
                without=without,
            )

        guarded = second_factor.needed(self._policy, [each.role for each in held])
        return standing((second_factor.ONE_TIME,), standing((), None) if guarded else None)
