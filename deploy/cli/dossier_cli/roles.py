"""Databases and roles of the parts, by PostgreSQL's superuser: `dossier roles`.

  <part>_owner     cannot log in; owns the schema and everything in it
  <part>_migrator  may become the owner by SET ROLE, and inherits nothing: the migration job alone uses it
  <part>_app       the service; has only what migrations grant it, table by table

It can be repeated: what is as it should be stays, and a password whose file changed is set. The server sees verifiers
alone (see scram). The texts below are all that is ever sent, and `script` gives them to a database administrator.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final

import asyncpg

from dossier_cli import scram

LOGINS: Final = ("migrator", "app")
LOCK: Final = 0x646F7373
"""Advisory lock of the server's database: of two runs at once, one is second."""
Password = Callable[[str, str], str]
"""From part and role (one of LOGINS) to the password."""
Connect = Callable[[str | None], AbstractAsyncContextManager[asyncpg.Connection]]
"""Opens a superuser's connection to the database of this name, or to the server's own."""

SERVER: Final = """\
-- Nobody connects to databases that are not his.
REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC;
"""
ROLES: Final = """\
DO $$
BEGIN
  IF to_regrole('{part}_owner') IS NULL THEN CREATE ROLE {part}_owner; END IF;
  IF to_regrole('{part}_migrator') IS NULL THEN CREATE ROLE {part}_migrator; END IF;
  IF to_regrole('{part}_app') IS NULL THEN CREATE ROLE {part}_app; END IF;
END
$$;
ALTER ROLE {part}_owner NOLOGIN NOINHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
ALTER ROLE {part}_migrator LOGIN NOINHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
ALTER ROLE {part}_app LOGIN NOINHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
GRANT {part}_owner TO {part}_migrator WITH INHERIT FALSE, SET TRUE, ADMIN FALSE;
"""
PASSWORD: Final = "ALTER ROLE {part}_{role} PASSWORD '{verifier}';\n"  # noqa: S105  # what sets it
CREATE: Final = "CREATE DATABASE dossier_{part} TEMPLATE template0"
DATABASE: Final = """\
REVOKE ALL ON DATABASE dossier_{part} FROM PUBLIC;
GRANT CONNECT ON DATABASE dossier_{part} TO {part}_migrator, {part}_app;
-- A session that holds a transaction open and says nothing holds its locks too.
ALTER ROLE {part}_app IN DATABASE dossier_{part} SET search_path = public;
ALTER ROLE {part}_app IN DATABASE dossier_{part} SET idle_in_transaction_session_timeout = '60s';
ALTER ROLE {part}_app IN DATABASE dossier_{part} SET lock_timeout = '10s';
ALTER ROLE {part}_migrator IN DATABASE dossier_{part} SET search_path = public;
ALTER ROLE {part}_migrator IN DATABASE dossier_{part} SET lock_timeout = '5s';
"""
SCHEMA: Final = """\
ALTER SCHEMA public OWNER TO {part}_owner;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO {part}_app;
-- Functions are the one kind of object that everyone may use when it is new.
ALTER DEFAULT PRIVILEGES FOR ROLE {part}_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
"""
TEXTS: Final = (SERVER, ROLES, PASSWORD, CREATE, DATABASE, SCHEMA)


@dataclass(frozen=True)
class Applied:
    """What one run had to make or set."""

    databases: tuple[str, ...]
    passwords: tuple[str, ...]
    """Roles whose password was set."""

    def __bool__(self) -> bool:
        return bool(self.databases or self.passwords)


async def apply(connect: Connect, parts: Sequence[str], password: Password) -> Applied:
    """Databases and roles of these parts as they should be.

    Raises what `connect` and asyncpg raise, and ValueError for a password that is no plain ASCII.
    """
    passwords = {f"{part}_{role}": (part, role, password(part, role)) for part in parts for role in LOGINS}
    for _, _, secret in passwords.values():
        scram.ensure_plain(secret)
    async with connect(None) as server:
        await server.execute(f"SELECT pg_advisory_lock({LOCK})")  # it ends with the connection
        known = {row[0]: row[1] for row in await server.fetch("SELECT rolname, rolpassword FROM pg_authid")}
        there = {row[0] for row in await server.fetch("SELECT datname FROM pg_database")}
        stale = {
            name: (part, role, secret)
            for name, (part, role, secret) in passwords.items()
            if not scram.holds(secret, known.get(name))
        }
        verifiers = {(part, role): scram.verifier(secret) for part, role, secret in stale.values()}
        await server.execute(SERVER + "".join(_roles(part, verifiers) for part in parts))
        missing = [part for part in parts if f"dossier_{part}" not in there]
        for part in missing:
            await server.execute(CREATE.format(part=part))
        await server.execute("".join(DATABASE.format(part=part) for part in parts))
        await asyncio.gather(*(_schema(connect, part) for part in parts))
    return Applied(tuple(f"dossier_{part}" for part in missing), tuple(stale))


def script(parts: Iterable[str], password: Password) -> str:
    """The same for psql, for whoever reads what he runs; holds verifiers, no password. Raises ValueError as `apply`."""
    pieces = ["\\set ON_ERROR_STOP on\n\\connect postgres\n", SERVER]
    for part in parts:
        verifiers = {(part, role): scram.verifier(password(part, role)) for role in LOGINS}
        exists = f"SELECT FROM pg_database WHERE datname = 'dossier_{part}'"
        pieces += [
            f"\n-- {part}\n\n\\connect postgres\n",
            _roles(part, verifiers),
            f"SELECT '{CREATE.format(part=part)}' WHERE NOT EXISTS ({exists})\n\\gexec\n",
            DATABASE.format(part=part),
            f"\n\\connect dossier_{part}\n",
            SCHEMA.format(part=part),
        ]
    return "".join(pieces)


def _roles(part: str, verifiers: Mapping[tuple[str, str], str]) -> str:
    set_passwords = [
        PASSWORD.format(part=part, role=role, verifier=verifiers[part, role])
        for role in LOGINS
        if (part, role) in verifiers
    ]
    return ROLES.format(part=part) + "".join(set_passwords)


async def _schema(connect: Connect, part: str) -> None:
    async with connect(f"dossier_{part}") as database:
        await database.execute(SCHEMA.format(part=part))
