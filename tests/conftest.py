"""What tests of all parts stand on: real servers, with the real roles and permissions."""

import os
import random
from collections.abc import Iterator
from pathlib import PurePosixPath

import pytest
from hypothesis import HealthCheck, settings
from tests.support.parts import without_receipts
from xdist.remote import Producer  # type: ignore[import-untyped]  # xdist brings no types
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from dossier_local import cluster as servers
from dossier_local.cluster import Cluster, temporary_state
from dossier_local.launched import RunningStack, launched

__all__ = ["RunningStack"]


# How long a machine takes is no verdict; in CI the same examples are tried each time.
settings.register_profile(
    "dossier",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
)
settings.load_profile("dossier")

STACK_FOLDERS = frozenset({"docs", "flows", "peers"})
LONG_FOLDERS = frozenset({"cluster", "compose", "contract", "faults"})


class ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """Each file goes to one worker, and all that use the full stack go to the same, so that it is started once."""

    def _split_scope(self, nodeid: str) -> str:
        path = PurePosixPath(nodeid.partition("::")[0])
        if "compose" in path.parts:
            return "compose"  # one deployment for all of them
        return "stack" if path.stem.endswith("_stack") or STACK_FOLDERS.intersection(path.parts) else str(path)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long and is one piece begins first, so that no worker waits for another at the end.

    With DOSSIER_TEST_ORDER=<number> files come in an order of that number: a verdict may depend on none.
    """
    if number := os.environ.get("DOSSIER_TEST_ORDER"):
        places = {path: random.Random(f"{number} {path.name}").random() for path in {item.path for item in items}}
        items.sort(key=lambda item: places[item.path])
    items.sort(key=lambda item: (item.path.parent.name not in LONG_FOLDERS, item.path.parent.name not in STACK_FOLDERS))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    """The scheduler of `pytest -n`."""
    return ByFile(config, log)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a skip is a failure: what a test needs, `.ci/run` has to bring."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and reporter.stats.get("skipped") and not session.exitstatus:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """PostgreSQL and NATS with databases, roles, migrations and streams; no part runs."""
    with servers.temporary() as running:
        yield without_receipts(running)


@pytest.fixture(scope="session")
def stack() -> Iterator[RunningStack]:
    """All parts, with the demo organisation; stopped in order at the end."""
    with temporary_state() as state, launched(state) as running:
        yield running
