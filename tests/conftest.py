"""What tests of all parts stand on: real servers, with the real roles and permissions."""

from collections.abc import Iterator

import pytest

from dossier_local import cluster as servers
from dossier_local.cluster import Cluster, temporary_state
from dossier_local.launched import RunningStack, launched


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in this hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker of xdist runs all tests of the full stack, so that it is started once."""
    for item in items:
        if "stack" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("stack"))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """PostgreSQL and NATS with databases, roles, migrations and streams; no part runs."""
    with servers.temporary() as running:
        yield running


@pytest.fixture(scope="session")
def stack() -> Iterator[RunningStack]:
    """All parts, with the demo organisation; stopped in order at the end."""
    with temporary_state() as state, launched(state) as running:
        yield running
