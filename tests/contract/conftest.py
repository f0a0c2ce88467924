"""What the tests of the contract stand on."""

from collections.abc import Iterator

import pytest
from tests.conftest import RunningStack

from dossier_local.cluster import temporary_state
from dossier_local.launched import launched

LIMITS = ("CALLS_PER_SECOND", "CALLS_AT_ONCE", "SIGN_INS_PER_SECOND", "SIGN_INS_AT_ONCE")
TOKEN_MINUTES = 60
"""Tokens are got before the first call, and have to do for all."""


@pytest.fixture(scope="module")
def own_stack() -> Iterator[RunningStack]:
    """Not that of the other tests, which random calls would disturb, and whose rates would not suffice."""
    with pytest.MonkeyPatch.context() as patch, temporary_state() as state:
        for name in LIMITS:
            patch.setenv(f"DOSSIER_GATEWAY_{name}", "100000")
        patch.setenv("DOSSIER_GATEWAY_ACCESS_TOKEN_MINUTES", str(TOKEN_MINUTES))
        with launched(state) as running:
            yield running
