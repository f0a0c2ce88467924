"""PostgreSQL as an operator's command reaches it, and what it says when it does not, in one line."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from dossier_cli import given
from dossier_cli.errors import Refused


def address(text: str, variable: str) -> URL:
    """A postgresql:// address. Raises Refused for what is none, and for one with a password in it."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        raise Refused(f"{variable} is no address: postgresql://USER@HOST:5432/DATABASE?sslmode=verify-full") from error
    if url.drivername != "postgresql" or not url.username or not url.database:
        raise Refused(f"{variable} is not postgresql://USER@HOST:5432/DATABASE?sslmode=verify-full")
    if url.password:
        raise Refused(f"{variable} has a password in it: passwords come from files")
    return url


@asynccontextmanager
async def connected(
    url: URL, password: str, variable: str, password_variable: str
) -> AsyncIterator[asyncpg.Connection]:
    """A connection, by TLS as `sslmode` and DOSSIER_CA_FILE say.

    Raises Refused when there is none to be had, with the variable to look at (of the address, or of the password's
    file), and for what PostgreSQL refuses on it.
    """
    where = place(url)
    try:
        connection = await asyncpg.connect(
            url.difference_update_query(["sslmode"]).render_as_string(),
            password=password,
            ssl=given.tls().database(url),
            server_settings={"application_name": "dossier"},
            timeout=10,
        )
    except asyncpg.InvalidPasswordError as error:
        raise Refused(
            f"PostgreSQL at {where} refuses the password of {url.username}: see {password_variable}"
        ) from error
    except asyncpg.InvalidAuthorizationSpecificationError as error:  # a wrong password is one of these
        raise Refused(f"PostgreSQL at {where} refuses {url.username} (see {variable}): {reason(error)}") from error
    except asyncpg.InvalidCatalogNameError as error:
        raise Refused(f"PostgreSQL at {where} has no database {url.database}: `dossier roles` makes it") from error
    except ssl.SSLError as error:
        raise Refused(f"PostgreSQL at {where} has no TLS that can be trusted ({error}): see DOSSIER_CA_FILE") from error
    except ValueError as error:
        raise Refused(f"{variable}: {reason(error)}") from error
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise Refused(f"PostgreSQL at {where} cannot be reached ({reason(error)}): see {variable}") from error
    try:
        yield connection
    except asyncpg.InsufficientPrivilegeError as error:
        raise Refused(f"PostgreSQL at {where} does not let {url.username} do this: {error}") from error
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise Refused(f"PostgreSQL at {where}: {reason(error)}") from error
    finally:
        await connection.close(timeout=5)


def place(url: URL) -> str:
    """Host and port of an address, or the folder of its socket."""
    host = url.query.get("host") or url.host or "localhost"
    return f"{host}:{url.query.get('port') or url.port or 5432}"


def reason(error: BaseException) -> str:
    """An error in one line, without the pieces that no reader needs."""
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(said.split())
