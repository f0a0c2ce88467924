"""Where a page of the directory starts, read from its cursor."""

from uuid import UUID

from dossier_common.paging import Page


def after_id(page: Page) -> UUID | None:
    """The id that the page comes after. Raises Malformed."""
    return page.after_id()
