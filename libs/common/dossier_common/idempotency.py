"""Idempotency-Key: the same key and body get the same answer for 24 hours; another body is a conflict.

The key is claimed in the transaction of the request itself, so that two at once do the work once. Of the body a
keyed digest is kept, of the answer its sealed bytes (invariant 7); the secret is derived from the part's own key.
"""

import hashlib
import hmac
import secrets
from base64 import b64decode, b64encode
from datetime import datetime, timedelta

import orjson
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from fastapi import Request, Response
from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from dossier_common import auth, tables
from dossier_common.identity import Subject
from dossier_common.problems import IdempotencyConflict, Malformed, Unavailable

KEEP = timedelta(hours=24)
MAX_KEY = 200
_NOT_KEPT = frozenset({"content-length", "set-cookie"})


class Replay(Exception):
    """Carries the kept answer out of the dependency."""

    def __init__(self, response: Response, subject: Subject) -> None:
        super().__init__("replay")
        self.response, self.subject = response, subject


class Claim:
    """A key that this request holds until its answer is kept."""

    def __init__(self, session: AsyncSession, secret: bytes, caller: str, key: str) -> None:
        self._session, self._secret, self._caller, self._key = session, secret, caller, key

    async def keep(self, response: Response) -> None:
        """Keeps the answer, in the same transaction as the work."""
        kept = {
            "headers": {name: value for name, value in response.headers.items() if name not in _NOT_KEPT},
            "body": b64encode(bytes(response.body)).decode(),
        }
        await self._session.execute(
            update(tables.idempotency_keys)
            .where(tables.idempotency_keys.c.caller == self._caller, tables.idempotency_keys.c.key == self._key)
            .values(status=response.status_code, answer=_seal(self._secret, orjson.dumps(kept)))
        )


async def claim(session: AsyncSession, request: Request) -> None:
    """Claims the request's Idempotency-Key, if it has one. Raises Replay or IdempotencyConflict."""
    key = request.headers.get("idempotency-key")
    if key is None or request.method != "POST":
        return
    if not 1 <= len(key) <= MAX_KEY or not key.isascii() or not key.isprintable():
        raise Malformed(f"An Idempotency-Key has 1 to {MAX_KEY} printable ASCII characters.")
    subject = await auth.identify(request)
    secret: bytes = request.app.state.idempotency_secret
    parts = [request.url.path.encode(), request.url.query.encode(), await request.body()]
    digest = hmac.new(secret, b"\0".join(hashlib.sha256(part).digest() for part in parts), "sha256").digest()
    table = tables.idempotency_keys
    now = request.app.state.clock.now()
    await session.execute(
        delete(table).where(table.c.caller == subject.known_as, table.c.key == key, table.c.created_at < now - KEEP)
    )
    claimed = await session.execute(
        insert(table)
        .values(caller=subject.known_as, key=key, digest=digest, created_at=now)
        .on_conflict_do_nothing()
        .returning(table.c.key)
    )
    if claimed.first() is None:
        found = (
            await session.execute(
                select(table.c.digest, table.c.status, table.c.answer).where(
                    table.c.caller == subject.known_as, table.c.key == key
                )
            )
        ).one_or_none()
        if found is None or found.answer is None:
            raise Unavailable("The first request with this key is not answered yet.")
        if not hmac.compare_digest(found.digest, digest):
            raise IdempotencyConflict("The key was used for another path or body.")
        kept = orjson.loads(_open(secret, found.answer))
        headers = kept["headers"] | {"idempotent-replayed": "true"}
        raise Replay(Response(b64decode(kept["body"]), found.status, headers), subject)
    request.state.idempotency = Claim(session, secret, subject.known_as, key)


async def forget(session: AsyncSession, before: datetime) -> None:
    """Deletes keys that were claimed earlier than `before`."""
    await session.execute(delete(tables.idempotency_keys).where(tables.idempotency_keys.c.created_at < before))


def _seal(secret: bytes, plain: bytes) -> bytes:
    nonce = secrets.token_bytes(12)
    return nonce + AESGCM(secret).encrypt(nonce, plain, b"idempotency")


def _open(secret: bytes, sealed: bytes) -> bytes:
    return AESGCM(secret).decrypt(sealed[:12], sealed[12:], b"idempotency")
