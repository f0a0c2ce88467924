"""What counts as a database that is away."""

import asyncpg
import pytest

from dossier_common.database import unreachable


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
        asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress"),
        asyncpg.DiskFullError("could not extend file"),
        asyncpg.LockNotAvailableError("canceling statement due to lock timeout"),
        asyncpg.IdleInTransactionSessionTimeoutError("terminating connection due to idle-in-transaction timeout"),
        ConnectionRefusedError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_connection_that_ends_under_a_statement_is_the_database_s_fault(error: Exception) -> None:
    assert unreachable(error)


def test_a_value_that_the_driver_cannot_send_is_the_request_s_fault() -> None:
    assert not unreachable(asyncpg.DataError("invalid input for query argument"))
