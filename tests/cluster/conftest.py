"""One cluster for the tests of this folder, and the operator's page run on it from its first block to the ceremony."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster import cluster, programs
from tests.cluster.page import Installed, installed


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first of them may build Kubernetes and the image: many minutes, where nothing is cached."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(2700))


@pytest.fixture(scope="module")
def page() -> Iterator[Installed]:
    """The page's commands, done; of the one module here, since a folder that is no package would keep it to the end."""
    if reason := programs.why_not():
        pytest.skip(reason)
    with cluster.running() as kubernetes, installed(kubernetes) as done:
        yield done
