"""The connection of the operator's steps that change a part's schema: migrations, partitions, erasures."""

import os
from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from dossier_common.tls import Tls


def url_variable(part: str) -> str:
    """Variable with the address of the part's database for `<part>_migrator`: postgresql://, without a password."""
    return f"DOSSIER_{part.upper()}_MIGRATOR_URL"


def password_variable(part: str) -> str:
    """Variable with the name of the file that has the password of `<part>_migrator`."""
    return f"DOSSIER_{part.upper()}_MIGRATOR_PASSWORD_FILE"


def engine(part: str) -> AsyncEngine:
    """Connections as `<part>_migrator`, which may become the owner by SET ROLE; each is closed after its use.

    TLS is as `sslmode` and DOSSIER_CA_FILE say. Raises KeyError where the environment names no address or password,
    OSError and ValueError for a file or an address that cannot be used.
    """
    url = make_url(os.environ[url_variable(part)])
    password = Path(os.environ[password_variable(part)]).read_text().strip()
    ca = os.environ.get("DOSSIER_CA_FILE")
    return create_async_engine(
        url.set(drivername="postgresql+asyncpg", password=password).difference_update_query(["sslmode"]),
        poolclass=NullPool,
        connect_args={"ssl": Tls(ca=Path(ca) if ca else None).database(url), "timeout": 10},
    )
