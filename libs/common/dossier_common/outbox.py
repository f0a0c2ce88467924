"""The outbox: events enter it in the transaction of the business change, and so exist exactly when the change does."""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common import tables
from dossier_common.events import Event, encode
from dossier_common.identity import Subject
from dossier_common.ids import new_id


async def add(session: AsyncSession, event: Event, *, by: Subject | None, at: datetime) -> None:
    """The event is durable when, and only when, the session's transaction commits.

    `by` is who acted; None says that the part itself did. Raises EventTooLarge.
    """
    await add_all(session, [event], by=by, at=at)


async def add_all(session: AsyncSession, events: Iterable[Event], *, by: Subject | None, at: datetime) -> None:
    """As `add`, for many at once, in their order."""
    rows = []
    for event in events:
        event_id = new_id()
        rows.append({"id": event_id, "type": event.TYPE, "time": at, "body": encode(event, event_id, at, by)})
    if rows:
        await session.execute(insert(tables.outbox), rows)
