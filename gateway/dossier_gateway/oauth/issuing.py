"""The use case of the token endpoint: what the core answers, with its events, in one transaction."""

from datetime import datetime
from http import HTTPStatus

from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common import outbox
from dossier_common.backlog import Backlog
from dossier_common.contracts.gateway import AccessRefused, TokenIssued
from dossier_common.database import WRITES
from dossier_common.events import Event
from dossier_common.identity import Subject
from dossier_common.topology import PARTS
from dossier_gateway.oauth import repository
from dossier_gateway.oauth.server import Asked, Server


async def issue_token(
    session: AsyncSession, server: Server, asked: Asked, now: datetime, backlog: Backlog
) -> "tuple[int, bytes, dict[str, str]]":
    """The answer of the token endpoint; its events are in the same transaction.

    Raises AuditUnavailable while too much waits for its audit record. The parts get their tokens all the same, since
    the audit service pulls with them what waits; and a family of tokens that was used twice is revoked all the same.
    """
    answer, call = await session.run_sync(server.token, asked, now)
    for event in call.events:
        if isinstance(event, TokenIssued) and event.client_id not in PARTS:
            backlog.ensure(WRITES)
        await outbox.add(session, event, by=_holder(event, call.outside), at=now)
    if call.browser is not None and answer.status == HTTPStatus.OK:
        await session.run_sync(repository.touch, call.browser, now, server.idle)
    return answer.status, answer.body, answer.headers


def _holder(event: Event, outside: str | None) -> Subject | None:
    """Who acted: the person or the application that got a token; nobody known, where a token came a second time."""
    if isinstance(event, AccessRefused) and outside is not None:
        return Subject(client=outside, scopes=frozenset())
    if not isinstance(event, TokenIssued):
        return None
    return Subject(client=event.client_id, scopes=frozenset(), account=event.account, person=event.person)
