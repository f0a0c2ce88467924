"""Whether a process may work: its database answers, has the schema of this version, and agrees with it on the time.

Where a part keeps keys outside its database, they have to be those that it was filled with. A web process that may not
work answers 503 to all but `/healthz` and `/readyz`; a worker runs none of its jobs. Nothing ends for it: the database
is looked at again every second. Once a process works, a schema that becomes newer does not stop it (migrations leave
room for the version before them), nor does a database that goes away: each request meets that.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import asyncpg
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import JSONResponse

from dossier_common import telemetry
from dossier_common.clock import Clock, SystemClock
from dossier_common.database import Database, unreachable
from dossier_common.problems import Unavailable
from dossier_common.schema import Schema
from dossier_common.tls import reason_of

LOOK_EVERY: Final = 1.0
LOOK_EVERY_WHILE_OPEN: Final = 15.0
CLOCK_LIMIT: Final = timedelta(seconds=5)
HEALTH: Final = frozenset({"/healthz", "/readyz"})

_QUERY = text("SELECT array(SELECT version_num FROM alembic_version), clock_timestamp()")
_REFUSALS = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
)


class Status(StrEnum):
    """What `/readyz` says."""

    READY = "ready"
    DATABASE_AWAY = "database-away"
    DATABASE_REFUSES = "database-refuses"
    """Wrong password, role or database."""
    DATABASE_UNTRUSTED = "database-untrusted"
    """It shows no certificate that can be verified, or has no TLS."""
    SCHEMA_OLDER = "schema-older"
    SCHEMA_NEWER = "schema-newer"
    CLOCK_OFF = "clock-off"
    KEYS_MISSING = "keys-missing"
    """The folder of the keys is not the one that the database was filled with."""


Lacking = Callable[[AsyncConnection], Awaitable[str]]
"""What of a part's own keys is not there, by what its database says; empty when nothing is missing."""


class Standing:
    """One a process. `clock` is the machine's, whatever clock the part works with."""

    def __init__(self, part: str, clock: Clock | None = None, lacking: Lacking | None = None) -> None:
        self._part, self._clock, self._lacking = part, clock or SystemClock(), lacking
        self._stood = False
        self._said: tuple[Status, str] | None = None
        self._opened, self._closed = asyncio.Event(), asyncio.Event()
        self.open = False
        """Whether work is done. Looked at by every request, so a plain attribute."""

    def watch(self, database: Database, schema: Schema) -> None:
        """What is looked at from now on."""
        self._database, self._schema = database, schema

    async def run(self) -> None:
        """Looks until it is cancelled."""
        while True:
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001  # whatever it meets, the next look comes
                telemetry.log().error("standing-unknown", exc_info=error)
            await asyncio.sleep(LOOK_EVERY_WHILE_OPEN if self.open else LOOK_EVERY)

    async def look(self) -> Status:
        """Asks the database, and opens or closes. Raises what is no fault of the database."""
        begun = self._clock.now()
        try:
            async with self._database.engine.connect() as connection:
                revisions, at = (await connection.execute(_QUERY)).one()
                status, detail = self._judged(revisions, at, begun, self._clock.now())
                lacking = await self._lacking(connection) if self._lacking and status is Status.READY else ""
        except Exception as error:
            trouble = self._trouble(error)
            if trouble is None:
                raise
            status, detail = trouble
        else:
            if lacking:
                status, detail = Status.KEYS_MISSING, lacking
        if status is Status.READY:
            self._stood = True
        if status not in {Status.DATABASE_AWAY, Status.DATABASE_REFUSES, Status.DATABASE_UNTRUSTED}:
            self._set(open_=status is Status.READY)
        if self._said != (status, detail):
            self._said = (status, detail)
            log = telemetry.log().info if status is Status.READY else telemetry.log().error
            log("ready" if status is Status.READY else "not-ready", status=status.value, detail=detail)
        return status

    async def opened(self) -> None:
        """Returns when work may be done."""
        await self._opened.wait()

    async def closed(self) -> None:
        """Returns when work has to stop."""
        await self._closed.wait()

    def refusal(self) -> Unavailable:
        """The answer to a request while this is not open."""
        return Unavailable("This part does not work now; /readyz says why, and its log where to mend it.")

    def _set(self, *, open_: bool) -> None:
        self.open = open_
        now, before = (self._opened, self._closed) if open_ else (self._closed, self._opened)
        now.set()
        before.clear()

    def _judged(self, revisions: Iterable[str], at: datetime, begun: datetime, ended: datetime) -> tuple[Status, str]:
        schema, found = self._schema, set(revisions)
        named = ", ".join(sorted(found)) or "no revision"
        if found <= schema.older:
            return self._older(named)
        if found != {schema.head} and not self._stood:
            return Status.SCHEMA_NEWER, (
                f"the database is at {named}, which this version does not know: run the version that migrated it, or "
                "a later one"
            )
        if not begun - CLOCK_LIMIT <= at <= ended + CLOCK_LIMIT:
            ahead = (begun - at).total_seconds()
            return Status.CLOCK_OFF, (
                f"this machine's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the database's, "
                "more than 5 s: set both by the same time servers"
            )
        return Status.READY, f"the database is at {named}"

    def _older(self, named: str) -> tuple[Status, str]:
        return Status.SCHEMA_OLDER, (
            f"the database is at {named}, and this version needs {self._schema.head}: dossier migrate {self._part}"
        )

    def _trouble(self, error: Exception) -> tuple[Status, str] | None:
        """What a look failed by, and where to mend it; None for what is no fault of the database."""
        cause: Any = getattr(error.orig, "__cause__", None) if isinstance(error, DBAPIError) else error
        setting, kind = f"DOSSIER_{self._part.upper()}_DATABASE", type(cause).__name__
        reason = reason_of(cause)
        if type(cause) is ConnectionError and "SSL" in str(cause):  # the driver's answer to a server without TLS
            reason = "it has no TLS"
        if reason is not None:
            return Status.DATABASE_UNTRUSTED, f"the database is not trusted: {reason}: {setting}_URL, DOSSIER_CA_FILE"
        if isinstance(cause, asyncpg.UndefinedTableError):
            return self._older("no revision")
        if isinstance(cause, _REFUSALS):
            return Status.DATABASE_REFUSES, f"the database refuses ({kind}): {setting}_URL, {setting}_PASSWORD_FILE"
        if isinstance(cause, socket.gaierror):
            return Status.DATABASE_AWAY, f"the database's host name is not known: {setting}_URL"
        if unreachable(error) or isinstance(cause, asyncpg.PostgresError | OSError):
            return Status.DATABASE_AWAY, f"the database does not answer ({kind}): {setting}_URL"
        return None


async def readiness(standing: Standing) -> JSONResponse:
    """The answer of `/readyz`, after a look: 200, or 503 with what is waited for."""
    status = await standing.look()
    return JSONResponse({"status": status.value}, 200 if status is Status.READY else 503)
