"""SQL of the OAuth2 server. Synchronous, since Authlib's core is: called under `AsyncSession.run_sync`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import ColumnElement, bindparam, delete, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from dossier_common.ids import new_id
from dossier_gateway.directory.repository import live
from dossier_gateway.models import (
    Account,
    Assignment,
    AuthorizationCode,
    BrowserSession,
    Client,
    ClientAssertion,
    Credential,
    EnrolmentCode,
    FormerPassword,
    RefreshToken,
    Revocation,
    SignInStep,
)
from dossier_gateway.oauth.clients import RegisteredClient, digest


@dataclass(frozen=True, slots=True)
class User:
    """An account, as the OAuth2 server sees it."""

    id: UUID
    person: UUID
    username: str
    display_name: str
    state: str


@dataclass(frozen=True, slots=True)
class Password:
    """The credential of an account, as it was before an attempt."""

    hash: str
    changed_at: datetime
    failures: int
    locked_until: datetime | None
    must_change: bool


_CLIENT: Final = select(*Client.__table__.columns).where(Client.id == bindparam("client"), Client.state == "active")


def client(session: Session, client_id: str, now: datetime) -> RegisteredClient | None:
    """An active client, with the secrets that hold now."""
    row = session.execute(_CLIENT, {"client": client_id}).one_or_none()
    if row is None:
        return None
    return RegisteredClient(
        row.id,
        row.title,
        row.secret,
        tuple(row.grant_types),
        frozenset(row.scopes),
        tuple(row.redirect_uris),
        row.first_party,
        tuple(row.post_logout_redirect_uris),
        tuple(row.jwks["keys"]) if row.jwks else (),
        row.former_secret if row.former_until is not None and row.former_until > now else None,
        row.last_used_at,
        tuple(row.zones),
    )


def note_use(session: Session, used: RegisteredClient, now: datetime) -> None:
    """When an application last got a token. Kept to the minute, so that a busy one is written once in it."""
    at = _minute(now)
    if used.last_used_at is None or used.last_used_at < at:
        session.execute(update(Client).where(Client.id == used.id).values(last_used_at=at))


_USER = (Account.id, Account.person, Account.username, Account.display_name, Account.state)


def user(session: Session, account: UUID) -> User | None:
    """An account that may sign in."""
    row = session.execute(select(*_USER).where(Account.id == account, Account.state == "active")).one_or_none()
    return User(*row) if row else None


def user_to_act(session: Session, account: UUID) -> User | None:
    """An account that may sign in, and that nobody disables or moves until the transaction ends."""
    query = select(*_USER).where(Account.id == account, Account.state == "active").with_for_update(read=True)
    row = session.execute(query).one_or_none()
    return User(*row) if row else None


def user_named(session: Session, username: str) -> User | None:
    """The active account of this name."""
    row = session.execute(select(*_USER).where(Account.username == username, Account.state == "active")).one_or_none()
    return User(*row) if row else None


def roles(session: Session, account: UUID, now: datetime) -> list[str]:
    """The roles that an account holds anywhere, without those whose term is over."""
    held = select(Assignment.role).where(Assignment.account == account, live(now)).distinct()
    return list(session.execute(held).scalars())


def roles_of_person(session: Session, person: UUID, now: datetime) -> list[str]:
    """The roles that a person holds in all of his accounts, without those whose term is over."""
    held = select(Assignment.role).where(Assignment.person == person, live(now)).distinct()
    return list(session.execute(held).scalars())


def password_for_update(session: Session, account: UUID) -> Password | None:
    """The credential, locked until the transaction ends, so that attempts are counted one after another."""
    row = session.execute(
        select(
            Credential.hash,
            Credential.changed_at,
            Credential.failures,
            Credential.locked_until,
            Credential.must_change,
        )
        .where(Credential.account == account)
        .with_for_update()
    ).one_or_none()
    return Password(*row) if row else None


def count_attempt(session: Session, account: UUID, failures: int, locked_until: datetime | None) -> None:
    """Keeps how many attempts failed."""
    session.execute(
        update(Credential).where(Credential.account == account).values(failures=failures, locked_until=locked_until)
    )


def former_passwords(session: Session, account: UUID, count: int) -> list[str]:
    """The present and the latest former hashes, `count` of them."""
    present = session.execute(select(Credential.hash).where(Credential.account == account)).scalars()
    former = session.execute(
        select(FormerPassword.hash)
        .where(FormerPassword.account == account)
        .order_by(FormerPassword.id.desc())
        .limit(count)
    ).scalars()
    return [*present, *former][:count]


def set_password(session: Session, account: UUID, encoded: str, now: datetime) -> None:
    """Replaces the password; the old one becomes a former one."""
    old = session.execute(select(Credential.hash).where(Credential.account == account).with_for_update()).scalar()
    if old is not None:
        session.execute(insert(FormerPassword).values(id=new_id(), account=account, hash=old, replaced_at=now))
    values = {"hash": encoded, "changed_at": now, "failures": 0, "locked_until": None, "must_change": False}
    session.execute(
        upsert(Credential)
        .values(account=account, **values)
        .on_conflict_do_update(index_elements=["account"], set_=values)
    )


def enrolment_for_update(session: Session, code: str, now: datetime) -> User | None:
    """The account that a live enrolment code is for, locked."""
    row = session.execute(
        select(*_USER)
        .join(EnrolmentCode, EnrolmentCode.account == Account.id)
        .where(
            EnrolmentCode.digest == digest(code),
            EnrolmentCode.used_at.is_(None),
            EnrolmentCode.expires_at > now,
            Account.state != "disabled",
        )
        .with_for_update()
    ).one_or_none()
    return User(*row) if row else None


def activate(session: Session, account: UUID) -> None:
    """The person of the account has set his password."""
    session.execute(update(Account).where(Account.id == account).values(state="active"))


@dataclass(frozen=True, slots=True)
class Term:
    """How long a session lasts, and how long when nothing is asked for with it."""

    whole: timedelta
    idle: timedelta


def open_session(
    session: Session, account: UUID, secret: str, *, amr: Sequence[str], zone: str, now: datetime, term: Term
) -> UUID:
    """A signed-in browser."""
    found = new_id()
    session.execute(
        insert(BrowserSession).values(
            id=found,
            digest=digest(secret),
            account=account,
            amr=list(amr),
            zone=zone,
            signed_in_at=now,
            last_seen_at=_minute(now),
            idle_ends_at=now + term.idle,
            expires_at=now + term.whole,
        )
    )
    return found


def touch(session: Session, browser: UUID, now: datetime, idle: timedelta) -> None:
    """The session is in use. Kept to the minute, so that a busy one is written once in it."""
    session.execute(
        update(BrowserSession)
        .where(BrowserSession.id == browser, BrowserSession.last_seen_at < _minute(now))
        .values(last_seen_at=_minute(now), idle_ends_at=now + idle)
    )


def _minute(at: datetime) -> datetime:
    return at.replace(second=0, microsecond=0)


@dataclass(frozen=True, slots=True)
class SignedInUser:
    """A browser's session, and whose it is."""

    session: UUID
    user: User
    signed_in_at: datetime
    amr: tuple[str, ...] = ()


