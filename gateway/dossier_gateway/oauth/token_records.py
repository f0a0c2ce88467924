"""SQL about tokens that are out: what session they came from, and whether they were revoked. Synchronous."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from dossier_gateway.models import AuthorizationCode, BrowserSession, RefreshToken, Revocation
from dossier_gateway.oauth.clients import digest


def session_ends_at(session: Session, browser: UUID) -> datetime | None:
    """When a session ends at the latest."""
    return session.execute(select(BrowserSession.expires_at).where(BrowserSession.id == browser)).scalar_one_or_none()


def session_of(session: Session, family: UUID) -> UUID | None:
    """The session that a family of tokens came from; None when nothing is known of it any more."""
    query = (
        select(AuthorizationCode.session)
        .where(AuthorizationCode.family == family)
        .union(select(RefreshToken.session).where(RefreshToken.family == family))
    )
    return session.execute(query).scalar_one_or_none()


def any_revoked(session: Session, ids: Collection[UUID]) -> bool:
    """Whether one of these tokens or families was revoked."""
    return session.execute(select(Revocation.id).where(Revocation.id.in_(ids)).limit(1)).first() is not None


def refresh_token(session: Session, token: str) -> RefreshToken | None:
    """A refresh token, used or not."""
    return session.execute(select(RefreshToken).where(RefreshToken.digest == digest(token))).scalar_one_or_none()
