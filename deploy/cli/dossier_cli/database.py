"""A part's own database, as operators' commands use it."""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
from sqlalchemy.exc import SQLAlchemyError

from dossier_cli.errors import Refused
from dossier_cli.postgres import reason
from dossier_common.database import unreachable
from dossier_common.policy import PolicyError
from dossier_common.problems import Problem


@contextmanager
def said_in_one_line(part: str, setting: str = "DATABASE") -> Iterator[None]:
    """Raises Refused for what a database, a file or a rule refuses; names the settings `DOSSIER_<PART>_<setting>_…`."""
    try:
        yield
    except Problem as problem:
        raise Refused(reason(problem)) from problem
    except PolicyError as error:
        raise Refused(f"the policy cannot be used: {reason(error)}") from error
    except (SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        cause = getattr(error, "orig", None) or error
        found = "cannot be reached" if unreachable(error) else "refuses this"
        named = f"DOSSIER_{part.upper()}_{setting}_URL and …_PASSWORD_FILE"
        raise Refused(f"the database of {part} {found} ({reason(cause)}): see {named}") from error
