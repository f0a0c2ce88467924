"""SQL of registered applications."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from dossier_gateway.models import Client


@dataclass(frozen=True, slots=True)
class ClientRow:
    """A client, without its secret."""

    id: str
    title: str
    grant_types: list[str]
    scopes: list[str]
    redirect_uris: list[str]
    confidential: bool
    first_party: bool
    post_logout_redirect_uris: list[str] = field(default_factory=list)
    jwks: dict[str, Any] | None = None
    zones: list[str] = field(default_factory=list)
    state: str = "active"
    version: int = 1
    former_until: datetime | None = None
    last_used_at: datetime | None = None


_CLIENT: Final = (
    Client.id,
    Client.title,
    Client.grant_types,
    Client.scopes,
    Client.redirect_uris,
    or_(Client.secret.is_not(None), Client.jwks.is_not(None)),
    Client.first_party,
    Client.post_logout_redirect_uris,
    Client.jwks,
    Client.zones,
    Client.state,
    Client.version,
    Client.former_until,
    Client.last_used_at,
)


async def clients(session: AsyncSession, limit: int, after: str | None) -> list[ClientRow]:
    """Clients by id."""
    query = select(*_CLIENT).order_by(Client.id).limit(limit)
    rows = await session.execute(query.where(Client.id > after) if after else query)
    return [ClientRow(*row) for row in rows]


async def client(session: AsyncSession, client_id: str) -> ClientRow | None:
    """One client."""
    row = (await session.execute(select(*_CLIENT).where(Client.id == client_id))).one_or_none()
    return ClientRow(*row) if row else None


async def client_for_update(session: AsyncSession, client_id: str) -> ClientRow | None:
    """One client, locked until the transaction ends."""
    query = select(*_CLIENT).where(Client.id == client_id).with_for_update()
    row = (await session.execute(query)).one_or_none()
    return ClientRow(*row) if row else None


async def change_client(session: AsyncSession, client_id: str, **values: Any) -> None:
    """Keeps other values, as the next version."""
    await session.execute(update(Client).where(Client.id == client_id).values(**values, version=Client.version + 1))


async def replace_secret(session: AsyncSession, client_id: str, secret: bytes, former_until: datetime | None) -> None:
    """Keeps another secret, as the next version; the one before holds until then."""
    former = Client.secret if former_until else None
    await change_client(session, client_id, secret=secret, former_secret=former, former_until=former_until)


async def add_client(session: AsyncSession, new: ClientRow, secret: bytes | None, now: datetime) -> bool:
    """Keeps a new client; False when its id is taken."""
    values: dict[str, Any] = {
        "id": new.id,
        "title": new.title,
        "secret": secret,
        "grant_types": new.grant_types,
        "scopes": new.scopes,
        "redirect_uris": new.redirect_uris,
        "post_logout_redirect_uris": new.post_logout_redirect_uris,
        "jwks": new.jwks,
        "zones": new.zones,
        "first_party": new.first_party,
        "state": new.state,
        "registered_at": now,
    }
    kept = await session.execute(upsert(Client).values(**values).on_conflict_do_nothing().returning(Client.id))
    return kept.first() is not None


async def scopes_of(session: AsyncSession, client_id: str) -> Sequence[str] | None:
    """What an active client may ask for; None when there is none."""
    query = select(Client.scopes).where(Client.id == client_id, Client.state == "active")
    return (await session.execute(query)).scalar_one_or_none()