def _live(now: datetime) -> tuple[ColumnElement[bool], ...]:
    return (
        BrowserSession.ended_at.is_(None),
        BrowserSession.expires_at > now,
        BrowserSession.idle_ends_at > now,
    )


def signed_in(session: Session, secret: str, now: datetime) -> SignedInUser | None:
    """The live session of this cookie."""
    row = session.execute(
        select(BrowserSession.id, BrowserSession.signed_in_at, BrowserSession.amr, *_USER)
        .join(Account, Account.id == BrowserSession.account)
        .where(BrowserSession.digest == digest(secret), *_live(now), Account.state == "active")
    ).one_or_none()
    return SignedInUser(row[0], User(*row[3:]), row[1], tuple(row[2])) if row else None


def session_signed_in_at(session: Session, browser: UUID, now: datetime) -> datetime | None:
    """When the person of a session signed in; None when the session is over, or was left alone too long."""
    return session.execute(
        select(BrowserSession.signed_in_at).where(BrowserSession.id == browser, *_live(now))
    ).scalar_one_or_none()


def session_amr(session: Session, browser: UUID) -> tuple[str, ...]:
    """How the person of a session signed in (RFC 8176)."""
    return tuple(session.execute(select(BrowserSession.amr).where(BrowserSession.id == browser)).scalar_one())


