"""Grants that the projection does not have yet are asked of the approvals service, so that a new one works at once."""

from uuid import UUID

from dossier_common.contracts.approvals import GrantIssued
from dossier_common.database import Database
from dossier_common.peers import Peers
from dossier_common.scopes import Scope
from dossier_records import repository


async def resolve(database: Database, peers: Peers, grant_id: UUID) -> bool:
    """Takes the grant into the projection; False when there is no such grant. Raises UpstreamUnavailable."""
    answer = await peers.get("approvals", f"/internal/v1/grants/{grant_id}", Scope.GRANTS_RESOLVE)
    if answer.status_code == 404:
        return False
    answer.raise_for_status()
    body = answer.json()
    async with database.transaction() as session:
        await repository.put_grant(session, GrantIssued.model_validate(body), body["state"])
    return True
