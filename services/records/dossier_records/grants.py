"""Grants belong to approvals; here is a projection of them, which covers something only while it is fresh.

A grant that the projection does not have yet, or may not have in its present state, is asked of the approvals service:
so a new one works at once, and a revocation cannot get stuck on its way here.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common.clock import Clock
from dossier_common.contracts.approvals import GrantIssued
from dossier_common.database import Database
from dossier_common.peers import Peers
from dossier_common.problems import UpstreamUnavailable
from dossier_common.scopes import Scope
from dossier_records import repository

OWNER: Final = "approvals"
_JUDGED_HERE: Final = frozenset({"expired", "exhausted"})
"""States that follow from the clock and from the count of uses, which is kept here."""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A grant is as approvals had it at some time after `at`; `known` says whether there is such a grant."""

    at: datetime
    known: bool


def is_fresh(fresh_at: datetime | None, now: datetime, stale_after: timedelta) -> bool:
    """Whether the projection may be believed: nothing that approvals did before `now - stale_after` is missing.

    What was fresh in the future was so by a clock that has been set back since: it may not.
    """
    return fresh_at is not None and abs(now - fresh_at) <= stale_after


@dataclass(frozen=True, slots=True)
class Grants:
    """How this process learns how a grant stands."""

    database: Database
    peers: Peers
    clock: Clock
    stale_after: timedelta

    async def confirmed(self, session: AsyncSession, grant_id: UUID) -> Confirmed:
        """How a grant stands, from the projection while it is fresh, else from approvals.

        Ask before the session locks the grant: the answer is written in a transaction of its own. Raises
        UpstreamUnavailable.
        """
        now = self.clock.now()
        fresh_at = await repository.grant_fresh_at(session, grant_id, OWNER)
        if is_fresh(fresh_at, now, self.stale_after):
            return Confirmed(now, known=True)
        return await self.resolve(grant_id)

    async def resolve(self, grant_id: UUID) -> Confirmed:
        """Asks approvals, and takes into the projection what it says. Raises UpstreamUnavailable."""
        asked_at = self.clock.now()
        answer = await self.peers.get(OWNER, f"/internal/v1/grants/{grant_id}", Scope.GRANTS_RESOLVE)
        if answer.status_code == 404:
            return Confirmed(asked_at, known=False)
        if answer.status_code != 200:
            raise UpstreamUnavailable("The approvals service does not say how the grant stands.")
        said: dict[str, Any] = answer.json()
        state = "active" if said["state"] in _JUDGED_HERE else said["state"]
        async with self.database.transaction() as session:
            await repository.confirm_grant(
                session, GrantIssued.model_validate(said), state, used=said.get("uses_counted", 0)
            )
        return Confirmed(asked_at, known=True)