def add_code(session: Session, code: str, /, **values: object) -> None:
    """Keeps a code, by its digest."""
    session.execute(insert(AuthorizationCode).values(digest=digest(code), **values))


def code_for_update(session: Session, code: str) -> AuthorizationCode | None:
    """The code, used or not, locked: of two who present it, one is second."""
    found = session.execute(
        select(AuthorizationCode).where(AuthorizationCode.digest == digest(code)).with_for_update()
    ).scalar_one_or_none()
    if found is not None:
        session.expunge(found)
    return found


def use_code(session: Session, code: bytes, now: datetime) -> None:
    """The code is used up."""
    session.execute(update(AuthorizationCode).where(AuthorizationCode.digest == code).values(used_at=now))


def add_refresh_token(session: Session, token: str, /, **values: object) -> None:
    """Keeps a refresh token, by its digest."""
    session.execute(insert(RefreshToken).values(digest=digest(token), **values))


def refresh_token_for_update(session: Session, token: str) -> RefreshToken | None:
    """The refresh token, used or not, locked."""
    found = session.execute(
        select(RefreshToken).where(RefreshToken.digest == digest(token)).with_for_update()
    ).scalar_one_or_none()
    if found is not None:
        session.expunge(found)
    return found


def use_refresh_token(session: Session, token: bytes, now: datetime) -> None:
    """The refresh token is used up."""
    session.execute(update(RefreshToken).where(RefreshToken.digest == token).values(used_at=now))


def revoke(session: Session, revoked: UUID, until: datetime) -> None:
    """A token or a family is refused from now on."""
    session.execute(upsert(Revocation).values(id=revoked, until=until).on_conflict_do_nothing())


def is_revoked(session: Session, family: UUID) -> bool:
    """Whether a family was revoked."""
    return session.execute(select(Revocation.id).where(Revocation.id == family)).first() is not None


def use_assertion(session: Session, client_id: str, jti: str, until: datetime) -> bool:
    """Whether this assertion comes for the first time."""
    used = session.execute(
        upsert(ClientAssertion)
        .values(client=client_id, jti=jti, expires_at=until)
        .on_conflict_do_nothing()
        .returning(ClientAssertion.jti)
    )
    return used.first() is not None


def forget(session: Session, now: datetime) -> None:
    """Removes what is over: a day after its end, so that reuse is still recognised as such."""
    past = now - timedelta(days=1)
    session.execute(delete(AuthorizationCode).where(AuthorizationCode.expires_at < past))
    session.execute(delete(RefreshToken).where(RefreshToken.expires_at < past))
    session.execute(delete(Revocation).where(Revocation.until < past))
    session.execute(delete(ClientAssertion).where(ClientAssertion.expires_at < past))
    session.execute(delete(SignInStep).where(SignInStep.expires_at < now))
    in_use = select(RefreshToken.session).union(select(AuthorizationCode.session))
    session.execute(
        delete(BrowserSession).where(
            or_(BrowserSession.expires_at < past, BrowserSession.idle_ends_at < past, BrowserSession.ended_at < past),
            BrowserSession.id.not_in(in_use),
        )
    )
