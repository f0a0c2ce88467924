"""PostgreSQL hangs up on a client that speaks of HTTP in its handshake (ALPN), which httpx makes its context do."""

import pytest
from sqlalchemy import make_url

from dossier_common.tls import Tls


@pytest.mark.parametrize("mode", ["verify-full", "require"])
def test_a_database_is_never_given_the_context_that_http_is_spoken_with(mode: str) -> None:
    tls = Tls()
    assert tls.database(make_url(f"postgresql://app@db/dossier?sslmode={mode}")) is not tls.client
