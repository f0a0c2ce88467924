"""A part's own database: engine, sessions, and the two dependencies that endpoints take.

One request, one transaction: `Write` commits before the answer is sent (`scope="function"`), so that a failed
commit is a 503 and never a 200; an exception rolls back.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, cast

import asyncpg
from fastapi import Depends, Request
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from dossier_common import idempotency
from dossier_common.settings import PartSettings

UNREACHABLE = (
    OperationalError,
    InterfaceError,
    PoolTimeoutError,
    ConnectionError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.OperatorInterventionError,
    asyncpg.TransactionRollbackError,
)
"""What a database raises that is away, full or restarting, or that gave way to another; answered with 503."""


def unreachable(error: BaseException) -> bool:
    """Whether the database, rather than the request, is at fault."""
    if isinstance(error, UNREACHABLE):
        return not isinstance(error, ValueError)  # the driver's word for an argument that is no such value
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or isinstance(getattr(error.orig, "__cause__", None), UNREACHABLE)
    return False


class Database:
    """One engine a process. Opened by the composition root, closed at shutdown."""

    def __init__(self, settings: PartSettings) -> None:
        self._url = make_url(settings.database_url)
        self._password = settings.database_password
        self._name = type(settings).__module__.split(".", maxsplit=1)[0]
        self.engine: AsyncEngine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self.connect,
            pool_size=settings.database_pool,
            max_overflow=0,
            pool_timeout=10,
            pool_pre_ping=True,
            hide_parameters=True,
        )
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False)

    def session(self) -> AsyncSession:
        """A session without a transaction; whoever takes it begins, commits and closes."""
        return self._sessions()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """A session in a transaction that commits at the end."""
        async with self._sessions.begin() as session:
            yield session

    async def connect(self) -> asyncpg.Connection:
        """A connection of its own, outside the pool: for advisory locks, LISTEN, and the group commit.

        Raises ConnectionError when nobody listens: the socket's file goes with the server.
        """
        query = dict(self._url.query)
        try:
            return await asyncpg.connect(
                user=self._url.username,
                password=self._password,
                database=self._url.database,
                host=cast("str", query.get("host") or self._url.host),
                port=int(cast("str", query.get("port") or self._url.port or 5432)),
                server_settings={"application_name": self._name},
                command_timeout=30,
                timeout=5,
            )
        except FileNotFoundError as error:
            raise ConnectionRefusedError("the database's socket is gone") from error

    async def check(self) -> None:
        """Raises when the database does not answer."""
        async with self.engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Closes all connections."""
        await self.engine.dispose()


def database_of(request: Request) -> Database:
    """The process's database."""
    return cast("Database", request.app.state.database)


async def write_session(request: Request) -> AsyncIterator[AsyncSession]:
    """A transaction that commits before the answer is sent. A known Idempotency-Key is replayed from here."""
    async with database_of(request).transaction() as session:
        await idempotency.claim(session, request)
        yield session


async def read_session(request: Request) -> AsyncIterator[AsyncSession]:
    """A session for reading; nothing that it does is kept."""
    async with database_of(request).session() as session:
        yield session


Write = Annotated[AsyncSession, Depends(write_session, scope="function")]
Read = Annotated[AsyncSession, Depends(read_session, scope="function")]
