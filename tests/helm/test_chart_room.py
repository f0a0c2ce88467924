"""What the pods request of a cluster: as much as the guide says, and no more than a small one has."""

import math
import re
from typing import Final

from tests.helm.charts import Object, container, rendered

from dossier_local.state import CHECKOUT

PAGE: Final = CHECKOUT / "docs" / "operators" / "install-helm.md"
SMALL: Final = 2000 - 150
"""Millicores of two processors, without what databases, NATS and the cluster's own pods request at least."""


def requested(pod: Object) -> tuple[int, int]:
    """Millicores and MiB."""
    requests = container(pod)["resources"]["requests"]
    return int(requests["cpu"].removesuffix("m")), int(requests["memory"].removesuffix("Mi"))


def room() -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """What pods request that always run, and those that an upgrade of all Deployments at once has beside them."""
    always, beside = [], []
    for deployment in rendered("minimal").of("Deployment").values():
        spec = deployment["spec"]
        each = requested(spec["template"])
        always += [each] * spec["replicas"]
        beside += [each] * spec["strategy"].get("rollingUpdate", {"maxSurge": 0})["maxSurge"]
    return always, beside


def test_an_upgrade_of_all_parts_at_once_fits_two_processors() -> None:
    """A new pod that finds no room waits for an old one to end, which waits for the new one: for ever."""
    always, beside = room()
    jobs = [requested(rendered("minimal").pod(name))[0] for name in ("migrate", "partitions")]
    assert sum(cpu for cpu, _ in always + beside) + max(jobs) <= SMALL


def test_the_guide_says_how_much() -> None:
    always, beside = room()
    said = re.search(
        r"room for (\d+) pods, which request ([\d.]+) processors and ([\d.]+) GiB; ([\d.]+) and ([\d.]+) GiB more",
        PAGE.read_text(encoding="utf-8"),
    )
    assert said is not None
    numbers = (f"{number:g}" for them in (always, beside) for number in (_processors(them), _gibibytes(them)))
    assert said.groups() == (str(len(always)), *numbers)


def _processors(them: list[tuple[int, int]]) -> float:
    return sum(cpu for cpu, _ in them) / 1000


def _gibibytes(them: list[tuple[int, int]]) -> float:
    """Rounded up to a tenth."""
    return math.ceil(sum(memory for _, memory in them) / 102.4) / 10
