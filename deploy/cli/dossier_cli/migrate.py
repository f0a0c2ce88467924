"""Migrations of the parts' databases: `dossier migrate`, and what the embedded launcher does in their place."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import alembic.command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError

from dossier_cli import given, postgres
from dossier_cli.errors import Refused
from dossier_cli.home import part_folder
from dossier_common import migrations
from dossier_common.migrator import password_variable, url_variable


@dataclass(frozen=True)
class Move:
    """The revision of a database before and after; none before the first migration."""

    before: str | None
    after: str | None

    def __str__(self) -> str:
        return f"{self.after} (up to date)" if self.before == self.after else f"{self.before or 'empty'} → {self.after}"


def config(part: str) -> Config:
    """Alembic's configuration of a part. Raises Refused where its migrations are not found."""
    folder = part_folder(part)
    if not (folder / "alembic.ini").is_file():
        raise Refused(f"there are no migrations of {part} in {folder}: DOSSIER_HOME says where Dossier is installed")
    made = Config(folder / "alembic.ini")
    made.set_main_option("script_location", str(folder / "migrations").replace("%", "%%"))
    return made


def upgrade(part: str) -> Move:
    """Brings one database to the newest revision, in one transaction; waits for another run that is at it.

    Raises what Alembic and the driver raise; then nothing was changed.
    """
    settings = config(part)
    alembic.command.upgrade(settings, "head")
    return Move(*settings.attributes[migrations.MOVED])


def check(part: str) -> None:
    """Returns when the models of a part ask for no other database than its migrations make. Raises as `upgrade`."""
    alembic.command.check(config(part))


def all_of(parts: Sequence[str]) -> Iterator[tuple[str, Move]]:
    """Migrates these parts one after the other, after a look at all.

    Raises Refused: before anything is changed for a database that cannot be reached, or that a newer version has
    migrated; later for one that refuses, with those before it migrated.
    """
    for part in parts:
        asyncio.run(_look(part))
    for part in parts:
        try:
            yield part, upgrade(part)
        except (CommandError, DBAPIError, OSError, TimeoutError) as error:
            cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
            raise Refused(
                f"{part}: its database is as it was, since a migration failed: {postgres.reason(cause)}"
            ) from error


def named(part: str) -> tuple[URL, str]:
    """Address and password by which the schema of a part is changed. Raises Refused."""
    variable = url_variable(part)
    meaning = f"the database: postgresql://{part}_migrator@HOST:5432/dossier_{part}"
    url = postgres.address(given.variable(variable, meaning), variable)
    return url, given.secret_of(password_variable(part), f"the password of {url.username}")


async def _look(part: str) -> None:
    url, password = named(part)
    known = {script.revision for script in ScriptDirectory.from_config(config(part)).walk_revisions()}
    async with postgres.connected(url, password, url_variable(part), password_variable(part)) as connection:
        await connection.execute(f"SET ROLE {part}_owner")
        if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
            return
        for (revision,) in await connection.fetch("SELECT version_num FROM alembic_version"):
            if revision not in known:
                raise Refused(
                    f"the database of {part} is at {revision}, which this version does not know: it is newer; run the "
                    "version that migrated it, or a later one"
                )
