"""The worker's composition, on the real servers."""

from dossier_approvals.settings import Settings
from dossier_approvals.worker import jobs
from dossier_common import worker


async def test_the_worker_relays_follows_and_keeps_time_limits(settings: Settings) -> None:
    async with worker.opened("approvals", settings) as context:
        names = set(jobs(context))
    assert names == {"relay", "follow-gateway", "follow-records", "follow-retention", "time-limits"}
