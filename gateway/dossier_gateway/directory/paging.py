"""Where a page of the directory starts, read from its cursor."""

from uuid import UUID

from dossier_common.paging import Page
from dossier_common.problems import Malformed


def after_name(page: Page) -> str | None:
    """The name that the page comes after. Raises Malformed."""
    if page.after is None:
        return None
    if len(page.after) != 1:
        raise Malformed("The cursor is none that was handed out.")
    return str(page.after[0])[:64]


def after_id(page: Page) -> UUID | None:
    """The id that the page comes after. Raises Malformed."""
    key = after_name(page)
    try:
        return UUID(key) if key else None
    except ValueError as error:
        raise Malformed("The cursor is none that was handed out.") from error
