"""A part's own database: engine, sessions, and the three dependencies that endpoints take.

One request, one transaction: `Write` commits before the answer is sent (`scope="function"`), so that a failed
commit is a 503 and never a 200; an exception rolls back. `Recorded` is the same for a reading that leaves an event.
Both are refused while too many events wait for their receipt (see backlog), `Read` never is.
"""

import asyncio
import select
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, cast

import asyncpg
from fastapi import Depends, Request
from sqlalchemy import event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, DisconnectionError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from dossier_common import auth, idempotency
from dossier_common.problems import AuditUnavailable
from dossier_common.settings import PartSettings

if TYPE_CHECKING:
    from dossier_common.backlog import Backlog

UNREACHABLE = (
    OperationalError,
    InterfaceError,
    PoolTimeoutError,
    ConnectionError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the driver's state when the connection ends in the midst of a statement
    asyncpg.InsufficientResourcesError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.OperatorInterventionError,
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,  # the role's lock_timeout
    asyncpg.IdleInTransactionSessionTimeoutError,
)
"""What a database raises that is away, full, busy or restarting, or that gave way to another; answered with 503."""
IDLE_SECONDS = 10.0
"""A connection that was not used for so long is asked whether it still lives."""
READINGS, WRITES = 1, 10
"""How many times the backlog's limits stop a reading that is recorded, and a change."""


def unreachable(error: BaseException) -> bool:
    """Whether the database, rather than the request, is at fault."""
    if isinstance(error, ssl.SSLError | socket.gaierror):
        return True
    if isinstance(error, UNREACHABLE):
        return not isinstance(error, ValueError)  # the driver's word for an argument that is no such value
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or isinstance(getattr(error.orig, "__cause__", None), UNREACHABLE)
    return False


class Connection(asyncpg.Connection):
    """The driver's connection, that can also be asked whether its end was announced."""

    __slots__ = ()

    def has_news(self) -> bool:
        """Whether something has come that the driver has not read yet: the end of the connection, as a rule.

        A glance at the socket, without waiting; meant for a connection on which nothing was asked.
        """
        transport: asyncio.Transport = self._transport  # type: ignore[attr-defined]  # the stubs leave it out
        number: int = transport.get_extra_info("socket").fileno()
        if number < 0:  # closed on this side
            return True
        glance = select.poll()
        glance.register(number, select.POLLIN)
        return bool(glance.poll(0))


class Database:
    """One engine a process. Opened by the composition root, closed at shutdown."""

    def __init__(self, settings: PartSettings) -> None:
        self._url = make_url(settings.database_url)
        self._password = settings.database_password
        self._tls = settings.tls.database(self._url)
        self._name = type(settings).__module__.split(".", maxsplit=1)[0]
        self.engine: AsyncEngine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self.connect,
            pool_size=settings.database_pool,
            max_overflow=0,
            pool_timeout=10,
            hide_parameters=True,
        )
        _watch_idle(self.engine)
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
                ssl=self._tls,
                server_settings={"application_name": self._name},
                command_timeout=30,
                timeout=5,
                connection_class=Connection,
            )
        except FileNotFoundError as error:
            raise ConnectionRefusedError("the database's socket is gone") from error

    async def close(self) -> None:
        """Closes all connections."""
        await self.engine.dispose()


def _watch_idle(engine: AsyncEngine) -> None:
    """Keeps connections that have ended from whoever takes one of the pool, who gets a new one in their place.

    Most need no question: an end that was announced is seen at once. Asked is only a connection on which something has
    come unasked, and one that nobody has used for a while: what lies between may have forgotten it.
    """
    dialect = engine.dialect

    def returned(_connection: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
        record.info["returned"] = time.monotonic()

    def taken(connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: PoolProxiedConnection) -> None:
        driver, now = cast("Connection", record.driver_connection), time.monotonic()
        if driver.is_closed():
            raise DisconnectionError("it was closed while it waited in the pool")
        if now - record.info.get("returned", now) > IDLE_SECONDS or driver.has_news():
            try:
                dialect.do_ping(connection)
            except (dialect.loaded_dbapi.Error, OSError, TimeoutError) as error:
                raise DisconnectionError("it no longer answers") from error

    event.listen(engine.sync_engine, "checkin", returned)
    event.listen(engine.sync_engine, "checkout", taken)


def database_of(request: Request) -> Database:
    """The process's database."""
    return cast("Database", request.app.state.database)


def backlog_of(request: Request) -> "Backlog":
    """What is known of the part's backlog."""
    return cast("Backlog", request.app.state.backlog)


async def ensure_recordable(request: Request, times: int) -> None:
    """Raises AuditUnavailable when the backlog is over so many times its limits.

    A caller who may not do this at all is refused all the same, and that is recorded.
    """
    try:
        backlog_of(request).ensure(times)
    except AuditUnavailable:
        await auth.ensure_declared(request)
        raise


async def write_session(request: Request) -> AsyncIterator[AsyncSession]:
    """A transaction that commits before the answer is sent. A known Idempotency-Key is replayed from here."""
    await ensure_recordable(request, WRITES)
    async with database_of(request).transaction() as session:
        await idempotency.claim(session, request)
        yield session


@asynccontextmanager
async def recorded(request: Request) -> AsyncIterator[AsyncSession]:
    """The transaction of a reading that is recorded, for an endpoint that opens content after its commit."""
    await ensure_recordable(request, READINGS)
    async with database_of(request).transaction() as session:
        yield session


async def recorded_session(request: Request) -> AsyncIterator[AsyncSession]:
    """A transaction that commits before the answer is sent: the reading is on record, or there is no answer."""
    async with recorded(request) as session:
        yield session


async def read_session(request: Request) -> AsyncIterator[AsyncSession]:
    """A session for reading; nothing that it does is kept."""
    async with database_of(request).session() as session:
        yield session


Write = Annotated[AsyncSession, Depends(write_session, scope="function")]
Recorded = Annotated[AsyncSession, Depends(recorded_session, scope="function")]
Read = Annotated[AsyncSession, Depends(read_session, scope="function")]
