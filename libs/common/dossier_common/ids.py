"""Identifiers: UUID version 7 (RFC 9562), so that they sort by the time of their making."""

from uuid import UUID

import uuid_utils


def new_id() -> UUID:
    """A fresh UUIDv7; monotonic within this process."""
    return UUID(int=uuid_utils.uuid7().int)
