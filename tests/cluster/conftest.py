"""One cluster for the tests of this folder, and the operator's page run on it from its first block to the ceremony."""

from collections.abc import Iterator

import pytest
from tests.cluster import cluster, programs
from tests.cluster.page import Installed, installed


@pytest.fixture(scope="module")
def page() -> Iterator[Installed]:
    """The page's commands, done; of the one module here, since a folder that is no package would keep it to the end."""
    if reason := programs.why_not():
        pytest.skip(reason)
    with cluster.running() as kubernetes, installed(kubernetes) as done:
        yield done
